"""From a data file to a training: the offer on the canvas, the choice of a base model, and the graph.

It also asks what another data file is for, and opens the base model chooser for a Base model node. Each answer is one
step to undo.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, QPointF, Signal, Slot
from PySide6.QtWidgets import QDialog, QPushButton, QWidget
from shiboken6 import isValid

from studio.estimate.machine import this_machine
from studio.graph.document import Document
from studio.graph.edits import connect, set_setting
from studio.graph.graph import Graph, Wire
from studio.graph.registry import Registry
from studio.graph.unused import end_of_chain, used_nodes
from studio.graph.wires import title_of
from studio.node_settings.base_model import BaseModelSettings
from studio.recipe.more_data import mixed_in, tested, train_without_data, training_data
from studio.shown_text import line
from ui.canvas import dropping
from ui.canvas.offer_card import Answer
from ui.canvas.view import CanvasView
from ui.runs.controller import RunController
from ui.style import icons

if TYPE_CHECKING:
    from studio.recipe.base_models import BaseChoice, Purpose
    from ui.training.base_dialog import BaseModelDialog

OFFER = "train-on-it"
ASK = "data-for"


class NewTraining(QObject):
    """Owns the offers about data in one window.

    ``set_up`` carries the sentence about a new training and its Train node; ``chosen`` the candidate that was
    chosen, ``message`` a sentence for the status bar.
    """

    set_up = Signal(object, object)
    chosen = Signal(object)
    message = Signal(object)

    def __init__(
        self,
        document: Document,
        registry: Registry,
        runs: RunController,
        canvas: CanvasView,
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._document, self._registry, self._runs = document, registry, runs
        self._canvas = canvas
        self.dialog: BaseModelDialog | None = None
        self._node = ""
        self._strip: tuple[QPushButton, str] | None = None
        canvas.data_dropped.connect(self._data_dropped)
        canvas.ask_about_data = self._ask_about_data
        self._stop_listening = document.listen(self._document_changed)

    def close(self) -> None:
        """Stop following the document."""
        self._stop_listening()
        if self.dialog is not None:
            self.dialog.reject()

    # ------------------------------------------------------------ train on it

    @Slot(object)
    def _data_dropped(self, node: str) -> None:
        """Offer a training on data that was dropped and that nothing uses."""
        graph = self._document.graph
        if node in used_nodes(graph, self._registry):
            return
        self._node = node
        answers = [Answer(f"Train on {self._this(node)}…", lambda: self.train_on(node))]
        waiting = train_without_data(graph)
        if waiting:
            title = title_of(graph.node(waiting), self._registry)
            answers.insert(0, Answer(f"Use It in “{title}”", lambda: self._use_in(node, waiting)))
        self._canvas.offers.offer(
            OFFER,
            f"{self._name(node)} is not used by any training yet.",
            "Adds base model, LoRA, training, merge, export and evaluation, with values for this data and computer.",
            answers,
            node,
        )

    def _document_changed(self) -> None:
        """An offer ends when its node is used or gone, and a question with any edit."""
        offers = self._canvas.offers
        if offers.key == ASK or (offers.key == OFFER and not self._is_unused(self._node)):
            offers.dismiss()
        if self._strip is not None and isValid(self._strip[0]):
            self._strip[0].setVisible(self._is_unused(self._strip[1]))

    def _is_unused(self, node: str) -> bool:
        graph = self._document.graph
        return graph.has(node) and node not in used_nodes(graph, self._registry)

    def strip_for(self, node: str, kind: str, parent: QWidget) -> QWidget | None:
        """The button in the form of a Dataset or Mix node that nothing uses, above its warning."""
        if kind not in ("dataset", "mix"):
            return None
        button = QPushButton(f"Train on {self._this(node)}…", parent)
        button.setObjectName("train-on-it")
        button.setAutoDefault(False)
        button.clicked.connect(lambda: self.train_on(node))
        icons.put(button, "sparkles")
        button.setVisible(self._is_unused(node))
        self._strip = button, node
        return button

    def train_on(self, node: str) -> None:
        """Choose a base model, and add a training on a Dataset node, or on the Mix that it is part of."""
        graph = self._document.graph
        data = end_of_chain(graph, graph.node(node)).id
        self._open(
            f"Choose the model to train on {self._name(node)}.",
            lambda choice: self._add(choice, node),
            dataset=data,
        )

    def _add(self, choice: BaseChoice, node: str) -> None:
        made = choice.training
        assert made is not None
        name = self._name(node)
        self._document.end_merge()
        self._document.edit(made.graph, f"Train on {name}")
        self._canvas.fit_all()
        self._canvas.select((made.train,))
        values = "1 value was" if len(made.proposals) == 1 else f"{len(made.proposals)} values were"
        notes = [
            f"A training on {name} with {choice.candidate.title} is ready to run; {values} set for this data and "
            "computer."
        ]
        if choice.quantization != "none":
            notes.append("The model is loaded in 4 bits, because it does not fit otherwise.")
        if choice.fit == "no":
            notes.append("It is not expected to fit into the memory.")
        self.set_up.emit(" ".join((*notes, *made.notes)), made.train)

    def _use_in(self, node: str, train: str) -> None:
        graph = connect(self._document.graph, Wire(node, "dataset", train, "dataset"))
        self._document.edit(graph, f"Connect to {title_of(graph.node(train), self._registry)}")

    # ------------------------------------------------------------ another base model

    @Slot(object)
    def choose_base(self, node: str) -> None:
        """Choose the model of a Base model node."""
        graph = self._document.graph
        title = title_of(graph.node(node), self._registry)
        self._open(
            f"Choose the model of “{title}”.",
            lambda choice: self._change_base(choice, node),
            base=node,
        )

    def _change_base(self, choice: BaseChoice, node: str) -> None:
        before = self._document.graph.node(node).settings
        assert choice.graph is not None
        self._document.end_merge()
        self._document.edit(choice.graph, "Change Model")
        after = choice.graph.node(node).settings
        notes = []
        if before.get("revision") and "revision" not in after:
            notes.append("The revision was reset: it belonged to the earlier model.")
        if after.get("quantization") != before.get("quantization"):
            notes.append(
                "Quantization was set to 4-bit NF4, because the model fits only with 4 bits."
            )
        if notes:
            self.message.emit(" ".join(notes))

    def _open(
        self,
        sentence: str,
        take: Callable[[BaseChoice], None],
        *,
        dataset: str = "",
        base: str = "",
    ) -> None:
        if self.dialog is not None:
            return
        from studio.estimate.earlier import facts_here
        from studio.estimate.words import gib
        from studio.recipe.base_models import Purpose
        from ui.training.base_dialog import BaseModelDialog

        graph, registry, folder = self._document.graph, self._registry, self._document.project_dir
        runs_dir, leaves_core = self._runs.runs_dir, self._runs.leaves_core
        machine = this_machine(graph)

        def purpose() -> Purpose:
            """With the speeds of earlier runs, which are read from their folders."""
            facts = facts_here(runs_dir, registry, leaves_core, machine)
            return Purpose(graph, registry, folder, facts, dataset, base)

        words = f"{sentence} What fits this computer comes first: {machine.name}, {gib(machine.available)} free."
        known = [p for n in graph.nodes if n.type == "base_model" for p in self._local(n.settings)]
        dialog = BaseModelDialog(words, purpose, known, self._written, self._canvas.window())
        self.dialog = dialog

        def ended(result: int) -> None:
            self.dialog = None
            dialog.deleteLater()
            same = self._document.graph is graph  # modal: only an undo key could have changed it
            if result == QDialog.DialogCode.Accepted and dialog.chosen is not None and same:
                self.chosen.emit(dialog.chosen.candidate)
                take(dialog.chosen)

        dialog.finished.connect(ended)
        dialog.open()

    def _local(self, settings: Mapping[str, Any]) -> list[str]:
        """The path of a model that the project names, if it is a local one."""
        model = str(settings.get("model", BaseModelSettings().model))
        path = self._document.project_dir / Path(model).expanduser()
        return [str(path.absolute())] if path.exists() else []

    def _written(self, path: Path) -> str:
        return dropping.model_written(path, self._document)

    # ------------------------------------------------------------ another data file

    def _ask_about_data(self, paths: Sequence[Path], at: QPointF) -> None:
        """Ask what dropped data is for in a project that has data."""
        graph = self._document.graph
        source = dropping.source_of(paths, self._document)
        name = line(paths[0].name) if len(paths) == 1 else f"{len(paths)} files"
        answers: list[Answer] = []
        data = training_data(graph)
        if len(data) == 1:
            old = self._name(data[0])
            answers.append(
                Answer(
                    f"Replace {old}",
                    lambda: self._replace(data[0], source),
                    f"The node keeps its settings and reads {name} instead",
                )
            )
        if data:
            answers.append(
                Answer(
                    "Add to the Training Data (Mix)",
                    lambda: self._edit(mixed_in(graph, source), f"Mix in {name}"),
                    "Trains on both, combined by a Mix node",
                )
            )
        if tested(graph, source) is not None:
            answers.append(
                Answer(
                    "Use as Test Rows (Evaluate)",
                    lambda: self._edit(tested(graph, source), f"Evaluate {name}"),
                    "The model answers these rows before and after training; they are not trained on",
                )
            )
        answers.append(
            Answer(
                "Add a Separate Dataset",
                lambda: dropping.add_dataset(self._canvas, paths, at),
                "Adds a node that is not connected yet",
            )
        )
        several = len(data) > 1
        detail = "To replace the file of one Dataset node, drop it on that node." if several else ""
        self._canvas.offers.offer(ASK, f"What is {name} for?", detail, answers, at)
        self._canvas.offers.buttons[0].setFocus()

    def _replace(self, node: str, source: str) -> None:
        self._document.end_merge()
        graph = set_setting(self._document.graph, node, "source", source)
        self._document.edit(graph, "Replace file")
        self._canvas.select((node,))
        self._canvas.data_dropped.emit(node)

    def _edit(self, made: tuple[Graph, str, str] | None, label: str) -> None:
        if made is None:
            return
        graph, new, user = made
        self._document.end_merge()
        self._document.edit(graph, label)
        self._canvas.fit_all()
        self._canvas.select((new,))
        used = title_of(graph.node(user), self._registry)
        self.message.emit(f"{self._name(new)} is connected to “{used}”.")

    # ------------------------------------------------------------ words

    def _source(self, node: str) -> list[str]:
        source = str(self._document.graph.node(node).settings.get("source", ""))
        return [part.strip() for part in source.replace("\n", ";").split(";") if part.strip()]

    def _name(self, node: str) -> str:
        """The file name of a Dataset node; of several files, how many; else the title of the node."""
        parts = self._source(node)
        if len(parts) == 1:
            return line(Path(parts[0]).name)
        return (
            f"{len(parts)} files"
            if parts
            else title_of(self._document.graph.node(node), self._registry)
        )

    def _this(self, node: str) -> str:
        parts = self._source(node)
        if len(parts) > 1:
            return "These Files"
        folder = parts and (self._document.project_dir / Path(parts[0]).expanduser()).is_dir()
        return "This Folder" if folder else "This File"
