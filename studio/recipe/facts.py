"""Collects the facts for a recipe from a project: nodes, model files, data report, machine.

Only configs, headers of weight files and a cached data report are read; nothing is loaded.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from studio.errors import StudioError
from studio.estimate.graph import estimate_job
from studio.estimate.job import Facts, Job, job_of, model_nodes
from studio.estimate.machine import Machine, this_machine
from studio.estimate.rows import rows_of
from studio.graph.edits import set_setting
from studio.graph.graph import Graph, Node
from studio.graph.problems import settings_of
from studio.graph.registry import Registry
from studio.model.facts import ModelFacts, model_facts
from studio.preview.report import DataReport
from studio.recipe.fit import GB, Fits, RecipeFacts
from studio.recipe.recipe import FULL_FINE_TUNING_OPTIMIZER, Proposal, propose, rows_per_step
from studio.values import FULL_FINE_TUNING

_BY_MEMORY = {
    "batch_size",
    "gradient_accumulation_steps",
    "gradient_checkpointing",
    "quantization",
    "optimizer",
}
"""Settings whose values depend on what fits; all others are proposed without."""


def recipe_facts(
    graph: Graph,
    registry: Registry,
    project_dir: Path,
    train: str | None = None,
    report: DataReport | None = None,
    facts: Facts | None = None,
    known: ModelFacts | None = None,
) -> RecipeFacts:
    """The facts of a Train node, the only one or the one with the id ``train``; ``report`` is about
    its data, ``facts`` are those of its estimate, ``known`` those of a model that is not on this machine. Without a
    report, the rows and their lengths are estimated from the files.

    Raises ``StudioError`` when there is no such node.
    """
    node = _train_node(graph, train)
    settings = _settings(node, registry)
    before = [graph.node(n) for n in graph.upstream(node.id) if n != node.id]
    base = _first(before, "base_model")
    lora = _begun_here(graph, node)
    job = job_of(graph, registry, project_dir, node)
    chosen = job.lora
    facts = facts or Facts(this_machine(graph))
    found = RecipeFacts(
        train=node.id,
        lora=lora.id if lora else None,
        base=base.id if base else None,
        dataset=_splitting(before, registry),
        method=getattr(chosen, "method", "lora") if chosen or lora else FULL_FINE_TUNING,
        max_length=getattr(settings, "max_length", 512),
        batching=getattr(settings, "batching", "padding_free"),
        **_of_model(_settings(base, registry), project_dir, known),
        **(_of_report(report) or _of_files(job, facts)),
        **_of_machine(facts.machine),
        quantizes=_quantizes(registry, chosen),
    )
    others = (p for p in propose(found) if p.field not in _BY_MEMORY)
    with_others = apply_recipe(graph, others)
    job = job_of(with_others, registry, project_dir, with_others.node(node.id))
    return replace(found, fits=_fits(job, facts, found.rows))


def apply_recipe(graph: Graph, proposals: Iterable[Proposal]) -> Graph:
    """The graph with the proposed values."""
    for proposal in proposals:
        graph = set_setting(graph, proposal.node, proposal.field, proposal.value)
    return graph


def present_value(graph: Graph, registry: Registry, proposal: Proposal) -> Any:
    """The current value of the proposed setting."""
    return getattr(_settings(graph.node(proposal.node), registry), proposal.field, None)


def _train_node(graph: Graph, wanted: str | None) -> Node:
    found = [n for n in graph.nodes if n.type == "train" and wanted in (None, n.id)]
    if len(found) == 1:
        return found[0]
    names = ", ".join(n.id for n in graph.nodes if n.type == "train")
    what = f"there is no Train node “{wanted}”" if wanted else f"there are {len(found)} Train nodes"
    raise StudioError(
        f"A recipe applies to one Train node, and {what}.",
        code="bad_argument",
        hint=f"Select one of {names} with --node." if names else "Add a Train node.",
    )


def _first(nodes: Iterable[Node], kind: str) -> Node | None:
    return next((n for n in nodes if n.type == kind), None)


def _begun_here(graph: Graph, train: Node) -> Node | None:
    """The LoRA node of a training that begins with a new adapter; one that goes on has its rank already."""
    for node in model_nodes(graph, train.id):
        if node.type == "lora":
            return node
        if node.type in ("train", "load_adapter", "resize", "adapter_mix"):
            return None
    return None


def _settings(node: Node | None, registry: Registry) -> Any:
    node_type = registry.node_type(node.type) if node else None
    return settings_of(node, node_type) if node and node_type else None


def _splitting(before: list[Node], registry: Registry) -> str | None:
    """The only Dataset node, if it splits by share; ``None`` if there are several."""
    data = [n for n in before if n.type == "dataset"]
    if len(data) != 1:
        return None
    settings = _settings(data[0], registry)
    by_share = settings is not None and settings.split_mode in ("fraction", "share")
    return data[0].id if by_share else None


def _of_model(base: Any, project_dir: Path, known: ModelFacts | None) -> dict[str, Any]:
    found = model_facts(base.model, project_dir) if base is not None else None
    found = found or known if base is not None else None
    if found is None:
        return {"quantization": getattr(base, "quantization", "none")}
    return {
        "quantization": base.quantization,
        "parameters": found.parameters,
        "layers": found.layers,
        "hidden": found.hidden,
        "vocabulary": found.vocabulary,
        "context": found.context,
    }


def _of_report(report: DataReport | None) -> dict[str, Any]:
    if report is None or not report.rows:
        return {}
    return {
        "rows": report.train_pieces or report.train_rows,
        "source_rows": report.train_rows,
        "validation_rows": report.validation_rows,
        "tokens": report.tokens / report.rows,
        "longest": report.histogram.longest or None,
        "cut": report.histogram.cut,
        "cut_texts": sum(f.count for f in report.findings if f.code == "cut_text"),
    }


def _of_files(job: Job, facts: Facts) -> dict[str, Any]:
    """As ``_of_report``, estimated from the first rows of the files."""
    found, _ = rows_of(job, facts) if job.datasets and job.train is not None else (None, [])
    if found is None:
        return {}
    return {
        "rows": found.rows,
        "source_rows": found.rows,
        "validation_rows": found.validation,
        "tokens": found.mean,
        "longest": found.longest,
        "counted": False,
    }


def _of_machine(machine: Machine) -> dict[str, Any]:
    return {"gpu": machine.device == "cuda", "memory_gb": machine.total / GB}


def _quantizes(registry: Registry, lora: Any) -> bool:
    method = registry.variant("adapter", lora.method) if lora is not None else None
    return method is not None and bool(method.payload.trains_on("nf4"))


def _fits(job: Job, facts: Facts, data_rows: int | None) -> Fits | None:
    """The question whether a batch fits, answered by the estimate; ``None`` if that does not know the
    model."""
    if estimate_job(job, facts).peak is None:
        return None
    train = job.train
    effective = train.batch_size * train.gradient_accumulation_steps
    effective = rows_per_step(data_rows) if data_rows else effective

    @lru_cache(maxsize=64)
    def fits(rows: int, quantized: bool, checkpointing: bool) -> bool:
        changed: dict[str, Any] = {
            "batch_size": rows,
            "gradient_accumulation_steps": max(1, effective // rows),
            "gradient_checkpointing": checkpointing or train.gradient_checkpointing,
        }
        if job.lora is None and facts.machine.device == "cuda":
            changed["optimizer"] = FULL_FINE_TUNING_OPTIMIZER
        base = job.base
        if quantized and base.quantization == "none":
            base = base.model_copy(update={"quantization": "nf4"})
        asked = replace(job, train=train.model_copy(update=changed), base=base)
        return estimate_job(asked, facts).fits is not False

    return fits
