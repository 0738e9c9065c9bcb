"""Making and following toy runs: the same calls the window and the terminal make."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from studio.events import Event
from studio.graph.graph import Graph, Node, Wire
from studio.graph.project import save_project
from studio.graph.registry import Registry, load_registry
from studio.runs.control import Control
from studio.runs.execute import execute
from studio.runs.folder import RunFolder
from studio.runs.follow import EventReader
from studio.runs.plan import Plan, compile_plan
from studio.runs.sink import EventSink
from studio.runs.watch import Watch
from tests.studio.runs import toys
from tests.timing import WAIT_S

CHAIN = (
    Wire("source", "dataset", "train", "dataset"),
    Wire("train", "adapter", "block", "adapter"),
    Wire("block", "model", "export", "model"),
)


def registry() -> Registry:
    """The built-in node types and the toys, also when the environment names them already."""
    known = load_registry()
    return known.with_nodes(n for n in toys.NODES if n.id not in known.nodes)


def graph(**settings: dict[str, Any]) -> Graph:
    """source -> train -> block -> export, with some settings."""
    nodes = tuple(
        Node(name, f"toy_{name}", settings.get(name, {}))
        for name in ("source", "train", "block", "export")
    )
    return Graph("Toy", nodes, CHAIN)


def plan(place: Path, **settings: dict[str, Any]) -> Plan:
    """The plan of the toy graph in a project folder; it must have no Problem."""
    compiled = compile_plan(graph(**settings), registry(), place)
    assert compiled.plan is not None, compiled.problems
    return compiled.plan


def folder(place: Path, **settings: dict[str, Any]) -> RunFolder:
    """A new run folder in ``place/runs``."""
    return RunFolder.create(place / "runs", plan(place, **settings), graph(**settings))


def project(place: Path, **settings: dict[str, Any]) -> Path:
    """The toy graph as a project file."""
    path = place / "toy.studio"
    save_project(path, graph(**settings))
    return path


def run_here(run: RunFolder, control: Control | None = None) -> str:
    """Execute in this process."""
    sink = EventSink(run)
    return execute(run.plan(), run, sink.emit, control or Control(), registry())


def follow(watch: Watch, until: Callable[[Event], bool] | None = None):
    """Poll a watch to the end, or until an event; returns the events."""
    events: list[Event] = []
    deadline = time.monotonic() + WAIT_S
    while watch.status is None:
        fresh = watch.poll()
        events += fresh
        if until is not None and any(map(until, fresh)):
            break
        assert time.monotonic() < deadline, f"not within {WAIT_S:.0f} s: {events[-3:]}"
        time.sleep(0.02)
    return events


def start(run: RunFolder) -> Watch:
    """A host for a run, under watch."""
    return Watch.start(run)


def events_of(run: RunFolder) -> list[Event]:
    """Every event of a run."""
    return EventReader(run.events_path).read()


def names(events: list[Event]) -> list[str]:
    """Their names, without readings of memory."""
    return [e.name for e in events if e.name != "Memory"]


def finished(run: RunFolder) -> list[str]:
    """The status of each ``RunFinished``."""
    return [str(e.get("status")) for e in events_of(run) if e.name == "RunFinished"]


def calls(place: Path) -> list[str]:
    """The nodes that really ran, in order."""
    path = place / "calls.txt"
    return path.read_text(encoding="utf-8").split() if path.exists() else []


def children() -> set[int]:
    """Processes in this machine that run ``sleep 1000``: toys' helpers."""
    found = set()
    for process in psutil.process_iter(["cmdline", "status"]):
        command = process.info["cmdline"] or []
        if "1000" in " ".join(command) and "sleep" in " ".join(command):
            found.add(process.pid)
    return found
