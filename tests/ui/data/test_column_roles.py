"""The Rows tab: what is used for what, what is not used, and clicks that change it."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QPoint, QRegularExpression, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QComboBox, QLabel, QWidget
from pytestqt.qtbot import QtBot

from studio.errors import Problem
from studio.graph.edits import set_setting
from studio.graph.problems import find_problems
from tests.ui.data.conftest import LEFT, OpenSession, chats, show
from ui.canvas.node_paint import badge_rect
from ui.data.rows_page import NO_FORMAT_HINT, RowsPage
from ui.data.tabs import REPORT, ROWS, SETTINGS, TOKENS
from ui.window.session import Session

PROVENANCE = [
    {"source": f"forum {n}", "target": f"page {n}", "q": f"Why {n}?", "a": f"Because {n}.", "notes": f"n{n}"}
    for n in range(20)
]  # fmt: skip
"""A file that looks like pairs of source and target."""
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]


def problems(session: Session) -> list[Problem]:
    """The problems of the Dataset node, found anew."""
    document, registry = session.document, session.data.registry
    found = find_problems(document.graph, registry, document.project_dir)
    return [p for p in found if p.node == "data"]


def settings(session: Session) -> dict[str, Any]:
    return dict(session.document.graph.node("data").settings)


def combo(page: RowsPage, name: str) -> QComboBox:
    found = page.findChild(QComboBox, name)
    assert found is not None
    assert found.isVisible()
    return found


def uses(page: RowsPage) -> dict[str, str]:
    """The columns and keys without a role, and what each is."""
    found = page.box.left_over.findChildren(QComboBox)
    return {c.objectName().partition(":")[2]: c.currentText() for c in found if c.isVisible()}


def pick(qtbot: QtBot, page: RowsPage, name: str, entry: str) -> None:
    """Open a list with the mouse and click one of its entries."""
    box = combo(page, name)
    QApplication.processEvents()  # the list has its place only after the layout is done
    page._stack.currentWidget().ensureWidgetVisible(box)
    QTest.mouseClick(box, LEFT)
    view = box.view()
    qtbot.waitUntil(view.isVisible)
    texts = [box.itemText(i) for i in range(box.count())]
    index = box.model().index(texts.index(entry), 0)
    view.scrollTo(index)
    QTest.mouseMove(view.viewport(), view.visualRect(index).center())
    qtbot.wait(box.style().styleHint(box.style().StyleHint.SH_Menu_FlashTriggeredItem) + 50)
    QTest.mouseClick(
        view.viewport(), LEFT, Qt.KeyboardModifier.NoModifier, view.visualRect(index).center()
    )
    qtbot.waitUntil(lambda: not view.isVisible())


def card_text(page: RowsPage) -> str:
    card = page.findChild(QWidget, "row-card:1")
    return " ".join(w.text() for w in card.findChildren(QLabel)) if card is not None else ""


def click_badge(session: Session) -> None:
    """Click the badge of the Dataset node on the canvas."""
    canvas = session.window.canvas
    item = canvas.graph_scene.nodes["data"]
    at = canvas.viewportTransform().map(item.pos() + badge_rect(item).center()).toPoint()
    QTest.mouseClick(canvas.viewport(), LEFT, Qt.KeyboardModifier.NoModifier, QPoint(at))


def test_from_a_misdetected_file_to_the_right_columns(
    open_session: OpenSession, qtbot: QtBot
) -> None:
    session = open_session(PROVENANCE)
    assert session.tabs.tab == SETTINGS
    qtbot.waitUntil(lambda: any(p.code == "unused_column" for p in session.problems.problems))
    item = session.window.canvas.graph_scene.nodes["data"]
    assert [p.severity for p in item.problems] == ["warning"]
    assert all(f"“{name}”" in item.problems[0].sentence for name in ("q", "a", "notes"))
    click_badge(session)
    assert session.tabs.tab == ROWS
    page = session.tabs.page(ROWS)
    qtbot.waitUntil(lambda: "forum 0" in card_text(page))
    assert page.box.reason.text().startswith("Text pairs")
    assert combo(page, "column:source_column").currentText() == "source (auto)"
    assert uses(page) == {"q": "Not used", "a": "Not used", "notes": "Not used"}

    pick(qtbot, page, "row-format", "Question and answer")
    qtbot.waitUntil(lambda: "has no column" in card_text(page))
    assert uses(page) == {
        "target": "Not used",
        "q": "Not used",
        "a": "Not used",
        "notes": "Not used",
        "source": "Bookkeeping",
    }
    pick(qtbot, page, "left-over:q", "Use as question column")
    qtbot.waitUntil(lambda: "q" not in uses(page))
    assert combo(page, "column:question_column").currentText() == "q"
    pick(qtbot, page, "left-over:a", "Use as answer column")
    qtbot.waitUntil(lambda: "Because 0." in card_text(page))
    assert "Why 0?" in card_text(page)
    (warning,) = problems(session)
    assert warning.sentence.endswith("Not used for training: “target”, “notes”.")

    pick(qtbot, page, "left-over:notes", "Ignore")
    qtbot.waitUntil(lambda: uses(page).get("notes") == "Ignored")
    pick(qtbot, page, "left-over:target", "Ignore")
    qtbot.waitUntil(lambda: uses(page).get("target") == "Ignored")
    assert problems(session) == []
    qtbot.waitUntil(lambda: not item.problems)
    right = {
        "format": "question_answer",
        "format_settings": {"question_column": "q", "answer_column": "a"},
        "ignored_columns": ["notes", "target"],
    }
    assert {k: settings(session)[k] for k in right} == right

    pick(qtbot, page, "left-over:notes", "Use as system column")  # its content is used after all
    qtbot.waitUntil(lambda: "n0" in card_text(page))
    assert settings(session)["ignored_columns"] == ["target"]
    session.document.undo()
    assert {k: settings(session)[k] for k in right} == right
    qtbot.waitUntil(lambda: uses(page).get("notes") == "Ignored")
    pick(qtbot, page, "left-over:notes", "Stop ignoring")
    qtbot.waitUntil(lambda: uses(page)["notes"] == "Not used")
    assert [p.code for p in problems(session)] == ["unused_column"]


def examples(page: RowsPage) -> dict[str, str]:
    """The example value that is shown below each name."""
    found = page.box.left_over.findChildren(QLabel, QRegularExpression("^example:"))
    return {w.objectName().partition(":")[2]: w.text() for w in found if w.isVisible()}


def test_from_a_file_that_matches_no_format_to_the_right_columns(
    open_session: OpenSession, qtbot: QtBot
) -> None:
    rows = [
        {"ask": f"Why  {n}?\n", "reply": f"Because {n}.", "hints": {"n": n}, "nothing": None}
        for n in range(9)
    ]
    session = open_session(rows)
    qtbot.waitUntil(lambda: any(p.code == "unknown_format" for p in session.problems.problems))
    click_badge(session)
    assert session.tabs.tab == ROWS
    page = session.tabs.page(ROWS)
    qtbot.waitUntil(lambda: len(uses(page)) == 4)
    assert set(uses(page).values()) == {"Choose…"}
    assert examples(page) == {"ask": "Why 0?", "reply": "Because 0.", "hints": '{"n": 0}'}
    assert "matches no known format" in page.error.text()
    assert page.hint.text() == NO_FORMAT_HINT
    assert combo(page, "row-format").currentText() == "Detect"

    pick(qtbot, page, "left-over:ask", "Use as question column (Question and answer)")
    qtbot.waitUntil(lambda: "ask" not in uses(page) and not page.error.isVisible())
    assert combo(page, "row-format").currentText().startswith("Question and answer")
    assert combo(page, "column:question_column").currentText() == "ask"
    assert "has no column “answer”" in card_text(page)
    assert examples(page) == {"reply": "Because 0.", "hints": '{"n": 0}'}
    pick(qtbot, page, "left-over:reply", "Use as answer column")
    qtbot.waitUntil(lambda: "Because 0." in card_text(page))
    assert uses(page) == {"hints": "Not used", "nothing": "Empty"}
    pick(qtbot, page, "left-over:hints", "Ignore")
    qtbot.waitUntil(lambda: uses(page)["hints"] == "Ignored")
    assert problems(session) == []
    right = {"question_column": "ask", "answer_column": "reply"}
    assert settings(session)["format"] == "question_answer"
    assert settings(session)["format_settings"] == right
    for _ in range(3):
        session.document.undo()
    qtbot.waitUntil(lambda: set(uses(page).values()) == {"Choose…"})
    assert "format" not in settings(session)


def test_rows_of_an_export_that_matches_no_format_show_their_columns(
    open_session: OpenSession, qtbot: QtBot
) -> None:
    rows = [{"data": {"body": "x" * 500}, "annotations": [{"result": []}]} for _ in range(3)]
    page = show(open_session(rows), "data", ROWS)
    qtbot.waitUntil(lambda: len(uses(page)) == 2)
    assert "Label Studio" in page.error.text()
    assert examples(page)["data"].startswith('{"body": "xxx')
    assert examples(page)["data"].endswith("x…")
    assert len(examples(page)["data"]) < 100


def test_content_that_refuses_rows_is_an_error_beside_its_column(
    open_session: OpenSession, qtbot: QtBot
) -> None:
    rows = chats(20)
    for row in rows:
        row["messages"][0]["mood"] = "calm"
        row["id"] = 7
        row["prompt"] = row["messages"][0]["content"]
    rows[0]["images"] = ["cat.png"]
    rows[12]["videos"] = ["cat.mp4"]  # beyond the rows that are shown
    session = open_session(rows)
    qtbot.waitUntil(lambda: any(p.blocks for p in session.problems.problems))
    click_badge(session)
    page = session.tabs.page(ROWS)
    qtbot.waitUntil(lambda: bool(uses(page)))
    assert uses(page) == {
        "images": "Refused",
        "videos": "Refused",
        "messages[].mood": "Not used",
        "id": "Bookkeeping",
        "prompt": "Repeated",
    }
    box = page.box.left_over
    errors = [w.text() for w in box.findChildren(QLabel, "column-error") if w.isVisible()]
    assert [e.partition(" has ")[2] for e in errors] == [
        "images in “images”, which this program cannot train on.",
        "videos in “videos”, which this program cannot train on.",
    ]
    assert [e.startswith(f"Line {n} ") for e, n in zip(errors, (1, 13), strict=True)] == [True] * 2

    for name, written in (("images", "images"), ("messages[].mood", "mood"), ("videos", "videos")):
        listed = combo(page, f"left-over:{name}")
        listed.setFocus()
        QTest.keyClicks(listed, "Ign")
        assert written in settings(session)["ignored_columns"]
        qtbot.waitUntil(lambda n=name: uses(page)[n] == "Ignored")
    assert not [w for w in box.findChildren(QLabel, "column-error") if w.isVisible()]
    assert problems(session) == []
    assert combo(page, "left-over:messages[].mood").count() == 2  # a key cannot get a role
    for _ in range(3):
        session.document.undo()
    assert "ignored_columns" not in settings(session)
    qtbot.waitUntil(lambda: uses(page)["images"] == "Refused")


def test_a_column_can_lose_its_role(open_session: OpenSession, qtbot: QtBot) -> None:
    rows = [{"question": "a?", "answer": "b", "context": f"c{n}"} for n in range(9)]
    session = open_session(rows)
    page = show(session, "data", ROWS)
    qtbot.waitUntil(lambda: "c0" in card_text(page))
    assert not page.box.left_over.isVisible()
    pick(qtbot, page, "column:context_column", "not used")
    qtbot.waitUntil(lambda: uses(page) == {"context": "Ignored"})
    assert "c0" not in card_text(page)
    assert combo(page, "column:context_column").currentText() == "not used"
    assert problems(session) == []
    pick(qtbot, page, "left-over:context", "Use as system column")
    qtbot.waitUntil(lambda: "c0" in card_text(page))


def test_many_columns_are_shown_on_request(open_session: OpenSession, qtbot: QtBot) -> None:
    row = {"text": "some text", **{f"c{n}": n for n in range(30)}, "url": "x"}
    session = open_session([row] * 5)
    page = show(session, "data", ROWS)
    qtbot.waitUntil(lambda: len(uses(page)) == 20)
    more = page.box.left_over.more
    assert more.text() == "Show 11 More Columns"
    page._stack.currentWidget().ensureWidgetVisible(more)
    QTest.mouseClick(more, LEFT)
    qtbot.waitUntil(lambda: len(uses(page)) == 31)
    assert [uses(page)[name] for name in ("url", "c29")] == ["Bookkeeping", "Not used"]
    assert not more.isVisible()


def test_what_the_template_omits_is_a_finding_and_shown_with_the_rows(
    open_session: OpenSession, qtbot: QtBot
) -> None:
    rows = [{"tools": TOOLS, **row} for row in chats(6)]
    session = open_session(rows)
    page = show(session, "data", ROWS)
    qtbot.waitUntil(lambda: "say 0" in card_text(page))
    assert not page.omitted.isVisible()  # not known before a report
    report = show(session, "data", REPORT)
    qtbot.waitUntil(lambda: session.data.report is not None and session.data.report.complete)
    card = report.view.card("lost_tools")
    assert card.finding.sentence.startswith("In 6 rows the chat template omits the tools")
    tokens = show(session, "data", TOKENS)
    qtbot.waitUntil(lambda: "Tools that the chat template omits" in tokens.row_view.flags.text())
    show(session, "data", ROWS)
    assert page.omitted.isVisible()
    assert page.omitted.text() == card.finding.sentence
    edited = set_setting(session.document.graph, "data", "limit", 3)
    session.document.edit(edited, "Fewer rows")
    qtbot.waitUntil(lambda: not page.omitted.isVisible())  # the report is about other rows
