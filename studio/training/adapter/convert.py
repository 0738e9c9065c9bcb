"""Converts adapters of special methods to a plain LoRA with the same effect, which any program can
load.

PiSSA and related methods train W - s B0 A0 + s B A: a LoRA of twice the rank and twice the alpha on
the unchanged base, W + s [B, -B0] [A; A0].

AdaLoRA's P Λ Q is written as B A with a rank of its own for each layer: PEFT 0.21 rounds such an
adapter to the base's precision when it loads it, and other programs do not support it.

PSOFT rotates the main directions of the base, s B (R - I) A, and saves only R. B and A are computed
again when it is loaded, and another library or a GPU may give them the opposite sign.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from studio.system.atomic import write_atomic
from studio.training.saved.snapshot import ADAPTER, CONFIG, same_mode
from studio.training.saved.tensor_files import read_tensors, write_tensors

_OWN = ("eva_config", "corda_config", "loftq_config", "lora_ga_config")


def make_plain(folder: Path, start: dict[str, torch.Tensor]) -> None:
    """Rewrite the adapter in ``folder``; ``start`` holds the initial A and B by parameter name."""
    trained = read_tensors(folder / ADAPTER)
    first = {name.replace(".default.", "."): value for name, value in start.items()}
    joined = {n: _joined(n, value, first.get(n)) for n, value in trained.items()}
    write_tensors(joined, folder / ADAPTER)
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    write_atomic(folder / CONFIG, json.dumps(_doubled(config), indent=2))
    same_mode(folder, CONFIG)


def _joined(name: str, value: torch.Tensor, first: torch.Tensor | None) -> torch.Tensor:
    if first is None:
        return value
    first = first.to(value.dtype)
    if ".lora_A." in name:
        return torch.cat([value, first]).contiguous()  # (2r, in)
    return torch.cat([value, -first], dim=1).contiguous()  # (out, 2r)


def _doubled(config: dict[str, Any]) -> dict[str, Any]:
    """Twice the rank with the same scale: alpha / r, or alpha / sqrt(r) for rsLoRA."""
    factor = math.sqrt(2) if config.get("use_rslora") else 2
    ranks = {k: 2 * v for k, v in (config.get("rank_pattern") or {}).items()}
    alphas = {k: factor * v for k, v in (config.get("alpha_pattern") or {}).items()}
    return {
        **config,
        "r": 2 * config["r"],
        "lora_alpha": factor * config["lora_alpha"],
        "rank_pattern": ranks,
        "alpha_pattern": alphas,
        "init_lora_weights": True,
        **{name: None for name in _OWN if name in config},
    }


def make_plain_ranks(folder: Path) -> None:
    """Rewrite an AdaLoRA adapter in ``folder`` as a LoRA with a rank and alpha for each layer."""
    trained = read_tensors(folder / ADAPTER)
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    stems = [n.removesuffix(".lora_A") for n in trained if n.endswith(".lora_A")]
    tensors = {n: t for n, t in trained.items() if ".lora_" not in n}
    ranks = {}
    for stem in stems:
        a, e, b = (trained[f"{stem}.lora_{part}"] for part in "AEB")  # (r, in), (r, 1), (out, r)
        used = e.flatten() != 0  # the other ranks are pruned
        if used.any():
            ranks[stem.removeprefix("base_model.model.")] = int(used.sum())
            tensors[f"{stem}.lora_A.weight"] = (a * e)[used].contiguous()
            tensors[f"{stem}.lora_B.weight"] = b[:, used].contiguous()
    write_tensors(tensors, folder / ADAPTER)
    plain = _as_lora(config, ranks)
    write_atomic(folder / CONFIG, json.dumps(plain, indent=2, sort_keys=True))
    same_mode(folder, CONFIG)


def without_samplers(folder: Path) -> None:
    """Rewrite a MonteCLoRA adapter in ``folder`` as a LoRA, which it is outside of training."""
    trained = read_tensors(folder / ADAPTER)
    tensors = {n: t for n, t in trained.items() if ".lora_monteclora_sampler." not in n}
    write_tensors(tensors, folder / ADAPTER)
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    plain = {**config, "monteclora_config": None}
    write_atomic(folder / CONFIG, json.dumps(plain, indent=2, sort_keys=True))
    same_mode(folder, CONFIG)


def make_plain_rotations(folder: Path, model: Any) -> None:
    """Rewrite a PSOFT adapter in ``folder`` as a LoRA of the same rank with the B and A of ``model``."""
    from peft.tuners.psoft.layer import PsoftLayer

    trained = read_tensors(folder / ADAPTER)
    tensors = {n: t for n, t in trained.items() if ".psoft_" not in n}
    for name, layer in model.named_modules():
        if isinstance(layer, PsoftLayer):
            a, b = layer._get_psoft_ab_cache_buffers("default")  # (r, in), (out, r)
            turned = layer.psoft_R["default"].get_matrix().detach().float()
            change = turned - torch.eye(len(turned), device=turned.device)
            tensors[f"{name}.lora_A.weight"] = a.float().cpu().contiguous()
            tensors[f"{name}.lora_B.weight"] = (b.float() @ change).cpu().contiguous()
    write_tensors(tensors, folder / ADAPTER)
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    plain = _lora_like(
        config,
        config["target_modules"],
        r=config["r"],
        lora_alpha=config["psoft_alpha"],
        lora_dropout=config["psoft_dropout"],
    )
    write_atomic(folder / CONFIG, json.dumps(plain, indent=2, sort_keys=True))
    same_mode(folder, CONFIG)


def as_plain_lora(
    folder: Path, pairs: dict[str, tuple[torch.Tensor, torch.Tensor]], own: str
) -> None:
    """Rewrite the adapter in ``folder`` as a LoRA of scale 1: A (r, in) and B (out, r) by layer.

    Tensors with ``own`` in their names are removed; fully trained modules are kept.
    """
    tensors = {n: t for n, t in read_tensors(folder / ADAPTER).items() if own not in n}
    for name, (a, b) in pairs.items():
        tensors[f"{name}.lora_A.weight"] = a.detach().cpu().contiguous()
        tensors[f"{name}.lora_B.weight"] = b.detach().cpu().contiguous()
    write_tensors(tensors, folder / ADAPTER)
    ranks = {n.removeprefix("base_model.model."): len(a) for n, (a, _) in pairs.items()}
    most = max(ranks.values())
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    plain = _lora_like(
        {**config, "fan_in_fan_out": False},
        ranks,
        r=most,
        lora_alpha=most,
        rank_pattern={n: r for n, r in ranks.items() if r != most},
        alpha_pattern={n: r for n, r in ranks.items() if r != most},
    )
    write_atomic(folder / CONFIG, json.dumps(plain, indent=2, sort_keys=True))
    same_mode(folder, CONFIG)


def _as_lora(config: dict[str, Any], ranks: dict[str, int]) -> dict[str, Any]:
    """A LoRA config for layers of these ranks, each with the scale alpha / init_r."""
    scale = config["lora_alpha"] / config["init_r"]
    return _lora_like(
        config,
        ranks,
        r=config["init_r"],
        lora_alpha=config["lora_alpha"],
        rank_pattern=ranks,
        alpha_pattern={name: scale * r for name, r in ranks.items()},
        bias=config["bias"],
        lora_dropout=config["lora_dropout"],
    )


def _lora_like(config: dict[str, Any], layers: Iterable[str], **own: Any) -> dict[str, Any]:
    """A LoRA config for these layers, with the other values of the given config."""
    from peft import LoraConfig

    kept = (
        "base_model_name_or_path",
        "revision",
        "task_type",
        "fan_in_fan_out",
        "modules_to_save",
        "inference_mode",
    )
    names = sorted(layers)
    plain = LoraConfig(target_modules=names, **{n: config[n] for n in kept}, **own).to_dict()
    plain["target_modules"] = names
    return {k: getattr(v, "value", v) for k, v in plain.items()}
