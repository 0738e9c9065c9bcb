"""The correction of the estimated peak by a probe, and the sentence if a probe does not apply."""

from __future__ import annotations

from dataclasses import asdict

from studio.estimate.activations import Mode
from studio.estimate.job import Facts, Job
from studio.estimate.machine import machine_key
from studio.estimate.measured import (
    Conditions,
    Measured,
    differences,
    find_measured,
    formula_version,
    libraries,
    names,
)
from studio.estimate.memory import Batch
from studio.estimate.pace import day_of
from studio.estimate.trainable import Counted
from studio.values import FULL_FINE_TUNING

MOST_DIFFERENCES = 2
"""Maximum number of differences that are named."""


def conditions_of(job: Job, facts: Facts, counted: Counted, mode: Mode, batch: Batch) -> Conditions:
    """The conditions under which this training would be measured."""
    return Conditions(
        model=str(job.base.model).strip(),
        config=job.config,
        method=method_of(job),
        optimizer=job.train.optimizer,
        trained=counted.trainable or 0,
        mode=asdict(mode),
        rows=batch.rows,
        length=batch.length,
        labels=batch.labels,
        accumulated=batch.accumulated,
        machine=machine_key(),
        threads=facts.threads if mode.device == "cpu" else 0,
        formula=formula_version(),
        versions=libraries(),
    )


def method_of(job: Job) -> str:
    """The LoRA method, or that of full fine-tuning."""
    return str(job.lora.method) if job.lora is not None else FULL_FINE_TUNING


def correction(now: Conditions) -> tuple[Measured | None, str]:
    """The measurement that corrects the peak, or a sentence about a probe that does not apply."""
    measured, other = find_measured(now)
    if other is None:
        return measured, ""
    changed = names(differences(now, other.of)[:MOST_DIFFERENCES])
    return None, (
        f"The probe {day_of(other.when)} does not apply: it was made {changed}. Run the probe "
        "again to measure this training."
    )
