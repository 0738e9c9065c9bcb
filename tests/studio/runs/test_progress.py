"""One progress and one time left of a run, from its events: stages, share and the text of each phase."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.events import Event
from studio.runs.progress import UNKNOWN, Progress, progress_of
from studio.runs.state import RunState

TRAIN_STAGES = ["prepare", "load", "train", "save", "verify"]
NODES = [
    {"id": "data", "type": "dataset", "title": "Dataset", "stages": ["prepare"]},
    {"id": "train", "type": "train", "title": "Train", "stages": TRAIN_STAGES},
    {"id": "merge", "type": "merge", "title": "Merge", "stages": ["merge"]},
]
KNOWN = {
    "data": [["read", 10.0]],
    "train": [["tokenize", 5.0], ["load", 15.0], ["train", 60.0], ["save", 4.0], ["verify", 6.0]],
    "merge": [["merge", 20.0]],
}
UNTIMED = dict.fromkeys(KNOWN)


def at(when: float, name: str, node: str | None = None, /, **data: object) -> Event:
    return Event(name, when, node, data)


def story(phases: dict[str, object]) -> list[Event]:
    """A run as it was forecast, with an evaluation between the steps."""
    events = [
        at(0, "RunStarted", nodes=NODES),
        at(0, "Forecast", phases=phases),
        at(0, "StepStarted", "data"),
        at(0, "Phase", "data", phase="read", title="Reading talk.jsonl"),
        at(10, "StepFinished", "data", seconds=10.0),
        at(10, "StepStarted", "train"),
        at(10, "Phase", "train", phase="tokenize", title="Tokenizing"),
        at(15, "Phase", "train", phase="load", title="Loading the model"),
        at(29, "Progress", "train", phase="load", done=271, total=272, eta_s=0.1),
        at(30, "Phase", "train", phase="train", title="Training"),
    ]
    for step in range(1, 7):
        left = 60 - 10 * step
        events.append(
            at(30 + 10 * step, "Metric", "train", step=step, steps=6, loss=1.0, eta_s=left)
        )
        if step == 3:
            events += [
                at(60, "Phase", "train", phase="evaluate", title="Computing the validation loss"),
                at(60, "Progress", "train", phase="evaluate", done=1, total=10, eta_s=900.0),
                at(60, "Phase", "train", phase="train", title="Training"),
            ]
    events += [
        at(90, "Phase", "train", phase="save", title="Writing the adapter"),
        at(94, "Phase", "train", phase="verify", title="Loading the saved adapter"),
        at(94, "Phase", "train", phase="load", title="Loading the model"),
        at(100, "StepFinished", "train", seconds=90.0),
        at(100, "StepStarted", "merge"),
        at(100, "Phase", "merge", phase="merge", title="Adding the adapter to the model"),
        at(119, "Progress", "merge", phase="merge", done=1, total=20),
    ]
    return events


def played(events: list[Event], now: float) -> Progress:
    """The progress at a time, after the events before it."""
    state = RunState()
    for event in events:
        if event.time <= now:
            state.apply(event)
    progress = progress_of(state, now)
    assert progress is not None
    return progress


def test_the_time_left_of_a_run_like_an_earlier_one_counts_down_with_the_clock() -> None:
    """In each phase it is that of the whole run, not that of the phase."""
    events = story(KNOWN)
    for second in (0, 3, 10, 12, 16, 25, 41, 61, 72, 83, 91, 101, 110, 119):
        shown = played(events, float(second))
        assert shown.left_s == pytest.approx(120 - second, abs=0.01), second
        assert not shown.at_least
        assert shown.fraction == pytest.approx(second / 120, abs=0.09), second


def test_the_share_never_goes_back_and_100_percent_is_for_the_end() -> None:
    for phases in (KNOWN, UNTIMED):
        events = story(phases)
        shares = [played(events, s / 2).fraction for s in range(239)]
        assert all(before <= after for before, after in pairwise(shares))
        assert shares[-1] > 0.9
        assert played(events, 500.0).percent != "100 %"


COUNTS = st.tuples(
    st.sampled_from(["load", "merge", "verify"]),
    st.sampled_from(["Phase", "Progress"]),
    st.integers(0, 8),
    st.sampled_from([None, 4, 8]),
)


@given(st.lists(COUNTS, max_size=30), st.booleans())
def test_the_share_never_goes_back_whatever_a_step_counts(
    reported: list[tuple[str, str, int, int | None]], timed: bool
) -> None:
    """Also where a phase counts twice, as the check of an export does: rows, then answers."""
    forecast = (
        {"merge": [["load", 3.0], ["merge", 9.0], ["verify", 5.0]]} if timed else {"merge": None}
    )
    events = [
        at(0, "RunStarted", nodes=NODES[2:]),
        at(0, "Forecast", phases=forecast),
        at(0, "StepStarted", "merge"),
    ]
    for when, (phase, name, done, total) in enumerate(reported):
        events.append(at(when, name, "merge", phase=phase, title="Working", done=done, total=total))
    shares = [played(events[: i + 1], events[i].time).fraction for i in range(2, len(events))]
    assert all(a <= b for a, b in pairwise(shares)), shares
    assert all(share <= 1 for share in shares)


PAUSE = st.tuples(
    st.sampled_from(["evaluate", "sample"]), st.integers(0, 8), st.sampled_from([None, 8])
)


@given(
    st.lists(COUNTS, max_size=6),
    st.lists(st.lists(PAUSE, max_size=3), min_size=1, max_size=6),
    st.lists(COUNTS, max_size=8),
    st.booleans(),
)
def test_the_share_never_goes_back_in_a_training(
    before: list[tuple[str, str, int, int | None]],
    steps: list[list[tuple[str, int, int | None]]],
    after: list[tuple[str, str, int, int | None]],
    timed: bool,
) -> None:
    """With any evaluations and samples between its steps, whatever they count, and any counts before and after it."""
    phases = [["load", 3.0], ["train", 60.0], ["save", 4.0], ["verify", 5.0]]
    events = [
        at(0, "RunStarted", nodes=NODES[1:2]),
        at(0, "Forecast", phases={"train": phases if timed else None}),
        at(0, "StepStarted", "train"),
    ]

    def add(name: str, **data: object) -> None:
        events.append(at(len(events), name, "train", **data))

    for phase, name, done, total in before:
        add(name, phase=phase, title="Working", done=done, total=total)
    add("Phase", phase="train", title="Training")
    for number, pauses in enumerate(steps, 1):
        add("Metric", step=number, steps=len(steps), loss=1.0, eta_s=9.0)
        for phase, done, total in pauses:
            add("Phase", phase=phase, title="Working")
            add("Progress", phase=phase, done=done, total=total)
        add("Phase", phase="train", title="Training")
    for phase, name, done, total in after:
        add(name, phase=phase, title="Working", done=done, total=total)
    shares = [played(events[: i + 1], events[i].time).fraction for i in range(2, len(events))]
    assert all(a <= b for a, b in pairwise(shares)), shares


def test_a_second_count_of_a_phase_moves_the_progress_as_well() -> None:
    events = [
        at(0, "RunStarted", nodes=NODES[2:]),
        at(0, "Forecast", phases={"merge": None}),
        at(0, "StepStarted", "merge"),
        at(0, "Phase", "merge", phase="verify", title="Comparing"),
        at(1, "Progress", "merge", phase="verify", done=2, total=5),
        at(2, "Phase", "merge", phase="verify", title="Generating answers"),
        at(3, "Progress", "merge", phase="verify", done=1, total=5),
        at(4, "Progress", "merge", phase="verify", done=5, total=5),
    ]
    shares = [played(events, when).fraction for when in range(5)]
    assert shares == sorted(set(shares))


def test_without_an_earlier_run_the_time_is_unknown_until_steps_are_measured() -> None:
    """The last tenth of a second of loading is not the time left of the run."""
    events = story(UNTIMED)
    for second in (0, 5, 12, 29):
        assert played(events, second).left == UNKNOWN
    assert played(events, 41).left == "over 49 s left"
    assert played(events, 61).left == "over 29 s left"
    assert played(events, 91).left == UNKNOWN


def test_a_phase_that_takes_longer_than_before_has_no_known_end() -> None:
    early = [e for e in story(KNOWN) if e.time <= 15]
    shown = played(early, 40.0)
    assert shown.at_least
    assert shown.left_s == 60 + 4 + 6 + 20
    assert shown.left == "over 1 min 30 s left"


def test_each_phase_in_words_with_its_place_among_the_stages() -> None:
    events = story(KNOWN)
    seen = {s: (played(events, s).where, played(events, s).trail) for s in (5, 29, 61, 95, 119)}
    rest = "save ▸ verify ▸ merge"
    assert seen == {
        5: ("Dataset: Reading talk.jsonl", f"prepare… ▸ load ▸ train ▸ {rest}"),
        29: (
            "Train: Loading the model 271/272",
            f"prepare ✓ ▸ load 271/272 ▸ train ▸ {rest}",
        ),
        61: ("Train 3/6", f"prepare ✓ ▸ load ✓ ▸ train 3/6 ▸ {rest}"),
        95: (
            "Train: Loading the model",
            "prepare ✓ ▸ load ✓ ▸ train ✓ ▸ save ✓ ▸ verify… ▸ merge",
        ),
        119: (
            "Merge: Adding the adapter to the model 1/20",
            "prepare ✓ ▸ load ✓ ▸ train ✓ ▸ save ✓ ▸ verify ✓ ▸ merge 1/20",
        ),
    }


def test_what_starts_is_named() -> None:
    state = RunState()
    first = progress_of(state, 0.0)
    assert first is not None
    assert first.sentence() == f"Starting the run process · 0 % · {UNKNOWN}"
    state.apply(at(0, "RunStarted", nodes=NODES))
    second = progress_of(state, 0.0)
    assert second is not None
    assert second.where == "Looking for results of earlier runs"
    state.apply(at(0, "Forecast", phases=UNTIMED))
    state.apply(at(0, "StepStarted", "data"))
    assert played([*story(UNTIMED)[:3]], 0).where == "Dataset: Starting the step"


def test_reused_steps_have_no_part_in_the_progress() -> None:
    only = {"merge": KNOWN["merge"]}
    events = [
        at(0, "RunStarted", nodes=NODES),
        at(0, "Forecast", phases=only),
        *(at(0, "StepFinished", n, seconds=0.0, cached=True) for n in ("data", "train")),
        at(0, "StepStarted", "merge"),
        at(0, "Phase", "merge", phase="merge"),
    ]
    shown = played(events, 5.0)
    assert (shown.stages, shown.left_s, shown.percent) == (("merge",), 15.0, "25 %")


def test_a_run_that_ended_has_no_progress() -> None:
    state = RunState()
    for event in [*story(KNOWN), at(120, "RunFinished", status="stopped", seconds=120.0)]:
        state.apply(event)
    assert progress_of(state, 121.0) is None
