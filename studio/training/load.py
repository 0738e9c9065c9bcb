"""Load a base model for training or for a comparison; the one place that does.

Why: device, precision, quantization and the switches that keep a load safe (no remote code, no
network, no pickles) must be the same for the model that trains and for the fresh one that checks
it. It must not fall back to another precision without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from studio.errors import StudioError
from studio.runs.context import StepContext
from studio.training.quiet import output_to_log, quiet_libraries
from studio.values import ModelValue


def pick_device() -> torch.device:
    """The device that training uses: the first CUDA GPU, else the CPU."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def load_base(context: StepContext, value: ModelValue, title: str = "Loading the model") -> Any:
    """The frozen base model on the training device, in its dtype and quantization."""
    from transformers import AutoModelForCausalLM

    quiet_libraries()
    context.phase("load", title)
    device = pick_device()
    options = _options(value, device)
    printed = output_to_log() if value.quantization != "none" else nullcontext()
    with _stoppable_load(context), printed:
        try:
            model = AutoModelForCausalLM.from_pretrained(
                value.path, dtype=getattr(torch, value.dtype), local_files_only=True,
                trust_remote_code=False, use_safetensors=True, **options,
            )  # fmt: skip
        except (OSError, ValueError, ImportError) as error:
            raise _cannot_load(value, error) from error
    if value.quantization != "none":
        _after_quantizing(model, value)
    model.config.use_cache = False
    return model


def _options(value: ModelValue, device: torch.device) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if device.type == "cuda":
        options["device_map"] = {"": device.index}
    if value.quantization != "none":
        options["quantization_config"] = _quantization(value)
    return options


def _quantization(value: ModelValue) -> Any:
    from transformers import BitsAndBytesConfig

    if value.quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, value.dtype),
    )  # fmt: skip


def _after_quantizing(model: Any, value: ModelValue) -> None:
    """Check that layers were quantized at all, and keep them trainable on every CPU.

    On CPUs with AVX512-BF16 a forward pass without gradients repacks 4-bit weights for good:
    gradients are lost and dequantizing reads garbage. The switch below prevents it.
    """
    import bitsandbytes as bnb

    kind = bnb.nn.Linear4bit if value.quantization == "nf4" else bnb.nn.Linear8bitLt
    layers = [m for m in model.modules() if isinstance(m, kind)]
    if not layers:
        raise StudioError(
            f"The model has no layer that can be quantized to {value.quantization}.",
            hint="Set Quantization to None.", field="quantization", code="not_quantized",
        )  # fmt: skip
    for layer in layers:
        if value.quantization == "nf4":
            layer.support_avx512bf16_for_cpu = False


@contextmanager
def _stoppable_load(context: StepContext) -> Iterator[None]:
    """Each weight that is loaded is a stop point and a step of progress."""
    from transformers.utils import logging

    def hook(factory: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        items = args[0] if args else kwargs.get("iterable")
        if items is None:
            return factory(*args, **kwargs)
        return _followed(context, items)

    before = logging.set_tqdm_hook(hook)
    try:
        yield
    finally:
        logging.set_tqdm_hook(before)


class _followed:
    """An iterable in place of a progress bar; it answers the calls that bars get with silence."""

    def __init__(self, context: StepContext, items: Any) -> None:
        self.context = context
        self.items = items

    def __iter__(self) -> Iterator[Any]:
        total = len(self.items) if hasattr(self.items, "__len__") else None
        for done, item in enumerate(self.items):
            self.context.progress("load", done, total, "weights")
            yield item

    def __enter__(self) -> _followed:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **kwargs: None


def _cannot_load(value: ModelValue, error: Exception) -> StudioError:
    return StudioError(
        f"The model {value.source} cannot be loaded: {str(error).strip().splitlines()[0]}",
        title="The model cannot be loaded", hint="Run the Base model step again, or choose another.",
        code="model_load", file=value.path,
    )  # fmt: skip
