"""“Make it fit”: changes of settings until the estimate is below the free memory, those with the
least effect on the result first.

1. accumulation for batch: the same rows in each optimizer step, only slower;
2. gradient checkpointing: the same numbers, about a third slower;
3. an 8-bit optimizer: nearly the same numbers;
4. a base in 16 bits in place of 32, where the device computes in them: coarser rounding;
5. a base in 4 bits: slower and a little worse, where the method trains on it;
6. shorter rows: what lies beyond is not learned.

A milder change that a harsher one has made needless is taken back.

Proposals are data; ``apply`` turns them into a graph with the ordinary edits, so that one undo takes
them back. It must not propose what the nodes' own checks refuse.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from studio.estimate.graph import Estimate, estimate_job
from studio.estimate.job import Facts, Job, job_of, mode_of, model_nodes
from studio.estimate.machine import this_machine
from studio.graph.edits import set_setting
from studio.graph.graph import Graph
from studio.graph.registry import Registry

SHORTEST = 128
_EIGHT_BIT = {
    "adamw": "adamw_8bit",
    "adamw_fused": "adamw_8bit",
    "paged_adamw": "paged_adamw_8bit",
    "lion": "lion_8bit",
    "ademamix": "ademamix_8bit",
}


@dataclass(frozen=True)
class Proposal:
    """One setting to change on one node, why, and how many bytes of the peak it saves together with
    the proposals before it."""

    node: str
    field: str
    value: Any
    reason: str
    saves: int


def propose(
    graph: Graph,
    registry: Registry,
    project_dir: Path,
    facts: Facts | None = None,
    node: str | None = None,
) -> tuple[tuple[Proposal, ...], Estimate | None]:
    """What to change, and the estimate after all of it. Nothing when it fits already, or when the
    need is not known; the estimate may still not fit when nothing more can be changed."""
    train = next((n for n in graph.nodes if n.type == "train" and node in (None, n.id)), None)
    if train is None:
        return (), None
    facts = facts or Facts(this_machine(graph))
    job = job_of(graph, registry, project_dir, train)
    now = estimate_job(job, facts)
    facts = carried(facts, now)
    taken: list[list[Change]] = []
    for step in (_batch, _checkpointing, _optimizer, _precision, _quantization, _length):
        for fields in step(job, facts, registry):
            if now.fits is not False:
                break
            after = estimate_job(_with(job, [fields]), facts)
            if (now.peak or 0) <= (after.peak or 0):
                continue
            replaced = {field for _, field, _, _ in fields}
            taken = [t for t in taken if not replaced & {field for _, field, _, _ in t}]
            job, now, taken = _with(job, [fields]), after, [*taken, fields]
    first = job_of(graph, registry, project_dir, train)
    if now.fits:
        taken = _needed(first, facts, taken)
    return _proposals(graph, first, facts, taken)


def _needed(job: Job, facts: Facts, taken: list[list[Change]]) -> list[list[Change]]:
    """The changes without those that the others make unnecessary, checked from the harshest on."""
    for fields in reversed(taken[:-1]):
        others = [t for t in taken if t is not fields]
        if estimate_job(_with(job, others), facts).fits:
            taken = others
    return taken


def _proposals(
    graph: Graph, job: Job, facts: Facts, taken: list[list[Change]]
) -> tuple[tuple[Proposal, ...], Estimate]:
    """The changes as proposals, each with what it saves after those before it."""
    now, made, base = estimate_job(job, facts), [], _base_node(graph, job.node)
    for fields in taken:
        job = _with(job, [fields])
        after = estimate_job(job, facts)
        saves = (now.peak or 0) - (after.peak or 0)
        for place, field, value, reason in fields:
            node = job.node if place == "train" else base
            made.append(Proposal(node, field, value, reason, saves))
        now = after
    return tuple(made), now


def carried(facts: Facts, now: Estimate) -> Facts:
    """The facts for estimating changed settings. A probe only applies to the settings it measured;
    if it measured more than the formula, the same ratio is assumed after a change, so that the
    estimate is not too low."""
    if now.basis != "measured here" or not now.phases:
        return facts
    return replace(facts, least_ratio=max(1.0, now.peaks["training"] / now.phases["training"].peak))


def apply(graph: Graph, proposals: tuple[Proposal, ...]) -> Graph:
    """The graph with the proposals' settings."""
    for proposal in proposals:
        graph = set_setting(graph, proposal.node, proposal.field, proposal.value)
    return graph


Change = tuple[str, str, Any, str]
"""Which settings ("train" or "base"), the field, its value and the reason."""


def _batch(job: Job, facts: Facts, registry: Registry) -> Iterator[list[Change]]:
    del facts, registry
    rows, times = job.train.batch_size, job.train.gradient_accumulation_steps
    effective = rows * times
    while rows > 1:
        rows = max(n for n in range(1, rows) if rows % n == 0) if rows % 2 else rows // 2
        yield [
            ("train", "batch_size", rows, "A smaller batch needs less memory."),
            (
                "train",
                "gradient_accumulation_steps",
                effective // rows,
                "Keeps the effective batch size, so the result is the same.",
            ),
        ]


def _checkpointing(job: Job, facts: Facts, registry: Registry) -> Iterator[list[Change]]:
    del facts, registry
    if not job.train.gradient_checkpointing:
        reason = (
            "Activations are recomputed instead of stored: the same result, about a third slower."
        )
        yield [("train", "gradient_checkpointing", True, reason)]


def _optimizer(job: Job, facts: Facts, registry: Registry) -> Iterator[list[Change]]:
    del facts, registry
    smaller = _EIGHT_BIT.get(job.train.optimizer)
    if smaller:
        reason = "The optimizer states need a quarter of the memory, with nearly the same updates."
        yield [("train", "optimizer", smaller, reason)]


def _precision(job: Job, facts: Facts, registry: Registry) -> Iterator[list[Change]]:
    del registry
    mode, auto = mode_of(job, facts.machine), facts.machine.auto_dtype
    single = job.lora is not None and mode.weights == 4 and not mode.stored
    stored = replace(job, base=job.base.model_copy(update={"dtype": "bfloat16"}))
    if single and mode_of(stored, facts.machine).stored:
        reason = (
            "The frozen weights need half the memory; the CPU computes in float32, a little slower."
        )
        yield [("base", "dtype", "bfloat16", reason)]
    elif single and auto != "float32":
        reason = "Weights and activations need half the memory; values are rounded more coarsely."
        yield [("base", "dtype", auto, reason)]


def _quantization(job: Job, facts: Facts, registry: Registry) -> Iterator[list[Change]]:
    del facts
    if job.lora is None or job.base.quantization != "none":
        return
    method = registry.variant("adapter", job.lora.method)
    if method is not None and method.payload.trains_on("nf4"):
        reason = (
            "The frozen weights need a quarter of the memory; training is slower and slightly "
            "less accurate."
        )
        yield [("base", "quantization", "nf4", reason)]


def _length(job: Job, facts: Facts, registry: Registry) -> Iterator[list[Change]]:
    del facts, registry
    length = job.train.max_length
    while length > SHORTEST:
        length = max(SHORTEST, length // 2)
        reason = "Rows are truncated earlier; the model does not learn from the rest."
        yield [("train", "max_length", length, reason)]


def _with(job: Job, changes: list[list[Change]]) -> Job:
    for place, field, value, _ in (change for fields in changes for change in fields):
        settings = getattr(job, place).model_copy(update={field: value})
        job = replace(job, **{place: settings})
    return job


def _base_node(graph: Graph, train: str) -> str:
    return next((n.id for n in model_nodes(graph, train) if n.type == "base_model"), "")
