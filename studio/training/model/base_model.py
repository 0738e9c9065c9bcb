"""The Base model step: provides the chosen model as a local folder that transformers can load.

The model is not loaded here. The folder is checked (config, safetensors, causal language model),
its weights are identified, and the precision is chosen for this machine's hardware.
"""

from __future__ import annotations

from pathlib import Path

import torch

from studio.errors import StudioError
from studio.graph.context import StepContext
from studio.model.damaged import reading
from studio.model.folder_check import refuse_faults
from studio.model.models import STARTER_PREFIX, STARTERS, kind_of, starter_of
from studio.model.trust import own_code, refuse_untrusted
from studio.node_settings.base_model import BaseModelSettings
from studio.system.device import auto_precision
from studio.training.fetch.gguf import import_file, import_starter
from studio.training.fetch.hub import fetch_from_hub
from studio.training.model.load import (
    computes_bfloat16,
    pick_device,
    refuse_other_tensors,
    report_kernels,
)
from studio.training.model.out_of_memory import is_out_of_memory
from studio.training.model.weights import parameter_count, weights_sha256
from studio.values import DType, ModelValue


def prepare_base_model(context: StepContext, settings: BaseModelSettings) -> ModelValue:
    """The local folder of the chosen model, with its dtype, quantization and identity."""
    folder, source, revision = model_folder(context, settings)
    check_folder(context, folder, source, revision)
    if own_code(folder) is None:  # otherwise its code would run; it is first needed for training
        refuse_other_tensors(folder)
        report_kernels(context, folder)
    value = ModelValue(
        path=str(folder),
        source=source,
        revision=revision,
        dtype=_dtype(context, settings.dtype, settings.quantization),
        quantization=settings.quantization,
        double_quant=settings.double_quant,
        attention=settings.attention,
        weights_sha256=weights_sha256(context, folder),
        parameters=parameter_count(folder),
    )
    _check_quantization(context, value)
    _check_attention(context, value)
    context.artifact("base_model", folder, source=source, revision=revision, dtype=value.dtype)
    return value


def model_folder(context: StepContext, settings: BaseModelSettings) -> tuple[Path, str, str | None]:
    """Folder, source and revision of the chosen model; downloads or imports it if necessary."""
    model = settings.model.strip()
    kind = kind_of(model, context.project_dir)
    if kind == "starter":
        starter = starter_of(model)
        if starter is None:
            known = ", ".join(STARTER_PREFIX + name for name in STARTERS)
            raise StudioError(
                f"there is no starter model called “{model}”.",
                field="model",
                hint=f"Available: {known}.",
                code="unknown_starter",
            )
        return import_starter(context, starter), model, starter.sha256
    if kind == "gguf":
        folder, sha256 = import_file(context, context.resolve(model))
        return folder, model, sha256
    if kind == "folder":
        return context.resolve(model), model, None
    folder, revision = fetch_from_hub(
        context, model, settings.revision.strip(), settings.look_for_updates
    )
    return folder, model, revision


def check_folder(
    context: StepContext, folder: Path, source: str, revision: str | None = None
) -> None:
    """Raise ``StudioError`` unless the folder holds a causal language model in safetensors."""
    if not folder.is_dir():
        raise StudioError(
            f"the folder {folder} does not exist.",
            field="model",
            code="missing_file",
            file=str(folder),
        )
    refuse_faults(folder)
    _check_architecture(context, folder, source, revision)


def _check_architecture(
    context: StepContext, folder: Path, source: str, revision: str | None
) -> None:
    """Raise ``StudioError`` unless transformers supports the model as a causal language model, or
    the user trusts the code that comes with it.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig

    try:
        with reading(folder, "config", source, "model"):
            config = AutoConfig.from_pretrained(
                str(folder), trust_remote_code=False, local_files_only=True
            )
        if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING:
            return
        error = StudioError(
            f"{source} cannot be fine-tuned here: {config.model_type} is not a causal language "
            "model.",
            title="Not a causal language model",
            field="model",
            code="unsupported_model",
            hint="Choose a model that transformers supports.",
            file=str(folder / "config.json"),
        )
    except StudioError as unusable:
        error = unusable
    if not _trusted_code(context, folder, source, revision):
        raise error


def _trusted_code(context: StepContext, folder: Path, source: str, revision: str | None) -> bool:
    """Whether the model has code of its own that the user trusts; raises ``StudioError`` if it is not trusted."""
    code = own_code(folder, source, revision)
    if code is None:
        return False
    refuse_untrusted(code)
    context.notice(
        f"{source} runs custom code ({len(code.files)} files), which was trusted.", level="info"
    )
    return True


def _dtype(context: StepContext, wanted: str, quantization: str) -> DType:
    """The chosen precision, with a notice where it may surprise."""
    device = pick_device()
    native = computes_bfloat16(device)
    auto = auto_precision(device.type, native)
    if wanted == "auto" and auto == "float16":
        context.notice(
            "This GPU does not compute in bfloat16, so Auto uses float16 with loss scaling: it needs half "
            "the memory of float32. Steps whose gradients overflow are skipped.",
            "If the training diverges, set Precision to float32.",
            level="info",
        )
    if wanted == "auto":
        return auto
    if wanted == "bfloat16" and not native:
        _tell_emulated(context, device, quantization)
    if wanted == "float16" and device.type != "cuda":
        raise StudioError(
            "training in float16 needs a GPU.",
            title="float16 is not available",
            hint="Choose bfloat16 or float32.",
            field="dtype",
            code="dtype_unsupported",
        )
    return wanted  # type: ignore[return-value]


def _tell_emulated(context: StepContext, device: torch.device, quantization: str) -> None:
    """A notice that bfloat16 is slow on this device, or that it computes in float32 instead."""
    if device.type == "cuda":
        context.notice(
            "This GPU does not compute in bfloat16 (GPUs since Ampere do): torch converts each time, which "
            "is slower than float16.",
            "Set Precision to Auto or float16.",
        )
    elif quantization == "none":
        context.notice(
            "This CPU has no units for bfloat16 (AVX512-BF16 or AMX): frozen weights are stored in it, and "
            "layers that support it multiply in float32.",
            level="info",
        )
    else:
        context.notice(
            "This CPU has no units for bfloat16 (AVX512-BF16 or AMX) and emulates its products: on such a CPU, "
            "training took nine times as long as in float32.",
            "Set Precision to Auto or float32.",
        )


def _check_quantization(context: StepContext, value: ModelValue) -> None:
    """Raise ``StudioError`` for a quantization that this machine does not support; there is no fallback."""
    if value.quantization == "none":
        return
    try:
        from studio.training.model.quiet import output_to_log

        with output_to_log():
            import bitsandbytes  # noqa: F401
    except (ImportError, OSError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        raise StudioError(
            f"quantization requires bitsandbytes, which cannot be loaded: {error}",
            title="Quantization is not available",
            hint="Set Quantization to None.",
            field="quantization",
            code="quantization_unsupported",
        ) from error


def _check_attention(context: StepContext, value: ModelValue) -> None:
    """Raise ``StudioError`` for an attention that is not available on this machine."""
    if value.attention != "flash_attention_2":
        return
    from transformers.utils import is_flash_attn_2_available

    reason = ""
    if not is_flash_attn_2_available():
        reason = "it requires an NVIDIA GPU and the flash-attn package"
    elif value.dtype == "float32":
        reason = "it supports only bfloat16 and float16"
    elif not computes_bfloat16(pick_device()):
        reason = "it requires an Ampere GPU or newer"
    if reason:
        raise StudioError(
            f"FlashAttention 2 is not available: {reason}.",
            title="FlashAttention 2 is not available",
            hint="Set Attention to Auto.",
            field="attention",
            code="attention_unsupported",
        )
