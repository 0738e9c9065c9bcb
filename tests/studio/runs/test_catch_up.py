"""Earlier events applied together give the state that they give one by one."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.events import Event
from studio.runs.catch_up import Earlier, earlier_events
from studio.runs.follow import EventReader
from studio.runs.state import RunState
from studio.runs.story import Story

NODES = [{"id": n, "type": "train", "title": n.title()} for n in ("a", "b")]
READINGS = {"ram_process_gib": 1.5, "ram_system_gib": 6.0}


def one_by_one(path: Path) -> tuple[RunState, Story]:
    state, story = RunState(), Story()
    for event in EventReader(path, skip_progress=True).read():
        state.apply(event)
        story.add(event)
    return state, story


def together(path: Path, end: int | None = None) -> Earlier:
    reader = EventReader(path, skip_progress=True)
    return earlier_events(reader, path.stat().st_size if end is None else end)


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(lines), encoding="utf-8")
    return path


def training(steps: int, node: str = "a", start: int = 1) -> list[str]:
    """The events of optimizer steps: one a second, with two readings of memory."""
    lines = []
    for step in range(start, start + steps):
        values = {"loss": 2 / step, "learning_rate": 1e-4, "grad_norm": 0.5, "tokens_per_s": 9.0}
        more = {"steps": 10_000, "epoch": step / 100, "eta_s": 10_000 - step, **READINGS}
        when = 1.7e9 + step
        lines.append(Event("Metric", when, node, {"step": step, **values, **more}).to_line())
        lines.append(Event("Memory", when + 0.5, node, dict(READINGS)).to_line())
        progress = {"phase": "train", "done": step, "total": 10_000, "unit": "steps"}
        lines.append(Event("Progress", when, node, progress).to_line())
    return lines


def started(name: str = "Toy") -> str:
    return Event("RunStarted", 1.7e9, None, {"run": "r", "name": name, "nodes": NODES}).to_line()


def test_a_long_training(tmp_path: Path) -> None:
    notice = Event("Notice", 1.7e9 + 50, "a", {"sentence": "Careful.", "level": "warning"})
    evaluated = Event("Metric", 1.7e9 + 60, "a", {"step": 300, "eval_loss": 0.5})
    ended = Event("RunFinished", 1.7e9 + 900, None, {"status": "completed", "seconds": 900.0})
    lines = [
        *(started(), *training(300), notice.to_line(), evaluated.to_line()),
        *(*training(300, start=301), ended.to_line()),
    ]
    path = write(tmp_path / "events.jsonl", lines)
    state, story = one_by_one(path)
    found = together(path)
    assert repr(found.state) == repr(state)
    assert list(found.state.metrics["a"].step) == [float(n) for n in range(1, 601)]
    assert list(found.story) == list(story)
    assert [e.name for e in found.bounds] == ["RunStarted", "RunFinished"]
    kept = [e for e in found.story if e.name == "Metric"]
    assert 600 / 6 < len(kept) < 600 / 4  # one every five seconds, and the evaluation
    assert notice in found.story


def test_steps_are_shown_after_the_clock_was_set_back(tmp_path: Path) -> None:
    """Otherwise the log would show none for the hour until the earlier time is reached again."""
    lines = [started(), *training(20)]
    for line in training(20, start=21):
        data = json.loads(line)
        lines.append(json.dumps({**data, "time": data["time"] - 3600}) + "\n")
    path = write(tmp_path / "events.jsonl", lines)
    shown = [e.get("step") for e in together(path).story if e.name == "Metric"]
    assert shown == [e.get("step") for e in one_by_one(path)[1] if e.name == "Metric"]
    assert shown == [1, 6, 11, 16, 21, 26, 31, 36]


def test_regular_readings_are_applied_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One by one, a run of a million events would open three times as slowly."""
    applied: list[str] = []
    apply = RunState.apply

    def counted(state: RunState, event: Event) -> None:
        applied.append(event.name)
        apply(state, event)

    monkeypatch.setattr(RunState, "apply", counted)
    path = write(tmp_path / "events.jsonl", [started(), *training(300)])
    assert len(together(path).state.metrics["a"].step) == 300
    assert not {"Metric", "Memory"} & set(applied)


def _changed(change: Callable[[dict[str, Any]], None], at: Sequence[int]) -> list[str]:
    """40 steps; the change is made to the readings at these lines."""
    lines = training(40)
    for index in at:
        data = json.loads(lines[index])
        change(data)
        lines[index] = json.dumps(data) + "\n"
    return lines


CHANGES: dict[str, Callable[[dict[str, Any]], None]] = {
    "a loss that is not a number": lambda d: d.update(loss="nan"),
    "an infinite loss": lambda d: d.update(loss="inf"),
    "no loss": lambda d: d.pop("loss"),
    "no learning rate": lambda d: d.pop("learning_rate"),
    "a repeated step": lambda d: d.update(step=5),
    "a step as text": lambda d: d.update(step="five"),
    "no step": lambda d: d.pop("step"),
    "a null": lambda d: d.update(grad_norm=None),
    "a large number": lambda d: d.update(grad_norm=1e300),
    "the largest number": lambda d: d.update(grad_norm=-1e15),
    "a larger integer than 64 bits": lambda d: d.update(grad_norm=10**40),
    "a list": lambda d: d.update(tokens_per_s=[1]),
    "a time before 1970": lambda d: d.update(time=-1),
    "a time after all calendars": lambda d: d.update(time=1e30),
    "a time as text": lambda d: d.update(time="1.7e9"),
    "no time": lambda d: d.pop("time"),
    "another node": lambda d: d.update(node="b"),
    "no node": lambda d: d.pop("node"),
    "a node that is a number": lambda d: d.update(node=3),
    "an unknown field": lambda d: d.update(new={"x": 1}),
    "a reading that is not a number": lambda d: d.update(vram_device_gib="x"),
    "an evaluation as well": lambda d: d.update(eval_loss=0.5),
    "another event": lambda d: d.update(event="Soon"),
    "a new total": lambda d: d.update(steps=20_000),
    "no total": lambda d: d.update(steps=0),
}


PLACES = {"in the middle": [60], "the last": [-3], "all steps": range(0, 120, 3)}


@pytest.mark.parametrize("places", PLACES.values(), ids=PLACES.keys())
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_odd_events_among_regular_ones(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], places: Sequence[int]
) -> None:
    lines = _changed(change, places)
    path = write(tmp_path / "events.jsonl", [started(), *lines, *training(9, "b")])
    state, story = one_by_one(path)
    found = together(path)
    assert repr(found.state) == repr(state)
    assert list(found.story) == list(story)


@pytest.mark.parametrize(
    "line", ["{\n", '{"event": "Metric", \n', "\n", '{"event": "Metric", "a"}\n']
)
def test_a_torn_line_among_regular_ones(tmp_path: Path, line: str) -> None:
    lines = training(40)
    path = write(tmp_path / "events.jsonl", [started(), *lines[:60], line, *lines[60:]])
    assert repr(together(path).state) == repr(one_by_one(path)[0])
    assert len(together(path).state.metrics["a"].step) == 40


def test_a_resumed_run(tmp_path: Path) -> None:
    """Steps that come again replace the first ones, with an event that says so and without."""
    resumed = Event("TrainResumed", 1.7e9 + 90, "a", {"step": 20}).to_line()
    path = write(
        tmp_path / "events.jsonl",
        [
            *(started(), *training(40), started(), resumed, *training(40, start=21)),
            *training(30, start=50),
        ],
    )
    state, _ = one_by_one(path)
    found = together(path).state
    assert repr(found) == repr(state)
    assert list(found.metrics["a"].step) == [float(n) for n in range(1, 80)]


def test_what_is_written_meanwhile_follows(tmp_path: Path) -> None:
    lines = [started(), *training(40)]
    path = write(tmp_path / "events.jsonl", lines)
    reader = EventReader(path, skip_progress=True)
    end = sum(len(line) for line in lines[:61])
    found = earlier_events(reader, end)
    later = reader.read()
    assert len(found.state.metrics["a"].step) == 20
    assert len([e for e in later if e.name == "Metric"]) == 20
    for event in later:
        found.state.apply(event)
    assert repr(found.state.metrics) == repr(one_by_one(path)[0].metrics)


def test_reading_can_be_ended(tmp_path: Path) -> None:
    path = write(tmp_path / "events.jsonl", [started(), *training(3000)])
    asked: list[int] = []

    def report(position: int) -> bool:
        asked.append(position)
        return len(asked) < 3

    reader = EventReader(path, skip_progress=True)
    found = earlier_events(reader, path.stat().st_size, report)
    assert 0 < len(found.state.metrics["a"].step) < 3000
    assert asked == sorted(asked)


kinds = st.sampled_from(["Metric", "Memory", "Progress", "Phase", "TrainResumed", "StepStarted"])
values = st.one_of(st.none(), st.integers(-3, 9), st.floats(-2, 2), st.sampled_from(["nan", "x"]))
fields = st.dictionaries(
    st.sampled_from(["step", "steps", "loss", "eval_loss", "grad_norm", "eta_s", "phase", "done"])
    | st.sampled_from(["ram_process_gib", "vram_device_gib"]),
    values,
    max_size=5,
)
events = st.builds(
    lambda name, when, node, data: Event(name, 1.7e9 + when, node, data),
    kinds,
    st.integers(0, 50),
    st.sampled_from(["a", "b", None]),
    fields,
)


@settings(max_examples=200, deadline=None)
@given(st.lists(events, max_size=30))
def test_any_events(tmp_path_factory: pytest.TempPathFactory, some: list[Event]) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    write(path, [started(), *(e.to_line() for e in some)])
    assert repr(together(path).state) == repr(one_by_one(path)[0])
