"""The form of one node, tied to the Document: it shows the node's settings and edits them.

Each change is one ``document.edit`` under a merge key of its field, so typing is one undo step. A
value equal to the default is left out of the settings. It validates nothing; it shows Problems.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from PySide6.QtCore import QEvent, QSize, Qt, Signal
from PySide6.QtWidgets import QPushButton, QVBoxLayout, QWidget

from studio.errors import Problem
from studio.graph import guide
from studio.graph.document import Document
from studio.graph.edits import reset_setting, set_setting
from studio.graph.facts import choices_of, facts_of
from studio.graph.graph import Graph, Node
from studio.graph.node_type import Option
from studio.graph.options import options_of
from studio.graph.registry import Registry
from studio.graph.schema import FieldSpec, fields_of
from studio.graph.wires import title_of
from studio.model.trust import OwnCode
from ui.inspector.custom_code import OwnCodeStrip, code_of
from ui.inspector.editors.base import FieldContext
from ui.inspector.extent import ExtentSwitch
from ui.inspector.facts import FactsTable
from ui.inspector.form import OWN_CODES, Form
from ui.inspector.problem_label import ProblemList
from ui.inspector.row import Change, same
from ui.style.guide_link import explain
from ui.style.widgets import MutedLabel

READ_ONLY_WORDS = "These are the settings of the selected run. They are read-only."


class NodeForm(QWidget):
    """What the node is for, its facts and Problems, and the generated form.

    ``relaid``: the layout has changed. ``extent_chosen`` carries whether all settings are wanted.
    ``model_wanted``: the base model chooser is to be opened for this node.
    """

    relaid = Signal()
    extent_chosen = Signal(object)
    model_wanted = Signal(object)

    def __init__(
        self,
        document: Document,
        registry: Registry,
        node_id: str,
        folds: dict[str, bool],
        all_settings: bool = False,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._document, self._registry = document, registry
        self.node_id = node_id
        self.type_id = document.graph.node(node_id).type
        self._node_type = registry.node_type(self.type_id)
        self._problems: tuple[Problem, ...] = ()
        self._help = MutedLabel(self._node_type.help if self._node_type else "", self)
        self._help.setVisible(self._node_type is not None)
        self._note = MutedLabel(READ_ONLY_WORDS, self)
        self._note.hide()
        self._facts = FactsTable(self)
        self._own_code = OwnCodeStrip(self)
        self._own_code.decided.connect(self._document.notify_listeners)
        self._list = ProblemList(self)
        self._strangers = QPushButton("Remove Unknown", self)
        self._strangers.setObjectName("remove-unknown")
        self._strangers.setToolTip("Remove settings that the node type does not define")
        self._strangers.clicked.connect(self._remove_strangers)
        self._all = all_settings
        self._switch = ExtentSwitch(self)
        self._switch.show_choice(all_settings)
        self._switch.chosen.connect(self.extent_chosen)
        self._more = QPushButton(self)
        self._more.setObjectName("more-settings")
        self._more.clicked.connect(lambda: self.extent_chosen.emit(True))
        self._form = self._make_form(folds)
        explain(self, guide.of_node(self.type_id))
        self.setMinimumWidth(1)
        self.column = QVBoxLayout(self)
        self.column.setContentsMargins(12, 12, 12, 12)
        self.column.setSpacing(10)
        top = (self._help, self._facts, self._own_code, self._note, self._list, self._strangers)
        for widget in top:
            self.column.addWidget(widget)
        if self._form is not None:
            self.column.addWidget(self._switch)
            self.column.addWidget(self._form)
            self.column.addWidget(self._more, 0, Qt.AlignmentFlag.AlignLeft)
        self.column.addStretch(1)
        self.refresh()

    def event(self, event: QEvent) -> bool:
        """Qt: after each new layout, emit ``relaid``."""
        done = super().event(event)
        if event.type() == QEvent.Type.LayoutRequest:
            self.relaid.emit()
        return done

    def rows(self) -> Iterator[QWidget]:
        """The rows of the form."""
        return self._form.rows() if self._form is not None else iter(())

    @property
    def node(self) -> Node:
        """The node as it is now."""
        return self._document.graph.node(self.node_id)

    def minimumSizeHint(self) -> QSize:
        """Nothing: the scroll area then asks for the height that this width really needs."""
        return QSize(1, 1)

    def add_part(self, part: QWidget | None) -> None:
        """Add a widget of another room under header and facts."""
        if part is not None:
            self.column.insertWidget(2, part)

    def refresh(self) -> None:
        """Update the form after a change of the document."""
        self._facts.show_facts(facts_of(self.node, self._node_type, self._document.project_dir))
        self._own_code.show_code(self._code())
        if self._form is not None:
            self._form.set_values(self.node.settings)
        self._strangers.setVisible(bool(self._unknown()))
        self._show_problems()

    def set_problems(self, problems: Sequence[Problem]) -> None:
        """The Problems of this node, as the last check of the graph found them."""
        self._problems = tuple(p for p in problems if p.node == self.node_id)
        self._facts.show_facts(facts_of(self.node, self._node_type, self._document.project_dir))
        self._show_problems()

    def set_read_only(self, read_only: bool) -> None:
        """Make the form read-only while a run is shown."""
        self._note.setVisible(read_only)
        self._strangers.setEnabled(not read_only)
        if self._form is not None:
            self._form.set_read_only(read_only)

    def focus_field(self, path: str) -> QWidget | None:
        """Give a field the focus and return its row."""
        return self._form.focus_field(path) if self._form is not None else None

    def _make_form(self, folds: dict[str, bool]) -> Form | None:
        if self._node_type is None:
            return None
        context = FieldContext(
            self._registry,
            lambda: self._document.project_dir,
            self._model_upstream,
            value=self._value_of,
            base_value=self._base_value,
            edit_many=self._apply_many,
            choices=self._choices,
            options=self._options,
            choose_model=lambda: self.model_wanted.emit(self.node_id),
            guide_place=lambda path, spec: guide.of_setting(self.type_id, path, spec.meta.group),
            label=self._label_of,
            connected=self._connected,
        )
        form = Form(
            self._node_type.settings, context, folds=folds, parent=self, all_settings=self._all
        )
        form.changed.connect(self._apply)
        form.left.connect(self._left)
        return form

    def show_all(self, all_settings: bool) -> None:
        """Show all settings that apply, or the essential ones."""
        self._all = all_settings
        self._switch.show_choice(all_settings)
        if self._form is not None:
            self._form.show_all(all_settings)
        self._show_more()

    def _show_more(self) -> None:
        """The settings that All would add; without any, there is nothing to switch."""
        more = self._form.more() if self._form is not None else 0
        self._more.setText(f"Show {more} More Setting{'s' if more != 1 else ''}")
        self._more.setVisible(more > 0)
        self._switch.setVisible(self._form is not None and self._form.has_more())

    def _apply(self, change: Change) -> None:
        if not self._document.graph.has(self.node_id):
            return  # the node was deleted while its field had the focus
        graph = apply_change(self._document.graph, self.node_id, change, self._registry)
        key = None if change.reset else f"{self.node_id}.{change.path}"
        self._document.edit(graph, change.label, key)

    def _apply_many(self, values: Mapping[str, Any], words: str) -> None:
        """Store several settings as one step; a value equal to the default is left out."""
        if not self._document.graph.has(self.node_id) or self._node_type is None:
            return
        graph = self._document.graph
        defaults = {s.name: s.default for s in fields_of(self._node_type.settings)}
        for name, value in values.items():
            if same(value, defaults.get(name)):
                graph = reset_setting(graph, self.node_id, name)
            else:
                graph = set_setting(graph, self.node_id, name, value)
        self._document.end_merge()
        self._document.edit(graph, words)
        self.refresh()

    def _left(self) -> None:
        self._document.end_merge()
        if self._document.graph.has(self.node_id):
            self.refresh()

    def _show_problems(self) -> None:
        title = title_of(self.node, self._registry)
        found = list(self._problems)
        if self._form is not None:
            # The form validates its own values immediately; the last check is out of date.
            found = [p for p in found if p.code not in OWN_CODES]
            found += self._form.own_problems(title)
            found = self._form.set_problems(found)
        self._show_more()
        self._list.show_problems(found)

    def _value_of(self, name: str) -> object:
        """A setting of this node as it is now."""
        specs = fields_of(self._node_type.settings) if self._node_type else ()
        default = next((s.default for s in specs if s.name == name), None)
        return self.node.settings.get(name, default)

    def _label_of(self, spec: FieldSpec) -> str:
        """The label of a field; that of an input names the connected node instead of the port."""
        port, label = spec.meta.port, spec.meta.label
        graph = self._document.graph
        wire = graph.wire_into(self.node_id, port) if port and graph.has(self.node_id) else None
        if wire is None:
            return label
        title = title_of(graph.node(wire.source), self._registry)
        others = (w for w in graph.wires_into(self.node_id) if w.target_port != port)
        same_title = any(title_of(graph.node(w.source), self._registry) == title for w in others)
        name = port.upper()
        return f"{label.removesuffix(name)}{title}{f' ({name})' if same_title else ''}"

    def _choices(self, name: str) -> tuple[str, ...]:
        """What a setting of this node can be, as its files say."""
        return choices_of(self.node, self._node_type, self._document.project_dir, name)

    def _connected(self, port: str) -> bool:
        """Whether a setting of this input is used; those of no input always are."""
        graph = self._document.graph
        known = port and graph.has(self.node_id)
        return not known or graph.wire_into(self.node_id, port) is not None

    def _options(self, path: str) -> tuple[Option, ...]:
        """What the choices of a setting mean in this project."""
        document = self._document
        return options_of(document.graph, self.node_id, self._registry, document.project_dir, path)

    def _model_upstream(self) -> str | None:
        """The model setting of the nearest node before this one that has such a field."""
        found = self._base_node()
        return str(found[0].settings.get(found[1].name, found[1].default)) if found else None

    def _base_value(self, name: str) -> object:
        """A setting of the node that the model comes from."""
        found = self._base_node()
        if found is None:
            return None
        node_type = self._registry.node_type(found[0].type)
        specs = fields_of(node_type.settings) if node_type else ()
        default = next((s.default for s in specs if s.name == name), None)
        return found[0].settings.get(name, default)

    def _base_node(self) -> tuple[Node, FieldSpec] | None:
        """The nearest node before this one that names a model, and its field."""
        graph = self._document.graph
        before = graph.upstream(self.node_id)
        for node in reversed(graph.nodes):
            node_type = self._registry.node_type(node.type)
            if node.id not in before or node_type is None:
                continue
            for spec in fields_of(node_type.settings):
                if spec.meta.widget == "model":
                    return node, spec
        return None

    def add_below(self, widget: QWidget) -> None:
        """Add a widget below the settings, once per name."""
        if self.findChild(QWidget, widget.objectName()) is not None:
            widget.deleteLater()
            return
        self.column.insertWidget(self.column.count() - 1, widget, 0, Qt.AlignmentFlag.AlignLeft)

    def review_code(self) -> None:
        """Review the custom code of the node's model."""
        self._own_code.review()

    def _code(self) -> OwnCode | None:
        """The custom code of this node's model, if there is any."""
        fields = fields_of(self._node_type.settings) if self._node_type else ()
        named = next((s for s in fields if s.meta.widget == "model"), None)
        if named is None:
            return None
        model = str(self.node.settings.get(named.name, named.default))
        revision = str(self.node.settings.get("revision", ""))
        return code_of(model, revision, self._document.project_dir)

    def _unknown(self) -> list[str]:
        if self._node_type is None:
            return []
        known = {spec.name for spec in fields_of(self._node_type.settings)}
        return [name for name in self.node.settings if name not in known]

    def _remove_strangers(self) -> None:
        graph = self._document.graph
        for name in self._unknown():
            graph = reset_setting(graph, self.node_id, name)
        self._document.edit(graph, "Remove unknown settings")


def apply_change(graph: Graph, node_id: str, change: Change, registry: Registry) -> Graph:
    """The graph after a change; a new variant keeps only the settings it shares."""
    if change.reset or same(change.value, change.spec.default):
        graph = reset_setting(graph, node_id, change.path)
    else:
        graph = set_setting(graph, node_id, change.path, change.value)
    if not change.spec.meta.variant:
        return graph
    nested = f"{change.path}_settings"
    old: Any = graph.node(node_id).settings.get(nested)
    known = {s.name for s in fields_of(registry.variant_settings(change.spec, str(change.value)))}
    for name in list(old) if isinstance(old, Mapping) else ():
        if name not in known:
            graph = reset_setting(graph, node_id, f"{nested}.{name}")
    return graph
