"""What a node shows, computed from the graph and the registry; plain data without Qt.

A node type that is not installed gets the ports that its wires name, so that nothing of a project
is hidden. Settings are validated in ``studio.graph.problems``, not here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from studio.graph.facts import facts_of
from studio.graph.graph import Node, Wire
from studio.graph.node_type import Fact, NodeType
from studio.graph.ports import Port
from studio.graph.registry import Registry, variant_fields
from studio.graph.schema import Settings, parse

Side = Literal["input", "output"]
UNREADABLE = "invalid settings"


@dataclass(frozen=True)
class PortContent:
    """One port as it is drawn; ``types`` are port type ids, empty when unknown."""

    name: str
    side: Side
    title: str
    types: tuple[str, ...]
    tip: str

    @property
    def type(self) -> str:
        """The type that gives the port its colour and shape."""
        return self.types[0] if self.types else ""


@dataclass(frozen=True)
class NodeContent:
    """Everything a node shows at rest."""

    title: str
    type_title: str
    icon: str
    category: str
    summary: str
    help: str
    inputs: tuple[PortContent, ...]
    outputs: tuple[PortContent, ...]
    missing: bool = False
    facts: tuple[Fact, ...] = ()

    def ports(self, side: Side) -> tuple[PortContent, ...]:
        """The ports of one side, from top to bottom."""
        return self.inputs if side == "input" else self.outputs

    def port(self, side: Side, name: str) -> PortContent | None:
        """One port by name, or ``None``."""
        return next((p for p in self.ports(side) if p.name == name), None)


def content_of(
    node: Node, registry: Registry, wires: Iterable[Wire] = (), project_dir: Path | None = None
) -> NodeContent:
    """What ``node`` shows; ``wires`` are only looked at for a missing type, and without a
    ``project_dir`` nothing is known about the files that the settings name."""
    node_type = registry.node_type(node.type)
    if node_type is None:
        return _missing(node, wires)
    return NodeContent(
        title=node.title or node_type.title,
        type_title=node_type.title,
        icon=node_type.icon,
        category=node_type.category,
        summary=summary_of(node, node_type, registry),
        help=node_type.help,
        inputs=tuple(_port(p, "input") for p in node_type.inputs),
        outputs=tuple(_port(p, "output") for p in node_type.outputs),
        facts=facts_of(node, node_type, project_dir) if project_dir is not None else (),
    )


def summary_of(node: Node, node_type: NodeType[Settings], registry: Registry) -> str:
    """The type's own short line; settings that do not parse are named as such."""
    try:
        settings = parse(node_type.settings, dict(node.settings))
        return node_type.summary(settings.model_copy(update=_titles(settings, registry)))
    except Exception:  # an extension's summary may raise any exception; the canvas must still draw
        return UNREADABLE


def _titles(settings: Settings, registry: Registry) -> dict[str, str]:
    """The titles of selected variants, such as DoRA instead of dora."""
    chosen = {
        name: registry.variant(kind, getattr(settings, name))
        for name, kind in variant_fields(type(settings)).items()
    }
    return {name: variant.title for name, variant in chosen.items() if variant is not None}


def _port(port: Port, side: Side) -> PortContent:
    types = " or ".join(t.title for t in port.types)
    tip = f"{port.title}\n{'Accepts' if side == 'input' else 'Provides'}: {types}"
    if port.help:
        tip += f"\n{port.help}"
    return PortContent(port.name, side, port.title, tuple(t.id for t in port.types), tip)


def _missing(node: Node, wires: Iterable[Wire]) -> NodeContent:
    ends = list(wires)
    inputs = sorted({w.target_port for w in ends if w.target == node.id})
    outputs = sorted({w.source_port for w in ends if w.source == node.id})
    return NodeContent(
        title=node.title or node.type,
        type_title=node.type,
        icon="puzzle",
        category="",
        summary="not installed",
        help=f"The node type “{node.type}” is not installed. Its settings are preserved.",
        inputs=tuple(PortContent(n, "input", n, (), n) for n in inputs),
        outputs=tuple(PortContent(n, "output", n, (), n) for n in outputs),
        missing=True,
    )
