"""A model that brings code: the form says so, and the dialog trusts it only after a tick."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PySide6.QtCore import Qt, QTimer
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QPushButton

from studio.graph.document import Document
from studio.graph.edits import add_node
from studio.graph.graph import Graph, Node
from studio.graph.problems import find_problems
from studio.graph.registry import load_registry
from studio.model import trust
from tests.own_code import make_model_with_code
from ui.inspector.custom_code import TrustDialog
from ui.inspector.panel import InspectorPanel


def panel_for(qtbot: Any, model: Path) -> InspectorPanel:
    graph = add_node(Graph(), Node("base", "base_model", {"model": str(model)}))
    panel = InspectorPanel(Document(graph), load_registry())
    qtbot.addWidget(panel)
    panel.resize(380, 700)
    panel.show()
    panel.show_nodes(("base",))
    return panel


def test_code_is_shown_and_trusted_by_hand(qtbot: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """The button opens the files; the trust button waits for the tick."""
    monkeypatch.setenv("LORA_STUDIO_HOME", str(tmp_path / "home"))
    model = make_model_with_code(tmp_path / "talk")
    panel = panel_for(qtbot, model)
    button = panel.findChild(QPushButton, "review-code")
    assert button.isVisible()
    node, registry = panel._document.graph.node("base"), load_registry()

    def check() -> list[str]:
        found = find_problems(Graph("p", (node,)), registry, tmp_path)
        return [p.code for p in found if p.blocks]

    assert check() == ["needs_own_code"]
    told: list[int] = []
    panel._document.listen(lambda: told.append(1))
    seen: list[str] = []

    def answer() -> None:
        dialog = QApplication.activeModalWidget()
        assert isinstance(dialog, TrustDialog)
        dialog.files.setCurrentRow(1)
        seen.append(dialog.text.toPlainText())
        assert not dialog.trust_button.isEnabled()
        QTest.keyClick(dialog.tick, Qt.Key.Key_Space)
        assert dialog.trust_button.isEnabled()
        QTest.mouseClick(dialog.trust_button, Qt.MouseButton.LeftButton)

    QTimer.singleShot(50, answer)
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)
    assert "class TinyTalkForCausalLM" in seen[0]
    code = trust.own_code(model, str(model))
    assert code is not None
    assert trust.trusted(code)
    assert told  # so that the problem is gone at once
    assert check() == []


def test_escape_trusts_nothing(qtbot: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """Leaving the dialog is a no."""
    monkeypatch.setenv("LORA_STUDIO_HOME", str(tmp_path / "home"))
    model = make_model_with_code(tmp_path / "talk")
    panel = panel_for(qtbot, model)
    QTimer.singleShot(
        50, lambda: QTest.keyClick(QApplication.activeModalWidget(), Qt.Key.Key_Escape)
    )
    QTest.mouseClick(panel.findChild(QPushButton, "review-code"), Qt.MouseButton.LeftButton)
    code = trust.own_code(model, str(model))
    assert code is not None
    assert not trust.trusted(code)
