"""Adapts the joined weights of experts in exactly the chosen blocks.

PEFT 0.21 converts names such as ``w1`` or ``gate_proj`` to weights itself, but only for some
families, in all blocks regardless of the name, and it mistakes a shared expert's ``gate_proj`` for
a joined one. So every weight gets its full name here and PEFT has nothing to convert. The saved
config contains the same names, and plain PEFT loads it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from peft import PeftType
from peft.utils.transformers_weight_conversion import (
    _MODEL_TO_CONVERSION_PATTERN,
    _MOE_TARGET_MODULE_MAPPING,
)

from studio.errors import StudioError
from studio.model.layer_names import GATE_UP, is_joined, matches, taker

_JOINED = {GATE_UP: 2}
"""The number of matrices joined in one weight of an expert; PEFT multiplies the rank by it."""


def name_experts(base: Any, config: Any) -> Any:
    """The config with the full name of every joined weight.

    It is unchanged if no expert is a target, or if an older project names experts as PEFT does.
    """
    targets = config.target_modules
    if config.peft_type != PeftType.LORA or not isinstance(targets, (set, list)):
        return config
    experts = sorted(t for t in targets if is_joined(t))
    others = sorted(t for t in targets if not is_joined(t))
    turned = _turned_by_peft(base)
    if not experts and not any(_ends_in(t, turned) and "." in t for t in others):
        return config
    weights, modules = _weights(base, experts), _single_experts(base, experts)
    for target in others:
        if _ends_in(target, turned):
            found = [n for n in _linear(base) if matches(n, target)]
            _refuse_packed(base, found)
            weights += [f"{name}.weight" for name in found]
        else:
            modules.append(target)
    config.target_modules, config.target_parameters = set(modules), sorted(weights)
    _widen(config, weights, base)
    return config


def _turned_by_peft(base: Any) -> frozenset[str]:
    """The last parts of names that PEFT converts to weights of experts in this model."""
    pattern = _MODEL_TO_CONVERSION_PATTERN.get(getattr(base.config, "model_type", ""), "")
    return frozenset(_MOE_TARGET_MODULE_MAPPING.get(pattern, {}))


def _ends_in(name: str, lasts: frozenset[str]) -> bool:
    return name.rpartition(".")[2] in lasts


def _weights(base: Any, targets: list[str]) -> list[str]:
    """The joined weights selected by the targets. Shape of each: (experts, out, in)."""
    wanted = taker(targets)
    return [n for n, p in base.named_parameters() if p.ndim == 3 and is_joined(n) and wanted(n)]


def _single_experts(base: Any, targets: list[str]) -> list[str]:
    """Experts that this model stores separately, by the name of their weight."""
    wanted = taker(targets)
    return [n for n in _linear(base) if ".experts." in n and wanted(n)]


def _linear(base: Any) -> list[str]:
    return [
        n for n, m in base.named_modules() if getattr(getattr(m, "weight", None), "ndim", 0) == 2
    ]


def _refuse_packed(base: Any, names: list[str]) -> None:
    """Raise ``StudioError`` if a layer beside the experts has no plain weight that can be adapted."""
    for name in names:
        if not base.get_submodule(name).weight.is_floating_point():
            raise StudioError(
                f"{name} cannot be adapted on a quantized base: PEFT 0.21 treats it as an expert.",
                title="Unsupported layer",
                field="target_modules",
                code="experts_quantized",
                hint="Set the target modules to Attention, or Quantization to None.",
            )


def _widen(config: Any, weights: list[str], base: Any) -> None:
    """Rank and alpha patterns by full name, multiplied by the number of matrices that are joined;
    patterns that match only experts are replaced.
    """
    adapted = taker(config.target_modules)
    plain = [n for n in _linear(base) if adapted(n)]
    ranks, alphas = dict(config.rank_pattern or {}), dict(config.alpha_pattern or {})
    config.rank_pattern = _kept(ranks, plain)
    config.alpha_pattern = _kept(alphas, plain)
    for weight in weights:
        name, count = weight.removesuffix(".weight"), _JOINED.get(weight.rpartition(".")[2], 1)
        r, alpha = (
            _own(ranks, name, config.r) * count,
            _own(alphas, name, config.lora_alpha) * count,
        )
        if r != config.r:
            config.rank_pattern[re.escape(weight)] = r
        if alpha != config.lora_alpha:
            config.alpha_pattern[re.escape(weight)] = alpha


def _own(pattern: Mapping[str, int], name: str, default: int) -> int:
    return next((v for p, v in pattern.items() if _fits(p, name)), default)


def _kept(pattern: Mapping[str, int], names: list[str]) -> dict[str, int]:
    return {p: v for p, v in pattern.items() if any(_fits(p, n) for n in names)}


def _fits(pattern: str, name: str) -> bool:
    return re.fullmatch(rf"(.*\.)?({pattern})", name) is not None
