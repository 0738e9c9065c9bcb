"""“Make it fit”: changes of settings until the estimate is below the free memory, least harm first.

1. accumulation for batch: the same rows in each optimizer step, only slower;
2. gradient checkpointing: the same numbers, about a third slower;
3. an 8-bit optimizer: nearly the same numbers;
4. a base in 4 bits: slower and a little worse, where the method trains on it;
5. shorter rows: what lies beyond is not learned.

Proposals are data; ``apply`` turns them into a graph with the ordinary edits, so that one undo takes
them back. It must not propose what the nodes' own checks refuse.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from studio.estimate.graph import Estimate, estimate_job
from studio.estimate.job import Facts, Job, job_of
from studio.estimate.machine import this_machine
from studio.graph.edits import set_setting
from studio.graph.graph import Graph
from studio.graph.registry import Registry

SHORTEST = 128
_EIGHT_BIT = {
    "adamw": "adamw_8bit", "adamw_fused": "adamw_8bit", "paged_adamw": "paged_adamw_8bit",
    "lion": "lion_8bit", "ademamix": "ademamix_8bit",
}  # fmt: skip


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
    graph: Graph, registry: Registry, project_dir: Path, facts: Facts | None = None,
    node: str | None = None,
) -> tuple[tuple[Proposal, ...], Estimate | None]:  # fmt: skip
    """What to change, and the estimate after all of it. Nothing when it fits already, or when the
    need is not known; the estimate may still not fit when nothing more can be changed."""
    train = next((n for n in graph.nodes if n.type == "train" and node in (None, n.id)), None)
    if train is None:
        return (), None
    facts = facts or Facts(this_machine())
    job = job_of(graph, registry, project_dir, train)
    now = estimate_job(job, facts)
    facts = carried(facts, now)
    made: list[Proposal] = []
    for step in (_batch, _checkpointing, _optimizer, _quantization, _length):
        for fields in step(job, registry):
            if now.fits is not False:
                return tuple(made), now
            changed, proposals = _changed(graph, job, fields)
            after = estimate_job(changed, facts)
            saved = (now.peak or 0) - (after.peak or 0)
            if saved <= 0:
                continue
            made = _merged(made, [replace(p, saves=saved) for p in proposals])
            job, now = changed, after
    return tuple(made), now


def carried(facts: Facts, now: Estimate) -> Facts:
    """What changed settings are estimated by. A probe counts for what it measured only; where it found
    more than the formula, as much more is assumed after a change, so that no peak is promised that the
    machine has been seen to exceed."""
    if now.basis != "measured here" or not now.parts or not now.peak:
        return facts
    return replace(facts, least_ratio=max(1.0, now.peak / now.parts.peak))


def apply(graph: Graph, proposals: tuple[Proposal, ...]) -> Graph:
    """The graph with the proposals' settings."""
    for proposal in proposals:
        graph = set_setting(graph, proposal.node, proposal.field, proposal.value)
    return graph


Change = tuple[str, str, Any, str]
"""Which settings ("train" or "base"), the field, its value and the reason."""


def _batch(job: Job, registry: Registry) -> Iterator[list[Change]]:
    del registry
    rows, times = job.train.batch_size, job.train.gradient_accumulation_steps
    whole = rows * times
    while rows > 1:
        rows = max(n for n in range(1, rows) if rows % n == 0) if rows % 2 else rows // 2
        yield [
            ("train", "batch_size", rows, "Fewer rows at once need less memory."),
            ("train", "gradient_accumulation_steps", whole // rows,
             "As many rows as before make up each optimizer step, so the result is the same."),
        ]  # fmt: skip


def _checkpointing(job: Job, registry: Registry) -> Iterator[list[Change]]:
    del registry
    if not job.train.gradient_checkpointing:
        reason = (
            "Activations are computed twice instead of kept: the same result, about a third slower."
        )
        yield [("train", "gradient_checkpointing", True, reason)]


def _optimizer(job: Job, registry: Registry) -> Iterator[list[Change]]:
    del registry
    smaller = _EIGHT_BIT.get(job.train.optimizer)
    if smaller:
        reason = "The optimizer's states take a quarter of the memory, with nearly the same steps."
        yield [("train", "optimizer", smaller, reason)]


def _quantization(job: Job, registry: Registry) -> Iterator[list[Change]]:
    if job.lora is None or job.base.quantization != "none":
        return
    method = registry.variant("adapter", job.lora.method)
    if method is not None and method.payload.trains_on("nf4"):
        reason = "The frozen weights take a quarter of the memory; training gets slower and a little worse."
        yield [("base", "quantization", "nf4", reason)]


def _length(job: Job, registry: Registry) -> Iterator[list[Change]]:
    del registry
    length = job.train.max_length
    while length > SHORTEST:
        length = max(SHORTEST, length // 2)
        reason = "Rows are cut sooner: what lies beyond is not learned."
        yield [("train", "max_length", length, reason)]


def _changed(graph: Graph, job: Job, fields: list[Change]) -> tuple[Job, list[Proposal]]:
    base = _base_node(graph, job.node)
    proposals = []
    for place, field, value, reason in fields:
        settings = getattr(job, place).model_copy(update={field: value})
        job = replace(job, **{place: settings})
        proposals.append(Proposal(job.node if place == "train" else base, field, value, reason, 0))
    return job, proposals


def _base_node(graph: Graph, train: str) -> str:
    wire = graph.wire_into(train, "model")
    while wire is not None and graph.node(wire.source).type != "base_model":
        wire = graph.wire_into(wire.source, "model")
    return wire.source if wire is not None else ""


def _merged(made: list[Proposal], new: list[Proposal]) -> list[Proposal]:
    """A later value of the same setting replaces the earlier one; what both save is added up."""
    spent = {(p.node, p.field): p.saves for p in made}
    kept = [p for p in made if (p.node, p.field) not in {(n.node, n.field) for n in new}]
    return [
        *kept, *(replace(p, saves=p.saves + spent.get((p.node, p.field), 0)) for p in new)
    ]  # fmt: skip
