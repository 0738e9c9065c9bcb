"""Selects the layers of an adapter: the model's linear layers as a tree with check boxes, an
expression, a range, ranks.

Every control changes one state, and everything shown is read from it. If the model is not on this
machine yet, names can be typed. It returns settings and stores nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from PySide6.QtCore import QTimer
from PySide6.QtWidgets import (
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from studio.model.layers import LinearModule
from studio.model.shapes import Linear
from studio.model.targets import FieldError, FullyTrainedModule
from ui.inspector.editors.layer_tree import LayerTree
from ui.inspector.editors.layers import by_block, checked_of, kinds
from ui.inspector.editors.row_numbers import RowNumbers, own_numbers
from ui.inspector.editors.target_fields import TargetFields
from ui.inspector.editors.target_state import TargetState
from ui.style.widgets import MutedLabel, resize_on_screen

PRESETS = (
    ("all-linear", "All"),
    ("attention", "Attention"),
    ("q,v", "q and v"),
    ("feed-forward", "Feed-forward"),
    ("", "None"),
)
_SIZE = 58, 46  # in heights of a line
_WAIT_MS = 120
_NOTHING = ("target_modules", "Select at least one layer.", "")
_NONE = "–"


class LayerDialog(QDialog):
    """``values`` are the node's settings; only the parts of those that it has are shown. ``parts`` are
    the modules that can be saved, ``no_ranks`` says why layers can have no ranks of their own."""

    def __init__(
        self,
        layers: Sequence[LinearModule],
        values: Mapping[str, Any],
        why_not: str = "",
        parts: Sequence[FullyTrainedModule] = (),
        dtype: str = "",
        no_ranks: str = "",
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle("Select target modules")
        self.setObjectName("layer-dialog")
        self.state = TargetState(layers, values, parts)
        self._no_ranks = no_ranks
        self._soon = QTimer(self, singleShot=True, interval=_WAIT_MS)
        self._soon.timeout.connect(self.judge)
        self._make_top()
        self.fields = TargetFields(self.state, dtype, self)
        self.fields.changed.connect(self._set)
        self.fields.switched.connect(self._switch)
        self.count = QLabel(self)
        self.count.setObjectName("layer-count")
        standard = QDialogButtonBox.StandardButton
        self._buttons = QDialogButtonBox(standard.Ok | standard.Cancel, self)
        self._buttons.accepted.connect(self.accept)
        self._buttons.rejected.connect(self.reject)
        self._lay_out(why_not)
        self._fill()

    def changes(self) -> dict[str, Any]:
        """The changed settings."""
        self.tree.flush()
        return self.state.changes()

    def selection(self) -> Any:
        """The target modules setting for the current selection."""
        self.tree.flush()
        return self.state.target_modules()

    def choose(self, preset: str) -> None:
        """Check the layers of a preset; “feed-forward” is the complement of “attention”, an empty
        preset checks none."""
        rest = preset == "feed-forward"
        names = (
            checked_of("attention" if rest else preset, self.state.modules)[0] if preset else set()
        )
        self._tick({r.name for r in self.state.rows if names.issuperset(r.aliases) != rest})

    def judge(self) -> None:
        """Show the counts of the selection, and its errors."""
        self._soon.stop()
        state = self.state
        chosen = state.chosen()
        rows = state.adapted(chosen)
        self.tree.check(state.matched())
        self.tree.show_numbers({r.name for r in rows}, self._words)
        errors = [_NOTHING] if state.nothing_is_ticked() else first_of(chosen.errors)
        self.fields.show_errors(state.by_expression, errors)
        self.count.setText(count_words(state, rows))
        self._show_picked()
        typed = bool(state.strange) and not state.modules  # they cannot be validated yet
        ok = self._buttons.button(QDialogButtonBox.StandardButton.Ok)
        ok.setEnabled(typed or (bool(rows) and not chosen.errors))

    def accept(self) -> None:
        """Apply the last edit before accepting."""
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
        self.view.setAccessibleName("Grouping of the layers")
        self.view.addItems(["By kind", "By layer"])
        self.view.currentIndexChanged.connect(self._fill)
        self.filter = QLineEdit(self)
        self.filter.setObjectName("layer-filter")
        self.filter.setAccessibleName("Filter layers by name")
        self.filter.setPlaceholderText("Filter")
        self.filter.setClearButtonEnabled(True)
        self.filter.textChanged.connect(self.tree.filter)
        self._presets = [self._preset(preset, words) for preset, words in PRESETS]
        self.numbers = RowNumbers(self)
        self.numbers.rank.connect(lambda n: self._give(self.state.ranks, n))
        self.numbers.alpha.connect(lambda n: self._give(self.state.alphas, n))

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
        column.addWidget(self.fields)
        column.addWidget(self.count)
        column.addWidget(self._buttons)
        for part in (self.tree, self.view, self.filter, self.count, *self._presets):
            part.setVisible(known)
        self.numbers.setVisible(column.indexOf(self.numbers) >= 0)
        self._order()
        side = self.fontMetrics().height()
        resize_on_screen(self, side * _SIZE[0], side * (_SIZE[1] if known else 10))

    def _order(self) -> None:
        """The tab order: the tree and its rows, the lines below, then the controls above the
        tree."""
        way = (
            self.tree,
            *self.numbers.controls,
            *self.fields.controls,
            *self._buttons.buttons(),
            self.view,
            self.filter,
            *self._presets,
        )
        for before, after in pairwise(way):
            QWidget.setTabOrder(before, after)
        if self.state.modules:
            self.tree.setFocus()

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

    def _switch(self, used: bool) -> None:
        """Use the expression, or select by hand, starting from its matches."""
        if not used:
            self.state.tick(self.state.matched())
        self.state.by_expression = used
        self.judge()

    def _set(self, name: str, value: Any) -> None:
        """Apply an edit; an expression is used from its first character on."""
        setattr(self.state, name, value)
        if name == "expression":
            self.state.by_expression = bool(value)
        self._soon.start()

    def _give(self, own: dict[str, int], number: int) -> None:
        """Set a rank or alpha for the selected rows; 0 means the node's."""
        for row in self.tree.picked():
            own.pop(row.name, None)
            if number:
                own[row.name] = number
        self._soon.start()

    def _show_picked(self) -> None:
        names = [r.name for r in self.tree.picked()]
        state = self.state
        self.numbers.show_rows(
            len(names),
            own_numbers(names, state.ranks),
            own_numbers(names, state.alphas),
            (state.r, state.alpha),
            self._no_ranks,
        )

    def _words(self, rows: Sequence[Linear]) -> tuple[str, str, str, set[str]]:
        return row_words(self.state, rows)


def first_of(errors: Sequence[FieldError]) -> list[FieldError]:
    """Without layers to choose from, only that is worth telling."""
    found = [t for t in errors if t[0] == "target_modules"]
    return found[:1] or list(errors)


def row_words(state: TargetState, rows: Sequence[Linear]) -> tuple[str, str, str, set[str]]:
    """Rank, alpha and trained parameters of rows that get an adapter; ``rank`` and ``alpha`` where any
    of them has its own."""
    if not rows:
        return _NONE, _NONE, _NONE, set()
    counted = [state.parameters(r) for r in rows]
    known = [c for c in counted if c is not None]
    trained = f"{sum(known):,}" if len(known) == len(counted) else _NONE
    given = {"rank": state.ranks, "alpha": state.alphas}
    own = {name for name, numbers in given.items() if any(r.name in numbers for r in rows)}
    ranks, alphas = {state.rank_of(r) for r in rows}, {state.alpha_of(r) for r in rows}
    return _one(ranks), _one(alphas), trained, own


def _one(numbers: set[int]) -> str:
    """The common value of the rows; ``None`` if the node has no such setting."""
    if len(numbers) > 1:
        return "several"
    (number,) = numbers
    return f"{number:,}" if number else _NONE


def count_words(state: TargetState, rows: Sequence[Linear]) -> str:
    """How many layers get an adapter, and how many parameters are trained in all."""
    words = f"{len(rows):,} of {len(state.rows):,} layers"
    counted = [state.parameters(r) for r in rows]
    known = [c for c in counted if c is not None]
    if len(known) < len(counted):
        return (
            f"{words}. The number of trainable parameters of this method is known once the adapter "
            "is built."
        )
    full = state.fully_trained_parameters()
    if full:
        return (
            f"{words}; {sum(known):,} trainable parameters in adapters, {full:,} in fully trained "
            "modules."
        )
    return f"{words}; {sum(known):,} trainable parameters." if known else f"{words}."
