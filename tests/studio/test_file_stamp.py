"""A file that changed is read again, also when its modification time did not change."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from studio.model.facts import folder_facts
from studio.model.read_shape import read_shape
from studio.system.file_stamp import file_stamp

TIME_NS = 1_700_000_000_000_000_000
CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "vocab_size": 100,
}


def write(path: Path, text: str) -> None:
    """Write a file, always with the same modification time."""
    path.write_text(text, encoding="utf-8")
    os.utime(path, ns=(TIME_NS, TIME_NS))


def test_the_size_counts(tmp_path: Path) -> None:
    write(tmp_path / "a", "x")
    before = file_stamp(tmp_path / "a")
    assert file_stamp(tmp_path / "a") == before
    write(tmp_path / "a", "xy")
    after = file_stamp(tmp_path / "a")
    assert (after[0], after[2]) == (before[0], 2)
    with pytest.raises(FileNotFoundError):
        file_stamp(tmp_path / "gone")


def test_a_config_of_the_same_time_is_read_again(tmp_path: Path) -> None:
    for layers in (2, 12):
        write(tmp_path / "config.json", json.dumps({**CONFIG, "num_hidden_layers": layers}))
        os.utime(tmp_path, ns=(TIME_NS, TIME_NS))
        shape, facts = read_shape(tmp_path), folder_facts(tmp_path)
        assert shape is not None
        assert facts is not None
        assert (shape.layers, facts.layers) == (layers, layers)
