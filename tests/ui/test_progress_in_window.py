"""What node, header, status bar and terminal say at each phase of a run, at a stop and at a failure in each."""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from pytestqt.qtbot import QtBot

from studio.cli.report import print_results, progress_line
from studio.runs.outcome import outcome_of
from studio.runs.progress import UNKNOWN, progress_of
from tests.ui import toys
from tests.ui.conftest import MakeSession, runs_of
from ui.window.session import Session

LEFT = Qt.MouseButton.LeftButton
SEEN = {
    "load": ("Load", "Phased: Loading the model", "load… ▸ train ▸ save ▸ verify"),
    "train-1": ("Train 1/3", "Phased: Train 1/3", "load ✓ ▸ train 1/3 ▸ save ▸ verify"),
    "train-2": ("Train 2/3", "Phased: Train 2/3", "load ✓ ▸ train 2/3 ▸ save ▸ verify"),
    "evaluate": ("Train 2/3", "Phased: Train 2/3", "load ✓ ▸ train 2/3 ▸ save ▸ verify"),
    "train-3": ("Train 3/3", "Phased: Train 3/3", "load ✓ ▸ train 3/3 ▸ save ▸ verify"),
    "save": ("Save", "Phased: Writing the adapter", "load ✓ ▸ train ✓ ▸ save… ▸ verify"),
    "verify": ("Verify", "Phased: Comparing", "load ✓ ▸ train ✓ ▸ save ✓ ▸ verify…"),
}
"""Phase -> on the node, in the status bar, and the stages of the run."""


def press(session: Session, qtbot: QtBot, name: str) -> None:
    """Click a button of the tool bar."""
    qtbot.mouseClick(session.window.tool_bar.widgetForAction(session.window.own[name]), LEFT)


def wait_for(session: Session, qtbot: QtBot, phase: str) -> None:
    """Wait until the window has shown this phase."""
    words, where, _ = SEEN[phase]
    status = session.window.status
    qtbot.waitUntil(lambda: status.run.text() == where)
    live = session.runs.live
    assert live is not None
    inner = "evaluate" if phase == "evaluate" else words.split()[0].lower()
    qtbot.waitUntil(lambda: live.state.nodes["phased"].phase == inner)


def texts(session: Session) -> dict[str, str]:
    """The progress of the run on the node, above the curves and in the status bar."""
    window = session.window
    status = window.canvas.graph_scene.nodes["phased"].status
    assert status is not None
    assert window.monitor is not None
    phase, percent, left = window.monitor.header.text_of("progress").split(" · ")
    return {
        "node": f"{status.left} | {status.right} | {status.detail}",
        "header": f"{phase} | {percent} | {left}",
        "bar": f"{phase} | {window.status.left.text().replace(' · ', ' | ')}",
    }


def open_gates(gates: Path, *phases: str, text: str = "") -> None:
    for phase in phases:
        draft = gates / f".{phase}"
        draft.write_text(text, encoding="utf-8")
        draft.rename(gates / phase)  # never seen half written


def test_each_phase_reads_the_same_everywhere(
    make_session: MakeSession, qtbot: QtBot, tmp_path: Path
) -> None:
    gates = tmp_path / "gates"
    session = make_session(toys.phased_graph(gates))
    press(session, qtbot, "run")
    shares = []
    for phase in toys.PHASES:
        wait_for(session, qtbot, phase)
        words, where, trail = SEEN[phase]
        seen = texts(session)
        assert len(set(seen.values())) == 1, seen
        assert seen["node"].startswith(f"{words} | ")
        assert seen["node"].endswith(f" | {UNKNOWN}")
        assert session.window.status.trail.text() == trail
        live = session.runs.live
        assert live is not None
        progress = progress_of(live.state, time.time())
        assert progress is not None
        line = progress_line(progress, live.state.nodes["phased"])
        assert line.startswith(f"{where}  [")
        assert progress.percent in line
        assert line.endswith(UNKNOWN)
        assert f" | {progress.percent} | " in seen["node"]
        shares.append(progress.fraction)
        open_gates(gates, phase)
    qtbot.waitUntil(lambda: session.runs.phase == "idle")
    assert shares == sorted(shares)
    assert not session.window.status.progress.isVisible()
    assert session.window.status.trail.text() == ""


def test_the_second_run_knows_its_time_and_counts_down_together(
    make_session: MakeSession, qtbot: QtBot, tmp_path: Path
) -> None:
    """In the first run, by the times in its events, each phase took a minute; its result is gone."""
    gates = tmp_path / "gates"
    session = make_session(toys.phased_graph(gates))
    open_gates(gates, *toys.PHASES)
    press(session, qtbot, "run")
    qtbot.waitUntil(lambda: session.runs.live is not None)
    qtbot.waitUntil(lambda: session.runs.phase == "idle")
    (first,) = runs_of(session)
    stretch(first.events_path)
    shutil.rmtree(first.artifacts)
    for phase in toys.PHASES:
        (gates / phase).unlink()
    press(session, qtbot, "run")
    wait_for(session, qtbot, "load")
    before = seen_alike(session)
    assert 180 < seconds_in(before) <= 240
    qtbot.waitUntil(lambda: session.window.status.left.text().split(" · ")[1] not in before)
    assert seconds_in(seen_alike(session)) < seconds_in(before)
    session.window.own["stop"].trigger()
    qtbot.waitUntil(lambda: session.runs.phase == "idle")


def seen_alike(session: Session) -> str:
    """The text that all places show."""
    (text,) = set(texts(session).values())
    return text


def seconds_in(text: str) -> int:
    """The seconds in ``… | 3 min 05 s left``."""
    minutes, seconds = re.findall(r"(\d+) min (\d+) s left$", text)[0]
    return 60 * int(minutes) + int(seconds)


def stretch(events: Path) -> None:
    """Change the times in the events of a run, so that each of its four phases took a minute."""
    lines = [json.loads(line) for line in events.read_text(encoding="utf-8").splitlines()]
    when, last = 1_700_000_000.0, ""
    for line in lines:
        phase = {"evaluate": "train"}.get(str(line.get("phase")), line.get("phase"))
        if line["event"] == "StepFinished" or (line["event"] == "Phase" and phase != last):
            when += 60.0
            last = phase
        line["time"] = when
    events.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


ENDED = {
    "load": "while loading the model",
    "train-2": "after step 2 of 3",
    "evaluate": "after step 2 of 3 while computing the validation loss",
    "save": "while writing the adapter",
    "verify": "while comparing",
}
"""Phase -> where a run ended in it."""


@pytest.mark.parametrize("phase", ENDED)
@pytest.mark.parametrize("how", ["stopped", "failed"])
def test_a_run_that_ends_in_a_phase_says_so_everywhere(
    make_session: MakeSession,
    qtbot: QtBot,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    phase: str,
    how: str,
) -> None:
    """In the banner, in Results, in the list of runs and in the terminal."""
    gates = tmp_path / "gates"
    session = make_session(toys.phased_graph(gates))
    open_gates(gates, *toys.PHASES[: toys.PHASES.index(phase)])
    press(session, qtbot, "run")
    wait_for(session, qtbot, phase)
    if how == "failed":
        open_gates(gates, phase, text="fail")
    else:
        press(session, qtbot, "stop")
    qtbot.waitUntil(lambda: session.runs.phase == "idle")
    words = f"{how.capitalize()} in Phased {ENDED[phase]}."
    window = session.window
    assert words in window.banner.text()
    assert words in window.results.outcome.text()
    (run,) = runs_of(session)
    window.runs.refresh()
    qtbot.waitUntil(lambda: window.runs.summary(run.id) is not None)
    qtbot.waitUntil(lambda: words.rstrip(".") in window.runs.list.item(0).text())
    live = session.runs.live
    assert live is not None
    print_results(run, live.state, how)
    assert words in capsys.readouterr().out
    if how == "failed":
        assert window.banner.text() == f"{words} Phased: it broke. Repair it."


def test_done_says_the_same_in_banner_results_and_terminal(
    make_session: MakeSession, qtbot: QtBot, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gates = tmp_path / "gates"
    session = make_session(toys.phased_graph(gates))
    open_gates(gates, *toys.PHASES)
    press(session, qtbot, "run")
    qtbot.waitUntil(lambda: session.window.banner.key == "ended")
    window, live = session.window, session.runs.live
    assert live is not None
    found = outcome_of(live.state)
    assert found.learned == ("Loss 2 → 0.6667, validation loss 1.5 → 1.25, best 1.25 at step 3.",)
    assert window.banner.text() == window.results.outcome.text() == found.sentence()
    print_results(runs_of(session)[0], live.state, "completed")
    out = capsys.readouterr().out
    for sentence in (found.headline, *found.learned, found.next):
        assert sentence in out
    assert "Made: adapter, report." in window.banner.text()
    tree = window.results.artifacts.tree
    assert [tree.topLevelItem(i).text(0) for i in range(2)] == ["Adapter", "Report"]
