"""At 960 × 540 pixels, which is a screen of 1920 × 1080 at 200 %, nothing is clipped in any state of the window."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import QSize, Qt
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractScrollArea,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QDialog,
    QLabel,
    QLineEdit,
    QSlider,
    QSplitter,
    QTabBar,
    QToolButton,
    QWidget,
)
from pytestqt.qtbot import QtBot

from studio.events import Event
from studio.graph.edits import set_setting
from studio.graph.graph import Graph
from studio.graph.project import load_project
from studio.graph.registry import load_registry
from studio.graph.templates import TEMPLATES
from studio.runs.folder import RunFolder
from studio.runs.lock import HostLock
from studio.system.paths import assets_dir
from studio.system.settings import AppSettings
from tests.ui.conftest import MakeSession
from tests.ui.monitor import fake_run
from tests.ui.test_fits import clipped
from ui.canvas.template_cards import TemplateCard
from ui.data.template_dialog import TemplateDialog
from ui.dialogs.about import AboutDialog
from ui.dialogs.crash_dialog import CrashDialog
from ui.dialogs.guide import GuideWindow
from ui.dialogs.new_from_template import NewFromTemplate
from ui.dialogs.rows_dialog import RowsDialog
from ui.dialogs.settings_dialog import SettingsDialog
from ui.dialogs.shortcut_sheet import ShortcutSheet
from ui.style import widgets
from ui.style.choice_dialog import Choice, ChoiceDialog
from ui.window.session import Session

ICON_ONLY = Qt.ToolButtonStyle.ToolButtonIconOnly
LOW = QSize(960, 540)
ROOM = LOW - widgets.FRAME
SEEN = (QLabel, QAbstractButton, QLineEdit, QComboBox, QAbstractSpinBox, QTabBar, QSlider)
NODES = ("data", "base", "lora", "train", "merge", "export", "evaluate")
LONG = "The last step of this run could not be finished, because the disk is full. "


def outside(root: QWidget) -> list[str]:
    """The visible controls that are not entirely within their parents. What scrolls may be anywhere."""
    return [
        f"{type(part).__name__} {part.objectName() or name_of(part)}"
        for kind in SEEN
        for part in root.findChildren(kind)
        if part.isVisible()
        and not is_inner(part)
        and not scrolls(part, root)
        and leaves(part, root)
    ]


def name_of(part: QWidget) -> str:
    """What a user reads on a control."""
    text = getattr(part, "text", str)()
    return str(text) or part.accessibleName()


def is_inner(part: QWidget) -> bool:
    """Whether Qt places this part of a control."""
    parent = part.parentWidget()
    controls = (QLineEdit, QComboBox, QAbstractSpinBox, QTabBar)
    return isinstance(parent, controls) or part.objectName().startswith("qt_")


def scrolls(part: QWidget, root: QWidget) -> bool:
    """Whether a part lies in something that scrolls."""
    above = part.parentWidget()
    while above is not None and above is not root:
        if isinstance(above, QAbstractScrollArea):
            return True
        above = above.parentWidget()
    return False


def leaves(part: QWidget, root: QWidget) -> bool:
    """Whether a part is beyond the edge of one of its parents."""
    above = part.parentWidget()
    while above is not None:
        place = part.rect().translated(part.mapTo(above, part.rect().topLeft()))
        if not above.rect().contains(place):
            return True
        if above is root:
            return False
        above = above.parentWidget()
    return False


def squeezed(root: QWidget) -> list[str]:
    """The visible buttons and choices whose texts do not fit."""
    return [
        name_of(part)
        for part in root.findChildren(QAbstractButton)
        if part.isVisible()
        and part.text()
        and not is_inner(part)
        and not isinstance(part, TemplateCard)  # its title is wrapped
        and not (isinstance(part, QToolButton) and part.toolButtonStyle() == ICON_ONLY)
        and part.width() < part.fontMetrics().horizontalAdvance(part.text().replace("&", ""))
    ]


def faults(root: QWidget) -> list[str]:
    """All that does not fit."""
    for _ in range(3):  # wrapped texts need a second look
        QApplication.processEvents()
    return [*clipped(root), *outside(root), *squeezed(root)]


def fits(session: Session, qtbot: QtBot) -> None:
    """Nothing is clipped, and nothing has enlarged the window."""
    all_fits(session.window, qtbot)
    assert session.window.size() == LOW


def all_fits(root: QWidget, qtbot: QtBot) -> None:
    """Nothing is clipped, at the latest when all texts have been wrapped."""

    def look() -> None:
        assert "; ".join(faults(root)) == ""

    qtbot.waitUntil(look)


def open_low(make_session: MakeSession, graph: Graph, path: Path | None = None) -> Session:
    session = make_session(graph, path)
    session.window.resize(LOW)
    session.window.share_space(LOW)
    return session


@pytest.fixture
def low(make_session: MakeSession) -> Session:
    """The starter project in a low window."""
    path = assets_dir() / "starter.studio"
    return open_low(make_session, load_project(path), path)


def test_an_empty_canvas_and_every_template_fit(make_session: MakeSession, qtbot: QtBot) -> None:
    session = open_low(make_session, Graph())
    fits(session, qtbot)
    for template in TEMPLATES:
        assert session.project.new_from_template(template)
        session.document.mark_saved(Path("template.studio"))
        fits(session, qtbot)


@pytest.mark.parametrize("everything", [False, True])
def test_the_form_of_every_node_fits(low: Session, qtbot: QtBot, everything: bool) -> None:
    low.window.inspector.show_all(everything)
    for node in NODES:
        low.window.canvas.select((node,))
        fits(low, qtbot)


def test_problems_fit(low: Session, qtbot: QtBot) -> None:
    low.document.edit(set_setting(low.document.graph, "data", "source", "a/" * 60), "Break")
    low.problems.check()
    for chosen in ((), ("data",)):
        low.window.canvas.select(chosen)
        fits(low, qtbot)


def test_a_long_message_is_elided_before_the_parts_at_the_right(low: Session) -> None:
    status = low.window.status
    status.tell(LONG * 4)
    assert status.toolTip().count(LONG.strip()) == 4
    QApplication.processEvents()
    image = status.grab().toImage()
    begin = status.problems.x()
    between = {image.pixel(x, y) for x in range(begin - 5, begin) for y in range(4, 16)}
    before = {image.pixel(x, y) for x in range(6, begin - 40) for y in range(4, 16)}
    assert len(between) == 1  # nothing is written there
    assert len(before) > 1


def test_a_long_project_name_is_shown_from_its_beginning(make_session: MakeSession) -> None:
    session = open_low(make_session, Graph("Continued pretraining, then instructions " * 2))
    name = session.window.inspector.findChild(QLineEdit, "project-name")
    assert name.cursorPosition() == 0


# ------------------------------------------------------------------ with a run


def insight() -> Event:
    modules = [
        [f"model.layers.{n}.self_attn.{part}", 0.5, 0.01, 3, 8]
        for n in range(24)
        for part in ("q_proj", "k_proj", "v_proj", "o_proj")
    ]
    return Event("Insight", fake_run.START + 9, "train", {"step": 3, "modules": modules})


def samples() -> Iterator[Event]:
    for step in (0, 50, 100):
        for index, prompt in enumerate(("What is a robin?", "What is an oak?")):
            answer = {"step": step, "index": index, "prompt": prompt, "text": "It is a bird. " * 9}
            data = {**answer, "tokens": 20, "seconds": 1.0, "expected": None, "cut": False}
            yield Event("Sample", fake_run.START + 8, "train", data)


def write_run(folder: RunFolder, events: list[Event]) -> RunFolder:
    folder.path.mkdir(parents=True)
    node = {"node": "train", "type": "train", "version": 1, "title": "Train", "settings": {}}
    plan = {"steps": [{**node, "inputs": {}, "fingerprint": "f"}], "name": "Starter", "version": 1}
    text = json.dumps({**plan, "project_dir": str(assets_dir())})
    folder.plan_path.write_text(text, encoding="utf-8")
    folder.events_path.write_text("".join(e.to_line() for e in events), encoding="utf-8")
    return folder


def beginning() -> list[Event]:
    training = [*fake_run.beginning(), *fake_run.training_starts(), *fake_run.training(1, 100, 200)]
    return [*training, *samples(), insight()]


def every_tab_fits(session: Session, qtbot: QtBot) -> None:
    for index in range(session.window.tabs.count()):
        session.window.show_tab(index)
        fits(session, qtbot)


def test_every_tab_fits_while_a_run_trains(low: Session, qtbot: QtBot) -> None:
    folder = write_run(RunFolder(low.runs.runs_dir / "20261130-100000-starter"), beginning())
    lock = HostLock(folder.lock_path)
    assert lock.acquire()
    try:
        low.runs.attach(folder)
        qtbot.waitUntil(lambda: low.window.canvas.graph_scene.nodes["train"].status is not None)
        assert low.runs.phase == "running"
        every_tab_fits(low, qtbot)
    finally:
        lock.release()
    qtbot.waitUntil(lambda: low.runs.phase == "idle")
    assert "interrupted" in low.window.banner.text().lower()
    every_tab_fits(low, qtbot)


def test_every_tab_fits_when_a_run_is_done(low: Session, qtbot: QtBot, tmp_path: Path) -> None:
    events = [*beginning(), *fake_run.training(101, 200, 200), *fake_run.ending(tmp_path, 200)]
    folder = write_run(RunFolder(low.runs.runs_dir / "20261130-100000-starter"), events)
    low.runs.attach(folder)
    qtbot.waitUntil(lambda: low.window.banner.key == "ended")
    assert low.window.banner.text().startswith("Starter finished in ")
    every_tab_fits(low, qtbot)


def test_a_long_banner_leaves_much_of_a_low_canvas_visible(low: Session, qtbot: QtBot) -> None:
    low.window.open_panel()
    banner = low.window.banner
    banner.offer("ended", "circle-x", LONG * 8, [("Show Log", print), ("Resume", print)])
    fits(low, qtbot)
    canvas = low.window.canvas
    assert banner.height() <= 0.7 * canvas.height()
    (label,) = [w for w in banner.findChildren(QLabel) if w.text()]
    assert label.text().endswith(" …")
    assert label.toolTip() == banner.text()
    assert banner.text().count(LONG.strip()) == 8
    low.window.docks["monitor"].hide()
    banner.offer("ended", "circle-check", "Done.")
    fits(low, qtbot)
    assert label.text() == "Done."
    assert label.toolTip() == ""


def test_plots_are_chosen_from_a_list_where_buttons_do_not_fit(low: Session, qtbot: QtBot) -> None:
    folder = write_run(RunFolder(low.runs.runs_dir / "20261130-100000-starter"), beginning())
    low.open_run(folder)
    monitor = low.window.monitor
    assert monitor is not None
    qtbot.waitUntil(lambda: monitor.plot("memory").isVisible())
    (choice,) = [c for c in monitor.findChildren(QComboBox) if c.accessibleName() == "Plot"]
    qtbot.waitUntil(choice.isVisible)
    qtbot.keyClicks(choice, "Speed")
    qtbot.waitUntil(lambda: monitor.plot("tokens_per_s").isVisible())
    assert not monitor.plot("memory").isVisible()
    low.window.resize(1900, 700)
    qtbot.waitUntil(lambda: not choice.isVisible())


def test_results_lie_above_each_other_in_a_narrow_panel(
    low: Session, qtbot: QtBot, tmp_path: Path
) -> None:
    events = [*beginning(), *fake_run.ending(tmp_path, 200)]
    low.open_run(write_run(RunFolder(low.runs.runs_dir / "20261130-100000-starter"), events))
    low.window.show_tab(2)
    results = low.window.results
    qtbot.waitUntil(lambda: results.bars.isVisible())
    (split,) = results.findChildren(QSplitter)
    qtbot.waitUntil(lambda: results.artifacts.geometry().bottom() < split.widget(1).y())
    assert results.bars.width() >= results.bars.minimumSizeHint().width()
    low.window.resize(1900, 800)
    qtbot.waitUntil(lambda: results.artifacts.geometry().right() < split.widget(1).x())


# ------------------------------------------------------------------ dialogs

ROWS = {
    "step": 3,
    "what": "loss",
    "value": "nan",
    "rows": [
        {"file": f"/data/{'folder/' * 9}rows.jsonl", "line": n, "text": "x" * 90} for n in range(9)
    ],
    "kept": None,
}
DIALOGS: dict[str, Callable[[Session], QDialog]] = {
    "settings": lambda s: SettingsDialog(AppSettings(), s.window),
    "shortcuts": lambda s: ShortcutSheet({"Window": list(s.window.own.values())}, parent=s.window),
    "guide": lambda s: GuideWindow(parent=s.window),
    "about": lambda s: AboutDialog(s.window),
    "new from template": lambda s: NewFromTemplate(load_registry(), s.window),
    "question": lambda s: ChoiceDialog(
        "Question",
        LONG,
        LONG * 3,
        (Choice("yes", "Run with the New Settings", True), Choice("no", "Cancel")),
    ),
    "crash": lambda s: CrashDialog("Something went wrong", LONG, LONG * 3, "line\n" * 40, s.window),
    "rows": lambda s: RowsDialog(ROWS, s.window),
    "chat templates": lambda s: TemplateDialog(s.data, "train", s.window),
}


@pytest.mark.parametrize("name", DIALOGS)
def test_every_dialog_fits_on_a_low_screen(
    low: Session, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(widgets, "room_on_screen", lambda dialog: ROOM)
    dialog = DIALOGS[name](low)
    qtbot.addWidget(dialog)
    dialog.show()
    all_fits(dialog, qtbot)
    assert dialog.width() <= ROOM.width()
    assert dialog.height() <= ROOM.height()
