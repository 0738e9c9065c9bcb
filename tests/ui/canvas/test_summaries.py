"""The short line on a node: in the words of the inspector, and short enough to be drawn large."""

from __future__ import annotations

import pytest

from studio.graph.graph import Node
from studio.graph.registry import load_registry
from ui.canvas import layout, text
from ui.canvas.content import content_of


def summary(kind: str, **settings: object) -> str:
    return content_of(Node("n", kind, settings), load_registry()).summary


def test_methods_and_formats_are_told_by_title() -> None:
    assert summary("lora", method="dora", r=8) == "DoRA · r 8 · alpha 32"
    assert summary("lora", method="rslora") == "rsLoRA · r 16 · alpha 32"
    assert summary("lora", method="vera") == "VeRA"  # it has a width of its own
    assert summary("lora", method="delora") == "DeLoRA · r 16"
    assert summary("lora", method="gone") == "gone · r 16 · alpha 32"
    assert summary("export") == "Safetensors folder"
    assert summary("export", folder="out/mine") == "Safetensors folder · mine"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "1 epoch · lr 2e-4"),
        ({"epochs": 2.5, "learning_rate": 1.5e-5}, "2.5 epochs · lr 1.5e-5"),
        ({"max_steps": 1}, "1 step · lr 2e-4"),
        ({"max_steps": 60, "learning_rate": 0.001}, "60 steps · lr 0.001"),
    ],
)
def test_training_is_told_in_few_words(settings: dict[str, object], words: str) -> None:
    assert summary("train", **settings) == words


@pytest.mark.parametrize("line", ["60 steps · lr 5e-4", "1350 steps · lr 1.5e-5"])
def test_it_fits_where_the_graph_is_drawn_small(qapp: object, line: str) -> None:
    room = layout.WIDTH - 24
    assert text.width(line, text.size(text.LABEL, 2)) <= room
