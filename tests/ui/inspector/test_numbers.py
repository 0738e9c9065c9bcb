"""Numbers: typing, limits, steps, special words, and the wheel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QLabel, QLineEdit, QWidget

from studio.graph.document import Document
from ui.inspector.editors import number_text
from ui.inspector.panel import InspectorPanel

Find = Callable[[str], Any]


def type_into(widget: QWidget, text: str) -> None:
    """Click into a field, select all, type."""
    QTest.mouseClick(widget, Qt.MouseButton.LeftButton)
    QTest.keyClick(widget, Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)
    QTest.keyClicks(widget, text)


def problems_shown(panel: InspectorPanel) -> list[str]:
    """The sentences that can be read in the panel."""
    return [w.text() for w in panel.findChildren(QLabel, "problem") if w.isVisible()]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2e-4, "2e-4"),
        (1.5e-5, "1.5e-5"),
        (0.03, "0.03"),
        (0.001, "0.001"),
        (1.0, "1"),
        (0.0, "0"),
        (0.1 + 0.2, "0.30000000000000004"),
        (12000.0, "12000"),
        (1e12, "1e12"),
        (-3e-7, "-3e-7"),
        (16, "16"),
    ],
)
def test_text_of_a_number_reads_back_exactly(value: float, text: str) -> None:
    assert number_text.to_text(value) == text
    assert number_text.from_text(text, integer=isinstance(value, int)) == value


def test_typing_r_is_one_undo_step(
    panel: InspectorPanel, field: Find, document: Document, settings: Callable[[], dict[str, Any]]
) -> None:
    type_into(field("r"), "128")
    assert settings() == {"r": 128}
    assert document.undo_label == "Change Rank"
    document.undo()
    assert settings() == {}
    assert document.undo_label is None
    assert field("r").lineEdit().text() == "16"


def test_leaving_a_field_ends_its_undo_step(
    panel: InspectorPanel, field: Find, document: Document, settings: Callable[[], dict[str, Any]]
) -> None:
    type_into(field("r"), "32")
    QTest.keyClick(field("r"), Qt.Key.Key_Tab)
    type_into(field("r"), "64")
    document.undo()
    assert settings() == {"r": 32}


def test_value_equal_to_the_default_is_left_out(
    field: Find, settings: Callable[[], dict[str, Any]]
) -> None:
    type_into(field("r"), "17")
    assert settings() == {"r": 17}
    type_into(field("r"), "16")
    assert settings() == {}


def test_arrows_stop_at_the_limits(field: Find, settings: Callable[[], dict[str, Any]]) -> None:
    for _ in range(9):
        QTest.keyClick(field("count"), Qt.Key.Key_Up)
    assert settings() == {"count": 6}
    for _ in range(9):
        QTest.keyClick(field("count"), Qt.Key.Key_Down)
    assert settings() == {"count": 1}


def test_steps_suit_the_field(field: Find, settings: Callable[[], dict[str, Any]]) -> None:
    QTest.keyClick(field("r"), Qt.Key.Key_Up)
    QTest.keyClick(field("rate"), Qt.Key.Key_Up)
    QTest.keyClick(field("share"), Qt.Key.Key_Up)
    assert settings() == {"r": 32, "rate": 5e-4, "share": 0.11}
    assert field("rate").lineEdit().text() == "5e-4"


def test_scientific_and_comma_input(field: Find, settings: Callable[[], dict[str, Any]]) -> None:
    type_into(field("rate"), "3e-")
    assert settings() == {"rate": 3.0}, "an unfinished exponent is no reason to complain"
    QTest.keyClicks(field("rate"), "5")
    assert settings() == {"rate": 3e-5}
    type_into(field("share"), "0,25")
    assert settings()["share"] == 0.25


def test_out_of_limits_is_kept_and_explained(
    panel: InspectorPanel, field: Find, settings: Callable[[], dict[str, Any]]
) -> None:
    type_into(field("r"), "5000")
    assert settings() == {"r": 5000}
    assert field("r").lineEdit().text() == "5000"
    assert problems_shown(panel) == ["Toy: Rank is 5000, but it must be at most 1024."]
    assert field("r").property("invalid") is True
    type_into(field("r"), "8")
    assert problems_shown(panel) == []
    assert field("r").property("invalid") is False


def test_text_that_is_no_number_is_kept_and_explained(panel: InspectorPanel, field: Find) -> None:
    type_into(field("r"), "abc")
    QTest.keyClick(field("r"), Qt.Key.Key_Tab)
    assert field("r").lineEdit().text() == "abc"
    assert problems_shown(panel) == ["Toy: Rank is 'abc', but it must be an integer."]
    row = field("r").parentWidget().parentWidget()
    sentence = panel.findChild(QLabel, "problem")
    assert row.isAncestorOf(sentence), "the sentence stands beside its field"


def test_empty_number_shows_its_value_again(
    panel: InspectorPanel, field: Find, settings: Callable[[], dict[str, Any]]
) -> None:
    type_into(field("r"), "40")
    QTest.keyClick(field("r"), Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)
    QTest.keyClick(field("r"), Qt.Key.Key_Delete)
    assert problems_shown(panel) == []
    QTest.keyClick(field("r"), Qt.Key.Key_Tab)
    assert field("r").lineEdit().text() == "40"
    assert settings() == {"r": 40}


def test_special_words(field: Find, settings: Callable[[], dict[str, Any]]) -> None:
    assert field("max_steps").lineEdit().text() == "by epochs"
    type_into(field("max_steps"), "50")
    assert settings() == {"max_steps": 50}
    type_into(field("max_steps"), "0")
    QTest.keyClick(field("max_steps"), Qt.Key.Key_Tab)
    assert settings() == {}
    assert field("max_steps").lineEdit().text() == "by epochs"


def wheel(panel: QWidget, widget: QWidget) -> None:
    """One notch of the wheel over a widget, as the window system delivers it."""
    place = widget.mapTo(panel, widget.rect().center())
    assert panel.childAt(place) is not None
    QTest.wheelEvent(panel.windowHandle(), QPointF(place), QPoint(0, -120))
    QApplication.processEvents()


@pytest.mark.parametrize("name", ["r", "rate", "schedule"])
def test_wheel_scrolls_the_panel_and_changes_nothing(
    panel: InspectorPanel, field: Find, document: Document, name: str
) -> None:
    panel.resize(320, 420)
    QApplication.processEvents()
    bar = panel._scroll.verticalScrollBar()
    assert bar.maximum() > 0
    panel.findChild(QLineEdit, "node-title").setFocus()
    before = bar.value()
    wheel(panel, field(name))
    assert document.undo_label is None
    assert bar.value() > before
