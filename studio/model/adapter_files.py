"""The files of an adapter as PEFT writes them: their names, the names of its tensors, and the scale of a layer."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
LORA_A, LORA_B = ".lora_A.weight", ".lora_B.weight"
EMBEDDING_A, EMBEDDING_B = ".lora_embedding_A", ".lora_embedding_B"


def scale_of(config: Mapping[str, Any], layer: str, rank: int) -> float:
    """The factor by which PEFT multiplies B·A of a layer, given the rank of its tensors."""
    alpha = _by_pattern(config.get("alpha_pattern") or {}, layer, config["lora_alpha"])
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _by_pattern(pattern: Mapping[str, Any], layer: str, default: Any) -> Any:
    plain = layer.removeprefix(PREFIX)
    for key, found in pattern.items():
        if re.match(rf"(.*\.)?({key})$", plain):
            return found
    return default
