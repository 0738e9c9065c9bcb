"""The work of a training in operations and tokens, and the speed measured by a probe.

The fraction of the device's peak that programs reach differs by a factor of three, so none is
assumed: the time is known only after a run or a probe on this machine.
"""

from __future__ import annotations

from typing import Any

from studio.estimate.activations import Mode
from studio.estimate.data_facts import DataFacts
from studio.estimate.job import Job, is_padded, method_of
from studio.estimate.lengths import (
    mean_length,
    measuring_tokens,
    optimizer_steps,
    padded_tokens,
    seen_tokens,
    tokens_per_step,
)
from studio.estimate.machine import Machine, machine_key
from studio.estimate.measured import all_measured
from studio.estimate.pace import Pace, Way, Work
from studio.estimate.rows import sources_of
from studio.estimate.trainable import Counted
from studio.model.shapes import Shape

_KERNEL = ("weights", "adapter", "autocast", "quantization", "full", "device")
"""The fields of a mode that determine the operations per second."""


def operations_per_token(
    shape: Shape,
    adapter: int,
    length: float,
    labels: float = 1.0,
    *,
    checkpointing: bool = False,
    full: bool = False,
) -> float:
    """Floating-point operations of forward and backward pass for one token.

    N are the weights of the decoder's linear layers, ρ the share of tokens that are learned, P the
    adapter's parameters, q = heads × head size, s the length, L the layers:

        no checkpointing:    4·N + 4·ρ·h·V + 6·P + 7·q·s·L
        with checkpointing:  + 2·N + 2·P + 2·q·s·L
        full fine-tuning:    6·N + 6·h·V (+ 2·N with checkpointing)

    A frozen matrix needs its input's gradient but not its own: 4 in place of 6.
    """
    active = sum(m.weights * min(1.0, shape.experts_active / m.experts) for m in shape.linears)
    head = shape.hidden * shape.vocabulary * labels
    attention = shape.query * length * shape.layers
    again = 2 * active + 2 * adapter + 2 * attention if checkpointing else 0.0
    if full:
        return 6 * active + 6 * head + 7 * attention + (again - 2 * adapter if checkpointing else 0)
    return 4 * active + 4 * head + 6 * adapter + 7 * attention + again


def operations_of(
    job: Job, shape: Shape, counted: Counted, mode: Mode, data: DataFacts | None
) -> float:
    """Operations for a token of this training's rows."""
    mean = mean_length(job.train, data) if data is not None else float(job.train.max_length)
    labels = data.labels if data is not None and job.train.train_on != "all" else 1.0
    return operations_per_token(
        shape, counted.adapter or 0, mean, labels, checkpointing=mode.checkpointing, full=mode.full
    )


def way_of(mode: dict[str, Any], method: str, batching: str) -> Way:
    """How a training computes."""
    kernel = tuple(mode[name] for name in _KERNEL)
    return Way(kernel, method, bool(mode["checkpointing"]), batching)


def work_of(
    job: Job, shape: Shape, counted: Counted, mode: Mode, data: DataFacts | None
) -> Work | None:
    """The work of a training; ``None`` if its rows are unknown."""
    tokens = seen_tokens(job.train, data, optimizer_steps(job.train, data))
    if data is None or tokens is None:
        return None
    evaluated, sampled = measuring_tokens(job.train, data)
    return Work(
        model=str(job.base.model).strip(),
        way=way_of(vars(mode), method_of(job), job.train.batching),
        operations=operations_of(job, shape, counted, mode, data),
        tokens=float(tokens),
        batch_tokens=tokens_per_step(job.train, data) / job.train.gradient_accumulation_steps,
        weights=shape.linear_weights,
        data=sources_of(job),
        evaluated=evaluated,
        sampled=sampled,
        padding=padded_tokens(job.train, data, is_padded(job)),
    )


def probed_paces(machine: Machine, threads: int) -> tuple[Pace, ...]:
    """The speeds of the probes that were made on this machine with as many threads."""
    here = machine_key(machine.name)
    return tuple(
        Pace(
            "probe",
            m.when,
            m.of.model,
            way_of(dict(m.of.mode), m.of.method, m.batching),
            m.operations,
            m.tokens_per_s,
            float(m.of.rows * m.of.length),
            m.weights,
        )
        for m in all_measured()
        if m.of.machine == here and m.of.threads == threads and m.operations > 0
    )
