"""Rows as their format understands them: small conversations, or raw text, or the error of a row.

It shows the reply to ``preview`` of the data host, without tokens.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFrame, QGridLayout, QLabel, QVBoxLayout, QWidget

from ui.style import theme
from ui.style.widgets import ErrorLabel, MutedLabel, TextLabel, clear

_MOST_CHARACTERS = 700
_PLAIN = {"prompt": "Prompt", "completion": "Completion", "text": "Text"}


class RowCards(QWidget):
    """The first rows, one card each."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("row-cards")
        self._shown: list[Mapping[str, Any]] = []
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(8)

    def show_rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Show these rows; cards of unchanged rows are kept."""
        rows = list(rows)
        same = 0
        while same < min(len(rows), len(self._shown)) and rows[same] == self._shown[same]:
            same += 1
        clear(self._column, keep=same)
        for row in rows[same:]:
            card = RowCard(row, self)
            self._column.addWidget(card)
            card.show()
        self._shown = rows


class RowCard(QFrame):
    """One row."""

    def __init__(self, row: Mapping[str, Any], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName(f"row-card:{row['number']}")
        column = QVBoxLayout(self)
        column.setContentsMargins(10, 7, 10, 8)
        column.setSpacing(4)
        name = Path(str(row["source"])).name
        column.addWidget(MutedLabel(f"Row {row['number']} · {name} line {row['line']}", self))
        if "error" in row:
            sentence = str(row["error"])
            column.addWidget(ErrorLabel(sentence[:1].upper() + sentence[1:], self))
            if row.get("hint"):
                column.addWidget(MutedLabel(str(row["hint"]), self))
        else:
            column.addLayout(self._turns(turns_of(row["row"])))
        theme.changed.connect(self._color)
        self._color()

    def _turns(self, turns: Sequence[tuple[str, str]]) -> QGridLayout:
        grid = QGridLayout()
        grid.setHorizontalSpacing(8)
        grid.setVerticalSpacing(4)
        grid.setColumnStretch(1, 1)
        for at, (role, text) in enumerate(turns):
            who = QLabel(role, self, textFormat=Qt.TextFormat.PlainText)
            who.setForegroundRole(who.palette().ColorRole.PlaceholderText)
            grid.addWidget(who, at, 0, Qt.AlignmentFlag.AlignTop)
            shown = text if len(text) <= _MOST_CHARACTERS else text[:_MOST_CHARACTERS] + "…"
            said = TextLabel(shown, self)
            said.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
            grid.addWidget(said, at, 1)
        return grid

    def _color(self) -> None:
        look = theme.colors()
        self.setStyleSheet(
            f"RowCard {{ background: {look.surface_raised.name()}; border: 1px solid "
            f"{look.border.name()}; border-radius: 6px; }}"
        )


def turns_of(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The roles and texts of a canonical row."""
    turns = [(title, str(row[key])) for key, title in _PLAIN.items() if row.get(key) is not None]
    turns += [_turn(m) for m in row.get("messages") or ()]
    for key in ("chosen", "rejected"):
        for message in row.get(key) or ():
            role, text = _turn(message)
            turns.append((f"{key}: {role}", text))
    if "label" in row:
        turns.append(("label", "good" if row["label"] else "bad"))
    return turns


def _turn(message: Mapping[str, Any]) -> tuple[str, str]:
    role, text = str(message.get("role", "")), str(message.get("content") or "")
    weight = message.get("weight")
    if weight is not None and weight != 1:
        role = f"{role} (weight {weight:g})"
    calls = message.get("tool_calls")
    if calls:
        text = f"{text}\n{json.dumps(calls, ensure_ascii=False)}".strip()
    return role, text or "(empty)"
