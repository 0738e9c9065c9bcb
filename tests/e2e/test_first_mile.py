"""From a dropped file to a training in three clicks and no typing, in the real window with real events.

The clicks are counted by the application itself: every press of a mouse button and every key is seen.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import QEvent, QMimeData, QObject, QPoint, Qt, QUrl
from PySide6.QtGui import QWindow
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QPushButton
from pytestqt.qtbot import QtBot

from studio.graph.graph import Graph
from studio.graph.project import save_project
from tests.e2e.window import LEFT, windows
from tests.tiny import make_tiny_model
from tests.ui.canvas.hands import drop
from ui.inspector.editors.model import remember
from ui.training.base_dialog import BaseCard
from ui.window.session import Session


class Presses(QObject):
    """Counts presses of mouse buttons and keys that reach the windows of the program."""

    def __init__(self, app: QApplication) -> None:
        super().__init__(app)
        self.clicks = self.keys = 0
        app.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Qt: every event of the program."""
        if isinstance(watched, QWindow):
            self.clicks += event.type() == QEvent.Type.MouseButtonPress
            self.keys += event.type() == QEvent.Type.KeyPress
        return False


@pytest.fixture
def session(
    qtbot: QtBot, qapp: QApplication, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Session]:
    """The program's window on an empty project; a tiny model was used before."""
    monkeypatch.setenv("LORA_STUDIO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "no-hub"))
    remember(str(make_tiny_model(tmp_path / "models" / "tiny")))
    save_project(tmp_path / "empty.studio", Graph())
    with windows(qtbot, qapp) as open_window:
        yield open_window(tmp_path / "empty.studio")


def jsonl(folder: Path) -> Path:
    """Conversations."""
    path = folder / "tickets.jsonl"
    rows = [{"prompt": f"say {w}", "completion": w} for w in words(60)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def capital_csv(folder: Path) -> Path:
    """A table as a spreadsheet program saves it."""
    path = folder / "Fragen.csv"
    lines = ["Question,Answer", *(f"say {w},{w}" for w in words(60))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def divided_folder(folder: Path) -> Path:
    """Files named train and test."""
    path = folder / "tone"
    path.mkdir()
    for name, count in (("train", 48), ("test", 6)):
        rows = [{"question": f"say {w}", "answer": w} for w in words(count)]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (path / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return path


def plain_text(folder: Path) -> Path:
    """A text."""
    path = folder / "story.txt"
    path.write_text("\n\n".join(f"once upon a {w} there was a {w}" for w in words(40)), "utf-8")
    return path


def words(count: int) -> list[str]:
    return [f"{'abcdefgh'[i % 8]}{'xyz'[i % 3]}" for i in range(count)]


def dropped(session: Session, path: Path) -> None:
    """Drop a file from the file manager on the canvas."""
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path))])
    view = session.window.canvas
    assert drop(view, data, QPoint(view.viewport().width() // 3, view.viewport().height() // 3))


def click(button: QPushButton) -> None:
    """Click the middle of a button where a user clicks: in its window."""
    assert button.isVisible()
    assert button.isEnabled()
    window = button.window()
    at = button.mapTo(window, button.rect().center())
    QTest.mouseClick(window.windowHandle(), LEFT, Qt.KeyboardModifier.NoModifier, at)
    QApplication.processEvents()


def card_of(session: Session, qtbot: QtBot, title: str) -> BaseCard:
    """A card of the chooser, in view."""
    dialog = session.new_training.dialog
    assert dialog is not None
    qtbot.waitUntil(lambda: bool(dialog.cards))
    card = next(c for c in dialog.cards if c.choice.candidate.title == title)
    dialog._scroll.ensureWidgetVisible(card)
    QApplication.processEvents()
    return card


@pytest.mark.parametrize(
    "make",
    [
        jsonl,
        pytest.param(capital_csv, marks=pytest.mark.slow(seconds=25)),
        pytest.param(divided_folder, marks=pytest.mark.slow(seconds=25)),
        plain_text,
    ],
)
def test_a_dropped_file_is_trained_on_in_three_clicks(
    session: Session,
    qtbot: QtBot,
    qapp: QApplication,
    tmp_path: Path,
    make: Callable[[Path], Path],
) -> None:
    path = make(tmp_path)
    dropped(session, path)
    presses = Presses(qapp)
    window = session.window
    offer = window.canvas.offers
    qtbot.waitUntil(lambda: not offer.isHidden())
    assert offer.text() == f"{path.name} is not used by any training yet."
    what = "This Folder" if path.is_dir() else "This File"
    click(offer.button(f"Train on {what}…"))
    click(card_of(session, qtbot, "tiny"))
    qtbot.waitUntil(lambda: session.new_training.dialog is None)
    run = window.tool_bar.widgetForAction(window.own["run"])
    click(run)
    qtbot.waitUntil(lambda: session.runs.live is not None)
    assert (presses.clicks, presses.keys) == (3, 0)
    qapp.removeEventFilter(presses)

    qtbot.waitUntil(lambda: session.runs.phase == "idle")
    state = session.runs.shown.state
    assert state.status == "completed", "\n".join(window.log.lines()[-20:])
    window.monitor.draw_now()
    assert len(window.monitor.plot("loss").points("loss")[0]) > 1
    kinds = {a["kind"] for a in state.artifacts}
    assert {"adapter", "merged_model"} <= kinds
    assert ("report" in kinds) == (make is not plain_text)
    graph = session.document.graph
    assert not [p for p in session.problems.problems if p.code == "unused_node"]
    if make is divided_folder:  # the test files are evaluated, and nothing else
        test = graph.node(graph.wire_into("evaluate", "dataset").source)
        assert Path(test.settings["source"]).name == "test.jsonl"

    session.document.undo()  # all of it is one step
    assert [n.type for n in session.document.graph.nodes] == ["dataset"]
