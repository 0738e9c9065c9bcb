"""From the dialog to the trained weights: what is chosen by clicks and keys is what is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import Qt, QTimer
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QDialogButtonBox, QToolButton, QWidget

from studio.adapters.configure import describe
from studio.graph.document import Document
from studio.graph.graph import Graph, Node, Wire
from studio.graph.registry import load_registry
from studio.node_settings.lora import LoraSettings
from studio.training.loop.train import train_adapter
from tests.studio.training.steps import (
    Recorder,
    dataset_value,
    make_context,
    model_value,
    settings_of,
)
from tests.tiny import make_tiny_model
from ui.inspector.panel import InspectorPanel

LEFT = Qt.MouseButton.LeftButton


@pytest.fixture
def document(tmp_path: Path) -> Document:
    make_tiny_model(tmp_path / "model")
    nodes = (
        Node("base", "base_model", {"model": str(tmp_path / "model")}),
        Node("lora", "lora", {"r": 4}),
    )
    graph = Graph("Targets", nodes, (Wire("base", "model", "lora", "model"),))
    return Document(graph, tmp_path / "project.studio")


@pytest.fixture
def panel(qtbot: Any, document: Document) -> InspectorPanel:
    panel = InspectorPanel(document, load_registry())
    qtbot.addWidget(panel)
    panel.resize(340, 700)
    panel.show()
    qtbot.waitExposed(panel)
    panel.show_nodes(("lora",))
    return panel


def in_dialog(panel: InspectorPanel, use: Any) -> None:
    """Press “Choose layers”, do ``use`` with the dialog, and press its OK or Cancel."""
    failed: list[BaseException] = []

    def go() -> None:
        dialog = QApplication.activeModalWidget()
        try:
            button = use(dialog)
            QTest.mouseClick(dialog.findChild(QDialogButtonBox).button(button), LEFT)
            assert not dialog.isVisible()
        except BaseException as error:
            failed.append(error)
            dialog.reject()

    QTimer.singleShot(50, go)
    QTest.mouseClick(panel.findChild(QToolButton, "choose:target_modules"), LEFT)
    assert not failed, failed


def settings(document: Document) -> dict[str, Any]:
    return dict(document.graph.node("lora").settings)


def write(dialog: Any, name: str, text: str) -> None:
    line = dialog.findChild(QWidget, name)
    line.setFocus()
    QTest.keyClicks(line, text)


@pytest.mark.filterwarnings("ignore:Model has .tie_word_embeddings:UserWarning")  # told by a notice
def test_chosen_by_dialog_is_what_is_trained(
    panel: InspectorPanel, document: Document, tmp_path: Path
) -> None:
    """An expression, a range, an exception, a rank and the head: one step to undo, and exactly those
    parameters in the adapter."""

    def choose(dialog: Any) -> Any:
        write(dialog, "layer-expression", ".*(q|v|down)_proj")
        write(dialog, "layer-range", "1")
        write(dialog, "layer-exclude", "v_proj")
        titles = [dialog.tree.topLevelItem(i).text(0) for i in range(7)]
        dialog.tree.setCurrentItem(dialog.tree.topLevelItem(titles.index("down_proj")))
        write(dialog, "rows-rank", "2")
        QTest.mouseClick(dialog.findChild(QWidget, "fully-trained:lm_head"), LEFT)
        return QDialogButtonBox.StandardButton.Ok

    in_dialog(panel, choose)
    assert settings(document) == {
        "r": 4,
        "target_modules": "re:.*(q|v|down)_proj",
        "layers": "1",
        "exclude": "v_proj",
        "rank_pattern": "down_proj=2",
        "modules_to_save": "lm_head",
    }
    chosen = LoraSettings(**settings(document))
    assert document.undo_label == "Select target modules"
    document.undo()
    assert settings(document) == {"r": 4}

    context = make_context(tmp_path, Recorder())
    adapted = describe(context, model_value(tmp_path / "model").to_json(), chosen)
    inputs = {"dataset": dataset_value(tmp_path / "data", 12).to_json(), "model": adapted.to_json()}
    value = train_adapter(context, inputs, settings_of(max_steps=2))
    config = json.loads((Path(value.path) / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["modules_to_save"] == ["lm_head"]
    saved = _shapes(Path(value.path))
    layer = "base_model.model.model.layers.1."
    assert {n: s[0] for n, s in saved.items() if "lora_A" in n} == {
        f"{layer}self_attn.q_proj.lora_A.weight": 4,
        f"{layer}mlp.down_proj.lora_A.weight": 2,
    }
    assert [n for n in saved if "lora_" not in n] == ["base_model.model.lm_head.weight"]


def _shapes(folder: Path) -> dict[str, list[int]]:
    from safetensors import safe_open

    with safe_open(folder / "adapter_model.safetensors", "pt") as file:
        return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118


def test_cancel_and_ok_without_a_change_leave_no_step(
    panel: InspectorPanel, document: Document
) -> None:
    def look(dialog: Any) -> Any:
        write(dialog, "layer-range", "0")
        return QDialogButtonBox.StandardButton.Cancel

    in_dialog(panel, look)
    in_dialog(panel, lambda dialog: QDialogButtonBox.StandardButton.Ok)
    assert settings(document) == {"r": 4}
    assert document.undo_label is None
