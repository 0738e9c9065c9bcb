"""What the config of an adapter says about it: method, rank, layers, and what else it trains. Without torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from studio.model.adapter_check import adapter_folder
from studio.model.adapter_files import CONFIG, PREFIX, WEIGHTS
from studio.model.folder_files import read_json
from studio.model.weight_files import BadWeights, tensor_shapes
from studio.node_settings.lora import LoraSettings
from studio.values import AdaptedModelValue, ModelValue

METHODS = {
    "ADALORA": "adalora",
    "BOFT": "boft",
    "IA3": "ia3",
    "LN_TUNING": "ln_tuning",
    "LOHA": "loha",
    "LOKR": "lokr",
    "MISS": "miss",
    "OFT": "oft",
    "VERA": "vera",
}
"""PEFT's name of the type -> the method of the LoRA node. LORA stands for several."""

CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Values of ``init_lora_weights`` with which PEFT subtracts the initial adapter from the weights of the base."""


def method_of_config(config: Mapping[str, Any]) -> str:
    """The method of the LoRA node that makes adapters of this type; empty if there is none."""
    if config["peft_type"] != "LORA":
        return METHODS.get(config["peft_type"], "")
    if config.get("alora_invocation_tokens"):
        return "alora"
    if config.get("use_dora"):
        return "dora"
    return "rslora" if config.get("use_rslora") else "lora"


def described(
    base: ModelValue, config: Mapping[str, Any], method: str, folder: Path
) -> AdaptedModelValue:
    """What the adapter in ``folder`` trains on ``base``."""
    return AdaptedModelValue(
        model=base,
        method=method,
        r=int(config.get("r") or config.get("rank") or config.get("init_r") or 0),
        alpha=round(float(config.get("lora_alpha") or config.get("alpha") or 0)),
        dropout=float(config.get("lora_dropout") or 0.0),
        bias=str(config.get("bias") or "none"),
        target_modules=_targets(config, folder),
        rank_pattern=_integers(config.get("rank_pattern")),
        alpha_pattern=_integers(config.get("alpha_pattern")),
        modules_to_save=list(config.get("modules_to_save") or []),
        trained_tokens=_tokens(config),
    )


def lora_settings_of(adapter: str, project_dir: Path) -> LoraSettings | None:
    """The LoRA node that would train an adapter of this form; ``None`` if its config cannot be read."""
    folder = adapter_folder(adapter.strip(), project_dir) if adapter.strip() else None
    try:
        config = read_json(folder, CONFIG) if folder is not None else {}
        method = method_of_config(config) if "peft_type" in config else ""
        if folder is None or not method:
            return None
        ranks = _integers(config.get("rank_pattern"))
        rank = int(config.get("r") or config.get("rank") or config.get("init_r") or 1)
        return LoraSettings(
            method="lora" if method == "adalora" else method,
            r=rank,
            alpha=max(1, round(float(config.get("lora_alpha") or config.get("alpha") or rank))),
            dropout=float(config.get("lora_dropout") or 0.0),
            target_modules=_targets(config, folder) or "all-linear",
            rank_pattern=", ".join(
                f"{name}={r}" for name, r in ranks.items() if name.isidentifier()
            ),
            modules_to_save=", ".join(config.get("modules_to_save") or ()),
            trained_tokens=", ".join(map(str, _tokens(config))),
        )
    except (OSError, ValueError, BadWeights):
        return None


def _targets(config: Mapping[str, Any], folder: Path) -> list[str]:
    """The names of the layers; those of a regular expression are taken from the tensors."""
    targets = config.get("target_modules") or []
    if not isinstance(targets, str):
        return list(targets)
    names: Iterable[str] = dict(tensor_shapes(folder / WEIGHTS))
    return sorted({n.partition(".lora_")[0].removeprefix(PREFIX) for n in names if ".lora_" in n})


def _tokens(config: Mapping[str, Any]) -> list[int]:
    found = config.get("trainable_token_indices") or []
    if isinstance(found, Mapping):
        found = sorted({i for ids in found.values() for i in ids})
    return list(found)


def _integers(pattern: Mapping[str, Any] | None) -> dict[str, int]:
    return {name: round(float(value)) for name, value in (pattern or {}).items()}
