"""The tour of five steps: where it points, that it blocks nothing, and how it starts and ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import QPoint, QRect, Qt, QTimer
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QPushButton, QWidget
from pytestqt.qtbot import QtBot

from studio.graph.graph import Graph, Node
from studio.graph.project import load_project, save_project
from tests.ui import toys
from tests.ui.conftest import MakeSession, close
from ui import app as program
from ui.style import theme
from ui.style.choice_dialog import ChoiceDialog
from ui.window import project_controller, tour
from ui.window.session import Session
from workers.run_thread import detach_all
from workers.task import wait_for_tasks

LEFT = Qt.MouseButton.LeftButton
TITLES = ("Your data", "The base model", "Training settings", "Run", "Results, and what is next")
Key = Qt.Key


@pytest.fixture
def gates(tmp_path: Path) -> Path:
    """The folder of the files that let the run of the starter go on."""
    return tmp_path / "gates"


@pytest.fixture
def starter(tmp_path: Path, gates: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A starter project whose run needs no model, and waits in each phase."""
    phased = toys.phased_graph(gates).nodes[0]
    nodes = (
        Node("data", "toy", {"steps": 1}, "Data", (0, 0)),
        Node("base", "toy", {"steps": 1}, "Base", (0, 200)),
        Node("train", "phased", phased.settings, "Train", (300, 0)),
    )
    path = tmp_path.resolve() / "assets" / "starter.studio"
    path.parent.mkdir()
    save_project(path, Graph("Starter", nodes))
    for module in (tour, project_controller):
        monkeypatch.setattr(module, "starter_path", lambda: path)
    return path


@pytest.fixture
def session(make_session: MakeSession, starter: Path) -> Session:
    """A window on the starter project, with the tour begun."""
    made = make_session(load_project(starter), starter)
    made.fold_panel()
    made.window.own["tour"].trigger()
    settle()
    return made


def settle() -> None:
    for _ in range(4):
        QApplication.processEvents()


def click(button: QWidget) -> None:
    QTest.mouseClick(button, LEFT)
    settle()


def step(session: Session) -> str:
    """The title of the shown step."""
    assert session.tour is not None
    assert session.tour.card.isVisible()
    at = TITLES.index(session.tour.card.title.text()) if session.tour.at != 3 else 3
    assert session.tour.card.count.text() == f"Step {at + 1} of 5"
    return session.tour.card.title.text()


def go_to(session: Session, at: int) -> None:
    assert session.tour is not None
    while session.tour.at < at:
        click(session.tour.card.next)


def ringed(session: Session) -> list[QRect]:
    """The rectangles with a ring, in the window."""
    assert session.tour is not None
    return [
        QRect(ring.mapTo(session.window, QPoint()), ring.size())
        for ring in session.tour.rings
        if ring.isVisible()
    ]


def place_of(session: Session, part: QWidget | str) -> QRect:
    """A widget, or the node with this ID, in the window."""
    if isinstance(part, str):
        canvas = session.window.canvas
        inside = canvas.node_rect_in_view(part) & canvas.viewport().rect()
        return QRect(canvas.viewport().mapTo(session.window, inside.topLeft()), inside.size())
    return QRect(part.mapTo(session.window, QPoint()), part.size())


def has_ring(session: Session, part: QWidget | str) -> bool:
    """Whether a ring lies around this part, and the card not on all of it."""
    place = place_of(session, part).adjusted(1, 1, -1, -1)
    near = place.adjusted(-6, -6, 6, 6)
    card = session.tour.card.geometry()
    return any(
        near.contains(ring) and ring.contains(place) and not card.contains(place)
        for ring in ringed(session)
    )


def test_each_step_marks_what_it_explains(session: Session) -> None:
    window = session.window
    button = window.tool_bar.widgetForAction(window.own["run"])
    parts: tuple[tuple[QWidget | str, ...], ...] = (
        ("data", window.docks["inspector"]),
        ("base", window.docks["inspector"]),
        ("train", window.docks["inspector"]),
        (button,),
        (window.docks["monitor"],),
    )
    for at, (title, marked) in enumerate(zip(TITLES, parts, strict=True)):
        assert step(session) == title
        assert all(has_ring(session, part) for part in marked), title
        assert len(ringed(session)) == len(marked)
        if at < 3:
            assert window.canvas.selected_ids() == (marked[0],)
        assert window.rect().contains(session.tour.card.geometry())
        click(session.tour.card.next)
    assert session.tour is None
    assert not any(ring.isVisible() for ring in window.findChildren(QWidget, "tour-ring"))


def test_the_starter_that_comes_with_the_program(make_session: MakeSession, qtbot: QtBot) -> None:
    path = project_controller.starter_path()
    session = make_session(load_project(path), path)
    session.window.own["tour"].trigger()
    settle()
    page = session.tabs.page("rows")
    assert page.isVisible()
    for node in ("data", "base", "train"):
        assert has_ring(session, node)
        assert session.window.inspector._header.isVisible()
        click(session.tour.card.next)
    assert not session.document.dirty


def test_by_keyboard_alone(session: Session) -> None:
    card = session.tour.card
    assert session.window.focusWidget() is card.next
    QTest.keyClick(card.next, Key.Key_Return)
    QTest.keyClick(card.next, Key.Key_Space)
    assert step(session) == "Training settings"
    QTest.keyClick(card.next, Key.Key_Backtab, Qt.KeyboardModifier.ShiftModifier)
    assert session.window.focusWidget() is card.back
    QTest.keyClick(card.back, Key.Key_Return)
    assert step(session) == "The base model"
    assert session.window.focusWidget() is card.next
    assert card.accessibleName() == "Tour, step 2 of 5: The base model"
    assert card.next.accessibleDescription().startswith("Step 2 of 5: The base model. ")
    QTest.keyClick(card.next, Key.Key_Escape)
    assert session.tour is None
    assert session.window.focusWidget() is session.window.canvas
    assert session.window.canvas.selected_ids() == ("base",)


def test_back_is_off_in_the_first_step_and_skip_ends_it(session: Session) -> None:
    assert not session.tour.card.back.isEnabled()
    click(session.tour.card.skip)
    assert session.tour is None


def test_escape_on_the_canvas_ends_it_unless_it_cancels_something(session: Session) -> None:
    canvas = session.window.canvas
    at = canvas.node_rect_in_view("base").center()
    QTest.mousePress(canvas.viewport(), LEFT, Qt.KeyboardModifier.NoModifier, at)
    QTest.mouseMove(canvas.viewport(), at + QPoint(30, 30))
    QTest.keyClick(canvas, Key.Key_Escape)
    QTest.mouseRelease(canvas.viewport(), LEFT, Qt.KeyboardModifier.NoModifier, at)
    assert session.tour is not None
    QTest.keyClick(canvas, Key.Key_Escape)
    assert session.tour is None


def test_a_run_during_the_tour(session: Session, qtbot: QtBot, gates: Path) -> None:
    go_to(session, 3)
    window = session.window
    assert window.docks["monitor"].isHidden()
    click(window.tool_bar.widgetForAction(window.own["run"]))
    qtbot.waitUntil(lambda: session.tour.card.title.text() == "The run")
    qtbot.waitUntil(lambda: has_ring(session, window.docks["monitor"]))
    assert has_ring(session, window.status)
    for phase in toys.PHASES:
        (gates / phase).touch()
    qtbot.waitUntil(lambda: session.runs.phase == "idle")
    click(session.tour.card.next)
    assert window.results.isVisible()
    click(session.tour.card.back)
    assert session.tour.card.title.text() == "The run"
    click(session.tour.card.skip)
    assert window.docks["monitor"].isVisible()


def test_the_panel_is_opened_for_the_results_and_folded_again(session: Session) -> None:
    panel = session.window.docks["monitor"]
    go_to(session, 4)
    assert session.window.results.isVisible()
    click(session.tour.card.back)
    assert panel.isHidden()
    go_to(session, 4)
    click(session.tour.card.next)
    assert panel.isHidden()
    assert session.store.panel() == ""


def test_rings_and_card_follow_the_window(session: Session, qtbot: QtBot) -> None:
    window, card = session.window, session.tour.card
    window.resize(900, 600)
    qtbot.waitUntil(lambda: has_ring(session, "data"))
    qtbot.waitUntil(lambda: has_ring(session, window.docks["inspector"]))
    assert window.rect().contains(card.geometry())
    canvas = window.canvas
    before = place_of(session, "data")
    canvas.actions()["zoom_out"].trigger()
    qtbot.waitUntil(lambda: place_of(session, "data") != before)
    qtbot.waitUntil(lambda: has_ring(session, "data"))
    session.switch_theme()
    settle()
    assert theme.colors().surface_raised.name() in card.styleSheet()


def test_a_part_that_is_hidden_is_said(session: Session, qtbot: QtBot) -> None:
    window, card = session.window, session.tour.card
    window.docks["inspector"].close()
    qtbot.waitUntil(lambda: card.note.text().startswith("The inspector is hidden"))
    assert len(ringed(session)) == 1
    window.docks["inspector"].toggleViewAction().trigger()
    qtbot.waitUntil(lambda: has_ring(session, window.docks["inspector"]))
    assert not card.note.isVisible()
    window.canvas.camera.pan(QPoint(5000, 5000))
    qtbot.waitUntil(lambda: card.note.text().startswith("The node is out of view"))
    window.canvas.actions()["fit"].trigger()
    qtbot.waitUntil(lambda: has_ring(session, "data"))


def test_it_ends_with_its_project_and_with_its_nodes(session: Session, qtbot: QtBot) -> None:
    canvas = session.window.canvas
    canvas.select(("train",))
    canvas.setFocus()
    QTest.keyClick(canvas.viewport(), Key.Key_Delete)
    qtbot.waitUntil(lambda: session.tour is None)
    session.document.undo()
    assert session.tour is None
    session.window.own["tour"].trigger()
    assert session.tour is not None
    answer(qtbot, "discard")
    session.window.own["new"].trigger()
    settle()
    assert session.tour is None


def answer(qtbot: QtBot, *choices: str) -> list[str]:
    """Answer the next questions, one after the other; returns the list that will hold their sentences."""
    asked: list[str] = []
    answered: list[QWidget] = []
    owner = QWidget()
    qtbot.addWidget(owner)  # no timer is left for the dialogs of later tests

    def press() -> None:
        dialog = QApplication.activeModalWidget()
        if not isinstance(dialog, ChoiceDialog) or dialog in answered:
            QTimer.singleShot(10, owner, press)
            return
        choice = choices[len(asked)]
        asked.append(dialog.accessibleDescription())
        answered.append(dialog)
        if len(asked) < len(choices):
            # The click returns when the next question has been answered.
            QTimer.singleShot(0, owner, press)
        words = {
            "open": "Open Starter Project",
            "cancel": "Cancel",
            "discard": "Don't Save",
        }
        button = next(b for b in dialog.findChildren(QPushButton) if b.text() == words[choice])
        QTest.mouseClick(button, LEFT)

    QTimer.singleShot(0, owner, press)
    return asked


def test_another_project_asks_before_the_starter_opens(
    make_session: MakeSession, starter: Path, project: Path, qtbot: QtBot
) -> None:
    session = make_session(load_project(project), project)
    asked = answer(qtbot, "cancel")
    session.window.own["tour"].trigger()
    assert "in place of “Toys”" in asked[0]
    assert (session.tour, session.document.path) == (None, project)
    session.window.canvas.add_node_at_center("toy")
    asked = answer(qtbot, "open", "discard")
    session.window.own["tour"].trigger()
    assert "asked about unsaved changes" in asked[0]
    assert asked[1].startswith("Save the changes to “Toys”?")
    assert session.document.path == starter
    assert step(session) == "Your data"


def test_an_empty_project_gives_way_without_a_question(
    make_session: MakeSession, starter: Path
) -> None:
    session = make_session(Graph())
    session.window.own["tour"].trigger()
    settle()
    assert session.document.path == starter
    assert step(session) == "Your data"


Start = Callable[..., Session]


@pytest.fixture
def start(
    home: Path, starter: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Start]:
    """Starts the window as ``main.py`` does, with these arguments."""
    opened: list[Session] = []
    monkeypatch.setattr(program, "starter_path", lambda: starter)
    monkeypatch.setattr(program, "_loop", lambda app, session: len(opened.append(session) or ""))

    def begin(*arguments: str) -> Session:
        program.run_window(*arguments)
        qtbot.waitUntil(lambda: opened[-1].window.monitor is not None)
        settle()
        return opened[-1]

    yield begin
    for session in opened:
        close(session)
    detach_all()
    wait_for_tasks()


def test_the_first_start_offers_it_once(start: Start) -> None:
    session = start()
    assert session.window.banner.text().startswith("New to LoRA Studio? ")
    assert QApplication.activeModalWidget() is None
    click(session.window.banner.button("Start Tour"))
    assert step(session) == "Your data"
    assert session.window.banner.text() == ""
    close(session)
    assert start().window.banner.text() == ""


def test_the_offer_goes_when_a_project_is_made(start: Start) -> None:
    session = start()
    session.window.own["new"].trigger()
    settle()
    assert session.window.banner.text() == ""
    assert session.tour is None


def test_an_opened_project_gets_no_offer(start: Start, project: Path) -> None:
    assert start(str(project)).window.banner.text() == ""
