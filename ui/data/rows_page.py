"""The Rows tab: the format of the file, its columns, and the first rows.

Choices here are ordinary edits of the Dataset node's settings. Rows come from the data host's
``preview``, which needs neither a model nor a graph that is complete.
"""

from __future__ import annotations

import glob
from typing import Any

from PySide6.QtCore import Qt, QTimer
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QPushButton, QVBoxLayout, QWidget

from studio.data.columns import ignored_name, normalized
from studio.data.reading.archive import refuse_absent
from studio.data.reading.folder import is_hub
from studio.data.sources import sources_of
from studio.errors import Problem, StudioError
from studio.graph.edits import reset_setting, set_setting
from studio.graph.graph import Graph
from studio.graph.schema import Settings, fields_of, parse
from studio.node_settings.dataset import DatasetSettings
from studio.preview.protocol import Reply
from studio.preview.report import OMITTED
from ui.data.controller import DataController, problem_of
from ui.data.format_box import AUTO, FormatBox
from ui.data.row_cards import RowCards
from ui.data.state_page import PageStack, StatePage
from ui.inspector.editors.base import FieldContext
from ui.inspector.form import Form
from ui.inspector.node_form import apply_change
from ui.inspector.problem_label import ProblemList
from ui.inspector.row import Change
from ui.style.widgets import ErrorLabel, MutedLabel, scrolling

WAIT_MS = 300
FIRST_ROWS, MORE_ROWS, MOST_ROWS = 8, 20, 200
NO_DATASET = "This Train node has no dataset."
NO_DATASET_HINT = "Connect a Dataset node to its “Dataset” input, or drop a file on the canvas."
NO_FILE = "No file selected."
NO_FILE_HINT = "Select a file under Settings, or drop one on this node."
NO_FORMAT_HINT = "Choose the format, or the role of a column below."
CUSTOM = "custom"
OMITTED_HINT = "See the Report tab."


class RowsPage(QWidget):
    """The rows of one Dataset node."""

    def __init__(self, controller: DataController, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("rows-page")
        self._controller = controller
        self._node: str | None = None
        self._train: str | None = None
        self._asked, self._limit = 0, FIRST_ROWS
        self._seen: Any = None
        self._form: Form | None = None
        self._timer = QTimer(self, singleShot=True, interval=WAIT_MS)
        self._timer.timeout.connect(self._ask)
        self.box = FormatBox(controller.registry, self)
        self.box.format_chosen.connect(self._choose_format)
        self.box.column_chosen.connect(self._choose_column)
        self.box.ignore_chosen.connect(self._choose_ignored)
        self.omitted = ProblemList(self)
        self.omitted.setObjectName("omitted-by-template")
        self.error = ErrorLabel("", self)
        self.error.setObjectName("rows-error")
        self.hint = MutedLabel("", self)
        self.files = MutedLabel("", self)
        self.files.setObjectName("row-files")
        self.cards = RowCards(self)
        self.more = QPushButton("Load More Rows", self)
        self.more.setObjectName("more-rows")
        self.more.clicked.connect(self._more)
        self.state = StatePage(self)
        self._lay_out()
        controller.edited.connect(self._follow)
        controller.report_changed.connect(self._show_omitted)

    def _lay_out(self) -> None:
        body = QWidget(self)
        self._column = QVBoxLayout(body)
        self._column.setContentsMargins(12, 10, 12, 14)
        self._column.setSpacing(10)
        for widget in (self.error, self.hint, self.box, self.omitted, self.files, self.cards):
            self._column.addWidget(widget)
        self._column.addWidget(self.more, 0, Qt.AlignmentFlag.AlignLeft)
        self._column.addStretch(1)
        scroll = scrolling(body, self)
        scroll.setAccessibleName("Rows")
        self._stack = PageStack(self, self.state, scroll)

    def show_dataset(self, node: str | None, train: str | None) -> None:
        """Show the rows of this Dataset node, which are used by this Train node."""
        self._train = train
        self._show_omitted()
        if node != self._node:
            self._node, self._limit, self._seen = node, FIRST_ROWS, None
            self._drop_form()
            self.cards.show_rows(())
            self.state.show_progress(None, "Loading the first rows…")
            self._stack.show_full(False)
        self._follow(at_once=True)

    # ------------------------------------------------------------ asking

    def _settings(self) -> dict[str, Any] | None:
        graph = self._controller.document.graph
        if self._node is None or not graph.has(self._node):
            return None
        return dict(graph.node(self._node).settings)

    def _follow(self, at_once: bool = False) -> None:
        settings = self._settings()
        if settings is None:
            self.state.say(NO_DATASET, NO_DATASET_HINT, "unlink")
            self._stack.show_full(False)
        elif not str(settings.get("source", "")).strip():
            self.state.say(NO_FILE, NO_FILE_HINT, "file")
            self._stack.show_full(False)
        elif (settings, self._limit, self._place()) != self._seen and self.isVisible():
            self._show_form(settings)
            absent = self._absent(settings)
            if absent is not None:
                self._say_absent(settings, absent)
            else:
                self._timer.start(0 if at_once else WAIT_MS)

    def _absent(self, settings: dict[str, Any]) -> Problem | None:
        """The Problem of missing files, found without waiting for the data host. Patterns are left
        to the host: they may search an entire disk."""
        if glob.has_magic(str(settings["source"])):
            return None
        try:
            found = parse(DatasetSettings, settings)
            assert isinstance(found, DatasetSettings)
            if not is_hub(found.source):
                place = self._controller.document.project_dir
                refuse_absent(sources_of(found, place).train[0])
        except StudioError as error:
            return error.problem()
        except (ValueError, OSError):
            return None  # a setting is invalid: the preview reports it
        return None

    def _say_absent(self, settings: dict[str, Any], problem: Problem) -> None:
        self._timer.stop()
        if self._asked:
            self._controller.link.cancel(self._asked)
            self._asked = 0
        self._stack.show_full(True)
        self._show_error(settings, problem)

    def _place(self) -> str:
        return str(self._controller.document.project_dir)

    def _ask(self) -> None:
        settings = self._settings()
        if settings is None:
            return
        if self._asked:
            self._controller.link.cancel(self._asked)
        self._seen = (settings, self._limit, self._place())
        self._asked = self._controller.ask(
            "preview",
            self._replied,
            settings=settings,
            project_dir=self._place(),
            first=1,
            limit=self._limit,
        )

    def _replied(self, reply: Reply) -> None:
        if not reply.last:
            return
        self._asked = 0
        settings = self._settings()
        if settings is None or reply.kind == "cancelled":
            return
        self._stack.show_full(True)
        if reply.kind == "error":
            self._controller.host_failed(reply)
            self._show_error(settings, problem_of(reply))
            return
        if "error" in reply.data:
            self.box.show_no_format(settings, reply.data)
            self._tell(Problem(**reply.data["error"]).sentence, NO_FORMAT_HINT)
        else:
            self.box.show_found(settings, reply.data)
            self._tell("", "")
        self._tell_files("\n".join(reply.data["files"]))
        rows = list(reply.data["rows"])
        self.cards.show_rows(rows)
        self.more.setVisible(self._limit <= len(rows) < MOST_ROWS)

    def _show_error(self, settings: dict[str, Any], problem: Problem) -> None:
        self._seen = None  # the file may be fixed: read it again on request
        self.box.show_unknown(settings)
        line = f" (line {problem.line})" if problem.line else ""
        place = "" if line.strip(" ()") in problem.sentence else line
        self._tell(problem.sentence + place, problem.hint)
        self._tell_files("")
        self.cards.show_rows(())
        self.more.hide()

    def _tell(self, sentence: str, hint: str) -> None:
        self.error.setText(sentence)
        self.error.setVisible(bool(sentence))
        self.hint.setText(hint)
        self.hint.setVisible(bool(hint))

    def _tell_files(self, sentences: str) -> None:
        self.files.setText(sentences)
        self.files.setVisible(bool(sentences))

    def _show_omitted(self) -> None:
        """What the chat template omits, if there is a report about these rows."""
        controller = self._controller
        known = controller.report if controller.train == self._train else None
        findings = known.findings if known is not None and not controller.stale else ()
        self.omitted.show_problems(
            [
                Problem(f.sentence, hint=OMITTED_HINT, severity="warning")
                for f in findings
                if f.code in OMITTED
            ]
        )

    def _more(self) -> None:
        self._limit = min(MOST_ROWS, self._limit + MORE_ROWS)
        self._follow(at_once=True)

    # ------------------------------------------------------------ editing

    def _choose_format(self, chosen: str) -> None:
        if self._node is None:
            return
        node_type = self._controller.registry.nodes["dataset"]
        spec = next(s for s in fields_of(node_type.settings) if s.name == "format")
        self._apply(Change("format", chosen, spec, reset=chosen == AUTO))

    def _choose_column(self, pair: tuple[str, str | None]) -> None:
        """Select a column for a field, together with the detected format, so that both agree."""
        name, column = pair
        settings = self._settings()
        if settings is None or self._node is None or self._seen is None:
            return
        graph, path = self._controller.document.graph, f"format_settings.{name}"
        if settings.get("format", AUTO) == AUTO and column is not None:
            graph = set_setting(graph, self._node, "format", self.box.found_format)
        if column is None:
            graph = reset_setting(graph, self._node, path)
        else:
            graph = set_setting(graph, self._node, path, column)
        if column:
            graph = with_ignored(graph, self._node, column, False)
        self._controller.document.end_merge()
        self._controller.document.edit(graph, f"Change column for {name}")

    def _choose_ignored(self, pair: tuple[str, bool]) -> None:
        """Ignore a column or key, or stop ignoring it."""
        name, ignored = pair
        document = self._controller.document
        if self._node is None or not document.graph.has(self._node):
            return
        document.end_merge()
        graph = with_ignored(document.graph, self._node, name, ignored)
        document.edit(graph, f"{'Ignore' if ignored else 'Stop ignoring'} {name}")

    def _apply(self, change: Change) -> None:
        document = self._controller.document
        if self._node is None or not document.graph.has(self._node):
            return
        graph = apply_change(document.graph, self._node, change, self._controller.registry)
        key = None if change.reset else f"{self._node}.{change.path}"
        document.edit(graph, change.label, key)

    # ------------------------------------------------------------ the custom format

    def _show_form(self, settings: dict[str, Any]) -> None:
        """The templates of the custom format, with their Problems."""
        if settings.get("format") != CUSTOM:
            self._drop_form()
            return
        model: type[Settings] = self._controller.registry.variants["format"][CUSTOM].settings
        if self._form is None:
            context = FieldContext(
                self._controller.registry, lambda: self._controller.document.project_dir
            )
            self._form = Form(model, context, "format_settings.", parent=self)
            self._form.changed.connect(self._apply)
            self._form.left.connect(self._controller.document.end_merge)
            self._column.insertWidget(self._column.indexOf(self.box) + 1, self._form)
        self._form.set_values(settings.get("format_settings") or {})
        self._form.set_problems(self._form.own_problems("Custom"))

    def _drop_form(self) -> None:
        if self._form is not None:
            self._column.removeWidget(self._form)
            self._form.deleteLater()
            self._form = None

    def showEvent(self, event: QShowEvent) -> None:
        """Qt: nothing is read before the page is shown."""
        super().showEvent(event)
        self._seen = None  # the file may have changed meanwhile
        self._follow(at_once=True)


def with_ignored(graph: Graph, node: str, name: str, ignored: bool) -> Graph:
    """The graph in which a Dataset node ignores a column or key, or does not."""
    name = ignored_name(name)
    before = list(graph.node(node).settings.get("ignored_columns") or ())
    after = [n for n in before if normalized(str(n)) != normalized(name)]
    after += [name] if ignored else []
    if after == before:
        return graph
    if not after:
        return reset_setting(graph, node, "ignored_columns")
    return set_setting(graph, node, "ignored_columns", after)
