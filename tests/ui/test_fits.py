"""Nothing is hidden or clipped: tabs, titles and texts at the smallest sizes of the window's parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QPoint, QRect, QSize, Qt
from PySide6.QtGui import QClipboard, QColor
from PySide6.QtTest import QTest
from PySide6.QtWidgets import (
    QAbstractSpinBox,
    QApplication,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QLabel,
    QLineEdit,
    QPushButton,
    QSpinBox,
    QStyle,
    QStyleOptionViewItem,
    QTabBar,
    QWidget,
)
from pytestqt.qtbot import QtBot

from studio.graph.project import load_project
from studio.system.paths import assets_dir
from studio.system.settings import AppSettings
from tests.ui.conftest import MakeSession
from ui.data.token_bar import TokenBar
from ui.dialogs.settings_dialog import SettingsDialog
from ui.inspector.facts import Fact, FactsTable
from ui.style import icons, theme
from ui.style.widgets import ErrorLabel, TextLabel
from ui.window.banner import Banner
from ui.window.session import Session

FIELDS = (QLineEdit, QComboBox, QSpinBox, QDoubleSpinBox, QPushButton, QCheckBox)
NODES = ("data", "base", "lora", "train", "merge", "export", "evaluate")


@pytest.fixture
def starter(make_session: MakeSession) -> Session:
    """The starter project in a window of 1280 × 800."""
    path = assets_dir() / "starter.studio"
    session = make_session(load_project(path), path)
    session.window.canvas.select(("data",))
    return session


def hidden_tabs(session: Session) -> list[str]:
    """The tabs of the window that are cut off or elided."""
    QApplication.processEvents()
    found = []
    for bar in session.window.findChildren(QTabBar):
        for tab in range(bar.count() if bar.isVisible() else 0):
            wanted = bar.fontMetrics().horizontalAdvance(bar.tabText(tab))
            place = bar.tabRect(tab)
            if not bar.rect().contains(place) or place.width() < wanted:
                found.append(bar.tabText(tab))
    return found


def clipped(root: QWidget) -> list[str]:
    """The visible labels, buttons and fields that are smaller than their text."""
    found = []
    for label in root.findChildren(QLabel):
        if not label.isVisible() or not label.text():
            continue
        room = label.size()
        wanted = label.minimumSizeHint()
        if label.hasHeightForWidth():
            wanted = QSize(0, label.heightForWidth(room.width()))
        if room.width() < wanted.width() or room.height() < wanted.height():
            found.append(label.text())
    for kind in FIELDS:
        for field in root.findChildren(kind):
            inner = isinstance(field.parent(), (QComboBox, QAbstractSpinBox))
            if (
                not inner
                and field.isVisible()
                and field.height() < field.minimumSizeHint().height()
            ):
                found.append(field.accessibleName() or field.objectName())
    return found


def narrow(session: Session) -> None:
    """Make the side panels as narrow as they get."""
    docks = [session.window.docks[name] for name in ("nodes", "inspector")]
    session.window.resizeDocks(docks, [1, 1], Qt.Orientation.Horizontal)


def test_every_tab_is_visible(starter: Session) -> None:
    assert hidden_tabs(starter) == []
    narrow(starter)
    assert hidden_tabs(starter) == []
    starter.window.widen_inspector(True, 0)  # the tabs below the canvas may need their arrows now
    own = {starter.tabs.bar.tabText(tab) for tab in range(starter.tabs.bar.count())}
    assert own.isdisjoint(hidden_tabs(starter))


def test_every_node_type_is_named_in_full(starter: Session) -> None:
    narrow(starter)
    QApplication.processEvents()
    tree = starter.window.palette_panel.tree
    for item in starter.window.palette_panel._rows():
        option = QStyleOptionViewItem()
        tree.initViewItemOption(option)
        index = tree.indexFromItem(item)
        tree.itemDelegate().initStyleOption(option, index)
        option.rect = tree.visualRect(index)
        part = QStyle.SubElement.SE_ItemViewItemText
        place: QRect = tree.style().subElementRect(part, option, tree)
        assert place.width() >= tree.fontMetrics().horizontalAdvance(item.text(0)), item.text(0)


def test_no_text_of_a_form_is_clipped(starter: Session, qtbot: QtBot) -> None:
    narrow(starter)
    for node in NODES:
        starter.window.canvas.select((node,))
        qtbot.waitUntil(lambda: clipped(starter.window.inspector) == [])


def test_no_field_of_the_settings_is_clipped(qtbot: QtBot, home: Path) -> None:
    dialog = SettingsDialog(AppSettings())
    qtbot.addWidget(dialog)
    dialog.show()
    qtbot.waitExposed(dialog)
    qtbot.waitUntil(lambda: clipped(dialog) == [])


def first_row(label: QLabel) -> int:
    """The first row of pixels with a part of the text."""
    image = label.grab().toImage()
    back = image.pixelColor(0, 0)
    rows = range(image.height())
    return next(y for y in rows if any_other(image, y, back))


def any_other(image: Any, y: int, back: QColor) -> bool:
    """Whether a row of pixels holds another colour."""
    return any(image.pixelColor(x, y) != back for x in range(image.width()))


def test_a_fact_and_its_value_are_on_one_line(qtbot: QtBot) -> None:
    table = FactsTable()
    qtbot.addWidget(table)
    table.show_facts([Fact("Layers", "Layers"), Fact("Context", "Context")])
    table.resize(300, 100)
    table.show()
    for name, value in table._pairs:
        assert name.y() + first_row(name) == value.y() + first_row(value)


def test_the_number_of_a_row_does_not_touch_its_frame(qtbot: QtBot) -> None:
    bar = TokenBar()
    qtbot.addWidget(bar)
    edit = bar.number.lineEdit()
    assert edit.x() + edit.textMargins().left() >= 5


def test_the_icon_of_a_button_is_apart_from_its_text(qtbot: QtBot) -> None:
    button = QPushButton("Recipe…")
    qtbot.addWidget(button)
    icons.put(button, "book-open")
    for scheme in ("light", "dark"):
        theme.apply(QApplication.instance(), scheme)
        image = button.icon().pixmap(button.iconSize()).toImage()
        drawn = [
            x
            for x in range(image.width())
            if any(image.pixelColor(x, y).alpha() for y in range(image.height()))
        ]
        assert image.width() - 1 - drawn[-1] >= 3


@pytest.mark.parametrize(
    ("icon", "role"),
    [("circle-x", "danger"), ("circle-alert", "danger"), ("history", "accent")],
)
def test_a_banner_about_an_error_has_its_color(qtbot: QtBot, icon: str, role: str) -> None:
    banner = Banner()
    qtbot.addWidget(banner)
    banner.offer("ended", icon, "The run failed.")
    banner.resize(600, 40)
    banner.show()
    look = theme.colors()
    wanted = theme.blend(look.surface, getattr(look, role), 0.14)
    assert banner.grab().toImage().pixelColor(3, 3).name() == wanted.name()


def test_a_long_banner_is_shown_in_full_and_does_not_enlarge_the_window(starter: Session) -> None:
    window = starter.window
    window.resize(1280, 800)
    QApplication.processEvents()
    size = window.size()
    window.banner.offer("ended", "circle-x", "It is not possible. " * 30, [("Show Log", print)])
    heights = []
    for width in (size.width(), window.minimumSizeHint().width(), size.width()):
        window.resize(width, size.height())
        QApplication.processEvents()
        assert window.height() == size.height()
        label = window.banner.findChild(TextLabel)
        assert label.height() >= label.heightForWidth(label.width())
        heights.append(window.banner.height())
    assert heights[0] == heights[2] < heights[1]
    window.banner.offer("ended", "circle-check", "Done.")
    QApplication.processEvents()
    assert window.banner.height() < heights[0]


def test_a_wide_inspector_has_nearly_half_of_the_window(starter: Session) -> None:
    starter.window.widen_inspector(True, 0)
    QApplication.processEvents()
    assert starter.window.docks["inspector"].width() > 0.45 * starter.window.width()


WORD = "x" * 200
PATHS = (WORD, f"/data/{'folder_' * 20}/rows.jsonl", "word " * 40, f"“{'Ж' * 150}” is missing")


@pytest.mark.parametrize("text", PATHS)
def test_a_long_word_continues_on_the_next_line_and_is_copied_as_it_is(
    qtbot: QtBot, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    selected: dict[QClipboard.Mode, str] = {}  # what the middle button pastes on X11
    monkeypatch.setattr(QClipboard, "supportsSelection", lambda board: True)
    monkeypatch.setattr(QClipboard, "setText", lambda board, t, mode: selected.update({mode: t}))
    label = ErrorLabel(text)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    qtbot.addWidget(label)
    label.setFixedWidth(240)
    label.resize(240, label.heightForWidth(240))
    label.show()
    qtbot.waitExposed(label)
    lines = label.height() / label.fontMetrics().lineSpacing()
    assert lines * 240 > label.fontMetrics().horizontalAdvance(text)  # nothing is beyond the edge
    right = label.grab().toImage().copy(label.width() - 1, 0, 1, label.height())
    assert len({right.pixel(0, y) for y in range(right.height())}) == 1
    assert label.text() == text
    QTest.mousePress(label, Qt.MouseButton.LeftButton, pos=QPoint(0, 1))
    QTest.mouseMove(label, label.rect().bottomRight())
    QTest.mouseRelease(label, Qt.MouseButton.LeftButton, pos=label.rect().bottomRight())
    assert selected == {QClipboard.Mode.Selection: text}
    monkeypatch.undo()
    QTest.keyClick(label, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    assert QApplication.clipboard().text() == text
    assert label.selectedText() == text
