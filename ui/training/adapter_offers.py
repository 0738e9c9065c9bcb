"""What is offered for an adapter: to train a dropped one further, and to load one that was chosen as a base model.

Each answer is one step to undo.
"""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QObject, Signal, Slot
from PySide6.QtWidgets import QPushButton, QWidget
from shiboken6 import isValid

from studio.graph.document import Document
from studio.graph.registry import Registry
from studio.graph.wires import title_of
from studio.recipe.train_on import loaded_instead, trained_further
from studio.shown_text import line
from ui.canvas.offer_card import Answer
from ui.canvas.view import CanvasView
from ui.style import icons

OFFER = "adapter"


class AdapterOffers(QObject):
    """Owns these offers in one window; ``message`` is a sentence for the status bar."""

    message = Signal(object)

    def __init__(
        self, document: Document, registry: Registry, canvas: CanvasView, parent: QObject
    ) -> None:
        super().__init__(parent)
        self._document, self._registry, self._canvas = document, registry, canvas
        self._node = ""
        self._strip: tuple[QPushButton, str] | None = None
        canvas.adapter_dropped.connect(self._dropped)
        self._stop_listening = document.listen(self._document_changed)

    def close(self) -> None:
        """Stop following the document."""
        self._stop_listening()

    @Slot(object)
    def _dropped(self, node: str) -> None:
        self._node = node
        named = str(self._document.graph.node(node).settings.get("adapter", ""))
        self._canvas.offers.offer(
            OFFER,
            f"{line(Path(named).name)} is an adapter.",
            "A training can go on from its weights, with your rows. It can also be merged, resized or exported.",
            [
                Answer(
                    "Train It Further",
                    lambda: self.train_further(node),
                    "Adds the base model, data, a training and an export",
                )
            ],
            node,
        )

    def train_further(self, node: str) -> None:
        """Add a training that goes on with the adapter of a Load Adapter node."""
        graph, train = trained_further(self._document.graph, node, self._document.project_dir)
        self._document.end_merge()
        self._document.edit(graph, "Train further")
        self._canvas.fit_all()
        self._canvas.select((train,))
        self.message.emit(
            "The training goes on from the adapter. Choose its rows, and check the base model."
        )

    def _document_changed(self) -> None:
        """An offer ends when its adapter is used or gone."""
        graph, offers = self._document.graph, self._canvas.offers
        used = not graph.has(self._node) or any(w.source == self._node for w in graph.wires)
        if offers.key == OFFER and used:
            offers.dismiss()
        if self._strip is not None and isValid(self._strip[0]):
            self._strip[0].setVisible(self._is_adapter(self._strip[1]))

    def strip_for(self, node: str, kind: str, parent: QWidget) -> QWidget | None:
        """The button in the form of a Base model node that names an adapter."""
        if kind != "base_model":
            return None
        button = QPushButton("Load It as an Adapter", parent)
        button.setObjectName("load-as-adapter")
        button.setToolTip("Adds a Load Adapter node with it, and names its base model here")
        button.setAutoDefault(False)
        button.clicked.connect(lambda: self.load_instead(node))
        icons.put(button, "folder-open")
        button.setVisible(self._is_adapter(node))
        self._strip = button, node
        return button

    def load_instead(self, node: str) -> None:
        """Put the adapter that a Base model node names into a Load Adapter node, and its base in its place."""
        found = loaded_instead(self._document.graph, node, self._document.project_dir)
        if found is None:
            return
        graph, load = found
        self._document.end_merge()
        self._document.edit(graph, "Load as an adapter")
        self._canvas.fit_all()
        base = str(graph.node(node).settings.get("model", ""))
        self._canvas.select((load,) if base else (node,))
        title = title_of(graph.node(load), self._registry)
        what = f"its base model is {line(base)}" if base else "choose its base model here"
        self.message.emit(f"The adapter is in “{title}”; {what}.")

    def _is_adapter(self, node: str) -> bool:
        graph = self._document.graph
        if not graph.has(node) or graph.node(node).type != "base_model":
            return False
        return loaded_instead(graph, node, self._document.project_dir) is not None
