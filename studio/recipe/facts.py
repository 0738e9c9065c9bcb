"""Collects the facts for a recipe from a project: nodes, model files, data report, machine.

Only configs, headers of weight files and a cached data report are read; nothing is loaded.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from studio.errors import StudioError
from studio.graph.edits import set_setting
from studio.graph.graph import Graph, Node
from studio.graph.problems import settings_of
from studio.graph.registry import Registry
from studio.model.facts import model_facts
from studio.preview.report import DataReport
from studio.recipe.fit import GB, RecipeFacts
from studio.recipe.recipe import Proposal
from studio.system.hardware import GIB, gpus, ram_total_gib
from studio.values import FULL_FINE_TUNING


def recipe_facts(
    graph: Graph,
    registry: Registry,
    project_dir: Path,
    train: str | None = None,
    report: DataReport | None = None,
) -> RecipeFacts:
    """The facts of a Train node, the only one or the one with the id ``train``; ``report`` is about
    its data.

    Raises ``StudioError`` when there is no such node.
    """
    node = _train_node(graph, train)
    settings = _settings(node, registry)
    before = [graph.node(n) for n in graph.upstream(node.id) if n != node.id]
    lora, base = _first(before, "lora"), _first(before, "base_model")
    chosen = _settings(lora, registry)
    return RecipeFacts(
        train=node.id,
        lora=lora.id if lora else None,
        base=base.id if base else None,
        dataset=_splitting(before, registry),
        method=getattr(chosen, "method", "lora") if lora else FULL_FINE_TUNING,
        max_length=getattr(settings, "max_length", 512),
        batching=getattr(settings, "batching", "padded"),
        **_of_model(_settings(base, registry), project_dir),
        **_of_report(report),
        **_of_machine(),
    )


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


def _of_model(base: Any, project_dir: Path) -> dict[str, Any]:
    found = model_facts(base.model, project_dir) if base is not None else None
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


def _of_machine() -> dict[str, Any]:
    cards = gpus()
    size = cards[0].total_gib if cards else ram_total_gib()
    return {"gpu": bool(cards), "memory_gb": size * GIB / GB}
