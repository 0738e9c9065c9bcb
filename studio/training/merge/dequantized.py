"""The weights that an adapter saw which was trained on a quantized base: quantized by bitsandbytes, and dequantized.

Tensor by tensor, with the layers and options with which transformers quantizes a model when it is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from transformers.pytorch_utils import Conv1D
from transformers.quantizers.base import get_keys_to_not_convert
from transformers.quantizers.quantizers_utils import should_convert_module

from studio.training.model.load import FOUR_BITS, pick_device
from studio.training.model.skeleton import skeleton
from studio.values import ModelValue


def dequantizer(base: ModelValue) -> Callable[[str, torch.Tensor], torch.Tensor]:
    """A function of a parameter's path in the model and its stored value, (out, in) or for Conv1D (in, out), that
    returns what the quantized layer computes with, in the precision of the training; other parameters are returned
    as they are."""
    layers = _quantized_layers(Path(base.path))
    device = pick_device()
    dtype = getattr(torch, base.dtype)

    def weight(path: str, stored: torch.Tensor) -> torch.Tensor:
        owner, _, name = path.rpartition(".")
        if name != "weight" or owner not in layers:
            return stored
        transposed = layers[owner]
        value = stored.to(dtype)
        value = (value.T if transposed else value).contiguous().to(device)
        found = _four_bits(value, base) if base.quantization in FOUR_BITS else _eight_bits(value)
        found = found.to("cpu")
        return (found.T if transposed else found).contiguous()

    return weight


def _quantized_layers(folder: Path) -> dict[str, bool]:
    """The paths of the layers that are quantized -> whether their weight is stored as (in, out)."""
    model = skeleton(folder)
    kept = [*get_keys_to_not_convert(model), *(model._keep_in_fp32_modules or ())]
    return {
        name: isinstance(module, Conv1D)
        for name, module in model.named_modules()
        if (isinstance(module, Conv1D) or type(module) is torch.nn.Linear)
        and should_convert_module(name, kept)
    }


def _four_bits(value: torch.Tensor, base: ModelValue) -> torch.Tensor:
    import bitsandbytes as bnb

    packed = bnb.nn.Params4bit(
        value.cpu(),
        requires_grad=False,
        quant_type=base.quantization,
        compress_statistics=base.double_quant,
    ).to(value.device)
    found: torch.Tensor = bnb.functional.dequantize_4bit(packed.data, packed.quant_state)
    return found


def _eight_bits(value: torch.Tensor) -> torch.Tensor:
    import bitsandbytes as bnb

    codes, scales, _ = bnb.functional.int8_vectorwise_quant(value.to(torch.float16))
    found: torch.Tensor = bnb.functional.int8_vectorwise_dequant(codes, scales)
    return found
