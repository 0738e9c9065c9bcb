"""A toy node type with every kind of field, and a panel that shows it.

Why toys: these tests are about the form, not about what LoRA or Train need today.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from PySide6.QtWidgets import QWidget

from studio.graph.document import Document
from studio.graph.graph import Graph, Node, Wire
from studio.graph.node_type import NodeType, Variant
from studio.graph.ports import MODEL, input_, output
from studio.graph.registry import Registry
from studio.graph.schema import Settings, setting
from ui.inspector.panel import InspectorPanel


class ToySettings(Settings):
    """One field of each kind."""

    r: int = setting(16, "Rank", "Width.", ge=1, le=1024, log_scale=True)
    count: int = setting(4, "Count", "How many.", unit="rows", ge=1, le=6)
    rate: float = setting(2e-4, "Learning rate", "Speed.", gt=0.0, le=1.0, log_scale=True)
    share: float = setting(0.1, "Share", "Part.", ge=0.0, le=0.9, step=0.01)
    max_steps: int = setting(0, "Steps", "Length.", ge=0, special={0: "by epochs"}, group="Length")
    epochs: float = setting(
        1.0, "Epochs", "Rounds.", gt=0, le=9, step=0.5, shown_if={"max_steps": 0}, group="Length"
    )
    schedule: Literal["linear", "cosine"] = setting(
        "cosine", "Schedule", "Shape.", choice_labels={"linear": "Linear", "cosine": "Cosine"}
    )
    save_memory: bool = setting(False, "Save memory", "Slower.")
    source: str = setting("", "File", "Rows.", widget="file")
    folder: str = setting("", "Folder", "Place.", widget="folder")
    note: str = setting("", "Note", "Words.", widget="multiline")
    words: list[str] = setting([], "Words", "Several.")
    method: str = setting("plain", "Method", "How.", variant="adapter")
    method_settings: dict[str, Any] = setting({}, "Method settings", "Own.")
    target_modules: str | list[str] = setting(
        "all-linear",
        "Targets",
        "Layers.",
        widget="target_modules",
        special={"all-linear": "All linear layers", "q,v": "q and v only"},
    )
    seed: int = setting(0, "Seed", "Chance.", ge=0, advanced=True)


class FancySettings(Settings):
    """The settings of the fancy variant."""

    depth: int = setting(2, "Depth", "How deep.", ge=1, le=8)
    kind: Literal["a", "b"] = setting("a", "Kind", "Which.")


class ModelSettings(Settings):
    """Where a model comes from."""

    model: str = setting("starter:smollm2-135m", "Model", "Which.", widget="model")


def _run(context: Any, inputs: Any, settings: Any) -> dict[str, Any]:
    raise AssertionError("nothing runs here")


@pytest.fixture
def registry() -> Registry:
    """The toy node, a model node, and two variants."""
    toy = NodeType(
        "toy",
        "Toy",
        1,
        "Data",
        "A toy.",
        ToySettings,
        _run,
        inputs=(input_("model", MODEL, "Model"),),
    )
    base = NodeType(
        "base",
        "Base",
        1,
        "Model",
        "A base.",
        ModelSettings,
        _run,
        outputs=(output("model", MODEL, "M"),),
    )
    plain = Variant("adapter", "plain", "Plain", "Nothing special.", order=1)
    fancy = Variant("adapter", "fancy", "Fancy", "With extras.", FancySettings, order=2)
    return Registry().with_nodes([toy, base]).with_variants([plain, fancy])


@pytest.fixture
def document(tmp_path: Path) -> Document:
    """A base model wired into a toy node, saved in a folder of its own."""
    graph = Graph(
        "Support tone",
        (Node("base", "base"), Node("toy", "toy")),
        (Wire("base", "model", "toy", "model"),),
    )
    return Document(graph, tmp_path / "project.studio")


@pytest.fixture
def panel(qtbot: Any, document: Document, registry: Registry) -> InspectorPanel:
    """The panel with the toy node, on the screen."""
    panel = InspectorPanel(document, registry)
    qtbot.addWidget(panel)
    panel.resize(320, 700)
    panel.show()
    qtbot.waitExposed(panel)
    panel.activateWindow()
    panel.show_nodes(("toy",))
    return panel


@pytest.fixture
def field(panel: InspectorPanel) -> Callable[[str], Any]:
    """The editor of a field by its name, as tests of other rooms find it."""

    def find(name: str) -> Any:
        found = panel.findChildren(QWidget, f"field:{name}")
        visible = [w for w in found if w.window() is panel]
        assert len(visible) == 1, (name, found)
        return visible[0]

    return find


@pytest.fixture
def settings(document: Document) -> Callable[[], dict[str, Any]]:
    """The toy node's settings as they are stored."""
    return lambda: dict(document.graph.node("toy").settings)
