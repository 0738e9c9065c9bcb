"""The view of a report: findings first, then statistics, lengths, writing systems and repeated
answers.

It shows a ``DataReport`` and never starts one.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QFont
from PySide6.QtWidgets import QGridLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget

from studio.preview.report import DataReport, Finding, Histogram, Repeat
from studio.system.number_text import percent
from ui.data.finding_card import FindingCard
from ui.data.histogram import LengthHistogram, caption
from ui.data.share_bars import ShareBars
from ui.style.widgets import MutedLabel, TextLabel, clear, retire

_ANSWER = 90
TRAIN_ON = {
    "answers": "answers only",
    "last_answer": "the last answer only",
    "weights": "message weights",
    "all": "everything",
}


class ReportView(QWidget):
    """``row_wanted`` carries a row's number, ``fix_wanted`` a ``Fix``, ``length_wanted`` a max length."""

    row_wanted = Signal(object)
    fix_wanted = Signal(object)
    length_wanted = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._findings: tuple[Finding, ...] | None = None
        self.cards: list[FindingCard] = []
        self._statistics: Sequence[tuple[str, str]] | None = None
        self._places = QVBoxLayout()
        self._places.setSpacing(8)
        self.statistics = QGridLayout()
        self.statistics.setHorizontalSpacing(12)
        self.statistics.setVerticalSpacing(3)
        self.statistics.setColumnStretch(1, 1)
        self.histogram = LengthHistogram(self)
        self.histogram.moved.connect(self._show_length)
        self.histogram.chosen.connect(self.length_wanted)
        self.lengths = MutedLabel("", self)
        self.scripts = ShareBars(self)
        self.answers = QLabel(self)
        self.notes = MutedLabel("", self)
        self._lay_out()
        self.show_report(None, stale=False)

    def _lay_out(self) -> None:
        self.answers.setObjectName("repeated-answers")
        self.answers.setTextFormat(Qt.TextFormat.RichText)
        self.answers.setWordWrap(True)
        self.answers.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self.answers.linkActivated.connect(lambda link: self.row_wanted.emit(int(link)))
        column = QVBoxLayout(self)
        column.setContentsMargins(12, 6, 12, 16)
        column.setSpacing(8)
        column.addLayout(self._places)
        self._heads: list[QLabel] = []
        for title, part in (
            ("Rows and tokens", self.statistics),
            ("Row lengths", self.histogram),
            ("", self.lengths),
            ("Writing systems", self.scripts),
            ("Repeated answers", self.answers),
            ("", self.notes),
        ):
            if title:
                self._heads.append(_head(title, self))
                column.addWidget(self._heads[-1])
            if isinstance(part, QWidget):
                column.addWidget(part)
            else:
                column.addLayout(part)
        column.addStretch(1)

    def show_report(
        self, report: DataReport | None, *, stale: bool, max_length: int | None = None
    ) -> None:
        """Show a report, or nothing; the fixes of a stale one are disabled. ``max_length`` is the
        current one, which may differ from the report's."""
        findings = report.findings if report is not None else ()
        if findings != self._findings:
            self._findings = findings
            self._show_findings(findings)
        for card in self.cards:
            if card.fix_button is not None:
                card.fix_button.setEnabled(not stale)
        self._show_statistics(statistics_of(report) if report is not None else ())
        histogram = report.histogram if report is not None else Histogram()
        self.histogram.show_histogram(histogram, max_length)
        self._show_length()
        self.scripts.show_shares(report.scripts if report is not None else ())
        self.answers.setText(answers_html(report.answers) if report is not None else "")
        self.notes.setText("\n".join(report.notes) if report is not None else "")
        shown = (
            bool(report),
            bool(histogram.counts),
            bool(report and report.scripts),
            bool(self.answers.text()),
        )
        for head, visible in zip(self._heads, shown, strict=True):
            head.setVisible(visible)
        for widget in (self.lengths, self.notes, self.answers):
            widget.setVisible(bool(widget.text()))

    def _show_length(self) -> None:
        shown = self.histogram.shown
        self.lengths.setText(caption(shown, self.histogram.length) if shown.counts else "")

    def card(self, code: str) -> FindingCard | None:
        """The card of a finding."""
        return next((c for c in self.cards if c.finding.code == code), None)

    def _show_findings(self, findings: Sequence[Finding]) -> None:
        for card in self.cards:
            self._places.removeWidget(card)
            retire(card)
        self.cards = []
        for finding in findings:
            card = FindingCard(finding, self)
            card.row_wanted.connect(self.row_wanted)
            card.fix_wanted.connect(self.fix_wanted)
            self._places.addWidget(card)
            self.cards.append(card)
            card.show()

    def _show_statistics(self, statistics: Sequence[tuple[str, str]]) -> None:
        if statistics == self._statistics:
            return
        self._statistics = statistics
        clear(self.statistics)
        for row, (name, value) in enumerate(statistics):
            called = QLabel(name, self)
            called.setForegroundRole(called.palette().ColorRole.PlaceholderText)
            self.statistics.addWidget(called, row, 0, Qt.AlignmentFlag.AlignTop)
            label = TextLabel(value, self)
            self.statistics.addWidget(label, row, 1)


def _head(title: str, parent: QWidget) -> QLabel:
    label = QLabel(title, parent)
    font = QFont(label.font())
    font.setWeight(QFont.Weight.DemiBold)
    label.setFont(font)
    label.setContentsMargins(0, 6, 0, 0)
    return label


def statistics_of(report: DataReport) -> tuple[tuple[str, str], ...]:
    """Names and values of a report's statistics."""
    more = report.train_pieces > report.train_rows
    sequences = f" ({report.train_pieces:,} sequences)" if more else ""
    rows = [("Rows", f"{report.rows:,}")]
    if not report.complete:
        rows.append(("Analyzed", f"{report.done:,}"))
    rows += [
        ("Training", f"{report.train_rows:,}{sequences}"),
        ("Validation", f"{report.validation_rows:,}"),
    ]
    optional = (("Unreadable", report.bad_rows), ("Excluded", report.left_out))
    rows += [(name, f"{count:,}") for name, count in optional if count]
    trained = f"{report.trained_tokens:,} ({percent(report.trained_share)} of all tokens)"
    return (
        *rows,
        ("Tokens per epoch", f"{report.tokens_per_epoch:,}"),
        ("Trained tokens", trained),
        ("Trained on", TRAIN_ON.get(report.train_on, report.train_on)),
    )


def answers_html(answers: Sequence[Repeat]) -> str:
    """The most repeated answers, each with a link to its first row."""
    lines = []
    for answer in (a for a in answers if a.count > 1):
        text = " ".join(answer.text.split())
        shown = text if len(text) <= _ANSWER else text[:_ANSWER] + "…"
        link = f'<a href="{answer.number}">row {answer.number}</a>'
        lines.append(f"{answer.count:,} × “{escape(shown)}” ({link})")
    return "<br>".join(lines)
