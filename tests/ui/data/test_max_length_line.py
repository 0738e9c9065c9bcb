"""The line of the max length in the histogram of a report: dragged, moved by keys, told live."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from studio.preview.report import Histogram
from studio.training.report.make import histogram
from tests.ui.data.conftest import OpenSession, chats, show
from tests.ui.data.rows import report
from ui.data.histogram import Scale
from ui.data.report_view import ReportView
from ui.data.tabs import REPORT

LEFT = Qt.MouseButton.LeftButton
LENGTHS = np.array([*range(10, 200), 900], dtype=np.int64)


@pytest.fixture
def view(qtbot: QtBot) -> ReportView:
    view = ReportView()
    qtbot.addWidget(view)
    view.resize(420, 900)
    view.show()
    qtbot.waitExposed(view)
    lengths = histogram(LENGTHS, 128, 72, 0)
    view.show_report(report(histogram=lengths), stale=False, max_length=128)
    QApplication.processEvents()
    return view


def drag(view: ReportView, by: int) -> None:
    """Take the line and carry it so many pixels, without letting go."""
    chart = view.histogram
    start = QPoint(round(chart._line_at()), chart.height() // 2)
    QTest.mousePress(chart, LEFT, Qt.KeyboardModifier.NoModifier, start)
    QTest.mouseMove(chart, start + QPoint(by, 0))


def test_dragging_counts_the_rows_that_would_be_cut_and_letting_go_sets_it_once(
    view: ReportView, qtbot: QtBot
) -> None:
    chart, chosen = view.histogram, []
    chart.chosen.connect(chosen.append)
    drag(view, -60)
    shorter = chart.length
    assert shorter < 128
    longer = int((shorter < LENGTHS).sum())
    assert view.lengths.text().startswith(f"{longer} rows (")
    assert f"would be longer than {shorter} tokens" in view.lengths.text()
    assert chart.accessibleDescription() == view.lengths.text()
    assert chosen == []
    view.show_report(
        report(histogram=chart.shown), stale=False, max_length=128
    )  # a new partial report
    assert chart.length == shorter
    QTest.mouseRelease(chart, LEFT)
    assert chosen == [shorter]
    assert abs(chart._line_at() - Scale(chart.shown.edges, 6, chart.width() - 12).x_of(shorter)) < 1


@pytest.mark.parametrize(
    ("lengths", "most", "wanted"),
    [
        ([43, 44, 45], 512, ["43", "44", "45"]),
        ([7], 64, ["7"]),
        ([*range(10, 200), 900], 128, None),
        ([*range(30, 9000, 7)], 8192, None),
    ],
)
def test_labels_are_neither_doubled_nor_crowded(
    view: ReportView, lengths: list[int], most: int, wanted: list[str] | None
) -> None:
    shown = histogram(np.array(lengths, dtype=np.int64), most, 0, 0)
    for width in (260, 420, 900):
        view.resize(width, 900)
        view.show_report(report(histogram=shown), stale=False, max_length=most)
        QApplication.processEvents()
        labels = view.histogram.labels()
        texts = [text for text, _ in labels]
        assert texts == wanted if wanted else len(texts) >= 2
        assert len(set(texts)) == len(texts)
        assert texts[-1] == str(lengths[-1])
        for (_, first), (_, after) in pairwise(labels):
            assert after.left() - first.right() >= 12
        assert all(
            place.left() >= 0 and place.right() <= view.histogram.width() for _, place in labels
        )


def test_a_last_bin_of_one_length_has_one_label(view: ReportView) -> None:
    shown = Histogram((0, 10, 20, 21), (4, 3, 1), 64, 0, 0, 20)
    view.show_report(report(histogram=shown), stale=False, max_length=64)
    QApplication.processEvents()
    assert [text for text, _ in view.histogram.labels()] == ["0", "10", "20"]


def test_a_max_length_beyond_all_rows_is_not_marked_as_the_longest(view: ReportView) -> None:
    shown = histogram(np.array([43, 44, 45], dtype=np.int64), 512, 0, 0)
    view.show_report(report(histogram=shown), stale=False, max_length=512)
    assert view.histogram.line_words() == "max length 512 →"
    view.show_report(report(histogram=shown), stale=False, max_length=45)
    assert view.histogram.line_words() == "max length 45"


def test_a_click_beside_the_line_and_one_that_moves_nothing_change_nothing(
    view: ReportView,
) -> None:
    chart, chosen = view.histogram, []
    chart.chosen.connect(chosen.append)
    QTest.mouseClick(chart, LEFT, Qt.KeyboardModifier.NoModifier, QPoint(15, 40))
    drag(view, 0)
    QTest.mouseRelease(chart, LEFT)
    assert (chosen, chart.length) == ([], 128)


def test_arrow_keys_move_the_line_and_are_one_change(view: ReportView, qtbot: QtBot) -> None:
    chart, chosen = view.histogram, []
    chart.chosen.connect(chosen.append)
    chart.setFocus()
    for _ in range(3):
        QTest.keyClick(chart, Qt.Key.Key_Right)
    assert chart.length > 128
    assert chosen == []
    QTest.keyClick(chart, Qt.Key.Key_Return)
    assert len(chosen) == 1
    QTest.keyClick(chart, Qt.Key.Key_Home)
    assert chart.length == 8
    QTest.keyClick(chart, Qt.Key.Key_Escape)
    assert (chart.length, len(chosen)) == (chosen[0], 1)
    assert f"{chosen[0]} tokens" in view.lengths.text()
    QTest.keyClick(chart, Qt.Key.Key_End)
    qtbot.waitUntil(lambda: len(chosen) == 2)  # by itself, after a moment
    assert chosen[1] == 900
    assert view.lengths.text().startswith("No row would be longer")


def test_a_report_without_lengths_cannot_be_dragged(view: ReportView) -> None:
    chart = view.histogram
    view.show_report(report(histogram=replace(chart.shown, lengths=(), rows=())), stale=False)
    assert chart.focusPolicy() == Qt.FocusPolicy.NoFocus
    drag(view, -60)
    QTest.mouseRelease(chart, LEFT)
    assert chart.length == 128


def test_every_place_of_the_scale_leads_back_to_its_length() -> None:
    edges = (10, 30, 50, 65, 801)
    scale = Scale(edges, 6.0, 400.0)
    for length in range(10, 800, 7):
        found = scale.length_at(scale.x_of(length), 1)
        assert abs(found - length) <= scale.step_at(length + 1, 1)
    assert scale.x_of(64) == 6 + 300  # at the border of the bins
    assert (scale.x_of(5000), scale.x_of(3)) == (406.0, 6.0)
    assert scale.length_at(-50, 1) <= 10
    assert scale.length_at(9999, 1) == 800


def test_in_the_window_it_is_one_step_of_undo_and_the_report_follows(
    open_session: OpenSession, qtbot: QtBot
) -> None:
    session = open_session(chats(40))
    page = show(session, "train", REPORT)
    data = session.data
    qtbot.waitUntil(lambda: data.report is not None and data.report.complete)
    chart = page.view.histogram
    chart.setFocus()
    QTest.keyClick(chart, Qt.Key.Key_Home)
    QTest.keyClick(chart, Qt.Key.Key_Return)
    assert session.document.graph.node("train").settings["max_length"] == 8
    qtbot.waitUntil(lambda: data.report.complete and data.report.max_length == 8)
    assert chart.length == 8
    session.document.undo()
    assert session.document.graph.node("train").settings.get("max_length") != 8
    qtbot.waitUntil(lambda: chart.length != 8 and not data.stale)
