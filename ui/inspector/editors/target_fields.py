"""The lines below the tree of layers: expression, range, excluded layers, and fully trained
modules.

Each line shows a part of the target state with its error below, and emits edits. Lines for settings
that the node does not have are hidden.
"""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import (
    QCheckBox,
    QGridLayout,
    QLabel,
    QLineEdit,
    QVBoxLayout,
    QWidget,
)

from studio.model.layer_pattern import PATTERN
from studio.model.targets import FieldError, FullyTrainedModule
from ui.inspector.editors.block_range import BlockRange
from ui.inspector.editors.target_state import TargetState, typed_names
from ui.style.widgets import ErrorLabel, MutedLabel

_HEADS = ("lm_head", "embed_out")
TIED = (
    "This model ties its input embedding and output head. If one of them is fully trained, they "
    "are no longer tied, and a merged model contains both."
)
_EXAMPLE = "model.layers.0.self_attn.q_proj"
_JUDGED = ("target_modules", "layers", "exclude")


class FullyTrainedBoxes(QWidget):
    """Embedding and head: a check box each with its size, and a note on tied weights. Other names in
    the setting are kept. ``edited`` carries the selected names."""

    edited = Signal(object)

    def __init__(
        self, parts: Sequence[FullyTrainedModule], dtype: str, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._parts, self._names = list(parts), list[str]()
        self.boxes = {p.name: QCheckBox(part_words(p, dtype), self) for p in parts}
        self.note = MutedLabel("", self)
        self.note.setObjectName("fully-trained-note")
        self.note.hide()
        grid = QGridLayout()
        grid.setHorizontalSpacing(16)
        grid.setColumnStretch(2, 1)
        for place, (name, box) in enumerate(self.boxes.items()):
            box.setObjectName(f"fully-trained:{name}")
            box.toggled.connect(self._toggled)
            grid.addWidget(box, *divmod(place, 2))
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(grid)
        column.addWidget(self.note)

    def show_names(self, names: Sequence[str]) -> None:
        """Check these parts; emits nothing."""
        self._names = list(names)
        for name, box in self.boxes.items():
            box.blockSignals(True)
            box.setChecked(name in names)
            box.blockSignals(False)
        self._warn()

    def _toggled(self) -> None:
        others = [n for n in self._names if n not in self.boxes]
        self._names = [n for n, box in self.boxes.items() if box.isChecked()] + others
        self._warn()
        self.edited.emit(list(self._names))

    def _warn(self) -> None:
        tied = any(p.tied and p.name in self._names for p in self._parts)
        self.note.setText(TIED if tied else "")
        self.note.setVisible(tied)


def part_words(part: FullyTrainedModule, dtype: str) -> str:
    """“Head (lm_head): 28.3 M, 57 MB”; both sizes if the precision is unknown."""
    kind = "Head" if part.name in _HEADS else "Embedding"
    sizes = {"float32": (4,), "auto": (2, 4), "": (2, 4)}.get(dtype, (2,))
    size = " to ".join(f"{part.parameters * each / 1e6:,.0f}" for each in sizes)
    return f"{kind} ({part.name}): {part.parameters / 1e6:,.1f} M, {size} MB"


class TargetFields(QWidget):
    """``changed`` carries the name of a part of the state and its new value, ``switched`` whether the
    expression is used."""

    changed = Signal(str, object)
    switched = Signal(bool)

    def __init__(self, state: TargetState, dtype: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._state = state
        self._use = QCheckBox("E&xpression", self)
        self._use.setObjectName("layer-use-expression")
        self._use.setToolTip("Select layers whose full name matches this regular expression")
        self._use.clicked.connect(self.switched)
        example = (state.rows[0].name if state.rows else _EXAMPLE).replace(".", r"\.")
        self._expression = self._line(
            "expression", "Regular expression for full module names", example
        )
        self._exclude = self._line("exclude", "Excluded layers", "none, or k_proj, down_proj")
        self._names = self._line("names", "Module names", "q_proj, v_proj")
        self._range = BlockRange(*(state.blocks or (0, 0)), self)
        self._fully_trained = FullyTrainedBoxes(state.parts, dtype, self)
        self._wrong = {name: ErrorLabel("", self) for name in _JUDGED}
        for name, label in self._wrong.items():
            label.setObjectName(f"wrong:{name}")
        self._show_state()
        self._lay_out()

    @property
    def controls(self) -> tuple[QWidget, ...]:
        """The focusable controls, in order."""
        boxes = self._fully_trained.boxes.values()
        ranges = self._range.controls
        return self._use, self._expression, self._names, *ranges, self._exclude, *boxes

    def show_errors(self, by_expression: bool, errors: Sequence[FieldError]) -> None:
        """Show whether the expression is used, and the errors below the lines."""
        self._use.setChecked(by_expression)
        for name, label in self._wrong.items():
            said = next((_sentence(s, h) for field, s, h in errors if field == name), "")
            label.setText(said)
            label.setVisible(bool(said))

    def _show_state(self) -> None:
        state = self._state
        self._expression.setText(state.expression)
        self._exclude.setText(state.exclude)
        self._names.setText(", ".join(state.strange))
        self._range.show_text(state.layers)
        self._fully_trained.show_names(state.fully_trained)
        self._expression.textEdited.connect(lambda t: self.changed.emit("expression", t.strip()))
        self._exclude.textEdited.connect(lambda t: self.changed.emit("exclude", t.strip()))
        self._names.textEdited.connect(lambda t: self.changed.emit("strange", typed_names(t)))
        self._range.edited.connect(lambda text: self.changed.emit("layers", text))
        self._fully_trained.edited.connect(lambda names: self.changed.emit("fully_trained", names))

    def _lay_out(self) -> None:
        """Place a label and a control in each line, and hide unused controls."""
        state, known, grid = self._state, bool(self._state.modules), QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setVerticalSpacing(6)
        grid.setHorizontalSpacing(10)
        grid.setColumnStretch(1, 1)
        if known:
            _row(grid, self._use, self._expression)
        if state.strange or not known:
            _row(grid, self._label("&Other names" if known else "&Names", self._names), self._names)
        _row(grid, None, self._wrong["target_modules"])
        if known and "layers" in state.values and state.blocks:
            _row(grid, self._label("&Layers", self._range.line), self._range)
            _row(grid, None, self._wrong["layers"])
        if known and "exclude" in state.values:
            _row(grid, self._label("&Except", self._exclude), self._exclude)
            _row(grid, None, self._wrong["exclude"])
        if state.parts and "modules_to_save" in state.values:
            label = self._label(
                "&Fully trained modules", next(iter(self._fully_trained.boxes.values()))
            )
            _row(grid, label, self._fully_trained)
            grid.setAlignment(label, Qt.AlignmentFlag.AlignTop)
        for part in (
            self._use,
            self._expression,
            self._names,
            self._range,
            self._exclude,
            self._fully_trained,
            *self._wrong.values(),
        ):
            part.setVisible(grid.indexOf(part) >= 0)

    def _label(self, text: str, control: QWidget) -> QLabel:
        label = QLabel(text, self)
        label.setBuddy(control)
        return label

    def _line(self, name: str, words: str, placeholder: str) -> QLineEdit:
        line = QLineEdit(self)
        line.setObjectName(f"layer-{name}")
        line.setAccessibleName(words)
        line.setPlaceholderText(placeholder)
        return line


def _row(grid: QGridLayout, label: QWidget | None, control: QWidget) -> None:
    line = grid.rowCount()
    if label is not None:
        grid.addWidget(label, line, 0)
    grid.addWidget(control, line, 1)


def _sentence(sentence: str, hint: str) -> str:
    """A Problem as a sentence."""
    text = f"{sentence} {hint}".strip().replace(PATTERN, "")
    return text[:1].upper() + text[1:]
