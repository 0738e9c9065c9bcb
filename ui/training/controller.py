"""Training in one window: estimates in the inspector and on the nodes, and proposals.

It links estimates, probe, “Make it fit” and recipe to the document. The proposals come from
``studio``; they are applied as one undoable edit. What computes and shows them is imported on first
use, so that the first paint does not wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Slot
from PySide6.QtWidgets import QWidget
from shiboken6 import isValid

from studio.errors import StudioError
from studio.graph import guide
from studio.graph.document import Document
from studio.graph.graph import Graph
from studio.graph.registry import Registry
from studio.graph.wires import title_of
from ui.canvas.view import CanvasView
from ui.inspector.panel import InspectorPanel
from ui.runs.controller import RunController
from ui.style.guide_link import explain
from ui.training.estimates import EstimateWatch
from workers.task import Task, run_task

if TYPE_CHECKING:
    from studio.estimate import fit
    from studio.estimate.graph import Estimate
    from studio.estimate.job import Facts
    from studio.model.facts import ModelFacts
    from studio.recipe.recipe import Proposal
    from ui.training.changes_dialog import ChangesDialog, ProposedChange
    from ui.training.estimate_strip import EstimateStrip
    from workers.probe import Probe


class TrainingController(QObject):
    """Owns the estimates of a window."""

    def __init__(
        self,
        document: Document,
        registry: Registry,
        runs: RunController,
        canvas: CanvasView,
        inspector: InspectorPanel,
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._document, self._registry, self._runs = document, registry, runs
        self._canvas, self._inspector = canvas, inspector
        self._strip: EstimateStrip | None = None
        self._node = ""
        self._probe: Probe | None = None
        self._probed_node, self._probe_words = "", ""  # a node, and the status of its probe
        self._task: Task | None = None
        self.dialog: ChangesDialog | None = None
        self.known: dict[str, ModelFacts] = {}
        """Facts of models that are not on this machine yet, as the Hub stated them."""
        self.watch = EstimateWatch(document, registry, runs, self._idle, self)
        self.watch.changed.connect(self._show)
        runs.changed.connect(self._show_probe)
        runs.changed.connect(self.watch.look_soon)  # a run that has ended provides a new speed
        inspector.put_under_header(self.strip_for)

    def close(self) -> None:
        """Stop following, and end a probe."""
        self.watch.close()
        if self._task is not None:
            self._task.cancel()
        if self._probe is not None:
            self._probe.cancel()
            self._probe = None

    def _idle(self) -> bool:
        return self._runs.phase == "idle" and self._probe is None

    # ------------------------------------------------------------ shown

    def strip_for(self, node: str, kind: str, parent: QWidget) -> QWidget | None:
        """The estimate under the header of a node's form."""
        if kind != "train":
            return None
        from ui.training.estimate_strip import EstimateStrip

        self._strip, self._node = EstimateStrip(parent), node
        self._strip.fit_wanted.connect(self.make_it_fit)
        self._strip.probe_wanted.connect(self.probe)
        self._strip.recipe_wanted.connect(self.recipe)
        self._show(self.watch.found)
        self._show_probe()
        return self._strip

    def _shown_strip(self) -> EstimateStrip | None:
        """The strip, if its form still exists."""
        if self._strip is not None and not isValid(self._strip):
            self._strip = None
        return self._strip

    @Slot(object)
    def _show(self, found: dict[str, Estimate]) -> None:
        from studio.estimate.words import short
        from ui.inspector.editors.schedule import SchedulePicture

        notes = {node: (short(e), e.fits is False) for node, e in found.items()}
        self._canvas.graph_scene.set_notes(notes)
        strip, shown = self._shown_strip(), found.get(self._node)
        if strip is None:
            return
        strip.show_estimate(shown)
        for picture in self._inspector.findChildren(SchedulePicture):
            picture.set_steps(shown.steps if shown is not None else None)
        if self._probe is None and self._probe_words and shown is not None and shown.dropped:
            self._probe_words = ""  # the message belongs to other settings
            self._show_probe()

    @Slot()
    def _show_probe(self) -> None:
        strip = self._shown_strip()
        if strip is None:
            return
        message = self._probe_words if self._probed_node == self._node else ""
        may = self._runs.phase == "idle" and self._probe is None
        if self._probe is not None and self._probe.node == self._node:
            strip.show_probe(message or "Starting", may=may)
        else:
            strip.show_probe("", may=may, failed=message)

    # ------------------------------------------------------------ probe

    @Slot()
    def probe(self) -> None:
        """Start a probe of the shown node, or cancel the running one."""
        if self._probe is not None:
            self._probe.cancel()
            self._end_probe("The probe was cancelled.")
            return
        from studio.estimate.job import job_of
        from workers.probe import Probe

        self._probe = probe = Probe(self._node, self)
        self._probed_node, self._probe_words = self._node, ""
        probe.progress.connect(self._probe_progressed)
        probe.done.connect(self._probed)
        probe.failed.connect(self._probe_failed)
        document = self._document
        node = document.graph.node(self._node)
        job = job_of(document.graph, self._registry, document.project_dir, node)
        probe.start(job, self.watch.facts())
        self._show_probe()

    @Slot(object)
    def _probe_progressed(self, title: str) -> None:
        if self.sender() is self._probe:
            self._probe_words = title
            self._show_probe()

    @Slot(object)
    def _probed(self, found: Estimate) -> None:
        del found  # updates the estimates of all nodes with the measurement
        self._end_probe("Two steps were trained and measured on this machine.")
        self.watch.check()

    @Slot(object)
    def _probe_failed(self, error: StudioError) -> None:
        self._end_probe(f"{error.sentence} {error.hint or ''}".strip())

    def _end_probe(self, words: str) -> None:
        old, self._probe, self._probe_words = self._probe, None, words
        if old is not None:
            old.deleteLater()
        self._show_probe()

    # ------------------------------------------------------------ proposals

    @Slot()
    def make_it_fit(self) -> None:
        """Show changes that make the training fit into the free memory, and apply the selected
        ones."""
        from studio.estimate import fit
        from studio.estimate.graph import estimate_graph
        from studio.estimate.words import headline, span
        from ui.training.changes import applied

        document, registry, facts = self._document, self._registry, self.watch.facts()
        graph, folder, node = document.graph, document.project_dir, self._node
        proposals, after = fit.propose(graph, registry, folder, facts, node)
        now = self.watch.found.get(node)
        carried = fit.carried(facts, now) if now is not None else facts
        changes = self._changes(
            [(p.node, p.field, p.value, p.reason, _saved(p)) for p in proposals]
        )

        def outcome(chosen: Sequence[ProposedChange]) -> str:
            then = estimate_graph(applied(graph, registry, chosen), registry, folder, carried, node)
            if then is None:
                return ""
            time = (
                f" Estimated time with the changes: {span(then.seconds)}."
                if then.seconds is not None
                else ""
            )
            return headline(then) + time

        sentence = _offered(bool(changes), after is not None and bool(after.fits))
        self._offer("Make It Fit", sentence, changes, outcome, graph)

    @Slot()
    def recipe(self) -> None:
        """Show the recommended values for the shown node."""
        self.show_recipe(self._node)

    def show_recipe(self, node: str) -> None:
        """Show the recommended values for a Train node, and apply the selected ones."""
        document, registry = self._document, self._registry
        if not document.graph.has(node):
            return
        graph, folder, facts = document.graph, document.project_dir, self.watch.facts()
        known = dict(self.known)
        self._task = run_task(
            lambda: (graph, *_recipe(graph, registry, folder, node, facts, known)),
            self._offer_recipe,
        )

    def _offer_recipe(self, found: tuple[Graph, list[Proposal], bool, str]) -> None:
        graph, proposals, with_data, unfitting = found
        if graph is not self._document.graph or self.dialog is not None:
            return
        changes = self._changes([(p.node, p.field, p.value, p.reason, "") for p in proposals])
        sentence = (
            "Recommended values for this model, dataset and machine, each with its reason."
            if changes
            else "All values already match the recipe."
        )
        if not with_data:
            sentence += (
                " The number and length of the rows are estimated from the files; a data report (Report tab) counts "
                "them."
            )
        if unfitting:
            sentence = f"{unfitting} {sentence}"
        changed = {(c.node, c.field) for c in changes}
        kept_values = [
            (self._field_words(p), p.reason) for p in proposals if (p.node, p.field) not in changed
        ]
        self._offer("Recipe", sentence, changes, lambda chosen: "", graph, kept_values)

    def _field_words(self, proposal: Proposal) -> str:
        """``Train, Epochs: 3``."""
        from ui.inspector.row import words_for
        from ui.training.changes import spec_of

        node = self._document.graph.node(proposal.node)
        spec = spec_of(node, proposal.field, self._registry)
        label = spec.meta.label if spec is not None else proposal.field
        value = words_for(spec, proposal.value) if spec is not None else str(proposal.value)
        return f"{title_of(node, self._registry)}, {label}: {value}"

    def _changes(self, found: Sequence[tuple[str, str, object, str, str]]) -> list[ProposedChange]:
        from ui.training.changes import change_of

        graph, registry = self._document.graph, self._registry
        made = (change_of(graph, registry, *each) for each in found)
        return [change for change in made if change is not None]

    def _offer(
        self,
        title: str,
        sentence: str,
        changes: Sequence[ProposedChange],
        outcome: Callable[[Sequence[ProposedChange]], str],
        graph: Graph,
        kept_values: Sequence[tuple[str, str]] = (),
    ) -> None:
        from ui.training.changes_dialog import ChangesDialog

        dialog = ChangesDialog(
            title, sentence, changes, outcome, self._inspector.window(), kept_values
        )
        explain(dialog, guide.PARTS["recipe" if title == "Recipe" else "make-it-fit"])
        self.dialog = dialog
        dialog.accepted.connect(lambda: self._apply(dialog, title, graph))
        dialog.finished.connect(self._closed)
        dialog.open()

    def _apply(self, dialog: ChangesDialog, title: str, graph: Graph) -> None:
        from ui.training.changes import applied

        document = self._document
        if (
            document.graph is graph
        ):  # the dialog is modal: only an undo shortcut could have changed the graph
            document.edit(applied(graph, self._registry, dialog.ticked()), title)

    @Slot()
    def _closed(self) -> None:
        if self.dialog is not None:
            self.dialog.deleteLater()
            self.dialog = None


def _offered(changes: bool, fits: bool) -> str:
    """The sentence above the changes."""
    if not changes:
        return "No further changes are possible: use a smaller model, or free some memory."
    if fits:
        return (
            "With these changes the training fits into the free memory. Those with the least "
            "effect on the result come first."
        )
    return (
        "Even with all of these changes the training does not fit: use a smaller model, or free "
        "some memory. Those with the least effect on the result come first."
    )


def _saved(proposal: fit.Proposal) -> str:
    """The memory that a change saves; accumulation saves none itself, it belongs to the smaller
    batch."""
    from studio.estimate.words import gib

    alone = proposal.field != "gradient_accumulation_steps"
    return f"saves {gib(proposal.saves)}" if alone else ""


def _recipe(
    graph: Graph,
    registry: Registry,
    folder: Path,
    node: str,
    facts: Facts,
    known: Mapping[str, ModelFacts],
) -> tuple[list[Proposal], bool, str]:
    """The recipe's proposals, whether a data report was available, and a sentence if the training does
    not fit."""
    from studio.preview.report_cache import kept
    from studio.recipe.facts import recipe_facts
    from studio.recipe.recipe import propose
    from studio.recipe.verdict import verdict
    from studio.runs.token_request import token_request

    request, _ = token_request(graph, registry, folder, node)
    report = kept(request.key) if request is not None else None
    bases = (n for n in graph.nodes if n.type == "base_model" and n.id in graph.upstream(node))
    models = (str(n.settings.get("model", "")) for n in bases)
    model = next((known[name] for name in models if name in known), None)
    proposals = propose(recipe_facts(graph, registry, folder, node, report, facts, model))
    unfitting = verdict(graph, registry, folder, node, proposals, facts)
    return proposals, report is not None, unfitting
