"""``--set NODE.SETTING=VALUE``: settings for one invocation; and saving proposed settings to the
project file.

An unknown node or setting is an error that names similar ones; values are validated with the rest
of the project, by the same Problems as in the window.
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from studio.errors import StudioError
from studio.graph.edits import set_setting
from studio.graph.graph import Graph, Node
from studio.graph.project import load_project, save_project
from studio.graph.registry import Registry, variant_fields


def with_changes(graph: Graph, changes: Iterable[str], registry: Registry) -> Graph:
    """The graph with all changes; raises ``StudioError`` for an invalid one."""
    for change in changes:
        graph = _with_change(graph, change, registry)
    return graph


def write_proposed(options: argparse.Namespace, change: Callable[[Graph], Graph]) -> None:
    """Write the proposed settings to the project file. Values of ``--set`` apply to this invocation
    only and are not written; a message says so."""
    save_project(options.file, change(load_project(options.file)))
    if options.changes:
        print(
            (
                "Not written, because --set applies to this invocation only: "
                f"{', '.join(options.changes)}."
            ),
            file=sys.stderr,
        )


def _with_change(graph: Graph, change: str, registry: Registry) -> Graph:
    place, equals, text = change.partition("=")
    if not equals or "." not in place:
        raise _bad(
            change, "it must have the form NODE.SETTING=VALUE", "For example: --set train.epochs=2"
        )
    node = _node(graph, place, change)
    setting = place[len(node.id) + 1 :]
    known = setting_names(node, registry)
    if known is not None and setting not in known:
        raise _unknown(change, f"{node.id} has no setting “{setting}”", setting, known)
    return set_setting(graph, node.id, setting, _value(text, _is_text(node, setting, registry)))


def _node(graph: Graph, place: str, change: str) -> Node:
    """The node of a change; IDs may contain dots, so the longest match applies."""
    found = [n for n in graph.nodes if place.startswith(f"{n.id}.") and len(place) > len(n.id) + 1]
    if not found:
        name = place.partition(".")[0]
        raise _unknown(change, f"there is no node “{name}”", name, graph.ids())
    return max(found, key=lambda n: len(n.id))


def setting_names(node: Node, registry: Registry) -> list[str] | None:
    """All settings of a node, including those of its selected variants; ``None`` if its type is not
    installed."""
    node_type = registry.node_type(node.type)
    if node_type is None:
        return None
    fields = node_type.settings.model_fields
    names = list(fields)
    for name, kind in variant_fields(node_type.settings).items():
        chosen = node.settings.get(name, fields[name].default)
        variant = registry.variant(kind, str(chosen))
        if variant is not None:
            names += [f"{name}_settings.{own}" for own in variant.settings.model_fields]
    return names


def _is_text(node: Node, setting: str, registry: Registry) -> bool:
    """Whether a setting accepts only text."""
    node_type = registry.node_type(node.type)
    info = node_type.settings.model_fields.get(setting) if node_type else None
    return info is not None and info.annotation is str


def _value(text: str, is_text: bool) -> Any:
    """The value parsed as JSON, or the text itself if it is not JSON. For a text setting only a
    JSON string is parsed: a revision 7e53421 or a folder 2024 is not a number."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return text if is_text and not isinstance(value, str) else value


def _unknown(change: str, what: str, name: str, known: Sequence[str]) -> StudioError:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if near:
        return _bad(change, what, f"Did you mean {' or '.join(near)}?")
    return _bad(change, what, f"Available: {', '.join(known)}.")


def _bad(change: str, what: str, hint: str) -> StudioError:
    return StudioError(f"--set {change}: {what}.", hint=hint, code="bad_argument")
