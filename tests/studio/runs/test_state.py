"""RunState and the reader: what a screen would show after these events."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from studio.events import EVENTS, Event
from studio.runs.folder import RunFolder
from studio.runs.follow import EventReader
from studio.runs.progress import progress_of
from studio.runs.series import MEMORY_FIELDS
from studio.runs.state import RunState
from tests.run_state import read_state
from tests.timing import cpu_limit

NODES = [{"id": n, "type": n, "title": n.title()} for n in ("data", "train", "export")]


def at(when: float, name: str, node: str | None = None, /, **data: object) -> Event:
    return Event(name, when, node, data)


def state_of(*events: Event) -> RunState:
    state = RunState()
    for event in events:
        state.apply(event)
    return state


def left_s(state: RunState, now: float) -> float | None:
    progress = progress_of(state, now)
    return progress.left_s if progress else None


def test_before_anything() -> None:
    state = RunState()
    assert (state.status, state.nodes, left_s(state, 0.0)) == ("preparing", {}, None)


def test_nodes_with_the_same_title_are_told_apart() -> None:
    nodes = [{"id": n, "type": "train", "title": t} for n, t in (("a", "Train"), ("b", "Train"))]
    state = state_of(at(1, "RunStarted", nodes=[*nodes, {"id": "c", "title": "Export"}]))
    assert [state.title_of(n) for n in "abc"] == ["Train (a)", "Train (b)", "Export"]


def test_insights_of_two_trainings_do_not_mix() -> None:
    """The insights of the latest training are shown, without those that a resumed run has undone."""

    def insight(when: float, node: str, step: int) -> Event:
        return at(when, "Insight", node, step=step, modules=[["q_proj", 1.0, 0.1, 2, 4]])

    first = [insight(1, "a", 2), insight(2, "a", 4), insight(3, "a", 6)]
    assert [i.step for i in state_of(*first, insight(4, "b", 5)).insights] == [5]
    assert [i.step for i in state_of(*first, at(4, "TrainResumed", "a", step=4)).insights] == [2, 4]
    assert len(state_of(*first, at(4, "TrainResumed", "b", step=4)).insights) == 3


def test_an_evaluation_in_a_training_keeps_the_time_that_is_left() -> None:
    """Two seconds for the evaluation are not two seconds for the run."""
    began = [
        at(10, "RunStarted", run="r", name="Toy", nodes=NODES),
        at(10, "StepStarted", "train"),
        at(11, "Phase", "train", phase="train"),
        at(12, "Metric", "train", step=1, steps=100, loss=2.0, eta_s=600.0),
        at(12, "Phase", "train", phase="evaluate"),
    ]
    measured = [*began, at(13, "Progress", "train", phase="evaluate", done=5, total=10, eta_s=2.0)]
    for events in (began, measured, [*measured, at(14, "Phase", "train", phase="train")]):
        assert left_s(state_of(*events), 14) == 598
    last = state_of(*measured, at(15, "Phase", "train", phase="verify"))
    assert left_s(last, 15) is None


def test_a_run_from_start_to_end() -> None:
    state = state_of(
        at(10, "RunStarted", run="r", name="Toy", nodes=NODES, device="CPU", pid=7),
        at(10, "StepStarted", "data", title="Data"),
        at(10, "StepFinished", "data", seconds=0.0, cached=True),
        at(11, "StepStarted", "train"),
        at(11, "Phase", "train", phase="train", title="Training"),
        at(
            12, "Metric", "train", step=1, steps=4, loss=2.0, learning_rate=0.1, ram_process_gib=1.5
        ),
        at(13, "Metric", "train", step=2, steps=4, loss=1.0, eta_s=6.0),
        at(13, "Metric", "train", step=2, eval_loss=1.2),
        at(13, "CheckpointSaved", "train", step=2, path="/c", reason="cadence"),
        at(13, "Notice", "train", level="warning", sentence="Slow.", hint="Wait."),
    )
    assert (state.status, state.name, state.device, state.pid) == ("running", "Toy", "CPU", 7)
    train, series = state.nodes["train"], state.metrics["train"]
    assert [n.state for n in state.nodes.values()] == ["skipped", "running", "waiting"]
    assert (train.phase, train.done, train.total, train.last_loss) == ("train", 2, 4, 1.0)
    assert [list(c) for c in (series.step, series.loss, series.time)] == [
        [1, 2],
        [2.0, 1.0],
        [12, 13],
    ]
    assert series.learning_rate[0] == 0.1
    assert math.isnan(series.learning_rate[1])
    assert (list(series.eval_step), list(series.eval_loss)) == ([2], [1.2])
    assert [list(c) for c in series.memory["ram_process_gib"]] == [[12], [1.5]]
    assert left_s(state, 15) == 4.0
    assert [n.sentence for n in state.notices] == ["Slow."]
    for event in (
        at(19, "ArtifactSaved", "train", kind="adapter", path="/a", cached=False),
        at(20, "StepFinished", "train", seconds=9.0, cached=False, outputs={}),
        at(20, "Evaluation", "export", measures={"exact": {"before": 0, "after": 1}}, rows=9),
        at(21, "RunFinished", status="completed", seconds=11.0),
    ):
        state.apply(event)
    assert (state.status, state.started, state.finished) == ("completed", 10, 21)
    assert (train.state, train.seconds) == ("done", 9.0)
    assert [a["kind"] for a in state.artifacts] == ["adapter"]
    assert state.evaluations
    assert state.evaluations["export"]["rows"] == 9
    assert left_s(state, 22) is None


def metrics(*steps: int) -> list[Event]:
    return [at(s, "Metric", "train", step=s, loss=1.0 / s, eval_loss=float(s)) for s in steps]


def test_a_resume_drops_what_was_not_kept() -> None:
    state = state_of(
        at(0, "RunStarted", nodes=NODES),
        at(0, "StepStarted", "train"),
        *metrics(1, 2, 3, 4, 5),
        at(5, "CheckpointSaved", "train", step=5, path="/torn", reason="cadence"),
    )
    state.interrupt(6)
    assert (state.status, state.nodes["train"].state, state.finished) == (
        "interrupted",
        "stopped",
        6,
    )
    for event in (
        at(105, "RunStarted", nodes=NODES, resumed=True),
        at(105, "TrainResumed", "train", step=3),
    ):
        state.apply(event)
    series = state.metrics["train"]
    assert (list(series.step), list(series.eval_step)) == ([1, 2, 3], [1, 2, 3])
    assert state.checkpoints == []
    assert [r["step"] for r in state.resumes] == [3]
    # The pause of 100 s does not count: times since the start stay what they were.
    assert [t - (state.started or 0) for t in series.time] == [1, 2, 3]
    assert (state.status, state.resumed, state.finished) == ("running", True, None)


def test_a_restart_without_a_word_replaces_points_too() -> None:
    state = state_of(at(0, "RunStarted", nodes=NODES), *metrics(1, 2, 3), *metrics(1, 2))
    assert list(state.metrics["train"].step) == [1, 2]
    assert list(state.metrics["train"].eval_loss) == [1.0, 2.0]


def test_the_same_step_again_replaces_its_point() -> None:
    state = state_of(at(0, "RunStarted", nodes=NODES), *metrics(1, 2), *metrics(2))
    assert list(state.metrics["train"].step) == [1, 2]
    assert list(state.metrics["train"].eval_step) == [1, 2]


def test_a_failure_names_its_node() -> None:
    state = state_of(
        at(0, "RunStarted", nodes=NODES),
        at(1, "StepStarted", "train"),
        at(4, "StepFailed", "train", sentence="No.", hint="Yes.", field="r", code="x"),
        at(4, "RunFinished", status="failed"),
    )
    assert (state.nodes["train"].state, state.nodes["train"].message) == ("failed", "No.")
    assert state.nodes["train"].seconds == 3
    assert state.failure is not None
    assert (state.failure["node"], state.failure["field"]) == ("train", "r")


def test_a_stop_stops_the_running_node() -> None:
    state = state_of(
        at(0, "RunStarted", nodes=NODES),
        at(1, "StepStarted", "train"),
        at(4, "RunFinished", status="stopped"),
    )
    assert [n.state for n in state.nodes.values()] == ["waiting", "stopped", "waiting"]


def test_strange_events_do_no_harm() -> None:
    state = state_of(
        at(0, "FromTheFuture", "train", a=1),
        at(1, "Metric", "train", step=3, loss="nan", ram_process_gib="inf"),
        at(1, "Metric", "train", step="x", loss=1.0),
        at(2, "Progress", None, done=1),
        at(3, "StepFailed", None, sentence="Early."),
        at(4, "RunFinished"),
    )
    assert state.status == "failed"
    (loss,) = state.metrics["train"].loss
    assert math.isnan(loss)


VALUES = st.one_of(
    st.none(), st.integers(0, 9), st.floats(0, 9), st.text(max_size=3), st.booleans()
)
FIELDS = (
    "step",
    "steps",
    "loss",
    "eval_loss",
    "status",
    "phase",
    "done",
    "total",
    "eta_s",
    "cached",
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(sorted(EVENTS)),
            st.sampled_from([None, "data", "train"]),
            st.dictionaries(st.sampled_from(FIELDS), VALUES),
        ),
        max_size=30,
    )
)
def test_any_order_of_events_keeps_lists_of_equal_length(events: list) -> None:
    state = RunState()
    for when, (name, node, data) in enumerate(events):
        if name in ("Metric", "TrainResumed") and not isinstance(data.get("step"), int):
            continue
        if isinstance(data.get("steps"), str):
            continue
        state.apply(Event(name, float(when), node, data))
    for series in state.metrics.values():
        assert len({len(getattr(series, n)) for n in ("step", "time", "loss", "grad_norm")}) == 1
        assert list(series.step) == sorted(series.step)


def _write_events(path: Path, count: int) -> None:
    random.seed(0)
    rows = [{"event": "RunStarted", "time": 0.0, "nodes": NODES, "run": "r", "name": "n"}]
    for step in range(count):
        row = {"event": "Metric", "time": step * 0.1, "node": "train", "step": step, "steps": count}
        row |= {"loss": random.random(), "learning_rate": 1e-4, "grad_norm": 0.5}
        rows.append(row | dict.fromkeys(MEMORY_FIELDS, 1.0))
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")


def test_100_000_events_are_read_and_applied_quickly(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    _write_events(run.events_path, 100_000)
    reader = EventReader(run.events_path)
    with cpu_limit(4.0):
        events = reader.read()
    state = RunState()
    with cpu_limit(2.0):
        for event in events:
            state.apply(event)
    assert len(state.metrics["train"].loss) == 100_000
    assert run.status() == "interrupted"
    assert read_state(run).status == "interrupted"


def test_reading_in_pieces_gives_the_same(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    _write_events(path, 5000)
    whole, pieces = EventReader(path).read(), EventReader(path)
    found: list[Event] = []
    while batch := pieces.read(limit=777):
        assert len(batch) <= 777
        found += batch
    assert found == whole


def test_a_line_longer_than_any_buffer(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    long = {"event": "Notice", "time": 1.0, "sentence": "x" * 1_000_000}
    path.write_text(json.dumps(long), encoding="utf-8")
    reader = EventReader(path)
    assert reader.read() == []
    with path.open("a", encoding="utf-8") as file:
        file.write("\n")
    assert len(reader.read()[0].get("sentence")) == 1_000_000


def test_events_survive_their_line() -> None:
    from studio.events import event, from_line

    sent = event("Metric", "train", step=1, loss=math.nan, list=(1, 2), path=Path("/x"))
    got = from_line(sent.to_line().encode())
    assert got is not None
    assert (got.name, got.node, got.get("loss"), got.get("list")) == (
        "Metric",
        "train",
        "nan",
        [1, 2],
    )
    assert from_line(b"[1, 2]\n") is None
    assert from_line(b'{"event": "X"}') is None


def test_outdated_progress_may_be_skipped_and_the_state_is_the_same(tmp_path: Path) -> None:
    """A long run read again: only the newest progress of each phase counts."""
    events = [at(0, "RunStarted", nodes=[{"id": n, "title": n} for n in ("data", "train")])]
    events += [at(1, "StepStarted", "data", title="data"), at(1, "Phase", "data", phase="read")]
    for done in range(5):
        events.append(
            at(2 + done, "Progress", "data", phase="read", done=done, total=9, unit="rows")
        )
    events += [at(8, "StepFinished", "data", seconds=7.0), at(8, "StepStarted", "train")]
    for step in range(1, 4):
        events.append(at(9 + step, "Metric", "train", step=step, steps=9, loss=1.0, eta_s=5.0))
        progress = {"done": step, "total": 9, "unit": "steps", "eta_s": 4.0}
        events.append(at(9 + step, "Progress", "train", phase="train", **progress))
    events.append(at(20, "Progress", "train", phase="save", done=1, total=2))
    path = tmp_path / "events.jsonl"
    path.write_text("".join(e.to_line() for e in events), encoding="utf-8")
    states, counts = [], []
    for skip in (False, True):
        state, reader = RunState(), EventReader(path, skip_progress=skip)
        read = reader.read()
        for event in read:
            state.apply(event)
        states.append(state)
        counts.append(len(read))
        assert reader.position == path.stat().st_size
    assert counts == [len(events), len(events) - 4 - 2]
    assert repr(states[0]) == repr(
        states[1]
    )  # a missing metric is NaN, which is not equal to itself


def test_a_name_that_is_no_unicode_survives_its_line(tmp_path: Path) -> None:
    """Half a surrogate pair, as Python reads the name of a file that is not UTF-8."""
    path = tmp_path / "events.jsonl"
    sent = [Event("Notice", 1.0, None, {"sentence": "caf\udce9.jsonl"})]
    path.write_bytes(b"".join(e.to_line().encode() for e in sent) + b"torn {\n")
    assert EventReader(path).read() == sent
