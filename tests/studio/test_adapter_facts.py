"""What the Load Adapter node says about an adapter before it is loaded."""

from __future__ import annotations

import json
from pathlib import Path

from studio.graph.facts import facts_of, short_line
from studio.graph.graph import Node
from studio.graph.registry import load_registry


def facts(root: Path, name: str, **config: object) -> dict[str, str]:
    folder = root / name
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "adapter_model.safetensors").write_bytes(bytes(2_000_000))
    node = Node("a", "load_adapter", {"adapter": name})
    found = facts_of(node, load_registry().node_type("load_adapter"), root)
    assert short_line(found) in ("r 8", "")
    return {f.label: f.value for f in found}


def test_type_rank_base_and_size(tmp_path: Path) -> None:
    base = {"base_model_name_or_path": "owner/base"}
    found = facts(tmp_path, "one", peft_type="LORA", r=8, lora_alpha=16, use_dora=True, **base)
    assert found == {
        "Type": "DoRA",
        "Rank": "8, alpha 16",
        "On disk": "2 MB",
        "Made for": "owner/base",
    }
    assert facts(tmp_path, "two", peft_type="IA3") == {"Type": "IA3", "On disk": "2 MB"}
    assert facts(tmp_path, "three") == {}  # a Problem says what is wrong
    node = Node("a", "load_adapter", {"adapter": "owner/on-the-hub"})
    assert facts_of(node, load_registry().node_type("load_adapter"), tmp_path) == ()
