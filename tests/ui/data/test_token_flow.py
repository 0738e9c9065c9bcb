"""The painted tokens: what is pointed at, pinned and read out; how the states differ."""

from __future__ import annotations

import dataclasses

import pytest
from PySide6.QtCore import QRectF, Qt
from PySide6.QtGui import QImage, QPainter
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from studio.preview.tokens import RoleSpan
from tests.timing import cpu_limit
from tests.ui.data.rows import chat_row, token
from ui.data.row_view import POINT, RowView
from ui.data.rows_model import Entry, entry_of
from ui.data.token_paint import paint_chip
from ui.data.token_words import STATES, chip_text, speakers, token_words
from ui.style import theme

LEFT = Qt.MouseButton.LeftButton
CHAT = (
    "<s>",
    "system",
    "\n",
    "You",
    " are",
    " kind",
    "</s>",
    "\n",
    "<s>",
    "user",
    "\n",
    "What",
    " now",
    "?",
    "</s>",
    "\n",
)
Key = Qt.Key


@pytest.fixture
def view(qtbot: QtBot, qapp: QApplication) -> RowView:
    """A row on the screen."""
    theme.apply(qapp, "dark")
    view = RowView()
    qtbot.addWidget(view)
    view.resize(420, 420)
    view.show()
    qtbot.waitExposed(view)
    view.activateWindow()
    view.show_entry(Entry(3, (chat_row(),), "Hi there"), "")
    return view


def click(view: RowView, index: int) -> None:
    place = view.flow.place_of(index).center().toPoint()
    QTest.mouseClick(view.flow.viewport(), LEFT, Qt.KeyboardModifier.NoModifier, place)


def test_the_row_is_told_in_words(view: RowView) -> None:
    assert view.headline.text() == "Row 3 · chats.jsonl line 4 · training"
    assert view.counts.text() == "3 of 8 tokens trained (38 %)"
    assert "Truncated answers" in view.flags.text()
    assert view.legend.text() == "Trained 3, Context 4, Truncated 1, Padding 1, Special 3"
    assert view.read_out.text() == POINT


def test_pointing_reads_a_token_out_and_a_click_pins_it(view: RowView) -> None:
    QTest.mouseMove(view.flow.viewport(), view.flow.place_of(2).center().toPoint())
    assert view.read_out.text() == "Position 2 · id 7 · “·there” · context · user"
    click(view, 4)
    QTest.mouseMove(view.flow.viewport(), view.flow.viewport().rect().bottomRight())
    details = "Position 4 · id 11 · “Hello” · trained, weight 1 · assistant"
    assert view.read_out.text() == details
    assert view.flow.accessibleDescription() == details
    click(view, 4)
    QTest.mouseMove(view.flow.viewport(), view.flow.viewport().rect().bottomRight())
    assert view.read_out.text() == POINT


def test_the_keyboard_goes_from_token_to_token(view: RowView) -> None:
    view.flow.setFocus()
    for key, index in (
        (Key.Key_Right, 0),
        (Key.Key_Right, 1),
        (Key.Key_End, 8),
        (Key.Key_Left, 7),
        (Key.Key_Home, 0),
        (Key.Key_Down, 4),
        (Key.Key_Up, 0),
    ):
        QTest.keyClick(view.flow, key)
        assert view.flow.pinned == index
    QTest.keyClick(view.flow, Key.Key_Escape)
    assert view.flow.pinned is None


def test_line_breaks_and_speakers_begin_a_line(view: RowView) -> None:
    tops = [view.flow.place_of(i).top() for i in range(9)]
    assert tops[0] == tops[3] < tops[4] == tops[8]
    assert chip_text(token(" a\n\tb\x07")) == "·a↵→b\\x07"


def test_states_differ_without_colour(qapp: QApplication) -> None:
    """In grey, the chips of all states can still be distinguished."""
    pictures = []
    for state in STATES:
        image = QImage(60, 24, QImage.Format.Format_RGB32)
        image.fill(theme.colors().background)
        painter = QPainter(image)
        paint_chip(painter, QRectF(2, 2, 56, 20), "ab", state, special=False)
        painter.end()
        pictures.append(image.convertToFormat(QImage.Format.Format_Grayscale8))
    strong = [sum(_ink(p, row) for row in range(18, 22)) for p in pictures]
    assert strong[0] > 3 * max(strong[1], 1)  # only trained tokens have a line below
    assert len({bytes(p.constBits()) for p in pictures}) == len(STATES)


def _ink(image: QImage, row: int) -> int:
    """How many pixels of a row stand out from the one above the text."""
    ground = image.pixelColor(30, 4).value()
    return sum(abs(image.pixelColor(x, row).value() - ground) > 60 for x in range(6, 54))


def test_a_row_of_8000_tokens_is_shown_at_once(view: RowView) -> None:
    long = dataclasses.replace(
        chat_row(), tokens=tuple(token(f" w{n % 500}") for n in range(8000)), roles=()
    )
    with cpu_limit(0.5):
        view.show_entry(Entry(3, (long,), ""), "")
        view.grab()
    view.flow.setFocus()
    QTest.keyClick(view.flow, Key.Key_End)
    assert view.flow.viewport().rect().contains(view.flow.place_of(7999).toRect())


def test_parts_of_a_conversation_are_shown_one_at_a_time(view: RowView) -> None:
    first = dataclasses.replace(chat_row(), part=1, parts=2)
    second = dataclasses.replace(chat_row(), part=2, parts=2, tokens=chat_row().tokens[:5])
    view.show_entry(entry_of(3, (first, second)), "")
    assert view.part.isVisible()
    view.part.setFocus()
    QTest.keyClick(view.part, Key.Key_Down)
    assert "part 2 of 2" in view.headline.text()
    assert len(view.flow.row.tokens) == 5


def test_a_row_that_cannot_be_read_says_why(view: RowView) -> None:
    bad = dataclasses.replace(
        chat_row(), tokens=(), roles=(), error="Line 4 is no JSON.", hint="Mend it.", flags=()
    )
    view.show_entry(entry_of(3, (bad,)), "")
    assert view.counts.text() == "Line 4 is no JSON."
    assert view.read_out.text() == ""
    assert not view.part.isVisible()


def test_what_the_template_puts_in_is_said_by_nobody_in_the_row(view: RowView) -> None:
    tokens = tuple(token(text, special=text in ("<s>", "</s>")) for text in CHAT)
    row = dataclasses.replace(chat_row(), tokens=tokens, roles=(RoleSpan("user", 8, len(CHAT)),))
    assert speakers(row) == {0: "added by the chat template", 8: "user"}
    assert token_words(row, 3).endswith("added by the chat template")
    assert token_words(row, 12).endswith("user")
    assert entry_of(3, (row,)).preview == "What now?"
    view.show_entry(entry_of(3, (row,)), "")
    first, after = view.flow.place_of(7), view.flow.place_of(8)
    assert after.top() > first.top()  # the user begins on a line of their own


def test_a_row_is_called_by_its_question_and_not_by_the_system_prompt() -> None:
    """A template may put a system prompt of its own before what the user says."""
    tokens = tuple(token(text, special=text in ("<s>", "</s>")) for text in CHAT)
    row = dataclasses.replace(chat_row(), tokens=tokens, roles=(RoleSpan("user", 0, len(CHAT)),))
    assert entry_of(3, (row,)).preview == "What now?"
    plain = tuple(token(text) for text in ("Q:", " What", " now", "?"))
    row = dataclasses.replace(chat_row(), tokens=plain, roles=())
    assert entry_of(3, (row,)).preview == "Q: What now?"
