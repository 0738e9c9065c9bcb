"""The estimate of a Train node from the graph, which the window updates after every edit.

``estimate_graph`` takes well under 5 ms once the model's shape has been read. It never raises for
an incomplete project: ``notes`` says what is missing, and unknown values are ``None``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from studio.estimate.activations import Mode
from studio.estimate.data_facts import DataFacts
from studio.estimate.job import Facts, Job, counted_of, job_of, longest_batch, mode_of
from studio.estimate.lengths import optimizer_steps, seen_tokens
from studio.estimate.machine import Machine, this_machine
from studio.estimate.measured import Measured, conditions_of, correction
from studio.estimate.memory import Batch, Parts, memory
from studio.estimate.pace import Work, duration
from studio.estimate.phases import Phase, phases_of
from studio.estimate.rows import rows_of
from studio.estimate.trainable import Counted
from studio.estimate.work import work_of
from studio.graph.graph import Graph
from studio.graph.registry import Registry
from studio.model.shapes import Shape

Basis = Literal["formula", "dry run", "measured here"]
MARGIN = 0.95
"Fraction of the free memory that a run may use."


@dataclass(frozen=True)
class Estimate:
    """The estimate of one Train node.

    ``phases`` are the bytes of each phase from loading to merging by part, and ``peaks`` their
    corrected peaks. ``phase`` is that with the largest, ``peak``, and ``parts`` its bytes by part.
    ``available`` are the bytes that the device has free, ``fits`` whether the peak is below 95 % of
    them. ``seconds`` is the time of the Train
    node, known only if a training or a probe was timed on this machine (``seconds_from``), with its
    likely range, and by part. ``basis`` is the source of the peak, and ``dropped`` says which probe
    does not apply. ``None`` means unknown; ``notes`` are sentences for the user.
    """

    node: str
    parts: Parts | None = None
    peak: int | None = None
    phase: Phase = "training"
    peaks: Mapping[Phase, int] = field(default_factory=dict)
    phases: Mapping[Phase, Parts] = field(default_factory=dict)
    available: int = 0
    fits: bool | None = None
    trainable: int | None = None
    total: int | None = None
    rows: int | None = None
    steps: int | None = None
    tokens: int | None = None
    seconds: float | None = None
    seconds_low: float | None = None
    seconds_high: float | None = None
    seconds_from: str = ""
    seconds_parts: Mapping[str, float] = field(default_factory=dict)
    basis: Basis = "formula"
    device: str = ""
    notes: tuple[str, ...] = ()
    dropped: str = ""

    def to_json(self) -> dict[str, Any]:
        """The estimate as JSON data."""
        return asdict(self)


def estimate_graph(
    graph: Graph,
    registry: Registry,
    project_dir: Path,
    facts: Facts | None = None,
    node: str | None = None,
) -> Estimate | None:
    """The estimate of the Train node ``node``, or of the first; ``None`` without one."""
    trains = [n for n in graph.nodes if n.type == "train" and node in (None, n.id)]
    if not trains:
        return None
    job = job_of(graph, registry, project_dir, trains[0])
    return estimate_job(job, facts or Facts(this_machine(graph)))


def estimate_job(job: Job, facts: Facts) -> Estimate:
    """The estimate of one training."""
    found = Estimate(job.node, available=facts.machine.available, device=facts.machine.name)
    if job.train is None or job.base is None:
        return replace(
            found,
            notes=("Connect a Base model, and correct invalid settings, to see the estimate.",),
        )
    faults = (f"The model cannot be used: {job.fault}",) if job.fault else ()
    if job.shape is None:
        return replace(
            found,
            notes=faults
            or (
                "The model is not on this machine yet, or its architecture is unknown: run the "
                "Base model node, or estimate with a dry run.",
            ),
        )
    counted, notes = counted_of(job, job.shape)
    mode = mode_of(job, facts.machine)
    data, said = rows_of(job, facts)
    batch = longest_batch(job, data, mode)
    framework = facts.machine.framework
    parts = memory(
        job.shape, counted, mode, batch, job.train.optimizer, framework, facts.machine.fragments
    )
    phases = phases_of(job.shape, mode, parts, facts.machine.available, job.merge) if parts else {}
    found = _with_memory(found, phases, *_correction(job, facts, counted, mode, batch), facts)
    found = replace(found, **_counts(job, job.shape, counted, mode), notes=(*faults, *notes, *said))
    found = _noted(found, job.shape, parts, facts.machine)
    return _with_time(found, job, data, work_of(job, job.shape, counted, mode, data), facts)


def _correction(
    job: Job, facts: Facts, counted: Counted, mode: Mode, batch: Batch
) -> tuple[Measured | None, str]:
    return correction(conditions_of(job, facts, counted, mode, batch))


def _counts(job: Job, shape: Shape, counted: Counted, mode: Mode) -> dict[str, Any]:
    if mode.full:
        return {"trainable": counted.trainable, "total": shape.parameters}
    return {"trainable": counted.trainable, "total": counted.total(shape)}


def _with_memory(
    found: Estimate,
    phases: Mapping[Phase, Parts],
    known: Measured | None,
    dropped: str,
    facts: Facts,
) -> Estimate:
    if not phases:  # no formula: only the peak of the probe
        return replace(_training_of(found, known.peak) if known else found, dropped=dropped)
    step = phases["training"].peak
    peaks = {phase: parts.peak for phase, parts in phases.items()}
    found = replace(found, phases=phases, peaks=peaks, dropped=dropped)
    if known is not None:
        return _training_of(found, round(step * known.ratio))
    return with_training(found, round(step * facts.least_ratio))


def _training_of(found: Estimate, peak: int) -> Estimate:
    return replace(with_training(found, peak), basis="measured here")


def with_training(found: Estimate, peak: int) -> Estimate:
    """The estimate with another peak of the training."""
    peaks: dict[Phase, int] = {**found.peaks, "training": peak}
    phase = max(peaks, key=lambda p: (peaks[p], p == "training"))
    return replace(
        found,
        peaks=peaks,
        phase=phase,
        parts=found.phases.get(phase),
        peak=peaks[phase],
        fits=peaks[phase] <= MARGIN * found.available,
    )


ALLOCATOR_NOTE = (
    "On a CPU the allocator keeps freed memory; the amount is approximate. A probe measures it."
)


def _noted(found: Estimate, shape: Shape, parts: Parts | None, machine: Machine) -> Estimate:
    notes = list(found.notes)
    if not machine.free_known:
        notes.append(
            "The driver does not report the free memory of this GPU: all of it is assumed to be free."
        )
    if parts is None and found.trainable is not None:
        notes.append("The memory of the selected optimizer is unknown.")
    if found.basis == "formula" and parts is not None and machine.device == "cpu":
        notes.append(ALLOCATOR_NOTE)
    if not shape.exact:
        notes.append(f"Activations of {shape.model_type} are approximate; a dry run is exact.")
    if shape.experts_active > 1:
        notes.append(
            "The distribution of tokens over the experts is unknown; a uniform distribution is "
            "assumed."
        )
    return replace(found, notes=tuple(notes))


def _with_time(
    found: Estimate, job: Job, data: DataFacts | None, work: Work | None, facts: Facts
) -> Estimate:
    """Steps and tokens from the rows, and the time where a training or a probe was timed here."""
    steps = optimizer_steps(job.train, data)
    found = replace(
        found,
        rows=data.rows if data is not None else None,
        steps=steps,
        tokens=seen_tokens(job.train, data, steps),
    )
    timed = duration(work, facts.paces) if work is not None else None
    if timed is None:
        return found
    return replace(
        found,
        seconds=timed.seconds,
        seconds_low=timed.low,
        seconds_high=timed.high,
        seconds_from=timed.source,
        seconds_parts=timed.parts,
        notes=(*found.notes, *timed.missing),
    )
