"""The estimate under the header of a Train node: whether it fits, memory by part, and time.

It shows one ``Estimate`` and emits button clicks; it computes nothing.
"""

from __future__ import annotations

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QPainter, QPaintEvent, QPalette
from PySide6.QtWidgets import (
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from studio.estimate.graph import Estimate
from studio.estimate.words import basis_explained, duration, facts, gib, headline, time_parts
from studio.graph import guide
from ui.inspector.section import Section
from ui.style import icons, theme
from ui.style.guide_link import explain
from ui.style.widgets import MutedLabel, TextLabel, clear, tab_order
from ui.training.memory_bar import MemoryBar, color, shares

_SWATCH_PX = 10
PROBE_TIP = (
    "A probe trains two steps in the background and measures their memory and time on this machine, "
    "so that the estimate becomes more exact. It changes neither the project nor the model."
)


def _wrapped(tip: str) -> str:
    return f"<p>{tip}</p>"  # Qt wraps rich text only


class Swatch(QWidget):
    """The colour of a part, in the legend."""

    def __init__(self, title: str, parent: QWidget) -> None:
        super().__init__(parent)
        self._title = title
        self.setFixedSize(QSize(_SWATCH_PX, _SWATCH_PX))
        theme.changed.connect(self.update)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Qt: a square."""
        del event
        painter = QPainter(self)
        painter.fillRect(self.rect(), color(self._title))
        painter.end()


class EstimateStrip(QFrame):
    """Hidden until there is an estimate. ``fit_wanted``, ``probe_wanted`` (also to cancel it) and
    ``recipe_wanted`` are emitted by the buttons."""

    fit_wanted = Signal()
    probe_wanted = Signal()
    recipe_wanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("estimate")
        explain(self, guide.PARTS["estimate"])
        self.setMinimumWidth(1)
        self._found: Estimate | None = None
        self._shown: object = None
        self.words = TextLabel("", self)
        self.words.setObjectName("estimate-words")
        self.time = MutedLabel("", self)
        self.time.setObjectName("estimate-time")
        self.dropped = MutedLabel("", self)
        self.dropped.setObjectName("probe-dropped")
        self.bar = MemoryBar(self)
        self.fit = self._button("make-it-fit", "Make It Fit…", "sparkles", self.fit_wanted)
        self.probe = self._button("probe", "Probe", "gauge", self.probe_wanted)
        self.recipe = self._button("recipe", "Recipe…", "book-open", self.recipe_wanted)
        self.recipe.setToolTip("Recommended values for this training, each with its reason")
        self.status = MutedLabel("", self)
        self.status.setObjectName("probe-status")
        self.status.hide()
        self.details = Section("Estimate", False, self)
        self._grid = QGridLayout()
        self._grid.setHorizontalSpacing(8)
        self._grid.setVerticalSpacing(3)
        self._grid.setColumnStretch(2, 1)
        self.details.column.addLayout(self._grid)
        self.notes = MutedLabel("", self)
        self.details.column.addWidget(self.notes)
        self._lay_out()
        theme.changed.connect(self._paint)
        self.show_probe("", may=True)

    def show_estimate(self, found: Estimate | None) -> None:
        """Show an estimate; ``None`` leaves only the recipe."""
        self._found = found
        for part in (self.words, self.time, self.bar, self.details, self.probe):
            part.setVisible(found is not None)
        self.fit.setVisible(found is not None and found.fits is False)
        self.dropped.setVisible(found is not None and bool(found.dropped))
        if found is None or found == self._shown:
            return
        self._shown = found
        self.words.setText(headline(found))
        self.words.setToolTip(_wrapped(basis_explained(found)) if found.peak is not None else "")
        self.time.setText(f"Time: {duration(found)}.")
        self.time.setToolTip(time_parts(found) or _wrapped(PROBE_TIP))
        self.dropped.setText(found.dropped)
        self.bar.setVisible(found.parts is not None)
        self.bar.show_estimate(found)
        self.details.set_note(found.device)
        self.notes.setText("\n".join(found.notes))
        self.notes.setVisible(bool(found.notes))
        self._fill(found)
        self._paint()

    def show_probe(self, title: str, *, may: bool, failed: str = "") -> None:
        """Show the progress of a probe: ``title`` while it is running; ``may`` is whether one can
        be started."""
        self.probe.setText("Cancel Probe" if title else "Probe")
        self.probe.setEnabled(bool(title) or may)
        self.probe.setToolTip(
            _wrapped(PROBE_TIP)
            if may or title
            else "Not available during a run: both would need the memory"
        )
        self.status.setText(f"{title}…" if title else failed)
        self.status.setVisible(bool(title or failed))

    # ------------------------------------------------------------ parts

    def _button(self, name: str, words: str, icon: str, wanted: object) -> QPushButton:
        button = QPushButton(words, self)
        button.setObjectName(name)
        button.setAutoDefault(False)
        icons.put(button, icon)
        button.clicked.connect(wanted)
        return button

    def _lay_out(self) -> None:
        buttons = QHBoxLayout()
        buttons.setSpacing(6)
        buttons.addWidget(self.recipe)
        buttons.addWidget(self.probe)
        buttons.addStretch(1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(6)
        for part in (self.words, self.bar, self.time, self.dropped):
            column.addWidget(part)
        column.addWidget(self.fit, 0, Qt.AlignmentFlag.AlignLeft)
        column.addLayout(buttons)
        column.addWidget(self.status)
        column.addWidget(self.details)
        tab_order(self.fit, self.recipe, self.probe, self.details)

    def _fill(self, found: Estimate) -> None:
        clear(self._grid)
        rows = [(title, gib(size), True) for title, size, _ in shares(found)]
        if found.peak is not None:
            rows.append(("Peak", gib(found.peak), False))
        rows += [(*pair, False) for pair in facts(found)]
        for number, (title, value, part) in enumerate(rows):
            if part:
                self._grid.addWidget(Swatch(title, self), number, 0)
            label = QLabel(title, self)
            label.setForegroundRole(QPalette.ColorRole.PlaceholderText)
            self._grid.addWidget(label, number, 1, Qt.AlignmentFlag.AlignTop)
            label = TextLabel(value, self)
            label.setObjectName(f"estimate:{title}")
            label.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignTop)
            label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
            self._grid.addWidget(label, number, 2)

    def _paint(self) -> None:
        look = theme.colors()
        bad = self._found is not None and self._found.fits is False
        palette = QPalette(self.palette())
        palette.setColor(QPalette.ColorRole.WindowText, look.danger if bad else look.text)
        self.words.setPalette(palette)
