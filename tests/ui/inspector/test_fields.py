"""Choices, switches, paths, variants, targets, reset, help, and a path by keyboard alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QMimeData, QPoint, QPointF, Qt, QTimer, QUrl
from PySide6.QtGui import QDragEnterEvent, QDropEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QFileDialog, QLabel, QToolButton, QTreeWidget, QWidget

from studio.graph.document import Document
from studio.graph.edits import set_setting
from tests.ui.inspector.test_numbers import type_into
from ui.inspector.editors.layer_dialog import LayerDialog
from ui.inspector.panel import InspectorPanel

Find = Callable[[str], Any]
Stored = Callable[[], dict[str, Any]]


def click(widget: QWidget) -> None:
    """A left click in the middle."""
    QTest.mouseClick(widget, Qt.MouseButton.LeftButton)


def button(panel: InspectorPanel, name: str) -> QToolButton:
    """A button of the panel by its name."""
    return panel.findChild(QToolButton, name)


def test_choice_by_keyboard(field: Find, settings: Stored) -> None:
    combo = field("schedule")
    assert [combo.itemText(i) for i in range(combo.count())] == ["Linear", "Cosine"]
    combo.setFocus()
    QTest.keyClick(combo, Qt.Key.Key_Up)
    assert settings() == {"schedule": "linear"}


def test_unknown_choice_stays_visible(
    document: Document, field: Find, panel: InspectorPanel
) -> None:
    document.edit(set_setting(document.graph, "toy", "schedule", "wavy"), "x")
    assert field("schedule").currentText() == "wavy (unknown)"
    shown = [w.text() for w in panel.findChildren(QLabel, "problem") if w.isVisible()]
    assert shown == ["Toy: Schedule is 'wavy', but it must be one of linear, cosine."]


def test_switch_says_its_state(field: Find, settings: Stored) -> None:
    box = field("save_memory")
    assert box.text() == "Off"
    box.setFocus()
    QTest.keyClick(box, Qt.Key.Key_Space)
    assert settings() == {"save_memory": True}
    assert box.text() == "On"


def test_reset_button(
    panel: InspectorPanel, field: Find, document: Document, settings: Stored
) -> None:
    reset = button(panel, "reset:r")
    assert not reset.isVisible()
    type_into(field("r"), "64")
    assert reset.isVisible()
    assert "16" in reset.toolTip()
    click(reset)
    assert settings() == {}
    assert field("r").lineEdit().text() == "16"
    assert not reset.isVisible()
    document.undo()
    assert settings() == {"r": 64}


def test_file_in_the_project_is_stored_relative(
    panel: InspectorPanel,
    field: Find,
    settings: Stored,
    document: Document,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inside = tmp_path / "data" / "rows.jsonl"
    outside = tmp_path.parent / "elsewhere.jsonl"
    for chosen, stored in ((inside, "data/rows.jsonl"), (outside, str(outside))):
        answer = (str(chosen), "")
        monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *a, answer=answer: answer)
        click(button(panel, "browse:source"))
        assert settings()["source"] == stored
        assert field("source").text() == stored


def test_drop_a_file(panel: InspectorPanel, field: Find, settings: Stored, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("a,b\n1,2\n", encoding="utf-8")
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(rows))])
    copy, left, none = Qt.DropAction.CopyAction, Qt.MouseButton.LeftButton, Qt.KeyboardModifier(0)
    place = field("source").parentWidget()
    QApplication.sendEvent(place, QDragEnterEvent(QPoint(5, 5), copy, data, left, none))
    QApplication.sendEvent(place, QDropEvent(QPointF(5, 5), copy, data, left, none))
    assert settings() == {"source": "rows.csv"}


def test_paragraph_and_list(field: Find, settings: Stored) -> None:
    type_into(field("note"), "two words")
    type_into(field("words"), "one, two,")
    assert field("words").text() == "one, two,"
    assert settings() == {"note": "two words", "words": ["one", "two"]}


def test_variant_shows_its_fields_and_stores_them_below(
    panel: InspectorPanel, field: Find, document: Document, settings: Stored
) -> None:
    assert panel.findChild(QWidget, "field:method_settings.depth") is None
    combo = field("method")
    combo.setFocus()
    QTest.keyClick(combo, Qt.Key.Key_Down)
    assert settings() == {"method": "fancy"}
    QTest.keyClick(field("method_settings.depth"), Qt.Key.Key_Up)
    assert settings() == {"method": "fancy", "method_settings": {"depth": 3}}
    QTest.keyClick(combo, Qt.Key.Key_Up)
    assert settings() == {}, "settings that the plain variant does not know are dropped"
    document.undo()
    assert settings() == {"method": "fancy", "method_settings": {"depth": 3}}
    assert field("method_settings.depth").value() == 3


def test_a_field_that_does_not_apply_is_hidden(field: Find) -> None:
    """Unless its value was changed: then it is greyed out with the reason, and can be reset."""
    assert field("epochs").isVisible()
    type_into(field("max_steps"), "50")
    assert not field("epochs").isVisible()
    type_into(field("max_steps"), "0")
    type_into(field("epochs"), "3")
    type_into(field("max_steps"), "50")
    assert field("epochs").isVisible()
    assert not field("epochs").isEnabled()
    reason = "Used only if Steps is by epochs."
    assert reason in field("epochs").accessibleDescription()
    assert field("epochs").parentWidget().toolTip() == reason


def test_layers_come_from_the_wired_model(
    panel: InspectorPanel, field: Find, settings: Stored
) -> None:
    seen: list[str] = []

    def tick_down_proj_off() -> None:
        dialog = QApplication.activeModalWidget()
        assert isinstance(dialog, LayerDialog)
        tree = dialog.findChild(QTreeWidget, "layers")
        for i in range(tree.topLevelItemCount()):
            item = tree.topLevelItem(i)
            seen.append(" ".join(item.text(c) for c in range(3)))
            wanted = item.text(0) in ("q_proj", "o_proj")
            item.setCheckState(0, Qt.CheckState.Checked if wanted else Qt.CheckState.Unchecked)
        dialog.accept()

    QTimer.singleShot(50, tick_down_proj_off)
    click(button(panel, "choose:target_modules"))
    assert "q_proj 30 of 30 576 → 576" in seen
    assert "down_proj 30 of 30 1,536 → 576" in seen
    assert settings() == {"target_modules": ["q_proj", "o_proj"]}
    assert field("target_modules").currentText() == "q_proj, o_proj"


def test_target_preset(field: Find, settings: Stored) -> None:
    field("target_modules").setFocus()
    QTest.keyClick(field("target_modules"), Qt.Key.Key_Down)
    assert settings() == {"target_modules": "q,v"}


def test_help_by_key_and_by_icon(panel: InspectorPanel, field: Find) -> None:
    def help_shown() -> bool:
        return any(w.text() == "Width." and w.isVisible() for w in panel.findChildren(QLabel))

    assert not help_shown()
    QTest.keyClick(field("r"), Qt.Key.Key_F1, Qt.KeyboardModifier.ShiftModifier)
    assert help_shown()
    click(button(panel, "help:r"))
    assert not help_shown()


def test_every_editor_has_a_name_and_a_description(panel: InspectorPanel) -> None:
    editors = [w for w in panel.findChildren(QWidget) if w.objectName().startswith("field:")]
    assert len(editors) == 15
    for editor in editors:
        assert editor.accessibleName(), editor.objectName()
        assert editor.accessibleDescription(), editor.objectName()
        assert editor.focusPolicy() & Qt.FocusPolicy.TabFocus, editor.objectName()


def test_the_whole_form_by_keyboard(
    panel: InspectorPanel, field: Find, settings: Stored, qtbot: Any
) -> None:
    field("r").setFocus()
    reached = []
    for _ in range(60):
        widget = QApplication.focusWidget()
        reached.append(widget.objectName())
        QTest.keyClick(widget, Qt.Key.Key_Tab)
        if QApplication.focusWidget().objectName() == "field:r":
            break
    for name in (
        "field:r",
        "field:rate",
        "field:schedule",
        "field:source",
        "browse:source",
        "field:epochs",
        "field:target_modules",
        "section:Length",
        "more-settings",
        "show:essential",
        "node-title",
    ):
        assert name in reached, reached
    field("r").setFocus()
    QTest.keyClick(field("r"), Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)
    QTest.keyClicks(QApplication.focusWidget(), "8")
    assert settings() == {"r": 8}


def test_undo_key_undoes_in_the_document(
    panel: InspectorPanel, field: Find, settings: Stored
) -> None:
    type_into(field("r"), "128")
    type_into(field("note"), "hello")
    QTest.keyClick(field("note"), Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert settings() == {"r": 128}
    assert field("note").toPlainText() == ""
    QTest.keyClick(field("r"), Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert settings() == {}
    assert field("r").lineEdit().text() == "16"


def test_caret_stays_while_typing_in_the_middle(field: Find, settings: Stored) -> None:
    line = field("source")
    type_into(line, "data.jsonl")
    line.setCursorPosition(4)
    QTest.keyClicks(line, "set")
    assert settings() == {"source": "dataset.jsonl"}
    assert line.cursorPosition() == 7
