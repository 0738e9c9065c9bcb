"""Which programs load an adapter as it was trained, decided from its config and the shapes of its tensors.

The programs differ in the factor by which they multiply B·A. PEFT computes it for each layer, with the
patterns of ranks and alphas; vLLM (``vllm/lora/peft_helper.py``) once from ``r``, ``lora_alpha`` and
``use_rslora``; llama.cpp (``convert_lora_to_gguf.py``, ``llama_adapter_lora_weight::get_scale``) from
``lora_alpha`` and the rank of each tensor. Where these factors differ, the adapter loads without an error and has
another effect. An adapter of one rank whose alpha is equal to it has the factor 1 in all of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from studio.model.adapter_files import EMBEDDING_A, EMBEDDING_B, LORA_A, LORA_B, PREFIX, scale_of

TITLES = {"peft": "PEFT", "vllm": "vLLM", "llama_cpp": "llama.cpp"}
VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The values of vLLM's option ``--max-lora-rank``; 16 if it is not set."""

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Reading:
    """Whether a program loads the adapter as it was trained; ``None`` if that depends on the model's
    architecture. ``why`` is the reason, without a full stop."""

    loads: bool | None
    why: str = ""


def readings(config: Mapping[str, Any], shapes: Shapes, tied: bool) -> dict[str, Reading]:
    """What PEFT, vLLM and llama.cpp make of an adapter; ``shapes`` are those of its tensors by name, ``tied``
    whether the base shares one matrix between embedding and head."""
    return {
        "peft": Reading(True),
        "vllm": _vllm(config, shapes),
        "llama_cpp": _llama_cpp(config, shapes, tied),
    }


def vllm_rank(rank: int) -> int | None:
    """The value of ``--max-lora-rank`` that this rank needs; ``None`` if vLLM has none."""
    return next((r for r in VLLM_RANKS if r >= rank), None)


def _ranks(shapes: Shapes) -> dict[str, int]:
    """The rank of each adapted layer."""
    found = {}
    for name, shape in shapes.items():
        for end in (LORA_A, EMBEDDING_A):
            if name.endswith(end):
                found[name.removesuffix(end)] = shape[0]
    return found


def _not_plain(config: Mapping[str, Any], shapes: Shapes) -> str:
    """Why the adapter consists of more than A and B; empty if it does not."""
    kind = getattr(config.get("peft_type"), "value", config.get("peft_type"))
    if kind != "LORA":
        return f"adapters of the type {kind} are not LoRA"
    if config.get("use_dora"):
        return "DoRA is not supported"
    if config.get("alora_invocation_tokens"):
        return "the adapter would also be applied to the tokens before its invocation"
    modules = config.get("modules_to_save")
    if modules:
        return f"fully trained modules ({', '.join(modules)}) are not supported"
    if config.get("trainable_token_indices"):
        return "trained tokens are not supported"
    ends = (LORA_A, LORA_B, EMBEDDING_A, EMBEDDING_B)
    other = next((n for n in shapes if not n.endswith(ends)), None)
    return f"the tensor {other.removeprefix(PREFIX)} is not supported" if other else ""


def _vllm(config: Mapping[str, Any], shapes: Shapes) -> Reading:
    reason = _not_plain(config, shapes)
    if reason:
        return Reading(False, reason)
    ranks, r = _ranks(shapes), int(config["r"])
    one = float(config["lora_alpha"]) / (math.sqrt(r) if config.get("use_rslora") else r)
    other = [n for n, rank in ranks.items() if not math.isclose(scale_of(config, n, rank), one)]
    if other:
        return Reading(False, _other_scale(other, len(ranks)))
    if vllm_rank(max(ranks.values())) is None:
        return Reading(False, f"the highest supported rank is {VLLM_RANKS[-1]}")
    ends = [n for n in ranks if n.rpartition(".")[2] in ("embed_tokens", "lm_head", "wte")]
    if ends:
        where = ends[0].removeprefix(PREFIX)
        return Reading(None, f"depends on the architecture, because the adapter changes {where}")
    return Reading(True)


def _llama_cpp(config: Mapping[str, Any], shapes: Shapes, tied: bool) -> Reading:
    reason = _not_plain(config, shapes)
    if reason:
        return Reading(False, reason)
    ranks, alpha = _ranks(shapes), float(config["lora_alpha"])
    other = [n for n, r in ranks.items() if not math.isclose(scale_of(config, n, r), alpha / r)]
    if other:
        return Reading(False, _other_scale(other, len(ranks)))
    if tied and any(n.rpartition(".")[2] == "lm_head" for n in ranks):
        return Reading(
            False, "adapters of a head that shares the embedding's matrix are not supported"
        )
    return Reading(True)


def _other_scale(layers: list[str], count: int) -> str:
    where = layers[0].removeprefix(PREFIX)
    return (
        f"{len(layers)} of {count} layers, such as {where}, would be multiplied by another factor"
    )
