"""Node, header, banner, list, status bar and terminal say the same about a run, whatever happens to it.

Random sequences of what a run and its user can do are played into the real follower and the real widgets. The test
keeps its own simple account of what has happened, and compares every text with that.
"""

from __future__ import annotations

import os
import random
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import pytest
from PySide6.QtCore import QObject, Signal
from pytestqt.qtbot import QtBot

from studio.cli import listing
from studio.cli.report import print_results
from studio.events import Event
from studio.graph.graph import Graph, Node
from studio.graph.project import json_text
from studio.graph.registry import load_registry
from studio.runs.folder import RunFolder
from studio.runs.follow import EventReader
from studio.runs.plan import Plan, Step
from studio.runs.progress import progress_of
from studio.runs.summary import RunSummary, summarize
from ui.canvas.status import NodeStatus, status_of
from ui.monitor.header import HeaderLine
from ui.monitor.runs_list import sentence
from ui.runs.controller import RunController
from ui.runs.follower import RunFollower
from ui.window import run_banners
from ui.window.banner import Banner
from ui.window.status import StatusStrip

SEQUENCES = 2000
NODES = ("data", "train", "merge")
WORDS = {
    "preparing": "Preparing…",
    "running": "Running",
    "stopping": "Stopping…",
    "completed": "Completed",
    "stopped": "Stopped",
    "failed": "Failed",
    "interrupted": "Interrupted",
}
BADGES = {"done": "Done", "skipped": "Reused", "failed": "Failed", "stopped": "Stopped"}
ENDS = ("completed", "stopped", "failed", "interrupted")


class Thread(QObject):
    """In place of the thread that follows a host."""

    events, reading, earlier, ended = Signal(object), Signal(float), Signal(object), Signal(object)

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode

    def stop(self) -> None:
        """The host ends the run when the sequence says so."""


class World:
    """A window's widgets, one run, and what has happened to it."""

    def __init__(self, place: Path, parts: SimpleNamespace, chance: random.Random) -> None:
        self.parts, self.chance = parts, chance
        self.folder = RunFolder(place)
        self.folder.steps.mkdir(parents=True)
        ran = {node: f"{node}-0" for node in NODES}
        steps = [Step(n, "merge", 1, n.title(), {}, {}, ran[n]) for n in NODES]
        plan = Plan("Toys", place, tuple(steps)).to_json()
        self.folder.plan_path.write_text(json_text(plan), encoding="utf-8")
        os.utime(self.folder.plan_path, (0, 0))  # a host of this age has started or died
        self.now: dict[str, str | None] = dict(ran)
        self.time = 1.8e9
        self.own = True
        self.graph = Graph("Toys", tuple(Node(n, "merge") for n in NODES))
        self.last: tuple[str, dict[str, str]] = ("interrupted", dict.fromkeys(NODES, "waiting"))
        self.started, self.resumed = False, ""
        self.begin("host")

    def begin(self, mode: str) -> None:
        """A host starts, or is found."""
        self.follower = RunFollower(Thread(mode), self.folder, self.parts.parent)
        self.follower.own = self.own
        self.follower._take(EventReader(self.folder.events_path).read())
        self.status = "preparing"
        self.nodes = dict.fromkeys(NODES, "waiting")
        self.at = -1
        self.failure = ""

    def happens(self, kind: str, node: str | None = None, **data: object) -> None:
        """An event of the host, in its file and in the window."""
        self.time += 1.0
        event = Event(kind, self.time, node, data)
        with self.folder.events_path.open("a", encoding="utf-8") as file:
            file.write(event.to_line())
        self.follower._take([event])

    # ------------------------------------------------------------ what can happen

    def host_starts(self) -> None:
        nodes = [{"id": n, "title": n.title(), "type": "merge"} for n in NODES]
        about = {"run": self.folder.id, "name": "Toys", "device": "CPU", "nodes": nodes}
        if self.started and not self.resumed:
            self.resumed = "resumed"
        self.happens("RunStarted", **about, resumed=self.started)
        self.started = True
        if self.status == "preparing":
            self.status = "running"

    def step_starts(self) -> None:
        self.at += 1
        node = NODES[self.at]
        self.happens("StepStarted", node, title=node.title(), index=self.at + 1, count=3)
        self.nodes[node] = "running"
        if self.folder.checkpoints(node).exists():
            self.happens("TrainResumed", node, step=3)
            self.resumed = "resumed after step 3"

    def step_goes_on(self) -> None:
        node, kind = NODES[self.at], self.chance.choice(("Phase", "Progress", "Metric", "Notice"))
        data: dict[str, object] = {"phase": "train", "title": "Training"}
        if kind == "Progress":
            data |= {"done": 3, "total": 10, "unit": "steps", "eta_s": 5.0}
        elif kind == "Metric":
            data = {"step": 3, "steps": 10, "loss": 0.5}
        elif kind == "Notice":
            data = {"level": "warning", "sentence": "Take care."}
        self.happens(kind, node, **data)

    def checkpoint(self) -> None:
        node = NODES[self.at]
        (self.folder.checkpoints(node) / "step-000003").mkdir(parents=True, exist_ok=True)
        self.happens("CheckpointSaved", node, step=3, path="x", reason="cadence")

    def step_ends(self) -> None:
        node, cached = NODES[self.at], self.chance.random() < 0.3
        if not cached:
            (self.folder.steps / f"{node}-0.json").write_text("{}", encoding="utf-8")
        self.happens("StepFinished", node, seconds=2.0, cached=cached, outputs={})
        self.nodes[node] = "skipped" if cached else "done"
        if self.at == len(NODES) - 1:
            self.end("completed")

    def fail(self) -> None:
        node = NODES[self.at]
        self.failure = self.chance.choice(("", "changed_since_plan"))
        self.happens("StepFailed", node, sentence="It broke.", hint="", code=self.failure)
        self.nodes[node] = "failed"
        self.end("failed")

    def ask_to_stop(self) -> None:
        self.follower.stop()
        self.status = "stopping"

    def end(self, status: str) -> None:
        """The host ends, or is killed: then nothing is written."""
        if status != "interrupted":
            self.happens("RunFinished", status=status, seconds=3.0)
        self.follower._thread.ended.emit(status)
        if self.status == "preparing" and status == "interrupted":
            self.status, self.nodes = self.last  # nothing was started
            return
        self.status = status
        for node, state in self.nodes.items():
            if state == "running":
                self.nodes[node] = "stopped"
        self.last = (self.status, dict(self.nodes))

    def edit(self) -> None:
        node = self.chance.choice(NODES)
        self.now[node] = self.chance.choice((f"{node}-0", f"{node}-1", None))

    def another_project(self) -> None:
        self.own = self.follower.own = not self.own

    def look_again(self) -> None:
        """The run is opened from the list of runs: its events are read once more."""
        nodes, status = self.nodes, self.status
        self.begin("attach")
        self.follower._thread.ended.emit(status)
        self.nodes, self.status = nodes, status

    # ------------------------------------------------------------ one of them

    def act(self) -> None:
        """Something that can happen now."""
        choices = [self.edit, self.edit, self.another_project]
        may_resume = self.folder.remains().offered(self.status)
        if self.status in ENDS:
            choices += [lambda: self.begin("host")] * 6 if may_resume else []
        elif self.status == "preparing" or not self.follower.state.nodes:
            choices += [self.host_starts] * 8 + [lambda: self.end("interrupted")]
        else:
            if self.nodes[NODES[self.at]] == "running" and self.at >= 0:
                choices += [self.step_goes_on] * 4 + [self.step_ends] * 5
                choices += [self.checkpoint, self.fail]
            else:
                choices += [self.step_starts] * 8
            if self.status == "running":
                choices += [self.ask_to_stop, lambda: self.end("interrupted")]
            else:
                choices += [lambda: self.end("stopped")] * 4
        self.chance.choice(choices)()

    # ------------------------------------------------------------ what is shown

    def check(self) -> None:
        """Every text against what has happened."""
        parts, follower = self.parts, self.follower
        parts.runs.fingerprints.found = self.now
        view = RunController.view(parts.runs, follower)
        assert view is not None
        word = WORDS[self.status]
        parts.header.use_view(view)
        parts.header.show_state(follower.state, None)
        assert parts.header.text_of("status").split(" ", 1)[1] == word
        resumed = parts.header.text_of("resumed")
        assert resumed == (
            self.resumed.removeprefix("resumed").strip() or "yes" if self.resumed else "–"
        )
        other = parts.header.text_of("project")
        assert other.startswith("another one (") == (not self.own)
        row = sentence(RunSummary(self.folder, "Toys", view.status, None, None, None))
        assert row.startswith(f"Toys: {word}, ")
        phase = "running" if self.status == "preparing" else self.status
        active = view.active
        progress = progress_of(follower.state, self.time, view.status) if active else None
        phase = "idle" if self.status in ENDS else phase
        parts.strip.show_run(phase, follower.state, view, progress)
        self.check_strip(parts.strip.run.text(), word)
        badges = {
            n: status_of(v.numbers, v.state, None, v.place, v.resumed)
            for n, v in view.nodes.items()
        }
        self.check_badges(badges, other)
        if self.status in ENDS:
            assert self.folder.status() == self.status

    def check_strip(self, text: str, word: str) -> None:
        running = [n.title() for n, state in self.nodes.items() if state == "running"]
        if self.status in ENDS:
            assert text == "Ready"
            return
        if self.status == "preparing":
            known = "Starting the run process"
        elif self.status == "stopping":
            known = word
        elif running:
            known = running[0]
        else:
            known = ("Starting the next step", "Looking for results")[self.at < 0]
        assert text.startswith(known)
        if self.status == "running":
            assert (f" ({self.resumed})" in text) == bool(self.resumed)
        assert (" of the project “" in text) == (not self.own)

    def check_badges(self, badges: dict[str, NodeStatus | None], other: str) -> None:
        if not self.own:
            assert badges == {}
            return
        changed = [n for n in NODES if self.now[n] != f"{n}-0"]
        assert other.startswith(f"changed since this run ({len(changed)} ") == bool(changed)
        for node, state in self.nodes.items():
            badge = badges[node]
            assert badge is not None
            if node in changed:
                assert badge.sentence() == "Changed since this run"
            elif state == "waiting":
                assert badge.sentence() == ("Not run" if self.status in ENDS else "Waiting")
            elif state == "running":
                assert badge.bar
                assert self.status not in ENDS
            else:
                assert badge.left.split(" ·")[0] == BADGES[state]

    def check_end(self, capsys: pytest.CaptureFixture[str]) -> None:
        """The banner and the terminal at the end of an execution."""
        parts, follower = self.parts, self.follower
        parts.document.graph = self.graph
        run_banners.ended(parts.session, follower)
        text = parts.banner.text()
        buttons = [b.text() for b in parts.banner._buttons]
        print_results(self.folder, follower.state, self.status)
        printed = capsys.readouterr().out
        if self.status == "completed":
            assert printed.startswith(("Toys finished in ", "Nothing has changed "))
        else:
            assert printed.startswith(f"{WORDS[self.status]} ")
            assert printed.partition(" It ran for ")[0] in text
        remains = self.folder.remains()
        may = remains.offered(self.status)
        summary = summarize(self.folder)
        row = sentence(summary)
        assert row.startswith(f"Toys: {WORDS[self.status]}, ")
        listing.runs(Namespace(runs=self.folder.path.parent, json=False))
        listed = capsys.readouterr().out.rstrip()
        assert listed.split()[1] == WORDS[self.status]
        if not printed.startswith("Nothing has changed "):
            for said in (printed.splitlines()[0], text, row, listed):
                assert (", resumed" in said or "· resumed" in said) == bool(self.resumed)
                assert self.resumed in said
        if self.status != "completed":
            assert summary.ended.rstrip(".") in text
            assert summary.ended.rstrip(".") in listed
        view = RunController.view(parts.runs, follower)
        stopped = [v.place for v in view.nodes.values() if v.state == "stopped" and v.place]
        assert all(f" {place}" in text for place in stopped)
        assert ("Resume with: " in printed) == may
        unfinished = [n for n in NODES if not (self.folder.steps / f"{n}-0.json").exists()]
        kept = any(self.folder.checkpoints(n).exists() for n in unfinished)
        assert ("last checkpoint" in printed) == (may and kept)
        if self.status == "failed":
            assert text.startswith("Failed in ")
            assert text.endswith(" It broke.")
            assert parts.banner._icon_name == "circle-x"
        elif self.status == "completed":
            assert "finished" in text or "were reused" in text
        else:
            assert text.startswith(f"Toys: {WORDS[self.status]} ")
            assert ("Resume" in buttons) == may
            assert ("last checkpoint" in text) == (may and kept)


@pytest.fixture
def parts(qtbot: QtBot) -> SimpleNamespace:
    """The widgets of a window that speak of a run."""
    made = SimpleNamespace(
        parent=QObject(), header=HeaderLine(), strip=StatusStrip(), banner=Banner()
    )
    for widget in (made.header, made.strip, made.banner):
        qtbot.addWidget(widget)
    made.runs = SimpleNamespace(fingerprints=SimpleNamespace(found=None))
    made.runs.view = lambda follower: RunController.view(made.runs, follower)
    made.document = SimpleNamespace(graph=Graph())
    made.session = SimpleNamespace(
        window=SimpleNamespace(banner=made.banner),
        runs=made.runs,
        document=made.document,
        registry=load_registry(),
        use_result=SimpleNamespace(choose=lambda: None),
    )
    return made


def test_all_parts_say_the_same_whatever_happens(
    parts: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: set[str] = set()
    for seed in range(SEQUENCES):
        chance = random.Random(seed)
        world = World(tmp_path / f"{seed}" / f"20260101-000000-{seed}", parts, chance)
        world.check()
        for _ in range(chance.randint(4, 14)):
            before = world.status
            try:
                world.act()
                world.check()
                if world.status in ENDS and before not in ENDS:
                    if seed % 4 == 0:  # a banner takes a hundred times as long as the other texts
                        world.check_end(capsys)
                    if chance.random() < 0.3:
                        world.look_again()
                        world.check()
            except AssertionError as error:
                raise AssertionError(f"in sequence {seed}: {error}") from error
            seen.add(world.status)
        world.follower.deleteLater()
    assert seen == set(WORDS)
