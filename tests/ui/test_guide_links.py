"""F1 and links lead from fields, problems, findings, banners and plots to their section of the guide."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QDesktopServices, QTextBlock
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QListWidget, QWidget
from pytestqt.qtbot import QtBot

from studio.errors import StudioError
from studio.graph import edits, guide
from studio.graph.graph import Graph, Node
from studio.preview.report import Finding
from tests.ui import toys
from tests.ui.conftest import MakeSession
from ui.data.finding_card import FindingCard
from ui.dialogs.guide import GuideWindow
from ui.dialogs.new_from_template import NewFromTemplate
from ui.monitor.plot_menu import make_menu
from ui.style.guide_link import MORE, GuideButton, GuideLink, explained_at
from ui.window.session import Session

LEFT = Qt.MouseButton.LeftButton
F1, SHIFT = Qt.Key.Key_F1, Qt.KeyboardModifier.ShiftModifier


def opened() -> str:
    """The place at which the guide is open."""
    windows = [w for w in QApplication.topLevelWidgets() if isinstance(w, GuideWindow)]
    shown = [w.browser.source() for w in windows if w.isVisible()]
    assert len(shown) == 1, "one guide"
    section = f"#{shown[0].fragment()}" if shown[0].hasFragment() else ""
    return Path(shown[0].toLocalFile()).name + section


def close_guide() -> None:
    for window in QApplication.topLevelWidgets():
        if isinstance(window, GuideWindow):
            window.close()
            window.deleteLater()


def click_link(link: QWidget) -> None:
    QTest.mouseClick(link, LEFT, Qt.KeyboardModifier.NoModifier, QPoint(12, link.height() // 2))


def with_train(make_session: MakeSession) -> Session:
    session = make_session(edits.add_node(Graph(), Node("train", "train")))
    session.window.canvas.select(("train",))
    return session


def field(session: Session, name: str) -> QWidget:
    found = session.window.inspector.findChild(QWidget, f"field:{name}")
    assert isinstance(found, QWidget)
    return found


def test_f1_opens_the_page_about_the_field_with_the_focus(make_session: MakeSession) -> None:
    session = with_train(make_session)
    session.window.activateWindow()
    for name, place in (
        ("learning_rate", "settings.md#learning-rate"),
        ("batch_size", "settings.md#batch"),
    ):
        field(session, name).setFocus()
        QTest.keyClick(field(session, name), F1)
        assert opened() == place
    close_guide()


def test_f1_on_the_canvas_is_about_the_selected_node(make_session: MakeSession) -> None:
    session = make_session(edits.add_node(Graph(), Node("lora", "lora")))
    canvas = session.window.canvas
    session.window.activateWindow()
    canvas.setFocus()
    QTest.keyClick(canvas, F1)
    assert opened() == "canvas.md"
    canvas.select(("lora",))
    QTest.keyClick(canvas, F1)
    assert opened() == "settings.md#lora"
    close_guide()


def test_f1_in_the_panels_is_about_the_panel(make_session: MakeSession) -> None:
    window = make_session(toys.toy_graph()).window
    monitor = window.monitor
    assert monitor is not None
    assert explained_at(monitor.loss) == guide.PARTS["curves"]
    for widget, part in (
        (window.log, "log"),
        (window.results, "results"),
        (window.runs, "runs"),
        (window.samples, "samples"),
        (window.insight.slider, "insight"),
        (window.palette_panel, "palette"),
    ):
        assert explained_at(widget) == guide.PARTS[part]


def test_the_help_of_a_field_has_a_link(make_session: MakeSession) -> None:
    session = with_train(make_session)
    row = field(session, "learning_rate")
    session.window.activateWindow()
    row.setFocus()
    QTest.keyClick(row, F1, SHIFT)
    links = session.window.inspector.findChildren(GuideLink)
    (link,) = (k for k in links if explained_at(k) == "settings.md#learning-rate")
    assert link.isVisible()
    click_link(link)
    assert opened() == "settings.md#learning-rate"
    QTest.keyClick(row, F1, SHIFT)
    assert not link.isVisible()
    close_guide()


def test_a_problem_beside_its_field_has_a_link(make_session: MakeSession, qtbot: QtBot) -> None:
    session = make_session(edits.add_node(Graph(), Node("data", "dataset")))
    session.problems.check()
    session.window.canvas.select(("data",))
    links = session.window.inspector.findChildren(GuideLink)
    qtbot.waitUntil(lambda: any(link.isVisible() for link in links))
    shown = {explained_at(link) for link in links}
    assert shown == {guide.of_problem(p.code) for p in session.problems.problems}
    click_link(links[0])
    assert opened() == explained_at(links[0])
    close_guide()


def test_a_link_is_followed_by_keyboard(make_session: MakeSession) -> None:
    session = make_session(edits.add_node(Graph(), Node("data", "dataset")))
    session.problems.check()
    session.window.canvas.select(("data",))
    link = session.window.inspector.findChildren(GuideLink)[0]
    session.window.activateWindow()
    link.setFocus(Qt.FocusReason.TabFocusReason)
    assert link.hasFocus()
    QTest.keyClick(link, Qt.Key.Key_Tab)
    if not link.hasFocus():
        link.setFocus(Qt.FocusReason.TabFocusReason)
    QTest.keyClick(link, Qt.Key.Key_Return)
    assert opened() == explained_at(link)
    close_guide()


def test_f1_in_the_list_of_problems_is_about_the_current_one(make_session: MakeSession) -> None:
    session = make_session(edits.add_node(Graph(), Node("data", "dataset")))
    session.problems.check()
    session.window.canvas.select(())
    found = session.window.inspector.findChild(QListWidget, "overview-problems")
    assert isinstance(found, QListWidget)
    session.window.activateWindow()
    found.setFocus()
    found.setCurrentRow(0)
    QTest.keyClick(found, F1)
    assert opened() == guide.of_problem(session.problems.problems[0].code)
    close_guide()


def test_the_header_of_a_node_has_a_button(make_session: MakeSession) -> None:
    session = with_train(make_session)
    buttons = session.window.inspector.findChildren(GuideButton)
    (button,) = (b for b in buttons if b.isVisible())
    assert button.accessibleName() == MORE
    QTest.mouseClick(button, LEFT)
    assert opened() == "settings.md"
    close_guide()


def test_a_banner_of_a_failure_has_a_button(make_session: MakeSession) -> None:
    session = make_session(toys.toy_graph())
    banner = session.window.banner
    session._show_error(StudioError("The disk is full.", code="disk_full"))
    (button,) = banner.findChildren(GuideButton)
    assert button.isVisible()
    QTest.mouseClick(button, LEFT)
    assert opened() == guide.of_problem("disk_full")
    assert banner.text(), "reading does not dismiss it"
    session._show_error(StudioError("Something else.", code="error"))
    assert not button.isVisible()
    close_guide()


def test_memory_that_ran_out_leads_to_its_section(make_session: MakeSession, qtbot: QtBot) -> None:
    session = make_session(toys.toy_graph(steps=2000, delay_s=0.01, recover_at=3))
    session.window.own["run"].trigger()
    qtbot.waitUntil(lambda: session.window.banner.text().startswith("Out of memory"))
    (button,) = session.window.banner.findChildren(GuideButton)
    QTest.mouseClick(button, LEFT)
    assert opened() == "memory.md#when-memory-runs-out"
    session.window.own["stop"].trigger()
    qtbot.waitUntil(lambda: session.runs.phase == "idle")
    assert explained_at(button) == guide.PARTS["resume"]
    close_guide()


def test_a_finding_of_the_report_has_a_link(make_session: MakeSession, qtbot: QtBot) -> None:
    make_session(toys.toy_graph())
    card = FindingCard(Finding("duplicate", "warning", "Two rows are equal.", 2))
    qtbot.addWidget(card)
    card.show()
    (link,) = card.findChildren(GuideLink)
    click_link(link)
    assert opened() == "data.md#what-makes-a-good-file"
    close_guide()


def test_the_menu_of_a_plot_leads_to_its_page(make_session: MakeSession) -> None:
    window = make_session(toys.toy_graph()).window
    monitor = window.monitor
    assert monitor is not None
    menu = make_menu(monitor.loss, monitor)
    next(a for a in menu.actions() if a.text() == MORE).trigger()
    assert opened() == "curves.md"
    close_guide()


def test_f1_in_a_dialog_opens_the_guide_beside_it(make_session: MakeSession, qtbot: QtBot) -> None:
    session = make_session(toys.toy_graph())
    session.window.own["template"].trigger()
    (dialog,) = session.window.findChildren(NewFromTemplate)
    dialog.activateWindow()
    qtbot.waitUntil(dialog.isActiveWindow)
    QTest.keyClick(dialog.focusWidget() or dialog, F1)
    assert opened() == "templates.md"
    (shown,) = dialog.findChildren(GuideWindow)
    (pages,) = shown.findChildren(QListWidget)
    pages.setCurrentRow(1)
    assert opened() != "templates.md", "the dialog does not block it"
    close_guide()
    dialog.reject()


def test_a_section_is_scrolled_to_the_top(make_session: MakeSession, qtbot: QtBot) -> None:
    session = make_session(toys.toy_graph())
    session.window.activateWindow()
    QDesktopServices.openUrl("guide:curves.md#overfitting")
    (shown,) = session.window.findChildren(GuideWindow)
    shown.resize(shown.width(), 300)
    QDesktopServices.openUrl("guide:curves.md#overfitting")
    browser = shown.browser

    def top() -> float:
        block: QTextBlock = browser.document().begin()
        while block.text() != "Overfitting":
            block = block.next()
        place = browser.document().documentLayout().blockBoundingRect(block).top()
        return place - browser.verticalScrollBar().value()

    qtbot.waitUntil(lambda: abs(top()) < 40)
    close_guide()


def test_the_guide_needs_no_window_per_link(make_session: MakeSession) -> None:
    session = make_session(toys.toy_graph())
    for page in ("memory.md", "data.md#validation-rows"):
        QDesktopServices.openUrl(f"guide:{page}")
        assert opened() == page
    assert len(session.window.findChildren(GuideWindow)) == 1
    close_guide()
