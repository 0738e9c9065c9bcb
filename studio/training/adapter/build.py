"""Adds an adapter to a base model, and saves a trained one in the format of PEFT.

The saved adapter contains no weights of the base model, such as embeddings, and refers to the base
by hub id and commit instead of a local path where possible.
"""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model

from studio.errors import StudioError
from studio.graph.context import StepContext
from studio.model.layer_names import is_joined, joined_name, matches
from studio.model.layers import TOWERS
from studio.model.models import classify
from studio.training.adapter.attach import fit_base
from studio.training.adapter.continued import load_trainable
from studio.training.adapter.convert import make_plain
from studio.training.adapter.experts import name_experts
from studio.training.adapter.start import begin_from_base
from studio.training.adapter.tuning import Tuning
from studio.training.model.out_of_memory import is_out_of_memory
from studio.training.saved.snapshot import fits, read_method, save_adapter
from studio.values import AdaptedModelValue, ModelValue
from studio.variants.lora_method import LoraMethod, TrainingFacts, quantization_error


def build_adapter(
    context: StepContext,
    base: Any,
    adapted: AdaptedModelValue,
    facts: TrainingFacts | None = None,
    resumed: Path | None = None,
) -> Tuning:
    """The base model with a new adapter, or the one that is trained further: adapter weights in float32, all
    other weights frozen.

    ``facts`` describe the training; ``resumed`` is the checkpoint that it continues. Raises
    ``StudioError`` when the method, the precision or a target module does not fit the model.
    """
    method = method_of(context, adapted)
    _check_own_precision(context, adapted)
    refuse_precision(context, method, adapted)
    try:
        tuning = _built(context, base, method, adapted, facts, resumed)
    except (ValueError, TypeError, NotImplementedError, RuntimeError, ImportError) as error:
        if is_out_of_memory(error) or not _is_refusal(error):
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise StudioError(
            f"the adapter cannot be added to this model: {reason}",
            title="The adapter does not fit",
            hint="Check the settings of the LoRA node."
            if adapted.continues is None
            else "Connect the base model that the adapter was trained on.",
            code="adapter_build",
        ) from error
    if not method.own_layers and adapted.continues is None:
        _refuse_missing(context, tuning.model, adapted)
    return tuning


_LIBRARIES = {
    "torch",
    "numpy",
    "scipy",
    "transformers",
    "accelerate",
    "bitsandbytes",
    "safetensors",
}


def _is_refusal(error: Exception) -> bool:
    """Whether the error reports unsuitable settings: PEFT or a library it calls refused them, a
    package is missing, or a decomposition failed.

    Any other error is a bug of the studio or of an extension, and keeps its traceback.
    """
    if isinstance(error, (ImportError, torch.linalg.LinAlgError)):
        return True
    packages = [
        str(frame.f_globals.get("__name__", "")).partition(".")[0]
        for frame, _ in traceback.walk_tb(error.__traceback__)
    ]
    return [p for p in packages if p not in _LIBRARIES][-1] == "peft"


def _built(
    context: StepContext,
    base: Any,
    method: LoraMethod,
    adapted: AdaptedModelValue,
    facts: TrainingFacts | None,
    resumed: Path | None,
) -> Tuning:
    """Config, adapter, and the method's initialization; a resumed run takes the initialization from
    the checkpoint. An adapter that is trained further has both.
    """
    hooks = method.hooks
    if adapted.continues is not None:
        context.phase("prepare", "Loading the adapter to train further")
        with _quiet_building():
            tuning = Tuning(method, adapted, load_trainable(base, adapted.continues))
        _in_float32(tuning.model)
        _freeze(tuning)
        return tuning
    config = name_experts(base, _text_only(base, method.build(adapted)))
    fit_base(base, config)
    if facts is not None and hooks.fit:
        hooks.fit(config, facts)
    if resumed is not None and hooks.initialise:
        _continue_config(config, resumed)
    elif facts is not None and resumed is None and hooks.prepare:
        context.phase("prepare", "Preparing the adapter from the data")
        with _quiet_building():
            hooks.prepare(base, config, facts)
    how = config.init_lora_weights if method.starts_from_base else ""
    if how:
        config.init_lora_weights = True  # the layers are initialized one by one, below
    with _quiet_building():
        tuning = Tuning(method, adapted, get_peft_model(base, config))
    if how and resumed is not None:
        tuning.continue_from(read_method(resumed)[0])
    elif how:
        context.phase("prepare", "Preparing the adapter from the model's weights")
        tuning.begin_with(begin_from_base(tuning.model, config, how, context.check))
    if facts is not None and resumed is None and hooks.initialise:
        context.phase("prepare", "Preparing the adapter from the data")
        hooks.initialise(tuning.model, config, facts)
        _in_float32(tuning.model)
    _freeze(tuning)
    return tuning


def _freeze(tuning: Tuning) -> None:
    frozen = tuning.method.hooks.freeze
    for name, parameter in tuning.model.named_parameters() if frozen else ():
        if parameter.requires_grad and frozen is not None and frozen(name):
            parameter.requires_grad = False


def _in_float32(model: Any) -> None:
    """Convert new layers to float32: PEFT creates them in the base's precision, in which small
    updates are lost.
    """
    for name, parameter in model.named_parameters():
        if ".lora_" in name and parameter.dtype in (torch.float16, torch.bfloat16):
            parameter.data = parameter.data.float()


def _continue_config(config: Any, checkpoint: Path) -> None:
    """Set the layers and ranks that the run started with; the weights come from the checkpoint."""
    from peft import PeftConfig

    with fits(checkpoint):
        kept = PeftConfig.from_pretrained(str(checkpoint))
    for name in ("target_modules", "rank_pattern", "alpha_pattern"):
        setattr(config, name, getattr(kept, name))
    config.init_lora_weights, config.eva_config = True, None


@contextmanager
def _quiet_building() -> Iterator[None]:
    """Suppress PEFT's advice to developers while it builds an adapter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def refuse_precision(context: StepContext, method: LoraMethod, adapted: AdaptedModelValue) -> None:
    """Raise ``StudioError`` when the method does not support the base's quantization or precision."""
    dtype = adapted.model.dtype
    title = context.registry.variants["adapter"][adapted.method].title
    reason = quantization_error(title, method, adapted.model.quantization)
    if reason:
        raise StudioError(
            reason,
            title="Method and quantization are incompatible",
            hint="Set Quantization to 4-bit NF4, or choose LoRA."
            if method.only_quantized
            else "Set Quantization to None, or choose LoRA.",
            code="method_quantization",
        )
    if dtype not in method.dtypes:
        raise StudioError(
            f"the method {adapted.method} does not train in {dtype}.",
            title="Method and precision are incompatible",
            hint=f"Set the Base model's precision to {' or '.join(method.dtypes)}, or choose LoRA.",
            code="method_dtype",
        )


def _text_only(base: Any, config: Any) -> Any:
    """The config without the vision and audio towers of the model, if it has any."""
    own = {part for name, _ in base.named_modules() for part in name.split(".")}
    towers = [t for t in TOWERS if t in own]
    if towers and hasattr(config, "exclude_modules"):
        config.exclude_modules = rf"(?:.*\.)?(?:{'|'.join(towers)})\..*"
    return config


def _check_own_precision(context: StepContext, adapted: AdaptedModelValue) -> None:
    """Refuse float16, and warn about bfloat16, for biases and fully trained modules, which are
    trained in the model's own precision.

    Gradients in float16 cannot be scaled. In bfloat16 an update smaller than a 256th of a value is
    lost (measured at a learning rate of 2e-5: 9 of 10 biases and 7 of 10 entries of an embedding do
    not change).
    """
    found = [
        ("biases", "set Bias to None", "bias_dtype", adapted.bias != "none"),
        (
            "fully trained modules",
            "clear “Fully trained modules”",
            "saved_dtype",
            bool(adapted.modules_to_save),
        ),
    ]
    for what, setting, code, is_trained in found:
        if is_trained and adapted.model.dtype == "bfloat16":
            context.notice(
                f"The {what} are trained in bfloat16, the precision of the model: rounding discards "
                "most of their small updates.",
                f"In the LoRA node {setting}, or in the Base model node set Precision to float32.",
            )
        if is_trained and adapted.model.dtype == "float16":
            raise StudioError(
                f"{what} cannot be trained in float16.",
                title="Float16 is not supported for these weights",
                code=code,
                hint=f"In the LoRA node {setting}, or in the Base model node set Precision to "
                "bfloat16 or float32.",
            )


def _refuse_missing(context: StepContext, model: Any, adapted: AdaptedModelValue) -> None:
    """Raise ``StudioError`` when a target matches no layer; PEFT accepts the list if one target
    matches.

    Experts that PEFT renamed itself, in projects of an older version, are not checked.
    """
    found = getattr(model.base_model, "targeted_module_names", None)
    weights = list(getattr(model.peft_config["default"], "target_parameters", None) or ())
    if found is None or (weights and not any(map(is_joined, adapted.target_modules))):
        return
    names = [
        *found,
        *(w.removesuffix(".weight") for w in model.base_model.targeted_parameter_names),
    ]
    everywhere = {*names, *map(joined_name, names)}
    missing = [t for t in adapted.target_modules if not any(matches(n, t) for n in everywhere)]
    if missing:
        raise StudioError(
            f"“{missing[0]}” is in the files of {adapted.model.source}, but the loaded model "
            "has no such layer that supports an adapter.",
            title="Target module not found",
            code="unknown_target",
            hint="Choose other target modules in the LoRA node; the last part of their names is "
            "sufficient.",
        )


def method_of(context: StepContext, adapted: AdaptedModelValue) -> LoraMethod:
    """The chosen LoRA method; raises ``StudioError`` for an unknown one."""
    try:
        return context.variant("adapter", adapted.method).payload
    except KeyError:
        raise StudioError(
            f"there is no LoRA method called “{adapted.method}”.",
            code="unknown_variant",
        ) from None


def write_adapter(tuning: Tuning, tokenizer: Any, folder: Path) -> None:
    """Save weights, config, tokenizer and chat template into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    config = tuning.model.peft_config["default"]
    config.base_model_name_or_path, config.revision = base_reference(tuning.adapted.model)
    save_adapter(tuning.model, folder, all_ranks=tuning.method.hooks.save is not None)
    if tuning.start:
        make_plain(folder, tuning.start)
    if tuning.method.hooks.save:
        tuning.method.hooks.save(folder, tuning.model)
    tokenizer.save_pretrained(str(folder))


def base_reference(value: ModelValue) -> tuple[str, str | None]:
    """The reference to the base model: hub id and commit, otherwise the local folder."""
    if classify(value.source) == "hub" and value.revision:
        return value.source, value.revision
    return value.path, None
