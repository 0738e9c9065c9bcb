"""How fast the canvas is with a large graph: `python benchmarks/canvas.py [nodes]`.

Prints medians in milliseconds of processor time, painted off screen: adding nodes, a pan step, fit
all, moving one node, looking what is under the mouse. Each figure has the limit it is held to.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from PySide6.QtCore import QPoint, QPointF
from PySide6.QtWidgets import QApplication

from studio.graph import edits
from studio.graph.document import Document
from studio.graph.graph import Graph, Node, Wire
from studio.graph.registry import load_registry
from ui.canvas.view import CanvasView
from ui.style import theme

ROUNDS = 21
CHAIN = (
    ("dataset", 0, 0),
    ("base_model", 0, 160),
    ("lora", 260, 160),
    ("train", 520, 80),
    ("merge", 780, 80),
)
WIRES = (
    ("dataset", "dataset", "train", "dataset"),
    ("base_model", "model", "lora", "model"),
    ("lora", "model", "train", "model"),
    ("train", "adapter", "merge", "adapter"),
)


def chains(nodes: int, across: int = 6) -> Graph:
    """A graph of that many nodes: rows of small training chains."""
    made: list[Node] = []
    wires: list[Wire] = []
    for k in range(nodes // len(CHAIN)):
        left, top = (k % across) * 1100.0, (k // across) * 360.0
        made += [Node(f"{t}{k}", t, {}, "", (left + x, top + y)) for t, x, y in CHAIN]
        wires += [Wire(f"{a}{k}", out, f"{b}{k}", into) for a, out, b, into in WIRES]
    return Graph("benchmark", tuple(made), tuple(wires))


def median_ms(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Median processor time of ``work`` in milliseconds (a loaded machine changes it little)."""
    times = []
    for _ in range(rounds):
        started = time.thread_time()
        work()
        times.append(time.thread_time() - started)
    return statistics.median(times) * 1000


def measure(nodes: int) -> dict[str, float]:
    """All values for a graph of that many nodes, in milliseconds."""
    document = Document()
    view = CanvasView(document, load_registry())
    view.resize(1280, 800)
    view.show()
    QApplication.processEvents()
    values = {"add 500 nodes": _adding(view)}
    document.replace(chains(nodes), None)
    view.zoom_to(1.0)
    view.centerOn(2000, 1000)
    values["repaint at 100 %"] = median_ms(view.viewport().repaint)
    values["pan step at 100 %"] = median_ms(_pan(view))
    values["zoom step"] = median_ms(_zoom(view))
    values["fit all"] = median_ms(lambda: (view.zoom_to(1.0), view.fit_all(), _paint(view)))
    values["repaint fitted"] = median_ms(view.viewport().repaint)
    values["move one node"] = median_ms(_move(view))
    values["look under the mouse"] = median_ms(lambda: view.hover(QPointF(640, 400)))
    view.deleteLater()
    return values


def _adding(view: CanvasView) -> float:
    graph = chains(500)
    times = []
    for _ in range(7):
        view.document.replace(Graph(), None)
        times.append(median_ms(lambda: view.document.replace(graph, None), rounds=1))
    return statistics.median(times)


def _paint(view: CanvasView) -> None:
    view.viewport().repaint()


def _pan(view: CanvasView) -> Callable[[], None]:
    steps = [QPoint(12, 5), QPoint(-12, -5)]

    def step() -> None:
        steps.reverse()
        view.camera.pan(steps[0])
        _paint(view)

    return step


def _zoom(view: CanvasView) -> Callable[[], None]:
    factors = [1.1, 1 / 1.1]

    def step() -> None:
        factors.reverse()
        view.camera.zoom_by(factors[0], QPointF(300, 200))
        _paint(view)

    return step


def _move(view: CanvasView) -> Callable[[], None]:
    place = [0.0]

    def step() -> None:
        place[0] += 10.0
        graph = edits.move(view.document.graph, {"train0": (520.0, place[0])})
        view.document.edit(graph, "Move", "benchmark")

    return step


LIMITS = {"add 500 nodes": 100.0, "pan step at 100 %": 16.0, "fit all": 50.0}


def main() -> int:
    """Print the values; the exit code is 1 when one is over its limit."""
    nodes = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    app = QApplication.instance() or QApplication([])
    theme.apply(app, "dark")
    values = measure(nodes)
    over = 0
    print(f"{nodes} nodes, medians of {ROUNDS}, 1280 x 800")
    for name, value in values.items():
        limit = LIMITS.get(name)
        slow = limit is not None and value > limit
        over += slow
        note = f"  (limit {limit:g}{', OVER' if slow else ''})" if limit else ""
        print(f"{name:24}{value:8.1f} ms{note}")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
