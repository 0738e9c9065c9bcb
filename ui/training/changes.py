"""Proposals of the engine as changes of the graph: their texts, and the edit that applies them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from studio.graph.edits import reset_setting, set_setting
from studio.graph.graph import Graph, Node
from studio.graph.registry import Registry
from studio.graph.schema import FieldSpec, fields_of
from studio.graph.wires import title_of
from ui.inspector.row import same, words_for
from ui.training.changes_dialog import ProposedChange


def spec_of(node: Node, field: str, registry: Registry) -> FieldSpec | None:
    """The schema of one setting of a node."""
    node_type = registry.node_type(node.type)
    fields = fields_of(node_type.settings) if node_type else ()
    return next((s for s in fields if s.name == field), None)


def change_of(
    graph: Graph,
    registry: Registry,
    node_id: str,
    field: str,
    value: Any,
    reason: str,
    saves: str = "",
) -> ProposedChange | None:
    """One proposal with the names that the inspector shows; ``None`` when nothing would change."""
    node = graph.node(node_id)
    spec = spec_of(node, field, registry)
    if spec is None:
        return None
    now = node.settings.get(field, spec.default)
    if same(now, value):
        return None
    return ProposedChange(
        node_id,
        field,
        value,
        f"{title_of(node, registry)}, {spec.meta.label}",
        words_for(spec, now),
        words_for(spec, value),
        reason,
        saves,
    )


def applied(graph: Graph, registry: Registry, changes: Iterable[ProposedChange]) -> Graph:
    """The graph with these changes; a default value is left out, as the inspector does."""
    for change in changes:
        spec = spec_of(graph.node(change.node), change.field, registry)
        if spec is not None and same(change.value, spec.default):
            graph = reset_setting(graph, change.node, change.field)
        else:
            graph = set_setting(graph, change.node, change.field, change.value)
    return graph
