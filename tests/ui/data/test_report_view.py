"""The report laid out: cards, fixes, links to rows, the histogram and its words."""

from __future__ import annotations

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QLabel, QPushButton
from pytestqt.qtbot import QtBot

from studio.preview.report import Histogram, Place
from tests.ui.data.rows import FIX, report
from ui.data.finding_card import RowLinks
from ui.data.histogram import caption
from ui.data.report_view import ReportView
from ui.style import theme

LEFT = Qt.MouseButton.LeftButton


@pytest.fixture
def view(qtbot: QtBot, qapp: QApplication) -> ReportView:
    """A report on the screen."""
    theme.apply(qapp, "dark")
    view = ReportView()
    qtbot.addWidget(view)
    view.resize(360, 900)
    view.show()
    qtbot.waitExposed(view)
    view.show_report(report(), stale=False)
    QApplication.processEvents()
    return view


def test_findings_say_how_bad_they_are_in_words(view: ReportView) -> None:
    assert [c.accessibleName() for c in view.cards] == [
        "Warning: Duplicates. 1 row says what an earlier one says.",
        "Note: Rows longer than the max length. 7 rows are cut.",
    ]


def test_a_fix_is_a_button_that_names_what_it_does(view: ReportView, qtbot: QtBot) -> None:
    button = view.findChild(QPushButton, "fix:deduplicate")
    assert "Remove duplicates" in button.accessibleName()
    with qtbot.waitSignal(view.fix_wanted) as wanted:
        QTest.mouseClick(button, LEFT)
    assert wanted.args == [FIX]
    view.show_report(report(), stale=True)
    assert not view.card("duplicate").fix_button.isEnabled()


def test_a_click_on_a_row_leads_to_it(view: ReportView, qtbot: QtBot) -> None:
    links = view.card("duplicate").findChild(QLabel, "row-links")
    with qtbot.waitSignal(view.row_wanted) as wanted:
        QTest.mouseClick(links, LEFT, Qt.KeyboardModifier.NoModifier, QPoint(12, 8))
    assert wanted.args == [5]
    assert "identical to row 2" in links.text()


def test_answers_are_text_and_never_markup(view: ReportView) -> None:
    assert "4 × “Yes &amp; no”" in view.answers.text()
    assert view.scripts.text() == "Latin 98 %, Greek 2 %"


def test_the_line_stands_where_rows_begin_to_be_cut(view: ReportView) -> None:
    histogram = view.histogram
    assert histogram.bar_of(2).right() <= histogram._line_at() + 1
    assert histogram.bar_of(3).left() >= histogram._line_at() - 1
    assert histogram.accessibleDescription() == (
        "7 rows are longer than the max length of 64 tokens and truncated; 2 of them lose the end of an "
        "answer. The longest row has 79."
    )
    assert caption(Histogram((0, 10), (4,), 64, 0, 0, 9)) == (
        "No row is longer than the max length of 64 tokens; the longest row has 9."
    )


def test_the_same_findings_keep_their_cards_and_new_ones_replace_them(view: ReportView) -> None:
    before = list(view.cards)
    view.show_report(report(done=40), stale=False)
    assert view.cards == before
    view.show_report(report(findings=()), stale=False)
    assert view.cards == []
    view.show_report(None, stale=False)
    assert not view.histogram.isVisible()


@pytest.mark.parametrize(("note", "shown"), [("empty", False), ("identical to row 1", True)])
def test_a_note_that_all_rows_share_is_not_repeated(qtbot: QtBot, note: str, shown: bool) -> None:
    """The sentence of the finding says it already."""
    rows = (Place(5, "chats.jsonl", 5, "empty"), Place(7, "chats.jsonl", 7, note))
    links = RowLinks(rows, 2)
    qtbot.addWidget(links)
    assert ("empty" in links.text()) is shown
    assert "Row 5" in links.text()
