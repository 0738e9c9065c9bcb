"""RunState: the state of a run for the window and the terminal, reduced from its events one by one.

Pure: it reads no file and no clock, so the same events give the same state in the window, the
terminal and a test. Unknown events are ignored. It must stay cheap: reopening a run applies all its
events.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from studio.events import Event
from studio.runs.insight import Insight, insight_from
from studio.runs.samples import SampleGrid
from studio.runs.series import Memory, Series, add_memory, number, shift_memory
from studio.shown_text import MOST_IN_QUOTES, line

MOST_INSIGHTS = 100
NODE_STATES = ("waiting", "running", "done", "skipped", "failed", "stopped")

_BREAKS = ("evaluate", "sample")
"Phases within a training, during which the remaining time is that of the training."
Forecast = dict[str, list[tuple[str, float | None]] | None]
"The nodes that run, each with the phases and expected seconds, or ``None`` if it never ran before."


@dataclass
class NodeState:
    """The state of one node. ``done`` of ``total`` ``unit`` counts the current phase; ``eta_s`` was
    reported at ``eta_at`` (Unix time). ``phases`` are the phases so far with their start; a training
    with its evaluations and samples is one. ``parts`` are the phases again, a phase that counts anew (rows
    compared, then answers generated) once for each count; ``counted`` is the completed share of the last
    part. ``stages`` are those of the run that it belongs to.
    ``message`` is the sentence of a failure or the last notice."""

    title: str = ""
    type: str = ""
    state: str = "waiting"
    phase: str = ""
    phase_title: str = ""
    phases: list[tuple[str, float]] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    counted: float = 0.0
    stages: tuple[str, ...] = ()
    done: float | None = None
    total: float | None = None
    unit: str = ""
    eta_s: float | None = None
    eta_at: float = 0.0
    started: float | None = None
    seconds: float | None = None
    last_loss: float | None = None
    message: str = ""


@dataclass(frozen=True)
class Notice:
    """A message to the user that does not end the run."""

    time: float
    node: str | None
    level: str
    sentence: str
    hint: str = ""


@dataclass
class RunState:
    """The state of a run. ``status`` is ``preparing`` before the first event, then ``running``, and
    at the end what ``RunFinished`` says, or ``interrupted``. Times are Unix seconds; ``started`` is
    shifted when a run is resumed, so that pauses do not count. ``forecast`` is unknown until the run has
    found out which results it can reuse; ``ended_in`` is the node at which an unfinished run ended."""

    status: str = "preparing"
    run: str = ""
    name: str = ""
    device: str = ""
    pid: int | None = None
    resumed: bool = False
    started: float | None = None
    finished: float | None = None
    last_time: float = 0.0
    nodes: dict[str, NodeState] = field(default_factory=dict)
    current: str | None = None
    metrics: dict[str, Series] = field(default_factory=dict)
    memory: Memory = field(default_factory=dict)
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    evaluations: dict[str, dict[str, Any]] = field(default_factory=dict)
    checks: list[dict[str, Any]] = field(default_factory=list)
    insights: list[Insight] = field(default_factory=list)
    insight_node: str | None = None
    checkpoints: list[dict[str, Any]] = field(default_factory=list)
    resumes: list[dict[str, Any]] = field(default_factory=list)
    failure: dict[str, Any] | None = None
    samples: dict[str, SampleGrid] = field(default_factory=dict)
    early_stops: dict[str, dict[str, Any]] = field(default_factory=dict)
    recoveries: list[dict[str, Any]] = field(default_factory=list)
    non_finite: dict[str, Any] | None = None
    forecast: Forecast | None = None
    ended_in: str | None = None

    def apply(self, event: Event) -> None:
        """Apply one event."""
        handler = _HANDLERS.get(event.name)
        if handler is not None:
            handler(self, event)
        if event.time > self.last_time:
            self.last_time = event.time

    def apply_newest(self, metric: Event) -> None:
        """What the newest ``Metric`` changes besides the series."""
        _newest_metric(self, metric)

    def interrupt(self, when: float) -> None:
        """The host died without ``RunFinished``; called by the reader, since there is no such
        event."""
        self._end("interrupted", when)

    def title_of(self, node_id: str) -> str:
        """A node's title, with its ID if another node of the run has the same title."""
        title = self.node(node_id).title
        same = [n for n in self.nodes.values() if n.title == title]
        return f"{title} ({node_id})" if len(same) > 1 else title

    def is_training(self) -> bool:
        """Whether a training has completed a step and is running further ones."""
        return (
            self.status == "running"
            and is_in_training(self, self.current)
            and bool(self.metrics.get(self.current or "", Series()).step)
        )

    def node(self, node_id: str | None) -> NodeState:
        """A node's state; one that ``RunStarted`` did not name is added."""
        found = self.nodes.get(node_id or "")
        if found is None:
            found = self.nodes[node_id or ""] = NodeState(title=node_id or "")
        return found

    def _end(self, status: str, when: float) -> None:
        if status != "completed" and self.current is not None:
            self.ended_in = self.current
        self.status, self.finished, self.current = status, when, None
        for node in self.nodes.values():
            if node.state == "running":
                node.state = "stopped"
                node.eta_s = None
                node.seconds = max(0.0, when - node.started) if node.started else None


def _run_started(state: RunState, event: Event) -> None:
    _skip_pause(state, event.time)
    state.status, state.finished, state.failure = "running", None, None
    state.forecast = state.ended_in = None
    state.non_finite = state.current = None
    state.resumed = bool(event.get("resumed"))
    state.run, state.name = str(event.get("run", "")), str(event.get("name", ""))
    state.device, state.pid = str(event.get("device") or ""), event.get("pid")
    state.nodes = {
        str(n["id"]): NodeState(
            title=line(str(n.get("title") or n["id"]), MOST_IN_QUOTES),
            type=str(n.get("type", "")),
            stages=_texts(n.get("stages")),
        )
        for n in event.get("nodes") or ()
    }


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(v for v in value if isinstance(v, str)) if isinstance(value, list) else ()


def _forecast(state: RunState, event: Event) -> None:
    """Damaged entries count as unknown."""
    given = event.get("phases")
    state.forecast = {
        str(node): [_phase_time(p) for p in phases] if isinstance(phases, list) else None
        for node, phases in (given if isinstance(given, dict) else {}).items()
    }


def _phase_time(given: Any) -> tuple[str, float | None]:
    if not isinstance(given, list) or len(given) != 2:
        return "", None
    seconds = number(given[1])
    return str(given[0]), seconds if 0 <= seconds < math.inf else None


def _skip_pause(state: RunState, now: float) -> None:
    if state.started is None:
        state.started = now
        return
    pause = max(0.0, now - state.last_time)
    state.started += pause
    shift_memory(state.memory, pause)
    for series in state.metrics.values():
        series.shift(pause)


def _step_started(state: RunState, event: Event) -> None:
    node = state.node(event.node)
    node.state, node.started, state.current = "running", event.time, event.node
    node.phase = node.phase_title = node.message = ""
    node.phases, node.parts, node.counted = [], [], 0.0
    node.title = line(str(event.get("title") or node.title), MOST_IN_QUOTES)


def _phase(state: RunState, event: Event) -> None:
    node = state.node(event.node)
    _enter(state, event, str(event.get("phase") or ""))
    node.phase_title = str(event.get("title") or "")
    node.done = node.total = None
    node.unit = ""
    _count_part(node, 0.0)
    if not _in_training(state, event.node, node.phase):
        node.eta_s = None


def _enter(state: RunState, event: Event, phase: str) -> None:
    """Another phase of a node, or the same one again."""
    node = state.node(event.node)
    node.phase = phase
    if phase in _BREAKS and node.phases and node.phases[-1][0] == "train":
        return
    if not node.phases or node.phases[-1][0] != phase:
        node.phases.append((phase, event.time))
        node.parts.append(phase)
        node.counted = 0.0


def _count_part(node: NodeState, share: float) -> None:
    """The completed share of the count of a phase. One that is smaller than before is another count, so that the
    progress does not go back."""
    if share < node.counted and node.parts and node.phase == node.parts[-1]:
        node.parts.append(node.phase)
    node.counted = share


def is_in_training(state: RunState, name: str | None) -> bool:
    """Whether a node is in its training, or in an evaluation or in samples between its steps."""
    node = state.nodes.get(name or "")
    return node is not None and bool(node.phases) and node.phases[-1][0] == "train"


def _in_training(state: RunState, name: str | None, phase: str) -> bool:
    """Whether a phase is a pause within a training that has reported its remaining time, or its
    continuation."""
    series = state.metrics.get(name or "")
    return phase in (*_BREAKS, "train") and series is not None and bool(series.step)


def _progress(state: RunState, event: Event) -> None:
    node = state.node(event.node)
    phase = str(event.get("phase") or node.phase)
    if phase != node.phase:
        _enter(state, event, phase)
        node.phase_title = ""
    node.done, node.total = event.get("done"), event.get("total")
    node.unit = str(event.get("unit") or "")
    done, total = number(node.done or 0.0), number(node.total or 0.0)
    _count_part(node, min(1.0, done / total) if done >= 0 and total > 0 else 0.0)
    if phase not in _BREAKS or not _in_training(state, event.node, phase):
        node.eta_s, node.eta_at = event.get("eta_s"), event.time


def _artifact(state: RunState, event: Event) -> None:
    """Add an artifact; a path that is saved again (a resumed run) keeps one entry."""
    path = event.get("path")
    state.artifacts = [a for a in state.artifacts if a.get("path") != path]
    state.artifacts.append(record_of(event))


def _notice(state: RunState, event: Event) -> None:
    sentence, hint = str(event.get("sentence", "")), str(event.get("hint") or "")
    level = str(event.get("level", "warning"))
    state.notices.append(Notice(event.time, event.node, level, sentence, hint))
    if event.node is not None and level == "warning":
        state.node(event.node).message = sentence


def _step_finished(state: RunState, event: Event) -> None:
    node = state.node(event.node)
    node.state = "skipped" if event.get("cached") else "done"
    node.seconds, node.eta_s = event.get("seconds"), None
    state.current = None


def _step_failed(state: RunState, event: Event) -> None:
    state.failure = record_of(event)
    state.ended_in = event.node or state.current
    state.current = None
    if event.node is None:
        return
    node = state.node(event.node)
    node.state, node.message, node.eta_s = "failed", str(event.get("sentence", "")), None
    node.seconds = max(0.0, event.time - node.started) if node.started else None


def _run_finished(state: RunState, event: Event) -> None:
    state._end(str(event.get("status", "failed")), event.time)


# ------------------------------------------------------------ what a training tells


def _metric(state: RunState, event: Event) -> None:
    _series(state, event.node or "").add(event.time, event.data)
    _memory(state, event)
    _newest_metric(state, event)


def _newest_metric(state: RunState, event: Event) -> None:
    node = state.node(event.node)
    if "loss" in event.data:
        if not node.phases:  # without the event that it began
            node.phases.append(("train", node.started or 0.0))
            node.parts.append("train")
        loss = number(event.data["loss"])
        node.last_loss = loss if math.isfinite(loss) else None
        if node.phase in ("", "train"):
            node.done, node.total = event.get("step"), event.get("steps") or node.total
            node.unit = "steps"
    if event.get("eta_s") is not None:
        node.eta_s, node.eta_at = event.get("eta_s"), event.time


def _series(state: RunState, node: str) -> Series:
    found = state.metrics.get(node)
    if found is None:
        found = state.metrics[node] = Series()
    return found


def _memory(state: RunState, event: Event) -> None:
    memories = [state.memory]
    if event.node is not None:
        memories.append(_series(state, event.node).memory)
    add_memory(memories, event.time, event.data)


def _train_resumed(state: RunState, event: Event) -> None:
    step = number(event.get("step"))
    state.resumes.append(record_of(event))
    state.metrics.setdefault(event.node or "", Series()).cut_after(step)
    state.checkpoints = _upto(state.checkpoints, event.node, step)
    state.recoveries = _upto(state.recoveries, event.node, step)
    state.samples.setdefault(event.node or "", SampleGrid()).cut_after(step)
    state.early_stops.pop(event.node or "", None)
    if state.insight_node == event.node:
        state.insights = [i for i in state.insights if i.step <= step]


def _upto(records: list[dict[str, Any]], node: str | None, step: float) -> list[dict[str, Any]]:
    """The records of other nodes, and those of this one up to a step."""
    return [r for r in records if r["node"] != node or number(r.get("step")) <= step]


def record_of(event: Event) -> dict[str, Any]:
    """An event's fields with its node and time."""
    return {"node": event.node, "time": event.time, **event.data}


def _checkpoint(state: RunState, event: Event) -> None:
    state.checkpoints.append(record_of(event))


def _sample(state: RunState, event: Event) -> None:
    state.samples.setdefault(event.node or "", SampleGrid()).add(event.data)


def _early_stopped(state: RunState, event: Event) -> None:
    state.early_stops[event.node or ""] = record_of(event)


def _memory_recovered(state: RunState, event: Event) -> None:
    state.recoveries.append(record_of(event))


def _non_finite(state: RunState, event: Event) -> None:
    state.non_finite = record_of(event)


def _evaluation(state: RunState, event: Event) -> None:
    state.evaluations.pop(event.node or "", None)  # the newest one is the last
    state.evaluations[event.node or ""] = record_of(event)


def _export_checked(state: RunState, event: Event) -> None:
    """Add a check; one of the same part of an export replaces it."""
    found = record_of(event)
    same = (found["node"], found.get("readable"), found.get("title"))
    state.checks = [
        c for c in state.checks if (c["node"], c.get("readable"), c.get("title")) != same
    ]
    state.checks.append(found)


def _insight(state: RunState, event: Event) -> None:
    """Keep the insights of the latest training. A resumed run may report a step again; beyond the
    limit every second insight is dropped."""
    try:
        found = insight_from(event.data)
    except (KeyError, TypeError, ValueError, OverflowError):  # a damaged or unknown event
        return
    same = state.insight_node == event.node
    kept = [i for i in state.insights if same and i.step < found.step]
    if len(kept) >= MOST_INSIGHTS:
        kept = kept[::2]
    state.insights, state.insight_node = [*kept, found], event.node


_HANDLERS: dict[str, Callable[[RunState, Event], None]] = {
    "RunStarted": _run_started,
    "Forecast": _forecast,
    "StepStarted": _step_started,
    "Phase": _phase,
    "Progress": _progress,
    "ArtifactSaved": _artifact,
    "Notice": _notice,
    "StepFinished": _step_finished,
    "StepFailed": _step_failed,
    "RunFinished": _run_finished,
    "Metric": _metric,
    "Memory": _memory,
    "TrainResumed": _train_resumed,
    "CheckpointSaved": _checkpoint,
    "EarlyStopped": _early_stopped,
    "Sample": _sample,
    "MemoryRecovered": _memory_recovered,
    "NonFinite": _non_finite,
    "Evaluation": _evaluation,
    "Insight": _insight,
    "ExportChecked": _export_checked,
}
