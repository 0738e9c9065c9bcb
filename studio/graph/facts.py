"""What a node's type knows about the things its settings name, for whoever draws the node.

Why apart from checks: a fact is never a Problem, and nothing waits for it. It must not fail: an
extension's facts may raise in any way, and the canvas must draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from studio.graph.graph import Node
from studio.graph.node_type import Fact, NodeType
from studio.graph.schema import Settings, parse


def facts_of(
    node: Node, node_type: NodeType[Settings] | None, project_dir: Path
) -> tuple[Fact, ...]:
    """The facts of a node; none while its settings do not parse or its type is not installed."""
    if node_type is None:
        return ()
    try:
        return tuple(node_type.facts(parse(node_type.settings, dict(node.settings)), project_dir))
    except Exception:
        return ()


def choices_of(
    node: Node, node_type: NodeType[Settings] | None, project_dir: Path, field: str
) -> tuple[str, ...]:
    """What a setting of a node can be, as far as its type knows."""
    if node_type is None:
        return ()
    try:
        settings = parse(node_type.settings, dict(node.settings))
        return tuple(node_type.choices(settings, project_dir, field))
    except Exception:
        return ()


def short_line(facts: Sequence[Fact]) -> str:
    """The short form of the facts, which is drawn on the node."""
    return " · ".join(f.short for f in facts if f.short)
