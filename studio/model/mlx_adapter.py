"""The files of an adapter as mlx-lm writes them: how they are recognised, and what their config says. Without torch.

mlx-lm stores A as ``lora_a`` (in, rank) and B as ``lora_b`` (rank, out), adds ``scale`` · x·A·B to the output of a
layer, and of DoRA also stores the magnitudes, ``m`` (out). Source: ``mlx_lm/tuner``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from studio.model.adapter_files import CONFIG, LORA_A, LORA_B, PREFIX, WEIGHTS
from studio.model.folder_files import json_or_empty

MLX_WEIGHTS = "adapters.safetensors"
MLX_A, MLX_B, MLX_M = ".lora_a", ".lora_b", ".m"
NAMED_ALIKE = (
    "gemma",
    "gemma2",
    "gemma3_text",
    "llama",
    "mistral",
    "phi3",
    "qwen2",
    "qwen3",
)
"""Types of models whose layers have the same names in mlx-lm as in transformers."""

Shape = tuple[int, ...]


def is_mlx(folder: Path) -> bool:
    """Whether a folder holds an adapter of mlx-lm, and none of PEFT."""
    return (folder / MLX_WEIGHTS).is_file() and not (folder / WEIGHTS).is_file()


def mlx_config(folder: Path) -> dict[str, Any]:
    """The config of an adapter of mlx-lm; empty if it cannot be read."""
    return json_or_empty(folder, CONFIG)


def config_fault(config: Mapping[str, Any]) -> str:
    """Why an adapter with this config cannot be used; empty if it can."""
    kind = config.get("fine_tune_type", "lora")
    if kind not in ("lora", "dora"):
        return f"its fine_tune_type is {kind!s:.40}, and only lora and dora are adapters"
    parameters = config.get("lora_parameters")
    scale = parameters.get("scale") if isinstance(parameters, dict) else None
    if isinstance(scale, bool) or not isinstance(scale, int | float):
        return f"{CONFIG} has no lora_parameters with a scale"
    return ""


def tensor_fault(shapes: Mapping[str, Shape]) -> str:
    """Why these tensors are no pairs of A and B; empty if they are."""
    for name, shape in shapes.items():
        stem, _, end = name.rpartition(".")
        if f".{end}" == MLX_M:
            continue
        if f".{end}" not in (MLX_A, MLX_B):
            return f"{name} is no part of a LoRA"
        if len(shape) != 2:
            return f"{name} has {len(shape)} dimensions: adapters of experts cannot be converted"
        other = stem + (MLX_B if f".{end}" == MLX_A else MLX_A)
        if other not in shapes:
            return f"{name} has no {other.rpartition('.')[2]}"
    return "" if shapes else f"{MLX_WEIGHTS} has no tensors"


def as_peft(shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """The names and shapes that the pairs have in a file of PEFT."""
    ends = {MLX_A: LORA_A, MLX_B: LORA_B}
    found = {}
    for name, shape in shapes.items():
        end = f".{name.rpartition('.')[2]}"
        if end in ends:
            found[f"{PREFIX}{name.removesuffix(end)}{ends[end]}"] = shape[::-1]
    return found
