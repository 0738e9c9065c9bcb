"""One row as tokens: headline, trained share, chips, and details of a token.

It only shows a row and never requests one.
"""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtGui import QFont, QPalette
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QVBoxLayout, QWidget

from ui.data.legend import Legend
from ui.data.rows_model import Entry
from ui.data.token_flow import TokenFlow
from ui.data.token_words import count_words, flag_words, headline, part_words, token_words
from ui.style import theme
from ui.style.widgets import MutedLabel, TextLabel

LEAST_LINES = 7  # of tokens, which are higher than lines of plain text
POINT = "Hover over a token to see its details. Click to pin it; use the arrow keys to move."
NO_TOKENS = "This row has no tokens."


class RowView(QWidget):
    """The tokens of an entry, one of its training rows at a time."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._entry: Entry | None = None
        self.headline = TextLabel("", self)
        self.headline.setObjectName("row-headline")
        font = self.headline.font()
        font.setWeight(QFont.Weight.DemiBold)
        self.headline.setFont(font)
        self.part = QComboBox(self)
        self.part.setAccessibleName("Part of the row")
        self.part.activated.connect(self._show_part)
        self.counts = TextLabel("", self)
        self.counts.setObjectName("row-counts")
        self.flags = TextLabel("", self)
        self.flags.setObjectName("row-flags")
        self.legend = Legend(self)
        self.flow = TokenFlow(self)
        self.flow.setMinimumHeight(LEAST_LINES * self.fontMetrics().lineSpacing())
        self.flow.pointed.connect(self._read_out)
        self.read_out = MutedLabel("", self)
        self.read_out.setObjectName("token-read-out")
        self.read_out.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.read_out.setMinimumHeight(2 * self.fontMetrics().lineSpacing() + 4)
        self.read_out.setAlignment(Qt.AlignmentFlag.AlignTop)
        self._lay_out()
        theme.changed.connect(self._color)
        self._color()
        self.show_entry(None, "")

    def _lay_out(self) -> None:
        top = QHBoxLayout()
        top.addWidget(self.headline, 1)
        top.addWidget(self.part)
        column = QVBoxLayout(self)
        column.setContentsMargins(10, 8, 10, 6)
        column.setSpacing(4)
        column.addLayout(top)
        for widget in (self.counts, self.flags, self.legend):
            column.addWidget(widget)
        column.addWidget(self.flow, 1)
        column.addWidget(self.read_out)

    def show_entry(self, entry: Entry | None, note: str) -> None:
        """Show an entry's first training row; without one, a note."""
        self._entry = entry
        views = entry.views if entry is not None else ()
        self.part.clear()
        self.part.addItems([part_words(v) for v in views])
        self.part.setVisible(len(views) > 1)
        self._note = note
        self._show_part()

    def _show_part(self) -> None:
        index = max(0, self.part.currentIndex())
        row = self._entry.views[index] if self._entry is not None else None
        self.headline.setText(headline(row) if row is not None else "")
        self.counts.setText(count_words(row) if row is not None else "")
        flags = flag_words(row) if row is not None else ""
        self.flags.setText(f"⚠ {flags}" if flags else "")
        self.flags.setVisible(bool(flags))
        self.legend.show_row(row)
        self.legend.setVisible(row is None or bool(row.tokens))
        note = (row.hint or NO_TOKENS) if row is not None else self._note
        self.flow.show_row(row, note)

    def _read_out(self, index: object) -> None:
        row = self.flow.row
        found = row is not None and isinstance(index, int)
        words = token_words(row, index) if found else POINT  # type: ignore[arg-type]
        self.read_out.setText(words if row is not None and row.tokens else "")

    def _color(self) -> None:
        palette = QPalette(self.flags.palette())
        palette.setColor(QPalette.ColorRole.WindowText, theme.colors().warning)
        self.flags.setPalette(palette)
