"""What came of a run in words: what was learned and made, what to do next, or where it ended."""

from __future__ import annotations

import pytest

from studio.events import Event
from studio.runs.outcome import artifact_words, ended_words, outcome_of
from studio.runs.state import RunState
from tests.studio.runs.test_progress import KNOWN, at, story

NODES = [
    {"id": "data", "type": "dataset", "title": "Dataset", "stages": ["prepare"]},
    {"id": "train", "type": "train", "title": "Train", "stages": ["load", "train", "save"]},
    {"id": "merge", "type": "merge", "title": "Merge", "stages": ["merge"]},
    {"id": "check", "type": "evaluate", "title": "Evaluate", "stages": ["evaluate"]},
]


def state_of(*events: Event) -> RunState:
    state = RunState()
    for event in events:
        state.apply(event)
    return state


def saved(node: str, kind: str, **more: object) -> Event:
    return at(50, "ArtifactSaved", node, kind=kind, path=f"/runs/{kind}", **more)


def metric(step: int, **values: object) -> Event:
    return at(10 + step, "Metric", "train", step=step, steps=40, **values)


TRAINED = [
    at(0, "RunStarted", name="Starter", nodes=NODES),
    saved("data", "dataset"),
    at(2, "StepStarted", "train"),
    at(3, "Phase", "train", phase="train", title="Training"),
    metric(1, loss=3.1, learning_rate=1e-4),
    metric(20, loss=1.5),
    metric(20, eval_loss=1.75),
    metric(30, loss=1.25),
    metric(30, eval_loss=1.5),
    metric(40, loss=1.0),
    metric(40, eval_loss=1.625),
    saved("train", "adapter"),
    saved("merge", "merged_model"),
]
ENDED = at(187, "RunFinished", status="completed", seconds=187.0)


def test_done_says_what_was_learned_and_made_and_what_to_do_next() -> None:
    measures = {"exact_match": {"before": 0.0, "after": 0.86}}
    asked = at(60, "Evaluation", "check", rows=9, measures=measures, examples=[{"prompt": "a"}])
    found = outcome_of(state_of(*TRAINED, asked, ENDED))
    assert found.headline == "Starter finished in 3 min 07 s."
    assert found.learned == (
        "Loss 3.1 → 1, validation loss 1.75 → 1.625, best 1.5 at step 30.",
        "Exact match: 0 % → 86 %.",
    )
    assert [a["kind"] for a in found.made] == ["merged_model", "adapter"]
    assert [a["kind"] for a in found.prepared] == ["dataset"]
    assert found.sentence().endswith(
        "Made: merged model, adapter. Next: compare the answers in Results, or add an Export node "
        "to share the model."
    )


def test_an_exported_model_is_told_from_the_one_it_was_made_of() -> None:
    exported = at(
        70, "ArtifactSaved", "export", kind="merged_model", path="/r/export", exported=True
    )
    file = at(71, "ArtifactSaved", "export", kind="gguf", path="/r/a.gguf", exported=True)
    found = outcome_of(state_of(*TRAINED[:-1], exported, file, TRAINED[-1], ENDED))
    assert [artifact_words(a) for a in found.made] == [
        "Merged model",
        "Exported merged model",
        "Exported GGUF model",
        "Adapter",
    ]
    made = "Made: merged model, exported merged model, exported GGUF model, adapter."
    assert made in found.sentence()


def test_the_next_step_names_only_what_is_missing() -> None:
    only = [n for n in NODES if n["id"] in ("data", "train")]
    trained = [at(0, "RunStarted", name="A", nodes=only), *TRAINED[1:-1], ENDED]
    assert outcome_of(state_of(*trained)).next == (
        "Next: add an Evaluate node to compare answers, or add Merge and Export nodes to share the "
        "model."
    )
    untrained = [at(0, "RunStarted", name="A", nodes=only[:1]), saved("data", "dataset"), ENDED]
    found = outcome_of(state_of(*untrained))
    assert (found.learned, found.made, found.next) == ((), (), "")


@pytest.mark.parametrize(
    ("second", "where"),
    [
        (0, "in Dataset while reading talk.jsonl"),
        (12, "in Train while tokenizing"),
        (29, "in Train while loading the model"),
        (35, "in Train before step 1"),
        (75, "in Train after step 4 of 6"),
        (92, "in Train while writing the adapter"),
        (110, "in Merge while adding the adapter to the model"),
    ],
)
def test_an_unfinished_run_names_phase_and_step(second: int, where: str) -> None:
    events = [e for e in story(KNOWN) if e.time <= second]
    node = next(e.node for e in reversed(events) if e.node)
    end = at(second, "RunFinished", status="stopped", seconds=1.0)
    assert ended_words(state_of(*events, end)) == f"Stopped {where}."
    broken = at(second, "StepFailed", node, sentence="it broke.")
    failed = at(second, "RunFinished", status="failed", seconds=1.0)
    assert ended_words(state_of(*events, broken, failed)) == f"Failed {where}."
    killed = state_of(*events)
    killed.interrupt(float(second))
    assert outcome_of(killed).headline == f"Interrupted {where}."


def test_a_stop_in_a_validation_names_the_step_too() -> None:
    events = [e for e in story(KNOWN) if e.time <= 60][:-1]
    end = at(61, "RunFinished", status="stopped", seconds=1.0)
    assert ended_words(state_of(*events, end)) == (
        "Stopped in Train after step 3 of 6 while computing the validation loss."
    )


def test_a_run_that_ends_before_its_steps() -> None:
    state = state_of(
        at(0, "RunStarted", nodes=NODES), at(1, "RunFinished", status="stopped", seconds=1.0)
    )
    assert ended_words(state) == "Stopped before the first step of the run."
    between = [e for e in story(KNOWN) if e.time <= 10][:5]
    end = at(11, "RunFinished", status="stopped", seconds=1.0)
    assert ended_words(state_of(*between, end)) == "Stopped after Dataset."
