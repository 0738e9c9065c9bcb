"""Where an adapter goes: the model's linear layers as a tree to tick, an expression, a range, ranks.

Every control changes one state, and everything shown is read from it. Or, where the model is not here
yet, lines to type in. It returns settings; it must not store them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from PySide6.QtCore import QSize, Qt, QTimer
from PySide6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from studio.estimate.shapes import Linear
from studio.layer_pattern import PATTERN
from studio.layers import LinearModule
from studio.targets import Trouble, WholeModule
from ui.inspector.editors.block_range import BlockRange
from ui.inspector.editors.layer_tree import LayerTree
from ui.inspector.editors.layer_words import count_words, row_words
from ui.inspector.editors.layers import by_block, checked_of, kinds
from ui.inspector.editors.row_numbers import RowNumbers, own_numbers
from ui.inspector.editors.target_state import TargetState, typed_names
from ui.inspector.editors.whole_boxes import WholeBoxes
from ui.inspector.look import ErrorLabel, MutedLabel

PRESETS = (
    ("all-linear", "All"), ("attention", "Attention"), ("q,v", "q and v"),
    ("feed-forward", "Feed-forward"), ("", "None"),
)  # fmt: skip
_SIZE = 58, 46  # in heights of a line
_ROOM = 0.94  # of the screen's height
_WAIT_MS = 120
_NOTHING = ("target_modules", "Tick at least one layer.", "")


class LayerDialog(QDialog):
    """``values`` are the node's settings; only the parts of those that it has are shown. ``parts`` are
    what can be trained as a whole, ``no_ranks`` says why layers can have no ranks of their own."""

    def __init__(
        self, layers: Sequence[LinearModule], values: Mapping[str, Any], why_not: str = "",
        parts: Sequence[WholeModule] = (), dtype: str = "", no_ranks: str = "",
        parent: QWidget | None = None,
    ) -> None:  # fmt: skip
        super().__init__(parent)
        self.setWindowTitle("Choose target modules")
        self.setObjectName("layer-dialog")
        self.state = TargetState(layers, values, parts)
        self._no_ranks = no_ranks
        self._soon = QTimer(self, singleShot=True, interval=_WAIT_MS)
        self._soon.timeout.connect(self.judge)
        self._make_top()
        self._make_fields(dtype)
        self.count = QLabel(self)
        self.count.setObjectName("layer-count")
        standard = QDialogButtonBox.StandardButton
        self._buttons = QDialogButtonBox(standard.Ok | standard.Cancel, self)
        self._buttons.accepted.connect(self.accept)
        self._buttons.rejected.connect(self.reject)
        self._lay_out(why_not)
        self._fill()

    def changes(self) -> dict[str, Any]:
        """The settings that another choice was made for."""
        self.tree.flush()
        return self.state.changes()

    def selection(self) -> Any:
        """The setting of the target modules as it is chosen now."""
        self.tree.flush()
        return self.state.target_modules()

    def choose(self, preset: str) -> None:
        """Tick what a preset stands for; “feed-forward” is what “attention” leaves, an empty one is none."""
        rest = preset == "feed-forward"
        names = (
            checked_of("attention" if rest else preset, self.state.modules)[0] if preset else set()
        )
        self._tick({r.name for r in self.state.rows if names.issuperset(r.aliases) != rest})

    def judge(self) -> None:
        """Show what the choices come to, and what is wrong with them."""
        self._soon.stop()
        state = self.state
        chosen = state.chosen()
        rows = state.adapted(chosen)
        self.tree.check(state.matched())
        self.tree.show_numbers({r.name for r in rows}, self._words)
        self._use.setChecked(state.by_expression)
        troubles = [_NOTHING] if state.nothing_is_ticked() else first_of(chosen.troubles)
        for name, label in self._wrong.items():
            said = next((_sentence(s, h) for field, s, h in troubles if field == name), "")
            label.setText(said)
            label.setVisible(bool(said))
        self.count.setText(count_words(state, rows))
        self._show_picked()
        typed = bool(state.strange) and not state.modules  # nobody can judge them yet
        ok = self._buttons.button(QDialogButtonBox.StandardButton.Ok)
        ok.setEnabled(typed or (bool(rows) and not chosen.troubles))

    def accept(self) -> None:
        """Take what was typed last into account first."""
        self.tree.flush()
        self.judge()
        if self._buttons.button(QDialogButtonBox.StandardButton.Ok).isEnabled():
            super().accept()

    def _make_top(self) -> None:
        self.tree = LayerTree(self)
        self.tree.ticked.connect(self._tick)
        self.tree.itemSelectionChanged.connect(self._show_picked)
        self.view = QComboBox(self)
        self.view.setObjectName("layer-view")
        self.view.setAccessibleName("How the layers are grouped")
        self.view.addItems(["By kind", "By layer"])
        self.view.currentIndexChanged.connect(self._fill)
        self.filter = _line(
            self, "layer-filter", "Show only layers whose name holds this", "Filter"
        )
        self.filter.setClearButtonEnabled(True)
        self.filter.textChanged.connect(self.tree.filter)
        self._presets = [self._preset(preset, words) for preset, words in PRESETS]
        self.numbers = RowNumbers(self)
        self.numbers.rank.connect(lambda n: self._give(self.state.ranks, n))
        self.numbers.alpha.connect(lambda n: self._give(self.state.alphas, n))

    def _make_fields(self, dtype: str) -> None:
        state = self.state
        self._use = QCheckBox("E&xpression", self)
        self._use.setObjectName("layer-use-expression")
        self._use.setToolTip("Choose the layers whose whole name this regular expression matches")
        self._use.clicked.connect(self._switch)
        example = state.rows[0].name if state.rows else "model.layers.0.self_attn.q_proj"
        self.expression = _line(
            self,
            "layer-expression",
            "Regular expression for whole names",
            example.replace(".", r"\."),
        )
        self.expression.setText(state.expression)
        self.expression.textEdited.connect(self._express)
        self.range = BlockRange(*(state.blocks or (0, 0)), self)
        self.range.show_text(state.layers)
        self.range.edited.connect(lambda text: self._set("layers", text))
        self.exclude = _line(
            self, "layer-exclude", "Layers that get none", "none, or k_proj, down_proj"
        )
        self.exclude.setText(state.exclude)
        self.exclude.textEdited.connect(lambda text: self._set("exclude", text))
        self.names = _line(self, "layer-names", "Names of layers", "q_proj, v_proj")
        self.names.setText(", ".join(state.strange))
        self.names.textEdited.connect(lambda text: self._set("strange", typed_names(text)))
        self.whole = WholeBoxes(state.parts, dtype, self)
        self.whole.show_names(state.whole)
        self.whole.edited.connect(lambda names: self._set("whole", names))
        self._wrong = {n: ErrorLabel("", self) for n in ("target_modules", "layers", "exclude")}
        for name, label in self._wrong.items():
            label.setObjectName(f"wrong:{name}")

    def _lay_out(self, why_not: str) -> None:
        known = bool(self.state.modules)
        column = QVBoxLayout(self)
        column.setContentsMargins(16, 16, 16, 12)
        column.setSpacing(8)
        if known:
            top = QHBoxLayout()
            top.addWidget(self.view)
            top.addWidget(self.filter, 1)
            for button in self._presets:
                top.addWidget(button)
            column.addLayout(top)
            column.addWidget(self.tree, 1)
        else:
            column.addWidget(MutedLabel(why_not, self))
        if known and "rank_pattern" in self.state.values:
            column.addWidget(self.numbers)
        form = self._fields(known)
        column.addLayout(form)
        column.addWidget(self.count)
        column.addWidget(self._buttons)
        for part in (self._use, self.expression, self.names, self.range, self.exclude, self.whole,
                     *self._wrong.values()):  # fmt: skip
            part.setVisible(form.indexOf(part) >= 0)
        for part in (self.tree, self.view, self.filter, self.count, *self._presets):
            part.setVisible(known)
        self.numbers.setVisible(column.indexOf(self.numbers) >= 0)
        self._order()
        side, room = self.fontMetrics().height(), self.screen().availableSize() * _ROOM
        wanted = QSize(side * _SIZE[0], side * (_SIZE[1] if known else 10))
        self.resize(wanted.boundedTo(room))

    def _order(self) -> None:
        """The way of the Tab key: the tree and its rows, the lines below, then what is above the tree."""
        way = (
            self.tree, *self.numbers.controls, self._use, self.expression, self.names,
            *self.range.controls, self.exclude, *self.whole.boxes.values(),
            *self._buttons.buttons(), self.view, self.filter, *self._presets,
        )  # fmt: skip
        for before, after in pairwise(way):
            QWidget.setTabOrder(before, after)
        if self.state.modules:
            self.tree.setFocus()

    def _fields(self, known: bool) -> QGridLayout:
        """A label and a control in each line, and beneath it what is wrong with it."""
        values, grid = self.state.values, QGridLayout()
        grid.setVerticalSpacing(6)
        grid.setHorizontalSpacing(10)
        grid.setColumnStretch(1, 1)
        if known:
            _row(grid, self._use, self.expression)
        if self.state.strange or not known:
            _row(grid, self._label("&Other names" if known else "&Names", self.names), self.names)
        _row(grid, None, self._wrong["target_modules"])
        if known and "layers" in values and self.state.blocks:
            _row(grid, self._label("&Layers", self.range.line), self.range)
            _row(grid, None, self._wrong["layers"])
        if known and "exclude" in values:
            _row(grid, self._label("&Except", self.exclude), self.exclude)
            _row(grid, None, self._wrong["exclude"])
        if self.state.parts and "modules_to_save" in values:
            label = self._label("Train &whole", next(iter(self.whole.boxes.values())))
            _row(grid, label, self.whole)
            grid.setAlignment(label, Qt.AlignmentFlag.AlignTop)
        return grid

    def _label(self, text: str, control: QWidget) -> QLabel:
        label = QLabel(text, self)
        label.setBuddy(control)
        return label

    def _preset(self, preset: str, words: str) -> QPushButton:
        button = QPushButton(words, self)
        button.setObjectName(f"layer-preset:{preset or 'none'}")
        button.setAutoDefault(False)
        button.clicked.connect(lambda: self.choose(preset))
        return button

    def _fill(self) -> None:
        self.tree.flush()
        group = by_block if self.view.currentIndex() else kinds
        self.tree.show_groups(group(self.state.rows), self.state.matched())
        self.tree.filter(self.filter.text())
        self.judge()

    def _tick(self, names: set[str]) -> None:
        self.state.tick(names)
        self.judge()

    def _express(self, text: str) -> None:
        self.state.expression, self.state.by_expression = text.strip(), bool(text.strip())
        self._soon.start()

    def _switch(self, used: bool) -> None:
        """Use the expression, or go on by hand from what it matches."""
        if not used:
            self.state.tick(self.state.matched())
        self.state.by_expression = used
        self.judge()

    def _set(self, name: str, value: Any) -> None:
        setattr(self.state, name, value.strip() if isinstance(value, str) else value)
        self._soon.start()

    def _give(self, own: dict[str, int], number: int) -> None:
        """Give the selected rows a number of their own, or with 0 the node's."""
        for row in self.tree.picked():
            own.pop(row.name, None)
            if number:
                own[row.name] = number
        self._soon.start()

    def _show_picked(self) -> None:
        names = [r.name for r in self.tree.picked()]
        state = self.state
        self.numbers.show_rows(
            len(names), own_numbers(names, state.ranks), own_numbers(names, state.alphas),
            (state.r, state.alpha), self._no_ranks,
        )  # fmt: skip

    def _words(self, rows: Sequence[Linear], group: bool) -> tuple[str, str, str, bool]:
        return row_words(self.state, rows)


def _line(parent: QWidget, name: str, words: str, placeholder: str) -> QLineEdit:
    line = QLineEdit(parent)
    line.setObjectName(name)
    line.setAccessibleName(words)
    line.setPlaceholderText(placeholder)
    return line


def _row(grid: QGridLayout, label: QWidget | None, control: QWidget) -> None:
    line = grid.rowCount()
    if label is not None:
        grid.addWidget(label, line, 0)
    grid.addWidget(control, line, 1)


def first_of(troubles: Sequence[Trouble]) -> list[Trouble]:
    """Without layers to choose from, only that is worth telling."""
    found = [t for t in troubles if t[0] == "target_modules"]
    return found[:1] or list(troubles)


def _sentence(sentence: str, hint: str) -> str:
    """A sentence of a Problem, on its own."""
    text = f"{sentence} {hint}".strip().replace(PATTERN, "")
    return text[:1].upper() + text[1:]
