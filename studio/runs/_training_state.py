"""How the events of a training change a ``RunState``: curves, checkpoints, samples, insights,
recoveries.

The counterpart of ``state``, which handles runs and steps. It is pure, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from studio.events import Event
from studio.runs.insight import insight_from
from studio.runs.samples import SampleGrid
from studio.runs.series import Series, add_memory, number

if TYPE_CHECKING:
    from studio.runs.state import RunState

MOST_INSIGHTS = 100


def _metric(state: RunState, event: Event) -> None:
    series = state.metrics.setdefault(event.node or "", Series())
    series.add(event.time, event.data)
    _memory(state, event)
    node = state.node(event.node)
    if "loss" in event.data:
        loss = number(event.data["loss"])
        node.last_loss = loss if math.isfinite(loss) else None
        if node.phase in ("", "train"):
            node.done, node.total = event.get("step"), event.get("steps") or node.total
            node.unit = "steps"
    if event.get("eta_s") is not None:
        node.eta_s, node.eta_at = event.get("eta_s"), event.time


def _memory(state: RunState, event: Event) -> None:
    add_memory(state.memory, event.time, event.data)
    if event.node is not None:
        series = state.metrics.setdefault(event.node, Series())
        add_memory(series.memory, event.time, event.data)


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
    state.evaluation = record_of(event)


def _insight(state: RunState, event: Event) -> None:
    """Keep the insights of the latest training. A resumed run may report a step again; beyond the
    limit every second insight is dropped."""
    try:
        found = insight_from(event.data)
    except (KeyError, TypeError, ValueError):  # a damaged or unknown event
        return
    same = state.insight_node == event.node
    kept = [i for i in state.insights if same and i.step < found.step]
    if len(kept) >= MOST_INSIGHTS:
        kept = kept[::2]
    state.insights, state.insight_node = [*kept, found], event.node


TRAINING_HANDLERS: dict[str, Callable[[RunState, Event], None]] = {
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
}
