"""Loads a base model for training or for a comparison.

Device, precision, quantization and the safety switches (no remote code, no network, no pickles)
must be the same for the trained model and for the new one that verifies it. There is no silent
fallback to another precision.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import logging
import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import psutil
import torch

from studio.errors import Stopped, StudioError
from studio.graph.context import StepContext
from studio.model.damaged import of_the_files, unreadable
from studio.model.folder_check import refuse_faults, tensor_faults
from studio.model.folder_files import shown
from studio.model.trust import may_run_code
from studio.model.weight_files import stored_tensors, weight_files
from studio.system import device as device_choice
from studio.system import torch_report
from studio.system.memory import HEADROOM
from studio.training.model.attention_kernel import register_attention
from studio.training.model.int8 import keep_no_inputs
from studio.training.model.out_of_memory import is_out_of_memory
from studio.training.model.quiet import output_to_log, quiet_libraries
from studio.training.model.spilling import limit_memory
from studio.training.model.weights_file import DTYPES
from studio.training.model.wide_products import multiply_in_float32
from studio.values import ModelValue

logger = logging.getLogger(__name__)
FOUR_BITS = ("nf4", "fp4")
ATTENTION = ("eager", "sdpa")
EXPERTS = ("eager", "batched_mm", "grouped_mm")
"""Implementations that transformers contains, as opposed to kernels that it loads from the Hub."""


def pick_device() -> torch.device:
    """The device for training that ``studio.system.device`` decided on.

    Raises ``StudioError`` if it is a GPU that torch cannot use after all: training on the CPU instead
    would take many times as long, without a word.
    """
    chosen = device_choice.chosen()
    if chosen is None:  # outside a run
        gpu = device_choice.choose(_report()).gpu
        return torch.device("cuda", gpu.index) if gpu is not None else torch.device("cpu")
    if chosen.gpu is None:
        return torch.device("cpu")
    if not _report().gpus:
        torch_report.forget()
        reason = _report().reason or "it does not see it"
        raise StudioError(
            f"{chosen.label} cannot be used any more: torch reports: {reason.rstrip('.')}.",
            title="The GPU cannot be used",
            hint="Restart the computer, or select the CPU as Device in the Train node.",
            code="gpu_lost",
        )
    if chosen.gpu.index != torch.cuda.current_device():  # accelerate takes the current one
        torch.cuda.set_device(chosen.gpu.index)
    return torch.device("cuda", chosen.gpu.index)


@functools.cache
def _report() -> torch_report.TorchReport:
    return torch_report.read_torch(torch)


def free_memory() -> None:
    """Free the memory of unreferenced models, which contain reference cycles."""
    _forget_warned_layers()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    _return_memory()


def _forget_warned_layers() -> None:
    """PEFT notes each layer of SHiRA and Super-Tuning that it has checked for hooks, which keeps the model."""
    for name, module in list(sys.modules.items()):
        checked = name.startswith("peft.tuners.") and vars(module).get(
            "_warn_once_about_module_hooks"
        )
        if checked:
            checked.cache_clear()


def _return_memory() -> None:
    """Return freed memory to the system. glibc keeps what lies between blocks in use, so that the next model would
    need its own memory in addition."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def free_bytes(device: torch.device) -> int:
    """The memory available for a model on ``device``."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def roomy_device(value: ModelValue) -> torch.device:
    """The device for a model used for inference only: the training device, or the CPU if the model
    does not fit.

    A quantized model was trained on that device, so it fits.
    """
    free_memory()
    device = pick_device()
    needed = value.parameters * getattr(torch, value.dtype).itemsize * HEADROOM
    fits = value.quantization != "none" or needed < free_bytes(device)
    return device if fits else torch.device("cpu")


def load_base(
    context: StepContext,
    value: ModelValue,
    title: str = "Loading the model",
    device: torch.device | None = None,
) -> Any:
    """Load the frozen base model with its dtype and quantization, on ``device`` or the training device.

    Raises ``StudioError`` if a weight is missing in its files, or if one is not part of the model:
    transformers would fill it with random numbers, or ignore it.
    """
    quiet_libraries()
    context.phase("load", title)
    folder = Path(value.path)
    refuse_faults(folder)
    free_memory()
    device = device or pick_device()
    limit_memory(device)
    register_attention()
    if value.quantization == "int8":
        keep_no_inputs()
    options = _options(value, device)
    printed = output_to_log() if value.quantization != "none" else nullcontext()
    reading = _without_mapping() if is_converted(value, device) else nullcontext()
    with (
        _stoppable_load(context, quantizes=value.quantization != "none"),
        printed,
        reading,
        _memory_errors(),
    ):
        try:
            model, loaded = _from_files(folder, dtype=getattr(torch, value.dtype), **options)
        except (StudioError, Stopped):
            raise
        except Exception as error:  # the config may contain anything
            if is_out_of_memory(error) or not of_the_files(error):
                raise
            raise unreadable(folder, "model", error, value.source) from error
    _refuse_other_weights(loaded, folder)
    if value.quantization != "none":
        _after_quantizing(model, value)
    elif is_emulated(value.dtype, device):
        _multiply_fast(context, model)
    model.config.use_cache = False
    return model


def _multiply_fast(context: StepContext, model: Any) -> None:
    """Let products of weights in bfloat16 be computed in float32, or say that they are emulated."""
    if not multiply_in_float32(model):
        context.notice(
            "This CPU has no units for bfloat16 and emulates its products, which takes many times as long as in "
            "float32: the layers of this model cannot multiply in float32 with weights in bfloat16.",
            "Set Precision to float32 in the Base model node.",
            once=True,
        )


def is_emulated(dtype: str, device: torch.device) -> bool:
    """Whether products in this precision are emulated by the CPU, so that they are computed in float32 instead."""
    return dtype == "bfloat16" and device.type == "cpu" and not computes_bfloat16(device)


def computes_bfloat16(device: torch.device) -> bool:
    """Whether a device computes in bfloat16 without emulating it."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in checks)


def _from_files(folder: Path, **options: Any) -> tuple[Any, Mapping[str, Any]]:
    """The model in a folder, and what transformers reports about its weights."""
    from transformers import AutoModelForCausalLM

    code = may_run_code(folder)
    model, loaded = AutoModelForCausalLM.from_pretrained(
        str(folder),
        config=config_of(folder),
        local_files_only=True,
        trust_remote_code=code,
        use_safetensors=True,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # all of them are reported, instead of raising without names
        **options,
    )
    return model, loaded


def refuse_other_tensors(folder: Path) -> None:
    """Raise ``StudioError`` if the weights are not those of the model, without reading them.

    Other errors are left to ``load_base``.
    """
    quiet_libraries()
    try:
        _, loaded = _from_files(folder, dtype=torch.float32, device_map={"": "meta"})
    except Exception as error:
        logger.info("The weights in %s cannot be compared with the model: %s", folder, error)
        return
    _refuse_other_weights(loaded, folder)


def _refuse_other_weights(loaded: Mapping[str, Any], folder: Path) -> None:
    shapes = {name: (stored, wanted) for name, stored, wanted in loaded["mismatched_keys"]}
    missing, surplus = loaded["missing_keys"], loaded["unexpected_keys"]
    for fault in tensor_faults(missing, surplus, shapes, str(folder)):
        raise fault.error("The weights do not fit the model")


def config_of(folder: Path) -> Any:
    """The config of a model folder as transformers reads it, without kernels from the Hub."""
    config = _config_as_received(folder)
    remove_kernels(config)
    return config


def _config_as_received(folder: Path) -> Any:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(
        str(folder), trust_remote_code=may_run_code(folder), local_files_only=True
    )


def remove_kernels(config: Any) -> list[str]:
    """Reset the implementations that a config and its parts ask for, except those of transformers, and
    return their names.

    A received config may name a repository on the Hub, whose code transformers would run.
    """
    found = []
    for key, own in (("_attn_implementation", ATTENTION), ("_experts_implementation", EXPERTS)):
        asked = getattr(config, key, None)
        if asked is not None and asked not in own:
            found.append(str(asked))
            setattr(config, f"{key}_internal", None)
    for name in getattr(config, "sub_configs", ()):
        if (part := getattr(config, name, None)) is not None:
            found += remove_kernels(part)
    return found


def report_kernels(context: StepContext, folder: Path) -> None:
    """A notice for each implementation that the config asks for and that is not used."""
    for name in dict.fromkeys(remove_kernels(_config_as_received(folder))):
        context.notice(
            f"config.json asks for the implementation “{shown(name)}”, which is not used: it may be "
            "code from the Hub. The model's default is used instead.",
            "Choose another one with Attention in the Base model node.",
        )


def _options(value: ModelValue, device: torch.device) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if device.type == "cuda":
        options["device_map"] = {"": device.index}
    if value.quantization != "none":
        options["quantization_config"] = _quantization(value)
    if value.attention != "auto":
        options["attn_implementation"] = value.attention
    return options


def _quantization(value: ModelValue) -> Any:
    from transformers import BitsAndBytesConfig

    if value.quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=value.quantization,
        bnb_4bit_use_double_quant=value.double_quant,
        bnb_4bit_compute_dtype=getattr(torch, value.dtype),
    )


def _after_quantizing(model: Any, value: ModelValue) -> None:
    """Check that layers were quantized, and keep them trainable on every CPU.

    On CPUs with AVX512-BF16 a forward pass without gradients repacks 4-bit weights permanently:
    gradients are lost and dequantizing reads garbage. The switch below prevents it.
    """
    import bitsandbytes as bnb

    four = value.quantization in FOUR_BITS
    kind = bnb.nn.Linear4bit if four else bnb.nn.Linear8bitLt
    layers = [m for m in model.modules() if isinstance(m, kind)]
    if not layers:
        raise StudioError(
            f"the model has no layer that can be quantized to {value.quantization}.",
            hint="Set Quantization to None.",
            field="quantization",
            code="not_quantized",
        )
    for layer in layers:
        if four:
            layer.support_avx512bf16_for_cpu = False


def is_converted(value: ModelValue, device: torch.device) -> bool:
    """Whether the CPU holds the weights in another form than their files."""
    if device.type != "cpu":
        return False
    wanted = getattr(torch, value.dtype)
    stored = (
        t.dtype for file in weight_files(Path(value.path)) for t in stored_tensors(file).values()
    )
    return value.quantization != "none" or any(DTYPES.get(name) != wanted for name in stored)


@contextmanager
def _without_mapping() -> Iterator[None]:
    """Read the tensors of weight files into memory one by one, instead of mapping the files.

    The pages of a mapped file stay resident until all of its tensors have been converted: an additional copy of the
    weights. If a tensor is not converted, it is a view of the file, and all pages stay resident as long as the
    model. transformers reads the same way on Windows.
    """
    from transformers import modeling_utils

    mapped = modeling_utils.safe_open
    modeling_utils.safe_open = functools.partial(_unmapped, mapped)
    try:
        yield
    finally:
        modeling_utils.safe_open = mapped


def _unmapped(opener: Callable[..., Any], *args: Any, **options: Any) -> Any:
    return opener(*args, **{**options, "backend": "pread"})


@contextmanager
def _memory_errors() -> Iterator[None]:
    """Let errors of full memory end the loading.

    transformers writes each error of converting or quantizing a weight into its report, goes on with the
    next weight, and ends with a ``RuntimeError`` that has no cause.
    """
    from transformers import core_model_loading

    logs = core_model_loading.log_conversion_errors

    @contextmanager
    def logged(*args: Any, **options: Any) -> Iterator[None]:
        full: Exception | None = None
        try:
            with logs(*args, **options):
                try:
                    yield
                except Exception as error:
                    full = error if is_out_of_memory(error) else None
                    raise
        except Exception:
            if full is not None:
                raise full from None
            raise

    core_model_loading.log_conversion_errors = logged
    try:
        yield
    finally:
        core_model_loading.log_conversion_errors = logs


@contextmanager
def _stoppable_load(context: StepContext, quantizes: bool) -> Iterator[None]:
    """Make each loaded weight a point where the run can stop, and report progress.

    Quantizing allocates a small result between large temporary tensors, whose memory is returned each time:
    it would add up to several times the model.
    """
    from transformers.utils import logging

    def hook(factory: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        items = args[0] if args else kwargs.get("iterable")
        if items is None:
            return factory(*args, **kwargs)
        return _followed(context, items, _return_memory if quantizes else lambda: None)

    before = logging.set_tqdm_hook(hook)
    try:
        yield
    finally:
        logging.set_tqdm_hook(before)


class _followed:
    """An iterable that replaces a progress bar and ignores the calls made to one."""

    def __init__(self, context: StepContext, items: Any, after_each: Callable[[], None]) -> None:
        self.context = context
        self.items = items
        self.after_each = after_each

    def __iter__(self) -> Iterator[Any]:
        total = len(self.items) if hasattr(self.items, "__len__") else None
        for done, item in enumerate(self.items):
            self.context.progress("load", done, total, "weights")
            yield item
            self.after_each()

    def __enter__(self) -> _followed:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **kwargs: None
