"""Writes a model in FP8, as vLLM, SGLang and transformers read it: the format ``float-quantized`` of
compressed-tensors.

Each weight of a linear layer in the decoder layers is stored as float8_e4m3fn with one scale per output channel, so
that its largest value is the largest that FP8 holds; activations are quantized while the model runs, per token.
Embedding, head, norms and the routers of mixtures stay as they are. Tensor by tensor: one is in memory at a time. The
scheme is FP8_DYNAMIC of llm-compressor (https://github.com/vllm-project/llm-compressor), which needs no rows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from studio.errors import StudioError
from studio.export_folder.copy_files import copy_files
from studio.export_folder.optional import CT
from studio.graph.context import StepContext
from studio.model.folder_files import read_json
from studio.system.atomic import write_atomic
from studio.training.model.skeleton import skeleton
from studio.training.model.weights_file import SHARD_BYTES, Entry, StoredWeights, write_weights
from studio.values import ModelValue
from studio.variants.exporter import Readable, Written

FP8 = torch.float8_e4m3fn
LARGEST = torch.finfo(FP8).max
SCALE = "_scale"
"""The end of the name of a scale: ``weight_scale`` beside ``weight``."""
_EXPERT = re.compile(r"\.experts\.\d+\.[^.]+\.weight$")


@dataclass(frozen=True)
class Fp8Plan:
    """The tensors to write, in order, and what is stored how: ``quantized`` are names of weights, ``kept`` the paths
    of the layers that stay as they are although they are linear, or routers."""

    entries: list[Entry]
    quantized: frozenset[str]
    kept: list[str]

    @property
    def size(self) -> int:
        """The size of the weights in bytes."""
        return sum(e.size for e in self.entries)


def plan_fp8(folder: Path) -> Fp8Plan:
    """What is written for the model in ``folder``, from headers alone. Raises ``StudioError`` if none of its layers can
    be quantized."""
    stored = StoredWeights(folder)
    entries = stored.entries()
    stored.close()
    chosen, kept = _layers(folder, entries)
    if not chosen:
        raise StudioError(
            "the model cannot be written in FP8: none of its stored weights belongs to a linear layer (GPT-2 stores "
            "its layers otherwise).",
            title="The model cannot be written in FP8",
            hint="Set Quantization to None.",
            field="format_settings.model_quantization",
            code="cannot_quantize",
        )
    made = []
    for entry in entries:
        if entry.name not in chosen:
            made.append(entry)
            continue
        made.append(Entry(entry.name, entry.shape, FP8))
        made.append(Entry(entry.name + SCALE, (entry.shape[0], 1), _scale_dtype(entry.dtype)))
    return Fp8Plan(made, frozenset(chosen), kept)


def _layers(folder: Path, entries: Sequence[Entry]) -> tuple[set[str], list[str]]:
    """The names of the weights to quantize, and the paths of the layers that are kept."""
    model = skeleton(folder)
    head = model.get_output_embeddings()
    linear = {n for n, m in model.named_modules() if type(m) is torch.nn.Linear and m is not head}
    kept = {n for n, m in model.named_modules() if m is head}
    chosen = set()
    for entry in entries:
        path = entry.name.removesuffix(".weight")
        if path == entry.name or len(entry.shape) != 2:
            continue
        if (path in linear and not _is_router(path)) or _EXPERT.search(entry.name):
            chosen.add(entry.name)
        elif path in linear or _is_router(path):
            kept.add(path)
    return chosen, sorted(kept)


def _is_router(path: str) -> bool:
    """Whether a layer chooses the experts of a mixture: their probabilities are too sensitive to be rounded."""
    return path.rpartition(".")[2] in ("gate", "router", "shared_expert_gate")


def _scale_dtype(stored: torch.dtype) -> torch.dtype:
    """That of the weights, as llm-compressor writes it, but float16 has too few small numbers."""
    return torch.float32 if stored == torch.float16 else stored


def quantized(weight: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """A weight (out, in) in FP8, and its scales (out, 1) in ``dtype``: weight ≈ FP8 · scale."""
    value = weight.float()
    largest = value.abs().amax(dim=1, keepdim=True)
    scale = (largest / LARGEST).to(dtype)
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))  # a row of zeros
    return (value / scale.float()).clamp(-LARGEST, LARGEST).to(FP8), scale


def write_fp8(context: StepContext, value: ModelValue, folder: Path) -> Written:
    """Write weights, config and the files beside them. Raises ``StudioError``."""
    source = Path(value.path)
    plan = plan_fp8(source)
    stored = StoredWeights(source)
    total = round(plan.size / 1e6, 1)
    context.notice(
        f"FP8: {len(plan.quantized)} weights in 8 bits with a scale per output channel, {plan.size / 1e6:,.1f} MB in "
        f"all; {', '.join([*_ends(plan.kept), 'embedding', 'norms'])} as they are.",
        level="info",
    )
    scales: dict[str, torch.Tensor] = {}

    def tensor(name: str) -> torch.Tensor:
        if name in scales:
            return scales.pop(name)
        found = stored.tensor(name)
        if name not in plan.quantized:
            return found
        if not bool(found.isfinite().all()):
            raise StudioError(
                f"{name} has values that are not finite.",
                title="The model cannot be written in FP8",
                hint="Export an earlier checkpoint of the training.",
                code="cannot_quantize",
                file=str(source),
            )
        weight, scales[name + SCALE] = quantized(found, _scale_dtype(found.dtype))
        return weight

    def tick(done: int) -> None:
        context.check()
        context.progress("export", min(round(done / 1e6, 1), total), total, "MB")

    copy_files(context, source, folder, link_weights=False, weights=False)
    try:
        write_weights(folder, plan.entries, tensor, tick, SHARD_BYTES)
    finally:
        stored.close()
    config = {**read_json(source, "config.json"), "quantization_config": config_of_fp8(plan.kept)}
    write_atomic(folder / "config.json", json.dumps(config, indent=2) + "\n")
    rows = (
        ("quantization", "FP8 (E4M3), a scale per output channel, activations per token"),
        ("layers in 8 bits", f"{len(plan.quantized)}"),
        ("not quantized", ", ".join([*_ends(plan.kept), "embedding", "norms"])),
    )
    readable = Readable("transformers", title="FP8", needs=CT)
    return Written(rows, {"quantization": "fp8"}, readable=(readable,))


def _ends(paths: Sequence[str]) -> list[str]:
    return sorted({p.rpartition(".")[2] for p in paths})


def config_of_fp8(kept: Sequence[str]) -> Mapping[str, Any]:
    """The ``quantization_config`` of ``config.json``; readers quantize all linear layers except ``kept``."""
    common = {"num_bits": 8, "type": "float", "symmetric": True, "group_size": None}
    return {
        "quant_method": "compressed-tensors",
        "format": "float-quantized",
        "quantization_status": "compressed",
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": {**common, "strategy": "channel", "dynamic": False},
                "input_activations": {**common, "strategy": "token", "dynamic": True},
                "output_activations": None,
                "format": "float-quantized",
            }
        },
        "ignore": list(kept),
        "kv_cache_scheme": None,
    }
