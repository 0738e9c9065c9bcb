"""A real training of a tiny model in the window: what every part says in each phase, at a stop in each, at a failure
in each, and after edits.

The run waits at the beginning of each phase until the test has looked at the window, so that nothing depends on how
fast it is. What fails, fails for a real reason: a file that is gone or damaged, a disk that is full, no memory.
"""

from __future__ import annotations

import errno
import queue
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from studio.cli.report import print_results, progress_line
from studio.events import Event
from studio.graph.graph import Graph, Node, Wire
from studio.runs.outcome import made_words, outcome_of
from studio.runs.progress import UNKNOWN, progress_of
from studio.runs.sink import EventSink
from tests.e2e.window import click_node, type_setting
from tests.tiny import make_tiny_model, write_rows
from tests.ui.conftest import MakeSession, runs_of
from ui.window.session import Session
from workers import run_thread

LEFT = Qt.MouseButton.LeftButton
ORDER = ("data", "base", "lora", "train", "merge", "evaluate", "export")
BEFORE = "prepare ✓ ▸ load ✓ ▸ train ✓ ▸ save ✓ ▸ verify ✓"
PHASES = {
    "data read": ("Read", "Dataset: Reading rows.jsonl", "prepare… ▸ load"),
    "data split": ("Split", "Dataset: Splitting the rows", "prepare… ▸ load"),
    "base read": ("Read", "Base model: Checking the weights", "prepare… ▸ load"),
    "train tokenize": ("Tokenize", "Train: Tokenizing", "prepare… ▸ load"),
    "train load": ("Load", "Train: Loading the model", "prepare ✓ ▸ load… ▸ train"),
    "train train": ("Train", "Train: Training", "prepare ✓ ▸ load ✓ ▸ train… ▸ save"),
    "train step 1": ("Train 1/3", "Train 1/3", "prepare ✓ ▸ load ✓ ▸ train 1/3 ▸ save"),
    "train step 2": ("Train 2/3", "Train 2/3", "prepare ✓ ▸ load ✓ ▸ train 2/3 ▸ save"),
    "train evaluate": ("Train 2/3", "Train 2/3", "prepare ✓ ▸ load ✓ ▸ train 2/3 ▸ save"),
    "train step 3": ("Train 3/3", "Train 3/3", "prepare ✓ ▸ load ✓ ▸ train 3/3 ▸ save"),
    "train save": ("Save", "Train: Writing the adapter", "train ✓ ▸ save… ▸ verify"),
    "train verify": ("Verify", "Train: Loading the saved adapter", "save ✓ ▸ verify… ▸ merge"),
    "merge merge": ("Merge", "Merge: Adding the adapter", f"{BEFORE} ▸ merge… ▸ "),
    "merge verify": ("Verify", "Merge: Comparing the merged model", f"{BEFORE} ▸ merge… ▸ "),
    "evaluate load": ("Load", "Evaluate: Loading the base model", "merge ✓ ▸ evaluate… ▸ export"),
    "evaluate generate": ("Generate", "Evaluate: Generating answers", "merge ✓ ▸ evaluate…"),
    "export export": ("Export", "Export: Writing Safetensors folder", "evaluate ✓ ▸ export…"),
}
"""Where the run waits -> on the node, in the status bar, and a part of the stages."""


class Gates:
    """The run waits at the first event of each place in ``PHASES`` until ``go_on``."""

    def __init__(self) -> None:
        self.reached: queue.Queue[str] = queue.Queue()
        self._go = threading.Semaphore(0)
        self._left = set(PHASES)
        self.open = False

    def look(self, event: Event) -> None:
        """On the thread of the run, after each event."""
        if event.name == "Phase":
            place = f"{event.node} {event.get('phase')}"
        elif event.name == "Metric" and event.get("loss") is not None:
            place = f"{event.node} step {event.get('step')}"
        else:
            return
        if place not in self._left or self.open:
            return
        self._left.discard(place)
        self.reached.put(place)
        self._go.acquire()

    def go_on(self) -> None:
        """Let the run continue to the next place."""
        self._go.release()

    def let_all_pass(self) -> None:
        """Let the run go to its end."""
        self.open = True
        self._go.release()


@pytest.fixture
def gates(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gates]:
    """Every run of this test waits at these gates."""
    made = Gates()

    class GatedSink(EventSink):
        def emit(self, event: Event) -> None:
            super().emit(event)
            made.look(event)

    monkeypatch.setattr(run_thread, "EventSink", GatedSink)
    yield made
    made.let_all_pass()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model for all tests; each works on a copy that it may damage. Its libraries are imported."""
    import datasets  # noqa: F401
    import peft  # noqa: F401

    return make_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def graph(tiny: Path, tmp_path: Path) -> Graph:
    """From rows to an exported model, with everything that a run can contain."""
    work = tmp_path / "work"
    work.mkdir()
    shutil.copytree(tiny, work / "model")
    rows = write_rows(work / "rows.jsonl")
    train = {
        "max_steps": 3,
        "batch_size": 1,
        "max_length": 128,
        "eval_steps": 2,
        "save_steps": 2,
        "learning_rate": 2e-3,
    }
    settings: dict[str, dict[str, Any]] = {
        "data": {"source": str(rows), "validation_fraction": 0.2},
        "base": {"model": str(work / "model"), "dtype": "float32"},
        "lora": {"r": 4, "alpha": 8},
        "train": train,
        "merge": {},
        "evaluate": {"rows": 2, "max_new_tokens": 2},
        "export": {"folder": str(work / "shared")},
    }
    types = {"data": "dataset", "base": "base_model"}
    nodes = tuple(
        Node(name, types.get(name, name), settings[name], position=(260.0 * i, 0.0))
        for i, name in enumerate(ORDER)
    )
    wires = (
        Wire("data", "dataset", "train", "dataset"),
        Wire("base", "model", "lora", "model"),
        Wire("lora", "model", "train", "model"),
        Wire("train", "adapter", "merge", "adapter"),
        Wire("data", "dataset", "evaluate", "dataset"),
        Wire("merge", "model", "evaluate", "model"),
        Wire("merge", "model", "export", "model"),
    )
    return Graph("Tiny", nodes, wires)


# ------------------------------------------------------------ hands


def press(session: Session, name: str) -> None:
    """Click a button of the tool bar."""
    button = session.window.tool_bar.widgetForAction(session.window.own[name])
    assert button.isEnabled(), name
    QTest.mouseClick(button, LEFT)


def start(session: Session, qtbot: QtBot) -> None:
    """Press Run once the project was checked."""
    qtbot.waitUntil(lambda: session.window.status.problems.text() != "")
    press(session, "run")


def wait_at(session: Session, gates: Gates, qtbot: QtBot, place: str) -> None:
    """Let the run go on to this place, and wait until the window shows it."""
    while True:
        qtbot.waitUntil(lambda: not gates.reached.empty() or session.runs.phase == "idle")
        assert not gates.reached.empty(), session.window.banner.text()
        if (now := gates.reached.get()) == place:
            break
        assert now in PHASES
        gates.go_on()
    where = PHASES[place][1]
    qtbot.waitUntil(lambda: session.window.status.run.text().startswith(where))
    live = session.runs.live
    assert live is not None
    inner = place.partition(" ")[2]
    if not inner.startswith("step"):
        qtbot.waitUntil(lambda: live.state.nodes[place.split()[0]].phase == inner)


def wait_for_end(session: Session, qtbot: QtBot) -> None:
    """Wait until the run has ended and the window has said so."""
    qtbot.waitUntil(lambda: session.runs.phase == "idle")
    qtbot.waitUntil(lambda: session.window.banner.key == "ended")


def badge(session: Session, node: str) -> str:
    """What a node says about the run."""
    status = session.window.canvas.graph_scene.nodes[node].status
    return status.sentence() if status is not None else ""


def row_of_list(session: Session, qtbot: QtBot, status: str) -> str:
    """The first line of the list of runs, once it says this."""
    panel = session.window.runs
    panel.refresh()
    qtbot.waitUntil(lambda: panel.list.item(0).text().startswith(f"Tiny: {status}"))
    return panel.list.item(0).text()


def losses(session: Session) -> list[float]:
    """The steps in the curve of the loss."""
    monitor = session.window.monitor
    assert monitor is not None
    return list(monitor.loss.points("loss")[0])


# ------------------------------------------------------------ each phase


def test_every_part_of_the_window_in_each_phase_of_a_training(
    make_session: MakeSession, qtbot: QtBot, gates: Gates, graph: Graph
) -> None:
    session = make_session(graph)
    window, monitor = session.window, session.window.monitor
    assert monitor is not None
    start(session, qtbot)
    shares = []
    for place, (on_node, where, stages) in PHASES.items():
        wait_at(session, gates, qtbot, place)
        live = session.runs.live
        assert live is not None
        node = place.split()[0]
        progress = progress_of(live.state, time.time())
        assert progress is not None
        shares.append(progress.fraction)
        # node, header, status bar and terminal
        words = badge(session, node)
        assert words.startswith(f"{on_node}, {progress.percent}, "), place
        header = monitor.header.text_of("progress")
        assert header.startswith(f"{on_node} · {progress.percent} · ")
        left = header.rsplit(" · ", 1)[1]
        assert left in words
        assert window.status.left.text() == f"{progress.percent} · {left}"
        assert window.status.run.text().startswith(where)
        assert stages in window.status.trail.text()
        line = progress_line(progress, live.state.nodes[node])
        assert line.startswith(window.status.run.text())
        assert line.endswith(progress.left)
        if ORDER.index(node) < ORDER.index("train") or place in ("train tokenize", "train load"):
            assert left == UNKNOWN
        assert monitor.header.text_of("status") == "▶ Running"
        # the other nodes
        at = ORDER.index(node)
        assert all(badge(session, n).startswith("Done") for n in ORDER[:at]), place
        assert all(badge(session, n) == "Waiting" for n in ORDER[at + 1 :]), place
        # list, banner, plots, results
        row_of_list(session, qtbot, "Running")
        assert not window.banner.isVisible()
        assert not window.own["run"].isEnabled()
        assert window.own["stop"].isEnabled()
        steps = [e for e in (1.0, 2.0, 3.0) if e <= progress_steps(place)]
        qtbot.waitUntil(lambda steps=steps: losses(session) == steps)
        assert bool(monitor.loss.placeholder()) == (not steps)
        tree = window.results.artifacts.tree
        made = at >= ORDER.index("merge")
        listed = [tree.topLevelItem(i).text(0) for i in range(tree.topLevelItemCount())]
        assert ("Adapter" in listed) == made, (place, listed)
        assert window.results.outcome.text() == ""
        gates.go_on()
    wait_for_end(session, qtbot)
    assert shares == sorted(shares)
    live = session.runs.live
    assert live is not None
    assert all(badge(session, n).startswith("Done") for n in ORDER)
    assert monitor.header.text_of("status") == "✓ Completed"
    assert monitor.header.text_of("progress") == "–"
    assert window.status.run.text() == "Ready"
    assert not window.status.progress.isVisible()
    assert not window.status.left.isVisible()
    found = outcome_of(live.state)
    assert window.banner.text() == window.results.outcome.text() == found.sentence()
    assert "Exact match: " in window.banner.text()
    assert made_words(found.made) in window.banner.text()
    assert window.tabs.tabText(2) == f"Results ({len(found.made)})"
    tree = window.results.artifacts.tree
    assert tree.topLevelItemCount() == len(found.made) + 1  # and one for all that was prepared
    row_of_list(session, qtbot, "Completed")
    assert window.own["run"].isEnabled()


def progress_steps(place: str) -> int:
    """The optimizer steps that were completed at a place."""
    places = list(PHASES)
    return sum(p.startswith("train step") for p in places[: places.index(place) + 1])


# ------------------------------------------------------------ a stop in each phase

STOPPED = {
    "data read": "in Dataset while reading rows.jsonl",
    "base read": "in Base model while checking the weights",
    "train tokenize": "in Train while tokenizing",
    "train load": "in Train while loading the model",
    "train step 2": "in Train after step 2 of 3",
    "train evaluate": "in Train after step 2 of 3 while computing the validation loss",
    "train save": "in Train while writing the adapter",
    "train verify": "in Train while loading the saved adapter on a fresh model",
    "merge merge": "in Merge while adding the adapter to the model",
    "evaluate generate": "in Evaluate while generating answers with the base model",
    "export export": "in Export while writing Safetensors folder",
}
"""Where Stop is pressed -> where the run says that it ended."""


@pytest.mark.parametrize("place", STOPPED)
def test_a_stop_in_each_phase(
    make_session: MakeSession,
    qtbot: QtBot,
    gates: Gates,
    graph: Graph,
    capsys: pytest.CaptureFixture[str],
    place: str,
) -> None:
    session = make_session(graph)
    start(session, qtbot)
    wait_at(session, gates, qtbot, place)
    press(session, "stop")
    window, monitor = session.window, session.window.monitor
    assert monitor is not None
    assert window.own["stop"].text() == "Stopping…"
    assert monitor.header.text_of("status") == "■ Stopping…"
    assert window.status.run.text() == "Stopping…"
    gates.let_all_pass()
    wait_for_end(session, qtbot)
    node = place.split()[0]
    sentence = f"Stopped {STOPPED[place]}."
    check_end(session, qtbot, capsys, node, "Stopped", sentence)
    assert monitor.header.text_of("status") == "■ Stopped"
    steps = [1.0, 2.0, 3.0][: progress_steps(place)]
    qtbot.waitUntil(lambda: losses(session) == steps)


def check_end(
    session: Session,
    qtbot: QtBot,
    capsys: pytest.CaptureFixture[str],
    node: str,
    word: str,
    sentence: str,
) -> None:
    """How an unfinished run looks: the same sentence everywhere, and Resume only where it can."""
    window = session.window
    at = ORDER.index(node)
    assert all(badge(session, n).startswith("Done") for n in ORDER[:at])
    assert badge(session, node).startswith(word), badge(session, node)
    assert all(badge(session, n) == "Not run" for n in ORDER[at + 1 :])
    assert sentence in window.banner.text()
    assert sentence in window.results.outcome.text()
    assert sentence.rstrip(".") in row_of_list(session, qtbot, word)
    assert window.status.run.text() == "Ready"
    assert not window.status.progress.isVisible()
    assert window.monitor is not None
    assert window.monitor.header.text_of("progress") == "–"
    assert window.own["run"].isEnabled()
    assert not window.own["stop"].isEnabled()
    (run,) = runs_of(session)
    live = session.runs.live
    assert live is not None
    print_results(run, live.state, word.lower())
    printed = capsys.readouterr().out
    assert printed.startswith(sentence)
    may = run.remains().offered(word.lower())
    assert may == (at > 0)
    assert ("Resume with: " in printed) == may
    assert window.own["resume"].isVisible() == may
    assert {a.text(): a for a in window.runs.menu_for(run).actions()}["Resume"].isEnabled() == may
    if word == "Stopped":
        assert ("Resume" in [b.text() for b in window.banner._buttons]) == may


# ------------------------------------------------------------ a failure in each phase

Break = Callable[[Path, Session, pytest.MonkeyPatch], None]


def full_disk(*args: object, **kwargs: object) -> None:
    """In place of a function that writes."""
    raise OSError(errno.ENOSPC, "No space left on device")


def no_memory(*args: object, **kwargs: object) -> None:
    """In place of a function that computes."""
    raise MemoryError


def lose_rows(work: Path, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    (work / "rows.jsonl").unlink()


def damage_weights(work: Path, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    (work / "model" / "model.safetensors").write_bytes(b"\0" * 64)


def fill_disk_for_tensors(work: Path, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studio.training.saved.tensor_files.save_file", full_disk)


def take_memory(work: Path, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studio.training.loop.evaluation.validation_loss", no_memory)


def damage_adapter(work: Path, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    (saved,) = runs_of(session)[0].path.glob("artifacts/.*train*/**/adapter_model.safetensors")
    saved.write_bytes(b"\0" * 64)


def fill_disk_for_weights(work: Path, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studio.training.merge.make.write_weights", full_disk)


def raise_in_answers(work: Path, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    def raise_(*args: object, **kwargs: object) -> None:
        raise RuntimeError("a broken extension")

    monkeypatch.setattr("studio.training.answer.evaluate.greedy_answers", raise_)


def put_a_file_in_the_way(work: Path, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    (work / "shared").write_text("mine", encoding="utf-8")


FAILED: dict[str, tuple[Break, str, str]] = {
    "data read": (lose_rows, "in Dataset while reading rows.jsonl", "rows.jsonl"),
    "train load": (damage_weights, "in Train while loading the model", "model.safetensors"),
    "train step 2": (fill_disk_for_tensors, "in Train after step 2 of 3", "the disk is full."),
    "train evaluate": (
        take_memory,
        "in Train after step 2 of 3 while computing the validation loss",
        "not enough memory",
    ),
    "train save": (fill_disk_for_tensors, "in Train while writing the adapter", "disk is full."),
    "train verify": (damage_adapter, "in Train while", "adapter_model.safetensors is damaged"),
    "merge merge": (fill_disk_for_weights, "in Merge while adding the adapter", "disk is full"),
    "evaluate generate": (
        raise_in_answers,
        "in Evaluate while generating answers with the base model",
        "RuntimeError: a broken extension.",
    ),
    "export export": (put_a_file_in_the_way, "in Export while writing", "shared"),
}
"""Where something breaks -> what, where the run says that it ended, and a part of the reason."""


@pytest.mark.allow_log  # the failure of an extension is logged with its trace
@pytest.mark.parametrize("place", FAILED)
def test_a_failure_in_each_phase(
    make_session: MakeSession,
    qtbot: QtBot,
    gates: Gates,
    graph: Graph,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    place: str,
) -> None:
    break_it, where, why = FAILED[place]
    session = make_session(graph)
    start(session, qtbot)
    wait_at(session, gates, qtbot, place)
    break_it(tmp_path / "work", session, monkeypatch)
    gates.let_all_pass()
    wait_for_end(session, qtbot)
    window = session.window
    node = place.split()[0]
    live = session.runs.live
    assert live is not None
    failure = live.state.failure
    assert failure is not None
    text = window.banner.text()
    assert text.startswith(f"Failed {where}")
    assert why in failure["sentence"]
    assert f" {failure['sentence']} " in text
    assert text.endswith(str(failure.get("hint") or ""))
    assert window.banner._icon_name == "circle-x"
    check_end(session, qtbot, capsys, node, "Failed", text[: text.index(". ") + 1])
    assert window.monitor is not None
    assert window.monitor.header.text_of("status") == "✕ Failed"
    assert why in badge(session, node)
    (told,) = [text for text in window.log.lines() if failure["sentence"] in text]
    assert "Error: " in told
    assert told.endswith(str(failure.get("hint") or ""))
    QTest.mouseClick(window.banner.button("Show Node"), LEFT)
    assert window.canvas.selected_ids() == (node,)


# ------------------------------------------------------------ after edits


def test_after_edits_of_a_finished_training(
    make_session: MakeSession, qtbot: QtBot, gates: Gates, graph: Graph
) -> None:
    """What follows from an edit is dimmed without its numbers, the rest and the curves stay."""
    gates.let_all_pass()
    session = make_session(graph)
    start(session, qtbot)
    wait_for_end(session, qtbot)
    window, monitor = session.window, session.window.monitor
    assert monitor is not None
    qtbot.waitUntil(lambda: badge(session, "export").startswith("Done"))
    before = {n: badge(session, n) for n in ORDER}
    curve = losses(session)
    for edited, field, value in (("merge", "", ""), ("train", "learning_rate", "0.01")):
        if field:
            type_setting(session, qtbot, edited, field, value)
        else:
            click_node(session, edited)
            QTest.keyClick(window.canvas.viewport(), Qt.Key.Key_Delete)
        at = ORDER.index(edited)
        later = [n for n in ORDER[at:] if session.document.graph.has(n)]
        for n in later:
            qtbot.waitUntil(lambda n=n: badge(session, n) == "Changed since this run")
        assert {n: badge(session, n) for n in ORDER[:at]} == {n: before[n] for n in ORDER[:at]}
        count = f"{len(later)} {'node' if len(later) == 1 else 'nodes'}"
        assert monitor.header.text_of("project") == f"changed since this run ({count})"
        assert monitor.header.text_of("status") == "✓ Completed"
        assert losses(session) == curve
        click_node(session, "data")
        QTest.keyClick(window.canvas.viewport(), Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
        QApplication.processEvents()
        qtbot.waitUntil(lambda: {n: badge(session, n) for n in ORDER} == before)
        assert monitor.header.text_of("project") == "–"
