"""What the choices of a setting mean in a project, for the form that offers them.

They must not fail, as facts must not: those of an extension may raise in any way.
"""

from __future__ import annotations

from pathlib import Path

from studio.graph.graph import Graph
from studio.graph.node_type import Option
from studio.graph.problems import check_context
from studio.graph.registry import Registry, variant_fields


def options_of(
    graph: Graph, node_id: str, registry: Registry, project_dir: Path, path: str
) -> tuple[Option, ...]:
    """The options of a setting, by its dotted name: ``format_settings.quantizations``. Only settings of variants have
    some."""
    nested, dot, name = path.partition(".")
    node_type = registry.node_type(graph.node(node_id).type) if graph.has(node_id) else None
    if node_type is None or not dot:
        return ()
    node, field = graph.node(node_id), nested.removesuffix("_settings")
    kind = variant_fields(node_type.settings).get(field)
    if kind is None:
        return ()
    chosen = node.settings.get(field, node_type.settings.model_fields[field].default)
    variant = registry.variant(kind, str(chosen))
    describe = getattr(variant.payload, "options", None) if variant is not None else None
    if describe is None:
        return ()
    try:
        return tuple(describe(check_context(graph, node, registry, project_dir), name))
    except Exception:
        return ()
