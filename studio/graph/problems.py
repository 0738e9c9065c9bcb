"""Everything that prevents a run, or is worth a warning, and can be found without running.

Fast (milliseconds), no torch, no network; the canvas calls it after every edit.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from studio.errors import Problem, StudioError
from studio.graph.graph import CycleError, Graph, Node, topological_order
from studio.graph.node_type import CheckContext, NodeType
from studio.graph.registry import Registry, variant_fields
from studio.graph.schema import Settings, problems_in
from studio.graph.unused import unused_node, used_nodes
from studio.graph.wires import check_existing_wire, title_of
from studio.shown_text import short
from studio.system.paths import is_utf8


def settings_of(node: Node, node_type: NodeType[Settings]) -> Settings | None:
    """The node's parsed settings, or ``None`` when they are not valid."""
    try:
        return node_type.settings.model_validate(dict(node.settings))
    except ValidationError:
        return None


def find_problems(
    graph: Graph, registry: Registry, project_dir: Path, *, all_rows: bool = True
) -> list[Problem]:
    """All Problems: first those of the entire graph, then those of the nodes in drawing order.

    ``all_rows`` includes what an earlier check of all rows has found (``studio.data.full_check``).
    """
    found = _graph_problems(graph, registry)
    parsed = {n.id: _parsed(n, registry) for n in graph.nodes}
    used = used_nodes(graph, registry)
    for node in graph.nodes:
        node_type = registry.node_type(node.type)
        if node_type is None:
            found.append(_missing_type(node))
            continue
        found += _setting_problems(node, node_type, registry)
        found += _name_problems(node, title_of(node, registry), project_dir)
        found += _port_problems(graph, node, node_type, registry)
        found += _own_problems(graph, node, node_type, registry, project_dir, parsed, all_rows)
        if node.id not in used:
            found.append(unused_node(graph, node, registry))
    return found


def _parsed(node: Node, registry: Registry) -> tuple[str, Settings | None]:
    node_type = registry.node_type(node.type)
    return node.type, settings_of(node, node_type) if node_type else None


def _graph_problems(graph: Graph, registry: Registry) -> list[Problem]:
    found: list[Problem] = []
    if not graph.nodes:
        found.append(
            Problem(
                "The canvas is empty.", hint="Add a node, or start from a template.", code="empty"
            )
        )
    ids = graph.ids()
    for twice in sorted(i for i, count in Counter(ids).items() if count > 1):
        found.append(Problem(f"Two nodes have the ID “{twice}”.", twice, code="duplicate_id"))
    try:
        topological_order(graph)
    except CycleError as error:
        names = ", ".join(title_of(graph.node(n), registry) for n in error.nodes)
        found += [
            Problem(
                f"The wires form a cycle through {names}.",
                n,
                None,
                "Remove one of these wires.",
                "cycle",
            )
            for n in error.nodes
        ]
    return found


def _missing_type(node: Node) -> Problem:
    return Problem(
        f"The node “{node.id}” has the type “{node.type}”, which is not installed.",
        node.id,
        None,
        "Install the extension it comes from, or delete the node.",
        "unknown_type",
    )


def _setting_problems(
    node: Node, node_type: NodeType[Settings], registry: Registry
) -> list[Problem]:
    title = title_of(node, registry)
    values = dict(node.settings)
    found = problems_in(node_type.settings, values, node.id, title)
    for name, kind in variant_fields(node_type.settings).items():
        default = node_type.settings.model_fields[name].default
        chosen = values.get(name, default)
        if chosen == "auto" or not isinstance(chosen, str):
            continue
        variant = registry.variant(kind, chosen)
        if variant is None:
            offered = ", ".join(v.id for v in registry.choices(kind))
            found.append(
                Problem(
                    f"{title}: there is no {kind} “{chosen}”.",
                    node.id,
                    name,
                    f"Choose one of: {offered}.",
                    "unknown_variant",
                )
            )
            continue
        own = values.get(f"{name}_settings") or {}
        if isinstance(own, Mapping):
            found += problems_in(variant.settings, dict(own), node.id, title, f"{name}_settings.")
    return found


def _name_problems(node: Node, title: str, project_dir: Path) -> Iterator[Problem]:
    """Names in another encoding than UTF-8, which libraries that read and write files refuse: of a
    setting, or of the project's folder, from where relative paths start."""
    odd_folder = not is_utf8(project_dir)
    for name, value in node.settings.items():
        path = str(project_dir / value) if odd_folder and isinstance(value, str) and value else ""
        if not _is_unicode(value) or os.path.exists(path):
            shown = short(repr(path or value))
            yield Problem(
                f"{title}: {name} contains characters that are not valid Unicode: {shown}.",
                node.id,
                name,
                "Rename the file or folder so that its name is valid UTF-8, or type the text again.",
                "not_utf8",
            )


def _is_unicode(value: Any) -> bool:
    if not isinstance(value, str | list | dict):
        return True
    return is_utf8(json.dumps(value, ensure_ascii=False, default=str))


def _port_problems(
    graph: Graph, node: Node, node_type: NodeType[Settings], registry: Registry
) -> list[Problem]:
    title = title_of(node, registry)
    found = []
    for port in node_type.inputs:
        if port.required and graph.wire_into(node.id, port.name) is None:
            wanted = " or ".join(t.title for t in port.types)
            found.append(
                Problem(
                    f"{title}: the input “{port.title}” is not connected.",
                    node.id,
                    port.name,
                    f"Connect an output of type {wanted}.",
                    "unconnected",
                )
            )
    for wire in graph.wires_into(node.id):
        refusal = check_existing_wire(graph, registry, wire)
        if refusal is not None:
            found.append(
                Problem(
                    f"{title}: {refusal.sentence}", node.id, wire.target_port, "", refusal.reason
                )
            )
    return found


def check_context(graph: Graph, node: Node, registry: Registry, project_dir: Path) -> CheckContext:
    """What the checks of a node may look at."""
    parsed = {n.id: _parsed(n, registry) for n in graph.nodes}
    return _context(graph, node, registry, project_dir, parsed, all_rows=True)


def _context(
    graph: Graph,
    node: Node,
    registry: Registry,
    project_dir: Path,
    parsed: Mapping[str, tuple[str, Settings | None]],
    all_rows: bool,
) -> CheckContext:
    inputs: dict[str, Any] = {
        w.target_port: parsed[w.source] for w in graph.wires_into(node.id) if w.source in parsed
    }
    before = {n: parsed[n] for n in graph.upstream(node.id) - {node.id} if n in parsed}
    return CheckContext(
        node.id,
        title_of(node, registry),
        project_dir,
        inputs,
        before,
        registry.variants,
        _input_types(graph, node, registry),
        frozenset(w.source_port for w in graph.wires_from(node.id)),
        all_rows,
        parsed,
    )


def _own_problems(
    graph: Graph,
    node: Node,
    node_type: NodeType[Settings],
    registry: Registry,
    project_dir: Path,
    parsed: Mapping[str, tuple[str, Settings | None]],
    all_rows: bool,
) -> list[Problem]:
    settings = parsed[node.id][1]
    if settings is None:
        return []
    context = _context(graph, node, registry, project_dir, parsed, all_rows)
    try:
        return list(node_type.check(settings, context))
    except StudioError as error:
        return [replace(error.problem(), node=error.node or node.id)]
    except (OSError, ValueError, RuntimeError) as error:  # an invalid path, such as ~nobody/x
        if "surrogates not allowed" in str(error):  # reported for the setting itself
            return []
        return [
            Problem(
                f"{context.title}: its settings cannot be checked: {error}.",
                node.id,
                None,
                "Check the names of its files and folders.",
                "unusable_setting",
            )
        ]


def _input_types(graph: Graph, node: Node, registry: Registry) -> dict[str, str]:
    """The id of the type that each wire into ``node`` carries."""
    found: dict[str, str] = {}
    for wire in graph.wires_into(node.id):
        if not graph.has(wire.source):
            continue
        source = registry.node_type(graph.node(wire.source).type)
        port = source.output(wire.source_port) if source else None
        if port is not None:
            found[wire.target_port] = port.type.id
    return found
