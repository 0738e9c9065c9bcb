"""Reduces the rank of a trained adapter by a truncated singular value decomposition.

Of all matrices of rank k, the one made of the first k singular directions is nearest to ΔW = s·B·A
(Eckart and Young, 1936). They follow from the QR of B and Aᵀ and a small decomposition, so no
matrix of a layer's size is built and nothing is approximated. The retained share of ‖ΔW‖² is
reported per layer. The result is a LoRA that plain PEFT loads; methods with more than A and B are
not supported.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from studio.errors import StudioError
from studio.graph.context import StepContext
from studio.model.adapter_files import scale_of
from studio.node_settings.resize import ResizeSettings
from studio.system.atomic import write_atomic
from studio.training.adapter.insight import directions_used
from studio.training.merge.check import adapter_difference
from studio.training.saved.snapshot import ADAPTER, CONFIG, same_mode
from studio.training.saved.tensor_files import read_tensors, write_tensors
from studio.values import AdapterValue

_A, _B = ".lora_A.weight", ".lora_B.weight"
_REFUSED = {
    "use_dora": "DoRA also trains the magnitude of the weights, which has no rank",
    "lora_bias": "it trains biases",
    "target_parameters": "it adapts joined parameters of experts",
    "use_qalora": "QALoRA groups inputs",
    "use_bdlora": "BD-LoRA stores only diagonal blocks, which a smaller adapter would not preserve",
}


@dataclass(frozen=True)
class Shrunk:
    """One layer: new A (k, in) and B (out, k) with scale 1, its old rank, and the retained share of ‖ΔW‖²."""

    a: torch.Tensor
    b: torch.Tensor
    old: int
    kept: float
    energy: float

    @property
    def r(self) -> int:
        """The new rank."""
        return int(self.a.shape[0])


def shrink(a: torch.Tensor, b: torch.Tensor, scale: float, most: int, share: float = 1.0) -> Shrunk:
    """The nearest pair of rank ``most`` or less to scale·b·a; with ``share`` < 1 only as many
    directions as hold that share of the squared norm.
    """
    q_b, r_b = torch.linalg.qr(b.double())
    q_a, r_a = torch.linalg.qr(a.double().T)
    u, values, vt = torch.linalg.svd(scale * r_b @ r_a.T, full_matrices=False)
    wanted = directions_used(values, share) if share < 1 else len(values)
    rank = max(1, min(most, wanted, len(values)))
    root = values[:rank].sqrt()
    energy = float(values.square().sum())
    kept = float(values[:rank].square().sum()) / energy if energy else 1.0
    new_b = (q_b @ u[:, :rank] * root).to(b.dtype)
    new_a = ((root[:, None] * vt[:rank]) @ q_a.T).to(a.dtype)
    return Shrunk(new_a.contiguous(), new_b.contiguous(), int(a.shape[0]), kept, energy)


def resize_adapter(
    context: StepContext, adapter_json: Mapping[str, Any], settings: ResizeSettings
) -> AdapterValue:
    """Write the resized adapter, compare it with the original, and return its description."""
    value = AdapterValue.model_validate(adapter_json)
    source, folder = Path(value.path), context.folder / "adapter"
    config = json.loads((source / CONFIG).read_text(encoding="utf-8"))
    _refuse(context, value, config)
    context.phase("resize", "Computing singular directions")
    layers, others = _shrunk(context, source, config, settings)
    _write(source, folder, config, layers, others)
    kept = sum(s.kept * s.energy for s in layers.values())
    share = kept / (sum(s.energy for s in layers.values()) or 1.0)
    difference = adapter_difference(context, value, folder).largest
    _tell(context, layers, share, difference)
    top, ranks = _ranks(layers)
    model = value.model.model_copy(
        update={
            "method": "lora",
            "r": top,
            "alpha": top,
            "method_settings": {},
            "rank_pattern": ranks,
            "alpha_pattern": ranks,
        }
    )
    metrics = {**value.metrics, "retained_energy": share, "resize_logit_difference": difference}
    size = sum(f.stat().st_size for f in folder.glob("*.safetensors"))
    context.artifact("adapter", folder, retained_energy=share, r=top, bytes=size)
    return value.model_copy(update={"path": str(folder), "model": model, "metrics": metrics})


def _refuse(context: StepContext, value: AdapterValue, config: Mapping[str, Any]) -> None:
    reason = next((why for name, why in _REFUSED.items() if config.get(name)), "")
    if config.get("peft_type") != "LORA":
        reason = f"{value.model.method} does not consist of two matrices A and B"
    if reason:
        raise StudioError(
            f"this adapter cannot be resized: {reason}.",
            title="The adapter cannot be resized",
            hint="Adapters of LoRA, rsLoRA, LoRA+ and PiSSA can be resized.",
            code="cannot_resize",
            file=value.path,
        )


def _shrunk(
    context: StepContext, source: Path, config: Mapping[str, Any], settings: ResizeSettings
) -> tuple[dict[str, Shrunk], dict[str, torch.Tensor]]:
    """The layers by name, and all other tensors unchanged."""
    tensors = read_tensors(source / ADAPTER)
    embedding = next((n for n in tensors if ".lora_embedding_" in n), None)
    if embedding is not None:
        name = embedding.partition(".lora_")[0].removeprefix("base_model.model.")
        raise StudioError(
            f"this adapter cannot be resized: it changes the embedding ({name}).",
            title="The adapter cannot be resized",
            hint="Train with the target module lm_head only, or without embedding and head.",
            code="cannot_resize",
            file=str(source),
        )
    names = [n.removesuffix(_A) for n in tensors if n.endswith(_A)]
    layers: dict[str, Shrunk] = {}
    most = settings.r if settings.by == "rank" else 10**9
    share = 1.0 if settings.by == "rank" else settings.energy
    for done, name in enumerate(names, start=1):
        context.check()
        a, b = tensors.pop(name + _A), tensors.pop(name + _B)
        layers[name] = shrink(a, b, scale_of(config, name, a.shape[0]), most, share)
        context.progress("resize", done, len(names), "layers")
    if not layers:
        raise StudioError("the adapter contains no A and B.", code="cannot_resize")
    return layers, tensors


def _write(
    source: Path,
    folder: Path,
    config: dict[str, Any],
    layers: Mapping[str, Shrunk],
    others: Mapping[str, torch.Tensor],
) -> None:
    """Write a plain LoRA with scale 1: alpha equals the rank in every layer."""
    rewritten = shutil.ignore_patterns(ADAPTER, CONFIG)
    shutil.copytree(source, folder, ignore=rewritten, dirs_exist_ok=True)
    top, ranks = _ranks(layers)
    config.update(
        r=top,
        lora_alpha=top,
        use_rslora=False,
        rank_pattern=ranks,
        alpha_pattern=dict(ranks),
        init_lora_weights=True,
        lora_dropout=config.get("lora_dropout", 0.0),
    )
    write_atomic(folder / CONFIG, json.dumps(config, indent=2) + "\n")
    written = dict(others)
    for name, layer in layers.items():
        written[name + _A], written[name + _B] = layer.a, layer.b
    write_tensors(written, folder / ADAPTER)
    same_mode(folder, CONFIG)


def _ranks(layers: Mapping[str, Shrunk]) -> tuple[int, dict[str, int]]:
    """The highest rank, and the ranks of the layers that differ."""
    top = max(s.r for s in layers.values())
    plain = {n.removeprefix("base_model.model."): s.r for n, s in layers.items()}
    return top, {n: r for n, r in plain.items() if r != top}


def _tell(
    context: StepContext, layers: Mapping[str, Shrunk], share: float, difference: float
) -> None:
    worst = min(layers, key=lambda n: layers[n].kept)
    old, ranks = max(s.old for s in layers.values()), sorted({s.r for s in layers.values()})
    new = str(ranks[0]) if len(ranks) == 1 else f"{ranks[0]} to {ranks[-1]}"
    context.notice(
        f"Rank {old} was reduced to {new}; {100 * share:.2f} % of the change "
        f"is kept, and at least {100 * layers[worst].kept:.2f} % in every layer "
        f"({worst.removeprefix('base_model.model.')}). The logits differ from those of the "
        f"input adapter by at most {difference:.2g}.",
        level="info",
    )
