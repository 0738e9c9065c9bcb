"""What an adapter folder says about itself, for the node that loads it: from its config, without its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from studio.graph.node_type import Fact
from studio.model.adapter_check import adapter_folder
from studio.model.adapter_files import CONFIG, WEIGHTS
from studio.model.facts import sized
from studio.model.folder_files import json_or_empty
from studio.shown_text import MOST_IN_QUOTES, line


def adapter_facts(adapter: str, project_dir: Path) -> list[Fact]:
    """Type, rank, base and size of a local adapter of PEFT; nothing for others."""
    folder = adapter_folder(adapter.strip(), project_dir) if adapter.strip() else None
    config = json_or_empty(folder, CONFIG) if folder is not None else {}
    if folder is None or not config.get("peft_type"):
        return []
    rank, alpha = config.get("r"), config.get("lora_alpha")
    ranks = f"{rank}, alpha {alpha:g}" if isinstance(alpha, (int, float)) else str(rank)
    weights = folder / WEIGHTS
    rows = [
        ("Type", _kind(config), ""),
        ("Rank", ranks if isinstance(rank, int) else "", f"r {rank}"),
        ("On disk", sized(weights.stat().st_size) if weights.is_file() else "", ""),
        ("Made for", line(str(config.get("base_model_name_or_path") or ""), MOST_IN_QUOTES), ""),
    ]
    return [Fact(label, value, short) for label, value, short in rows if value]


def _kind(config: dict[str, Any]) -> str:
    kind = line(str(config["peft_type"]), MOST_IN_QUOTES)
    if kind != "LORA":
        return kind
    return "DoRA" if config.get("use_dora") else "rsLoRA" if config.get("use_rslora") else "LoRA"
