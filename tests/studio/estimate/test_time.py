"""The time of a training: read from earlier runs, scaled to this one, with its source and range."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from pathlib import Path
from typing import Any

import pytest

from studio.estimate import timings
from studio.estimate.data_facts import DataFacts
from studio.estimate.graph import Estimate
from studio.estimate.lengths import measuring_tokens, padded_tokens
from studio.estimate.pace import Pace, Way, Work, day_of, duration
from studio.estimate.timings import read_timing, timing
from studio.estimate.words import duration as in_words
from studio.events import Event
from studio.node_settings.train import TrainSettings

PLAIN = Way((4, 4, False, "none", False, "cpu"), "lora", False, "padded")
NOW = time.mktime((2025, 11, 22, 12, 0, 0, 0, 0, -1))
DAY = 86_400.0
RUN = Pace(
    "run",
    NOW - DAY,
    "starter:smollm2-135m",
    PLAIN,
    5e8,
    100.0,
    500.0,
    10**8,
    data=("a.jsonl",),
    evaluating=1.0,
    sampling_s=0.1,
    saving=0.02,
    around_s=20.0,
)
WORK = Work("starter:smollm2-135m", PLAIN, 5e8, 60_000.0, 500.0, 10**8, data=("a.jsonl",))


def metric(at: float, step: int, tokens: int, seconds: float) -> Event:
    return Event(
        "Metric",
        at,
        "train",
        {
            "step": step,
            "loss": 1.0,
            "tokens": tokens,
            "tokens_per_s": tokens / seconds,
        },
    )


def a_run() -> list[Event]:
    """Ten seconds of loading, four steps of two seconds, an evaluation, a sample, a checkpoint, an end."""
    return [
        Event("RunStarted", 0.0, None, {}),
        Event("StepStarted", 0.0, "train", {}),
        Event("Phase", 1.0, "train", {"phase": "load"}),
        Event("Phase", 9.0, "train", {"phase": "train"}),
        metric(14.0, 1, 100, 4.0),
        metric(16.0, 2, 100, 2.0),
        Event("Phase", 16.0, "train", {"phase": "evaluate"}),
        Event("Metric", 19.0, "train", {"step": 2, "eval_loss": 1.0, "eval_rows": 6}),
        Event("Phase", 19.0, "train", {"phase": "sample"}),
        Event("Sample", 23.0, "train", {"tokens": 40}),
        Event("Phase", 23.0, "train", {"phase": "train"}),
        Event("CheckpointSaved", 24.0, "train", {}),
        metric(26.0, 3, 100, 2.0),
        metric(28.0, 4, 200, 2.0),
        Event("Phase", 28.0, "train", {"phase": "verify"}),
        Event("StepFinished", 33.0, "train", {}),
        Event("StepStarted", 33.0, "merge", {}),
    ]


def test_a_run_is_taken_apart(tmp_path: Path) -> None:
    """Every second belongs to one part; the first step, which warms up, is not the pace."""
    events = a_run()
    (tmp_path / "events.jsonl").write_text(
        "".join(e.to_line() for e in events) + '{"event": "Met', encoding="utf-8"
    )
    found = read_timing(tmp_path / "events.jsonl", "train")
    assert found is not None
    assert found.steps == [(100, 4.0), (100, 2.0), (100, 2.0), (200, 2.0)]
    assert found.tokens_per_s == pytest.approx(400 / 6)
    assert (found.before_s, found.after_s) == pytest.approx((10.0, 5.0))
    assert (found.evaluated, found.evaluating_s) == (6, pytest.approx(3.0))
    assert (found.sampled, found.sampling_s) == (40, pytest.approx(4.0))
    assert found.between_s == pytest.approx(1.0)
    parts = found.before_s + found.after_s + found.evaluating_s + found.sampling_s
    assert parts + found.between_s + sum(s for _, s in found.steps) == pytest.approx(33.0)


def test_a_pause_and_a_machine_asleep_are_nobodys_work() -> None:
    night = 30_000.0
    resumed = [
        *a_run()[:5],
        Event("RunStarted", night, None, {}),
        Event("StepStarted", night, "train", {}),
        *(metric(night + 10 + 2 * n, 2 + n, 100, 2.0) for n in range(4)),
        metric(2 * night, 6, 100, night - 20),
        metric(2 * night + 2, 7, 100, 2.0),
    ]
    found = timing(resumed, "train")
    assert found is not None
    assert found.tokens_per_s == pytest.approx(50.0)
    assert found.before_s < 20
    assert timing(a_run(), "other") is None


def test_the_same_training_again_takes_as_long() -> None:
    estimate = duration(WORK, [RUN], NOW)
    assert estimate is not None
    assert estimate.parts["training"] == pytest.approx(600)
    assert estimate.seconds == pytest.approx(600 * 1.02 + 20)
    assert estimate.source == "from your run of 21 Nov"
    assert estimate.low < estimate.seconds < estimate.high <= 1.5 * estimate.seconds


@pytest.mark.parametrize(
    ("changes", "times"),
    [({"operations": 1e9}, 2.0), ({"tokens": 30_000.0}, 0.5), ({"operations": 6.5e8}, 1.3)],
)
def test_other_settings_are_scaled_by_their_operations(
    changes: dict[str, Any], times: float
) -> None:
    checkpointing = dataclasses.replace(PLAIN, checkpointing=True)
    estimate = duration(dataclasses.replace(WORK, way=checkpointing, **changes), [RUN], NOW)
    assert estimate is not None
    assert estimate.parts["training"] == pytest.approx(600 * times)
    assert estimate.source == "from your run of 21 Nov, with other settings"
    same = duration(WORK, [RUN], NOW)
    assert same is not None
    assert estimate.high / estimate.seconds > same.high / same.seconds


def test_another_model_goes_by_the_operations_a_second_of_this_machine() -> None:
    other = dataclasses.replace(WORK, model="./llama-1b", operations=4e9, weights=10**9)
    estimate = duration(other, [RUN], NOW)
    assert estimate is not None
    assert estimate.parts["training"] == pytest.approx(60_000 * 4e9 / (100 * 5e8))
    assert estimate.source == "from your run of smollm2-135m of 21 Nov"
    assert estimate.high / estimate.seconds > 2
    quantized = dataclasses.replace(
        other, way=dataclasses.replace(PLAIN, kernel=(2, 4, True, "nf4", False, "cpu"))
    )
    assert duration(quantized, [RUN], NOW) is None  # another precision of another model
    assert duration(dataclasses.replace(other, weights=10**11), [RUN], NOW) is None
    assert duration(other, [], NOW) is None


def test_the_nearest_and_then_the_newest_run_tells() -> None:
    older = dataclasses.replace(RUN, when=RUN.when - 30 * DAY, tokens_per_s=50.0)
    nf4 = dataclasses.replace(
        RUN, when=NOW, way=dataclasses.replace(PLAIN, kernel=(2, 4, True, "nf4", False, "cpu"))
    )
    probe = dataclasses.replace(RUN, origin="probe", when=NOW, around_s=None)
    estimate = duration(WORK, [older, nf4, probe, RUN], NOW)
    assert estimate is not None
    assert estimate.source == "from your run of 21 Nov"
    assert estimate.high / estimate.seconds == pytest.approx(2.0)  # the other run was half as fast
    only = duration(WORK, [probe], NOW)
    assert only is not None
    assert only.source == "from a probe of today, 12:00"
    assert any("Loading" in sentence for sentence in only.missing)
    both = duration(WORK, [probe, dataclasses.replace(nf4, around_s=33.0)], NOW)
    assert both is not None
    assert (both.source, both.parts["loading"]) == ("from a probe of today, 12:00", 33.0)
    assert both.missing == ()


def test_on_a_gpu_another_batch_size_is_less_sure() -> None:
    card = dataclasses.replace(PLAIN, kernel=(2, 4, True, "none", False, "cuda"))
    run = dataclasses.replace(RUN, way=card)
    same = duration(dataclasses.replace(WORK, way=card), [run], NOW)
    larger = duration(dataclasses.replace(WORK, way=card, batch_tokens=2000.0), [run], NOW)
    assert same is not None
    assert larger is not None
    assert larger.high / larger.seconds > 2 * same.high / same.seconds


def test_the_nearest_precision_tells() -> None:
    """Of the same model: float32 in 4 bits is nearer to float32 than to bfloat16."""
    half = dataclasses.replace(PLAIN, kernel=(2, 4, True, "none", False, "cpu"))
    bf16 = dataclasses.replace(RUN, when=NOW, way=half, tokens_per_s=400.0)
    nf4 = dataclasses.replace(PLAIN, kernel=(4, 4, False, "nf4", False, "cpu"))
    estimate = duration(dataclasses.replace(WORK, way=nf4), [bf16, RUN], NOW)
    assert estimate is not None
    assert estimate.source == "from your run of 21 Nov, with other settings"
    assert estimate.high / estimate.seconds > 3


def test_evaluations_and_samples_are_in_it() -> None:
    measured = dataclasses.replace(WORK, evaluated=3000.0, sampled=640.0)
    estimate = duration(measured, [RUN], NOW)
    assert estimate is not None
    assert estimate.parts["evaluations"] == pytest.approx(10)
    assert estimate.parts["samples"] == pytest.approx(64)
    silent = duration(measured, [dataclasses.replace(RUN, sampling_s=None)], NOW)
    assert silent is not None
    assert any("samples" in sentence for sentence in silent.missing)


def test_tokens_of_the_same_data_are_known_from_the_run() -> None:
    counted = dataclasses.replace(RUN, counted=1.4)
    same = duration(WORK, [counted], NOW)
    other = duration(dataclasses.replace(WORK, data=("b.jsonl",)), [counted], NOW)
    assert same is not None
    assert other is not None
    assert same.parts["training"] == pytest.approx(1.4 * other.parts["training"])


def test_padding_takes_time() -> None:
    """A run with padded rows tells the time of one without padding, which computes fewer tokens."""
    padded = dataclasses.replace(RUN, padding=1.6)
    with_padding = duration(dataclasses.replace(WORK, padding=1.6), [padded], NOW)
    without = duration(WORK, [padded], NOW)
    assert with_padding is not None
    assert without is not None
    assert with_padding.parts["training"] == pytest.approx(1.6 * without.parts["training"])
    same = duration(WORK, [RUN], NOW)
    assert same is not None
    assert with_padding.parts["training"] == pytest.approx(same.parts["training"])


def test_the_tokens_of_padded_batches_are_counted_from_the_lengths() -> None:
    data = DataFacts(1000, 55.0, 100, 0.2, lengths=(10, 100) * 500)
    train = TrainSettings(batch_size=1, max_length=256, batching="padded")
    assert padded_tokens(train, data, padded=True) == 1.0
    four = train.model_copy(update={"batch_size": 4})
    assert padded_tokens(four, data, padded=False) == 1.0
    mean = (15 / 16 * 100 + 1 / 16 * 10) / 55  # all four of a batch are short in one of 16
    assert padded_tokens(four, data, padded=True) == pytest.approx(mean, rel=0.02)
    grouped = four.model_copy(update={"group_by_length": True})
    assert padded_tokens(grouped, data, padded=True) == pytest.approx(1.0, rel=0.01)
    short = four.model_copy(update={"max_length": 10})
    assert padded_tokens(short, data, padded=True) == 1.0
    unknown = dataclasses.replace(data, lengths=())
    assert padded_tokens(four, unknown, padded=True) == 1.0


def test_evaluations_are_counted_as_a_run_makes_them() -> None:
    train = TrainSettings(max_steps=60, batch_size=8, eval_steps=20, max_length=256)
    data = DataFacts(1000, 90.0, 250, 0.2, validation=20)
    assert measuring_tokens(train, data) == (3 * 20 * 90.0, 0.0)
    asked = train.model_copy(update={"sample_prompts": "Why?\n\nHow?", "sample_max_tokens": 10})
    assert measuring_tokens(asked, data)[1] == 2 * 4 * 10
    assert measuring_tokens(train, dataclasses.replace(data, validation=0)) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (40.0, "about 40 s (32 to 50 s), from your run of 21 Nov"),
        (110.0, "about 1 min 50 s (1 min 30 s to 2 min 20 s), from your run of 21 Nov"),
        (720.0, "about 12 min (9 min 40 s to 15 min), from your run of 21 Nov"),
        (900.0, "about 15 min (12 to 19 min), from your run of 21 Nov"),
        (10_000.0, "about 2 h 50 min (2 h 10 min to 3 h 30 min), from your run of 21 Nov"),
        (400_000.0, "about 4 days 18 h (3 days 18 h to 5 days 18 h), from your run of 21 Nov"),
    ],
)
def test_it_is_said_in_plain_words(seconds: float, words: str) -> None:
    found = Estimate(
        "train",
        seconds=seconds,
        seconds_low=seconds / 1.25,
        seconds_high=seconds * 1.25,
        seconds_from="from your run of 21 Nov",
    )
    assert in_words(found) == words


def test_what_is_not_known_says_what_to_do() -> None:
    assert in_words(Estimate("train")) == "unknown (run a probe or train once)"


def test_days_are_told_as_people_do() -> None:
    assert day_of(NOW, NOW) == "of today, 12:00"
    assert day_of(NOW - DAY, NOW) == "of 21 Nov"
    assert day_of(NOW - 366 * DAY, NOW) == "of 21 Nov 2024"


def test_only_the_beginning_of_a_huge_run_is_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step reported without its tokens never counts, and another node's events are not parsed."""
    parsed: list[bytes] = []
    real = timings.from_line
    monkeypatch.setattr(timings, "MOST_EVENTS", 50)
    monkeypatch.setattr(timings, "from_line", lambda line: parsed.append(line) or real(line))
    own = Event("Metric", 2.0, "train", {"step": 1, "loss": 1.0}).to_line()
    other = Event("Metric", 2.0, "other", {"step": 1, "loss": 1.0}).to_line()
    (tmp_path / "events.jsonl").write_text(other * 1000 + own * 1000, encoding="utf-8")
    assert timings.read_timing(tmp_path / "events.jsonl", "train") is None
    assert len(parsed) <= 51
    assert not any(b'"other"' in line for line in parsed)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tokens_per_s", math.nan),
        ("tokens_per_s", math.inf),
        ("tokens_per_s", "fast"),
        ("tokens_per_s", -300.0),
        ("tokens_per_s", 1e-310),
        ("tokens", math.inf),
        ("tokens", 1e-320),
        ("eval_rows", [4]),
        ("eval_rows", math.nan),
    ],
)
def test_a_damaged_number_does_not_hide_the_other_steps(
    tmp_path: Path, field: str, value: object
) -> None:
    damaged = metric(12.0, 5, 500, 1.0)
    damaged = dataclasses.replace(damaged, data={**damaged.data, "eval_loss": 2.0, field: value})
    events = (*a_run(), damaged, metric(15.0, 6, 500, 1.0))
    path = tmp_path / "events.jsonl"
    path.write_text("".join(event.to_line() for event in events), encoding="utf-8")
    found = read_timing(path, "train")
    assert found is not None
    sound = 6 if field == "eval_rows" else 5
    assert len(found.steps) == sound
    numbers = (found.tokens_per_s, found.tokens_per_step, found.spread, found.evaluated)
    assert all(map(math.isfinite, numbers))


@pytest.mark.parametrize(("field", "value"), [("tokens_per_s", 1e-310), ("tokens", 1e-320)])
def test_a_training_of_one_damaged_step_has_no_speed(
    tmp_path: Path, field: str, value: object
) -> None:
    """Otherwise every estimate of the computer would end with a division by zero."""
    damaged = metric(12.0, 1, 500, 1.0)
    damaged = dataclasses.replace(damaged, data={**damaged.data, field: value})
    (tmp_path / "events.jsonl").write_text(damaged.to_line(), encoding="utf-8")
    assert read_timing(tmp_path / "events.jsonl", "train") is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_named_pipe_as_events_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "events.jsonl")
    with pytest.raises(OSError, match="not a regular file"):
        read_timing(tmp_path / "events.jsonl", "train")
