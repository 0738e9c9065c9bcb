"""The time of a training, from the speed of earlier trainings on this machine.

An earlier training of the same model gives its tokens a second, scaled by the operations per token
where method, length or checkpointing differ; one of another model gives the operations a second
that this machine reached. The most similar one is used; the less similar it is, the wider is the
range. The time between and around the steps (evaluations, samples, saving, loading) is taken from
it, too. It reads no file, and without an earlier training or a probe the time is unknown.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from studio.runs.cadence import FORWARD_SHARE

_SAME_SIZE = 1.5
_NEAR, _OTHER_SETTINGS, _PROBED, _OTHER_MODEL, _OTHER_PRECISION = 1.25, 1.5, 1.5, 2.5, 3.5
"""The factor by which a training may take longer or shorter than estimated: after a run like it,
after one of the same model, after a probe of it, after a training of another model or method, or in
another precision (docs/estimate.md)."""
_OTHER_DATA = 1.15
_WIDEST = 4.0
_TOO_FAR = 100.0
"""Largest ratio of model sizes at which an earlier training is used: small models wait for Python,
not for the device."""


@dataclass(frozen=True)
class Way:
    """How a training computes. ``kernel`` names what determines the operations per second;
    ``method`` and ``checkpointing`` mostly determine their number."""

    kernel: tuple[object, ...]
    method: str
    checkpointing: bool
    batching: str


@dataclass(frozen=True)
class Pace:
    """The measured speed of a training on this machine.

    ``operations`` are those per token, ``batch_tokens`` the tokens of a micro-batch, ``counted`` the
    tokens of its rows by those that an estimate assumes for them, ``padding`` the tokens that its batches
    held for each of a row, ``spread`` how far the middle half of its steps lie apart (a share). The rest is
    what was seen besides, ``None`` where it did not occur:
    ``evaluating`` is the time of evaluations by that of as many operations in training,
    ``sampling_s`` seconds for each token that was written, ``saving`` the seconds between steps by those
    of the steps, ``around_s`` the seconds before the first and after the last step.
    """

    origin: Literal["run", "probe"]
    when: float
    model: str
    way: Way
    operations: float
    tokens_per_s: float
    batch_tokens: float
    weights: int
    data: tuple[str, ...] = ()
    counted: float = 1.0
    padding: float = 1.0
    spread: float = 0.0
    evaluating: float | None = None
    sampling_s: float | None = None
    saving: float = 0.0
    around_s: float | None = None


@dataclass(frozen=True)
class Work:
    """The work of a training. ``evaluated`` are tokens of all evaluations, ``sampled`` those that
    samples write at most, ``padding`` the tokens that a batch holds for each of a row."""

    model: str
    way: Way
    operations: float
    tokens: float
    batch_tokens: float
    weights: int
    data: tuple[str, ...] = ()
    evaluated: float = 0.0
    sampled: float = 0.0
    padding: float = 1.0


@dataclass(frozen=True)
class Duration:
    """Seconds of a training, their likely range, their source in words, and the seconds by part."""

    seconds: float
    low: float
    high: float
    origin: Literal["run", "probe"]
    source: str
    parts: dict[str, float]
    missing: tuple[str, ...] = ()


def duration(work: Work, paces: Sequence[Pace], now: float | None = None) -> Duration | None:
    """How long ``work`` takes; ``None`` without a comparable earlier training."""
    usable = sorted((p for p in paces if _tells(work, p)), key=lambda p: _distance(work, p))
    if not usable:
        return None
    pace = _completed(usable)
    per_token = work.operations / pace.operations / pace.tokens_per_s
    same_data = bool(work.data) and work.data == pace.data
    tokens = pace.counted if same_data else 1.0
    training = tokens * work.tokens * per_token * work.padding / pace.padding
    again = pace.evaluating if pace.evaluating is not None else 1.0
    parts = {
        "training": training,
        "evaluations": tokens * work.evaluated * FORWARD_SHARE * per_token * again,
        "samples": work.sampled * (pace.sampling_s or 0.0) * work.weights / max(1, pace.weights),
        "saving": pace.saving * training,
        "loading": pace.around_s or 0.0,
    }
    seconds = sum(parts.values())
    times = _times(work, pace, same_data, usable)
    return Duration(
        seconds,
        seconds / times,
        seconds * times,
        pace.origin,
        _source(work, pace, now),
        parts,
        _missing(work, pace),
    )


def _completed(paces: Sequence[Pace]) -> Pace:
    """The nearest one, with what did not occur in it (a probe loads nothing that counts, many runs write
    no samples) from the next one of the same model where it did."""
    nearest = paces[0]
    same = [p for p in paces if p.model == nearest.model]
    return replace(
        nearest,
        evaluating=next((p.evaluating for p in same if p.evaluating is not None), None),
        sampling_s=next((p.sampling_s for p in same if p.sampling_s is not None), None),
        around_s=next((p.around_s for p in same if p.around_s is not None), None),
    )


def _tells(work: Work, pace: Pace) -> bool:
    """Whether an earlier training is comparable: of the same model, or in the same precision of a
    model of similar size."""
    same = work.model == pace.model
    return pace.tokens_per_s > 0 and (
        same
        or (work.way.kernel == pace.way.kernel and _apart(work.weights, pace.weights) < _TOO_FAR)
    )


def _apart(a: float, b: float) -> float:
    """The ratio of the larger to the smaller."""
    return max(a, b, 1.0) / max(1.0, min(a, b))


def _distance(work: Work, pace: Pace) -> tuple[float, float]:
    """The difference of an earlier training from this one, then its age."""
    ours, its = work.way, pace.way
    sizes = math.log(_apart(work.batch_tokens, pace.batch_tokens))
    kernels = sum(a != b for a, b in zip(ours.kernel, its.kernel, strict=True))
    far = 10.0 * (work.model != pace.model) + 6.0 * (kernels > 0) + 0.7 * kernels
    far += 2.0 * (ours.method != its.method) + 1.0 * (ours.checkpointing != its.checkpointing)
    far += 1.0 * (ours.batching != its.batching) + 0.5 * (work.data != pace.data)
    if work.model != pace.model:
        far += math.log(_apart(work.weights, pace.weights))
    far += 1.0 * (pace.origin == "probe") + (sizes if sizes > math.log(_SAME_SIZE) else 0.0)
    return round(far, 1), -pace.when


def _alike(work: Work, pace: Pace) -> bool:
    same_size = _apart(work.batch_tokens, pace.batch_tokens) <= _SAME_SIZE
    return work.model == pace.model and work.way == pace.way and same_size


def _times(work: Work, pace: Pace, same_data: bool, others: Sequence[Pace]) -> float:
    """The factor of the range: by how near the earlier training is, how even its steps were, and how
    far others that are as near disagree. On a GPU small batches wait for Python, so that another size of
    the batch says less."""
    if work.way.kernel != pace.way.kernel:
        times = _OTHER_PRECISION
    elif work.model != pace.model:
        times = _OTHER_MODEL * (1 + 0.3 * math.log10(_apart(work.weights, pace.weights)))
    elif work.way.method != pace.way.method:
        times = _OTHER_MODEL
    elif not _alike(work, pace):
        times = _OTHER_SETTINGS
    else:
        times = _PROBED if pace.origin == "probe" else _NEAR
    times *= 1.0 if same_data else _OTHER_DATA
    if "cuda" in work.way.kernel:
        times *= math.sqrt(_apart(work.batch_tokens, pace.batch_tokens))
    near = _distance(work, pace)[0]
    reached = [p.tokens_per_s * p.operations for p in others if _distance(work, p)[0] == near][:3]
    apart = max(reached) / min(reached)
    return min(_WIDEST, max(times * (1 + pace.spread / 2), apart))


def _source(work: Work, pace: Pace, now: float | None) -> str:
    day = day_of(pace.when, now)
    if pace.origin == "probe":
        return (
            f"from a probe {day}"
            if pace.model == work.model
            else (f"from a probe of {short_name(pace.model)} {day}")
        )
    if pace.model != work.model:
        return f"from your run of {short_name(pace.model)} {day}"
    return f"from your run {day}" + ("" if _alike(work, pace) else ", with other settings")


def short_name(model: str) -> str:
    """The last part of a folder, Hub ID or starter's name."""
    return model.rstrip("/\\").replace("\\", "/").replace(":", "/").rpartition("/")[2] or model


def day_of(when: float, now: float | None = None) -> str:
    """``of today, 09:12``, ``of 21 Nov`` or ``of 21 Nov 2025``."""
    then, today = time.localtime(when), time.localtime(now)
    if then[:3] == today[:3]:
        return f"of today, {then.tm_hour:02d}:{then.tm_min:02d}"
    months = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
    year = "" if then.tm_year == today.tm_year else f" {then.tm_year}"
    return f"of {then.tm_mday} {months[then.tm_mon - 1]}{year}"


def _missing(work: Work, pace: Pace) -> tuple[str, ...]:
    """The missing parts of the estimate, in sentences."""
    sentences = []
    if work.sampled and pace.sampling_s is None:
        sentences.append("Sampling time is not included: earlier runs generated no samples.")
    if pace.around_s is None:
        sentences.append("Loading the model and verifying the adapter are not included.")
    return tuple(sentences)
