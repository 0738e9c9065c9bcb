"""The scene: the graph's nodes and wires as items, kept in step by difference.

``sync`` compares the new graph with the shown one by id and touches only what differs. The scene
knows nothing of the mouse and never edits the document.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from PySide6.QtCore import QObject, QPointF, QRectF
from PySide6.QtWidgets import QGraphicsScene

from studio.errors import Problem
from studio.graph.graph import Graph, Node, Wire
from studio.graph.registry import Registry
from studio.runs.progress import Progress
from studio.runs.status import NodeView
from ui.canvas import layout, text
from ui.canvas.content import NodeContent, Side, content_of
from ui.canvas.node_item import NodeItem, PortKey
from ui.canvas.node_paint import Detail
from ui.canvas.status import NodeStatus, status_of
from ui.canvas.wire_item import WireItem

WORLD_PX = 100_000.0


class GraphScene(QGraphicsScene):
    """Items by node id and by wire."""

    def __init__(self, registry: Registry, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.registry = registry
        self.project_dir: Callable[[], Path | None] = lambda: None
        self.graph = Graph()
        self.nodes: dict[str, NodeItem] = {}
        self.wires: dict[Wire, WireItem] = {}
        self.detail: Detail = "full"
        self.grown = 0
        self.title_px = text.TITLE
        self._problems: dict[str, tuple[Problem, ...]] = {}
        self._notes: dict[str, tuple[str, bool]] = {}
        self._run_views: Mapping[str, NodeView] = {}
        self._progress: Progress | None = None
        self._hovered: tuple[NodeItem | None, WireItem | None] = (None, None)
        self.setItemIndexMethod(QGraphicsScene.ItemIndexMethod.NoIndex)
        self.setSceneRect(-WORLD_PX / 2, -WORLD_PX / 2, WORLD_PX, WORLD_PX)

    def sync(self, graph: Graph) -> None:
        """Show ``graph``."""
        old, self.graph = self.graph, graph
        moved: set[str] = set()
        if graph.nodes is not old.nodes:
            moved = self._sync_nodes(graph)
        if graph.wires is not old.wires:
            self._sync_wires(graph)
        self._sync_missing(graph)
        self.route(moved)
        if moved or graph.wires is not old.wires:
            self._mark_wired()

    def _sync_nodes(self, graph: Graph) -> set[str]:
        """Add, change and remove node items; returns the ids whose wires must follow."""
        wanted = {node.id for node in graph.nodes}
        for node_id in [i for i in self.nodes if i not in wanted]:
            self.removeItem(self.nodes.pop(node_id))
        touched: set[str] = set()
        for order, node in enumerate(graph.nodes):
            item = self.nodes.get(node.id)
            if item is not None and item.node is node:
                if item.pos() != QPointF(*node.position):
                    item.setPos(QPointF(*node.position))
                    touched.add(node.id)
            elif item is not None:
                item.set_node(node, self._content(node))
                touched.add(node.id)
            else:
                item = self._add_node(node)
                touched.add(node.id)
            if order != item.order:
                item.set_order(order)
        return touched

    def _content(self, node: Node) -> NodeContent:
        return content_of(node, self.registry, project_dir=self.project_dir())

    def _add_node(self, node: Node) -> NodeItem:
        item = NodeItem(node, self._content(node))
        item.set_problems(self._problems.get(node.id, ()))
        item.set_note(*self._notes.get(node.id, ("", False)))
        item.set_status(self._status(node.id))
        self.nodes[node.id] = item
        self.addItem(item)
        return item

    def _sync_wires(self, graph: Graph) -> None:
        wanted = set(graph.wires)
        for wire in [w for w in self.wires if w not in wanted]:
            self.removeItem(self.wires.pop(wire))
        for wire in graph.wires:
            if wire not in self.wires and wire.source in self.nodes and wire.target in self.nodes:
                item = WireItem(wire, self.type_of(wire))
                self.wires[wire] = item
                self.addItem(item)
                self._route_one(item)

    def _sync_missing(self, graph: Graph) -> None:
        """Nodes of unknown types take their ports from their wires."""
        for item in self.nodes.values():
            if item.content.missing:
                item.set_node(item.node, content_of(item.node, self.registry, graph.wires))

    def _mark_wired(self) -> None:
        wired: dict[str, dict[PortKey, str]] = {}
        for wire, item in self.wires.items():
            wired.setdefault(wire.source, {})["output", wire.source_port] = item.type_id
            wired.setdefault(wire.target, {})["input", wire.target_port] = item.type_id
        for node_id, node in self.nodes.items():
            node.mark("wired", wired.get(node_id, {}))

    def type_of(self, wire: Wire) -> str:
        """The id of the type that a wire carries; empty when the source is not installed."""
        source = self.nodes.get(wire.source)
        port = source.content.port("output", wire.source_port) if source else None
        return port.type if port else ""

    def route(self, node_ids: Iterable[str]) -> None:
        """Update the wires of these nodes."""
        moved = set(node_ids)
        if not moved:
            return
        for wire, item in self.wires.items():
            if wire.source in moved or wire.target in moved:
                self._route_one(item)

    def _route_one(self, item: WireItem) -> None:
        wire = item.wire
        item.type_id = self.type_of(wire)
        start = self.nodes[wire.source].port_point("output", wire.source_port)
        item.set_ends(start, self.nodes[wire.target].port_point("input", wire.target_port))

    def place(self, positions: Mapping[str, QPointF]) -> None:
        """Show nodes at other positions without an edit (during a drag)."""
        for node_id, point in positions.items():
            if node_id in self.nodes:
                self.nodes[node_id].setPos(point)
        self.route(positions)

    def set_problems(self, problems: Iterable[Problem]) -> None:
        """Badges for these problems; those of the entire graph are not shown on the canvas."""
        found: dict[str, list[Problem]] = {}
        for problem in problems:
            if problem.node is not None:
                found.setdefault(problem.node, []).append(problem)
        self._problems = {node_id: tuple(some) for node_id, some in found.items()}
        for node_id, item in self.nodes.items():
            item.set_problems(self._problems.get(node_id, ()))

    def set_notes(self, notes: Mapping[str, tuple[str, bool]]) -> None:
        """A few words in the headers of nodes, and whether they are a warning."""
        self._notes = dict(notes)
        for node_id, item in self.nodes.items():
            item.set_note(*self._notes.get(node_id, ("", False)))

    def set_run_state(
        self, views: Mapping[str, NodeView] | None, progress: Progress | None = None
    ) -> None:
        """Show a run and its progress in the footers; ``None`` removes them."""
        self._run_views, self._progress = views or {}, progress
        for node_id, item in self.nodes.items():
            item.set_status(self._status(node_id))

    def _status(self, node_id: str) -> NodeStatus | None:
        view = self._run_views.get(node_id)
        own = self._progress if self._progress and self._progress.node == node_id else None
        if view is None:
            return None
        return status_of(view.numbers, view.state, own, view.place, view.resumed)

    def refresh(self) -> None:
        """Lay out and repaint everything (theme or font changed)."""
        for item in self.nodes.values():
            item.refresh()
        self.update()

    def node_at(self, point: QPointF) -> NodeItem | None:
        """The topmost node whose card holds a point."""
        hits = [item for item in self.nodes.values() if item.contains_scene(point)]
        return max(hits, key=lambda item: item.zValue(), default=None)

    def port_at(
        self, point: QPointF, side: Side | None = None, reach: float = layout.PORT_REACH
    ) -> tuple[NodeItem, Side, str] | None:
        """The topmost node's port near a point, if its card is not covered there."""
        hits: list[tuple[NodeItem, Side, str]] = []
        for item in self.nodes.values():
            key = item.port_at(point, reach)
            if key is not None and side in (None, key[0]):
                hits.append((item, *key))
        return max(hits, key=lambda hit: hit[0].zValue(), default=None)

    def wire_at(self, point: QPointF) -> WireItem | None:
        """A wire under a point."""
        return next((item for item in self.wires.values() if item.near(point)), None)

    def mark_hovered(self, port: tuple[NodeItem, Side, str] | None, wire: WireItem | None) -> None:
        """Show one port or wire as the one under the mouse, and the last one no more."""
        old_node, old_wire = self._hovered
        if old_node is not None and (port is None or old_node is not port[0]):
            old_node.mark("hovered_port", None)
        if old_wire is not None and old_wire is not wire:
            old_wire.mark("hovered", False)
        if port is not None:
            port[0].mark("hovered_port", (port[1], port[2]))
        if wire is not None:
            wire.mark("hovered", True)
        self._hovered = (port[0] if port else None, wire)

    def nodes_in(self, rect: QRectF) -> tuple[str, ...]:
        """Ids of the nodes that a rectangle touches, in drawing order."""
        inside = [i for i in self.nodes.values() if i.scene_card().intersects(rect)]
        return tuple(i.id for i in sorted(inside, key=lambda item: item.zValue()))

    def content_rect(self, node_ids: Iterable[str] | None = None) -> QRectF:
        """The rectangle around these nodes (all of them if ``None``); empty without nodes."""
        wanted = self.nodes if node_ids is None else node_ids
        rect = QRectF()
        for node_id in wanted:
            if node_id in self.nodes:
                rect = rect.united(self.nodes[node_id].scene_card())
        return rect
