"""Data in the window, with a real data host: tokens, report, rows, problems."""

from __future__ import annotations

import os
import re
import signal

import psutil
from PySide6.QtCore import QPoint, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QComboBox, QPlainTextEdit, QPushButton, QWidget
from pytestqt.qtbot import QtBot

from studio.graph.edits import set_setting
from studio.graph.facts import short_line
from studio.graph.registry import load_registry
from tests.ui.conftest import close
from tests.ui.data.conftest import LEFT, OpenSession, chats, show
from ui.canvas.content import content_of
from ui.data.report_page import STALE
from ui.data.rows_model import TEXT
from ui.data.state_page import NO_TRAIN
from ui.data.tabs import REPORT, ROWS, SETTINGS, TOKENS
from ui.data.template_dialog import TemplateDialog
from ui.window.session import Session

CTRL = Qt.KeyboardModifier.ControlModifier


def row_number(page: QWidget) -> int:
    """The number of the row whose tokens are shown."""
    row = page.row_view.flow.row
    return row.number if row is not None else 0


def choose_llama_3(session: Session, qtbot: QtBot) -> None:
    """Open the list of chat templates, read what one writes, and take it."""
    page = session.tabs.page(TOKENS)
    QTest.mouseClick(page.bar.templates, LEFT)
    dialog = session.window.findChild(TemplateDialog)
    qtbot.waitUntil(lambda: dialog.list.count() > 5)
    assert dialog.list.currentRow() == 0
    titles = [dialog.list.item(n).text() for n in range(dialog.list.count())]
    dialog.list.setFocus()
    QTest.keyClicks(dialog.list, "Llama 3")
    assert "<|start_header_id|>user" in dialog.sample.toPlainText()
    assert "differs from the model’s own" in dialog.status.text()
    assert "Llama 3 ≠" in titles
    ok = dialog.buttons.button(dialog.buttons.StandardButton.Ok)
    QTest.mouseClick(ok, LEFT)
    assert session.document.graph.node("train").settings["chat_template"] == "llama-3"

    def written() -> bool:
        row = page.row_view.flow.row
        return row is not None and "<|start_header_id|>" in row.text

    qtbot.waitUntil(written)
    session.document.undo()
    assert "chat_template" not in session.document.graph.node("train").settings
    qtbot.waitUntil(lambda: row_number(page) > 0 and not written())


def test_rows_of_tokens(open_session: OpenSession, qtbot: QtBot) -> None:
    rows = chats(300)
    rows[120]["messages"].append({"role": "user", "content": "and then?"})
    session = open_session(rows, train={"batch_size": 4, "batching": "padded"})
    page = show(session, "data", TOKENS)  # of the Train node that this Dataset feeds
    qtbot.waitUntil(lambda: row_number(page) == 1)
    host = psutil.Process(session.data.link.process_id)
    assert page.bar.total.text() == "of 300"
    session.window.resize(1480, 900)
    QTest.mouseClick(session.tabs.wide, LEFT)
    qtbot.waitUntil(lambda: page.splitter.orientation() == Qt.Orientation.Horizontal)
    assert page.table.horizontalScrollBar().maximum() == 0  # what the rows say is in sight
    assert page.table.columnWidth(TEXT) > 80
    QTest.mouseClick(session.tabs.wide, LEFT)

    page.bar.number.setFocus()
    QTest.keyClick(page.bar.number, Qt.Key.Key_A, CTRL)
    QTest.keyClicks(page.bar.number, "299")
    QTest.keyClick(page.bar.number, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: row_number(page) == 299)
    QTest.mouseClick(page.bar.behind, LEFT)
    qtbot.waitUntil(lambda: row_number(page) == 300)
    page.table.setFocus()
    QTest.keyClick(page.table, Qt.Key.Key_Home, CTRL)
    qtbot.waitUntil(lambda: row_number(page) == 1)

    QTest.mouseClick(page.bar.search, LEFT)
    qtbot.waitUntil(lambda: row_number(page) == 121)
    assert "Roles out of order" in page.row_view.flags.text()
    QTest.mouseClick(page.bar.search, LEFT)
    qtbot.waitUntil(lambda: page.bar.result.isVisible())
    assert page.bar.result.text() == "No more findings after row 121."

    QTest.mouseClick(page.bar.batch, LEFT)
    qtbot.waitUntil(lambda: page.model.rowCount() == 4)
    longest = max(len(page.model.entry(n).view.tokens) for n in range(4))
    assert {len(page.model.entry(n).view.tokens) for n in range(4)} == {longest}
    assert re.fullmatch(r"Padding: \d+ % of the tokens of an epoch\.", page.bar.result.text())
    QTest.mouseClick(page.bar.batch, LEFT)
    qtbot.waitUntil(lambda: page.model.rowCount() == 300 and row_number(page) > 0)
    assert not page.bar.result.isVisible()

    choose_llama_3(session, qtbot)
    os.kill(host.pid, signal.SIGKILL)
    qtbot.waitUntil(lambda: session.data.link.process_id != host.pid)
    page.go_to(200)
    qtbot.waitUntil(lambda: row_number(page) == 200)
    again = psutil.Process(session.data.link.process_id)
    close(session)
    assert not again.is_running() or again.status() == psutil.STATUS_ZOMBIE


def report_waits_can_be_cancelled_and_grows_stale(session: Session, qtbot: QtBot) -> None:
    """What the Report tab does where there are many rows."""
    page = show(session, "train", REPORT)
    qtbot.waitUntil(page.button.isVisible)
    assert page.button.text() == "Create Report"  # not by itself: these are many rows
    assert not session.data.reporting
    QTest.mouseClick(page.button, LEFT)
    assert page.button.text() == "Cancel"
    qtbot.waitUntil(lambda: session.data.report is not None)
    assert session.data.reporting  # a partial report is shown while it goes on
    assert page.view.histogram.isVisible()
    QTest.mouseClick(page.button, LEFT)
    assert page.status.text().startswith("⚠ Cancelled after")
    shorter = set_setting(session.document.graph, "train", "max_length", 12)
    session.document.edit(shorter, "Change Max length")
    qtbot.waitUntil(lambda: page.status.text() == f"⚠ {STALE}")
    assert page.button.text() == "Update"


def test_any_of_100_000_rows_is_shown_while_a_report_reads_them(
    open_session: OpenSession, qtbot: QtBot
) -> None:
    session = open_session(chats(100_000))
    page = show(session, "train", TOKENS)
    qtbot.waitUntil(lambda: row_number(page) == 1)

    session.data.start_report()
    for number in (99_999, 20_000, 71_000):
        page.go_to(number)
        qtbot.waitUntil(lambda n=number: row_number(page) == n)
    assert session.data.reporting  # rows are shown while every row is looked at
    session.data.cancel_report()
    report_waits_can_be_cancelled_and_grows_stale(session, qtbot)


def test_nothing_trained_is_a_problem_that_leads_to_the_report(
    open_session: OpenSession, qtbot: QtBot
) -> None:
    session = open_session(chats(30), train={"max_length": 12})
    session.window.canvas.select(("train",))
    compare = session.window.inspector.findChild(QPushButton, "compare-templates")
    session.window.inspector.focus_field("train", "max_length")
    compare.setFocus()
    QTest.keyClick(compare, Qt.Key.Key_Space)  # opens the data, though only settings are shown
    dialog = session.window.findChild(TemplateDialog)
    qtbot.waitUntil(lambda: dialog.list.count() > 5)
    QTest.keyClick(dialog, Qt.Key.Key_Escape)
    page = show(session, "train", REPORT)
    found = lambda: any(p.code == "nothing_trained" for p in session.problems.problems)  # noqa: E731
    qtbot.waitUntil(found)
    assert page.view.card("nothing_trained").accessibleName().startswith("Error: Nothing would")
    show(session, "data", ROWS)
    session.window.canvas.select(())
    QTest.mouseClick(session.window.tool_bar.widgetForAction(session.window.own["run"]), LEFT)
    qtbot.waitUntil(lambda: session.tabs.tab == REPORT)
    assert session.window.canvas.selected_ids() == ("train",)
    assert page.isVisible()
    QTest.mouseClick(page.view.card("nothing_trained").fix_button, LEFT)
    qtbot.waitUntil(lambda: not found())


def shown_cards(session: Session) -> str:
    """The text of the first card of the Rows tab."""
    card = session.tabs.page(ROWS).findChild(QWidget, "row-card:1")
    return " ".join(w.text() for w in card.findChildren(QWidget) if hasattr(w, "text"))


def test_the_format_of_the_rows(open_session: OpenSession, qtbot: QtBot) -> None:
    rows = [{"prompt": f"p{n}", "completion": f"c{n}", "topic": f"t{n}"} for n in range(30)]
    session = open_session(rows)
    page = show(session, "data", ROWS)
    card = lambda: page.findChild(QWidget, "row-card:1")  # noqa: E731
    qtbot.waitUntil(lambda: card() is not None)
    assert page.box.reason.text().startswith("Prompt and completion")
    topic = page.findChild(QComboBox, "left-over:topic")
    assert topic.currentText() == "Not used"
    assert "p0" in shown_cards(session)

    combo = page.findChild(QWidget, "column:prompt_column")
    assert combo.currentText() == "prompt (auto)"
    combo.setFocus()
    QTest.keyClicks(combo, "topic")
    settings = lambda: session.document.graph.node("data").settings  # noqa: E731
    assert settings()["format_settings"] == {"prompt_column": "topic"}
    qtbot.waitUntil(lambda: "t0" in shown_cards(session))

    page.box.format.setFocus()
    QTest.keyClicks(page.box.format, "Custom")
    assert settings()["format"] == "custom"
    editor = page.findChild(QWidget, "field:format_settings.user_template")
    text = editor if isinstance(editor, QPlainTextEdit) else editor.findChild(QPlainTextEdit)
    text.setFocus()
    QTest.keyClick(text, Qt.Key.Key_A, CTRL)
    QTest.keyClicks(text, "About {{ topic }}")
    qtbot.waitUntil(lambda: "About t0" in shown_cards(session))
    QTest.keyClicks(text, "{% if %}")
    qtbot.waitUntil(page.error.isVisible)
    assert "template" in page.error.text()
    session.document.undo()
    session.document.undo()
    assert settings()["format"] == "prompt_completion"


def test_what_is_missing_is_said_and_the_inspector_can_be_widened(
    open_session: OpenSession, qtbot: QtBot
) -> None:
    session = open_session(chats(5))
    QTest.keyClick(session.window.canvas, Qt.Key.Key_A, CTRL)
    assert not session.tabs.isVisible()  # several nodes
    session.window.canvas.select(("lora",))
    assert not session.tabs.isVisible()
    graph = session.document.graph
    wires = tuple(w for w in graph.wires if w.source != "data")
    session.document.edit(graph.__class__(graph.name, graph.nodes, wires), "Disconnect")
    page = show(session, "data", TOKENS)
    assert page.state.sentence.text() == NO_TRAIN
    session.document.undo()
    qtbot.waitUntil(lambda: row_number(page) == 1)

    narrow, left = session.window.inspector.width(), session.window.docks["nodes"].width()
    QTest.mouseClick(session.tabs.wide, LEFT, Qt.KeyboardModifier.NoModifier, QPoint(8, 8))
    qtbot.waitUntil(lambda: session.window.inspector.width() > 1.5 * narrow)
    assert session.store.narrow_px() > 0
    QTest.mouseClick(session.tabs.wide, LEFT, Qt.KeyboardModifier.NoModifier, QPoint(8, 8))
    qtbot.waitUntil(lambda: abs(session.window.inspector.width() - narrow) < 30)
    assert session.store.narrow_px() == 0
    assert abs(session.window.docks["nodes"].width() - left) < 5
    show(session, "train", REPORT)
    session.window.inspector.focus_field("train", "max_length")
    assert session.tabs.tab == SETTINGS


def test_a_missing_file_is_told_before_the_data_host_is_there(
    open_session: OpenSession, qtbot: QtBot
) -> None:
    session = open_session(chats(5))
    graph = session.document.graph
    session.document.edit(set_setting(graph, "data", "source", "gone.jsonl"), "Another file")
    page = show(session, "data", ROWS)
    assert page.error.isVisible()  # no event loop has run since the click
    assert page.error.text().startswith("gone.jsonl does not exist")
    assert page.hint.text() == "Choose the file again."
    assert session.data.link.process_id is None
    session.document.undo()
    qtbot.waitUntil(lambda: page.findChild(QWidget, "row-card:1") is not None)
    assert not page.error.isVisible()
    edited = set_setting(session.document.graph, "data", "source", "lost.jsonl")
    session.document.edit(edited, "Another file")
    assert page.error.text().startswith("lost.jsonl does not exist")
    qtbot.wait(400)
    assert page.error.isVisible()


def test_a_folder_with_splits(open_session: OpenSession, qtbot: QtBot) -> None:
    """Node, Rows and Tokens say what its names decide; no warning is shown for it."""
    session = open_session(chats(3))
    folder = session.document.project_dir / "set"
    folder.mkdir()
    row = '{"prompt": "say", "completion": "it is said"}\n'
    for name, count in (("test", 2), ("train", 5), ("validation", 4)):
        (folder / f"{name}.jsonl").write_text(row * count, encoding="utf-8")
    session.document.edit(set_setting(session.document.graph, "data", "source", "set"), "Change")
    page = show(session, "data", ROWS)
    files = page.findChild(QWidget, "row-files")
    qtbot.waitUntil(files.isVisible)
    assert "train.jsonl for training, validation.jsonl for validation" in files.text()
    assert "test.jsonl is excluded as a test split" in files.text()
    assert not [p for p in session.problems.check() if p.node == "data"]
    content = content_of(
        session.document.graph.node("data"), load_registry(), (), session.document.project_dir
    )
    assert short_line(content.facts) == "split by file names"
    tokens = show(session, "data", TOKENS)
    qtbot.waitUntil(lambda: row_number(tokens) == 1)
    assert tokens.bar.total.text() == "of 9"
