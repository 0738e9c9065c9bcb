"""Earlier events of a run, reduced to its state many at a time.

``RunState.apply`` takes one event; a run may have a million of them. Nearly all are readings with the
same fields, ``Metric`` and ``Memory``: neighbouring ones are appended to the series column by column.
Whatever is not as regular, damaged or repeated, is applied one by one; the state is the same either
way.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import orjson

from studio.events import LARGEST, LATEST, Event, from_line
from studio.runs.follow import EventReader, no_collection
from studio.runs.series import MEMORY_FIELDS, TRAIN_FIELDS, Series, column
from studio.runs.state import RunState
from studio.runs.story import Story

Reading = dict[str, Any]


@dataclass
class Earlier:
    """The ``state`` after the earlier events, those that a log shows, and those that started or
    finished an execution."""

    state: RunState = field(default_factory=RunState)
    story: Story = field(default_factory=Story)
    bounds: list[Event] = field(default_factory=list)


def earlier_events(
    reader: EventReader, end: int, report: Callable[[int], bool] = lambda position: True
) -> Earlier:
    """Read the events before byte ``end``. ``report`` is called with the position again and again;
    reading ends early if it returns ``False``."""
    found = Earlier()
    with no_collection():
        while report(reader.position) and (lines := reader.read_lines(end)) is not None:
            _apply_lines(found, lines)
    return found


def _apply_lines(found: Earlier, lines: list[bytes]) -> None:
    for of_readings, group in groupby(_parsed(lines), key=_kind):
        some = list(group)
        readings = [one for one in some if isinstance(one, dict)]
        if of_readings and _apply_readings(found.state, readings):
            for reading in readings:
                if reading["event"] == "Metric" and found.story.is_due(
                    reading["time"], reading.get("node")
                ):
                    found.story.append(_event(reading))
            continue
        for one in some:
            event = from_line(one if isinstance(one, bytes) else orjson.dumps(one))
            if event is None:
                continue
            found.state.apply(event)
            found.story.add(event)
            if event.name in ("RunStarted", "RunFinished"):
                found.bounds.append(event)


def _parsed(lines: list[bytes]) -> Iterator[Reading | bytes]:
    """The readings among the lines, parsed, and the other lines."""
    regular = [line.startswith(_READINGS) and b'"eval_loss"' not in line for line in lines]
    try:
        joined = b",".join(line for line, is_one in zip(lines, regular, strict=True) if is_one)
        readings = iter(orjson.loads(b"[" + joined + b"]"))
    except orjson.JSONDecodeError:
        yield from lines
        return
    for line, is_one in zip(lines, regular, strict=True):
        yield next(readings) if is_one else line


_READINGS = (b'{"event": "Metric", ', b'{"event": "Memory", ')


def _kind(one: Reading | bytes) -> Any:
    """The same for neighbours that may be applied together: readings of one node."""
    return (one.get("node"),) if isinstance(one, dict) else None


def _apply_readings(state: RunState, readings: list[Reading]) -> bool:
    """Apply readings of one node together; ``False``, and nothing changed, if they are not regular."""
    node = readings[0].get("node")
    metrics = [r for r in readings if r["event"] == "Metric"]
    columns = _columns(metrics)
    others = _columns([r for r in readings if r["event"] == "Memory"])
    if not isinstance(node, str) or columns is None or others is None:
        return False
    known = state.metrics.get(node)
    steps = columns.get("step", [])
    if metrics:
        before = list(known.step[-1:]) if known else []
        if not columns.keys() >= _TRAINED or not _rises(before + steps):
            return False
    series = known or state.metrics.setdefault(node, Series())
    for name in TRAIN_FIELDS if metrics else ():
        values = columns.get(name) or [math.nan] * len(metrics)
        getattr(series, name).extend(map(float, values))
    for name in MEMORY_FIELDS:
        given = [r for r in readings if name in r]
        if given:
            times, values = [r["time"] for r in given], [float(r[name]) for r in given]
            for memory in (state.memory, series.memory):
                kept = memory.setdefault(name, (column(), column()))
                kept[0].extend(times)
                kept[1].extend(values)
    if metrics:
        series.steps = int(next(filter(None, reversed(columns.get("steps", []))), series.steps))
        state.apply_newest(_event(metrics[-1]))
    state.last_time = max(state.last_time, *columns.get("time", ()), *others.get("time", ()))
    return True


_TRAINED = {"step", "time", "loss"}


def _columns(readings: list[Reading]) -> dict[str, list[float]] | None:
    """The fields of readings of one event as columns; ``None`` unless all have the same fields, each
    with a finite number within the bounds of events."""
    if not readings:
        return {}
    names = [name for name in readings[0] if name not in ("event", "node")]
    count = len(readings[0])
    try:
        columns = {name: [r[name] for r in readings] for name in names}
        if any(len(r) != count for r in readings):
            return None
        for name, values in columns.items():
            if not set(map(type, values)) <= {float, int}:
                return None
            low, high = (0, LATEST) if name == "time" else (-LARGEST, LARGEST)
            if not (low <= min(values) and max(values) < high) or -LARGEST in values:
                return None
    except KeyError:
        return None
    return columns


def _rises(values: list[float]) -> bool:
    return all(map(operator.lt, values, values[1:]))


def _event(reading: Mapping[str, Any]) -> Event:
    data = dict(reading)
    return Event(data.pop("event"), float(data.pop("time")), data.pop("node", None), data)
