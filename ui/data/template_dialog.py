"""Select a chat template by its rendering of a conversation; shows where it differs from the
model's.

The choice is an ordinary edit of the Train node's setting. Templates are rendered by the data host.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PySide6.QtCore import Qt
from PySide6.QtGui import QFontDatabase
from PySide6.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QHBoxLayout,
    QListWidget,
    QListWidgetItem,
    QPlainTextEdit,
    QVBoxLayout,
    QWidget,
)

from studio.graph import guide
from studio.graph.edits import reset_setting, set_setting
from studio.preview.protocol import Reply
from ui.data.controller import DataController, problem_of
from ui.style.guide_link import explain
from ui.style.widgets import MutedLabel, TextLabel, resize_on_screen, row_size

SETTING, OWN = "chat_template", "model"
SAME = "Its output is identical to that of the model’s own template."
DIFFERS = "⚠ It differs from the model’s own template: the model must first learn it."
SAFE = "The model was trained with this template. It is nearly always the right choice."


class TemplateDialog(QDialog):
    """A list of templates and a sample rendered with the selected one."""

    def __init__(
        self, controller: DataController, train: str, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.setObjectName("template-dialog")
        self.setWindowTitle("Chat template")
        explain(self, guide.PARTS["template"])
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self._controller, self._train = controller, train
        self._samples: list[Mapping[str, Any]] = []
        self.list = QListWidget(self)
        self.list.setObjectName("templates")
        self.list.setAccessibleName("Chat templates")
        self.list.currentRowChanged.connect(self._show)
        self.list.itemActivated.connect(lambda _: self._take())
        self.looks = MutedLabel("", self)
        self.status = TextLabel("Rendering the templates…", self)
        self.status.setObjectName("template-status")
        self.sample = QPlainTextEdit(self)
        self.sample.setObjectName("template-sample")
        self.sample.setAccessibleName("A sample conversation formatted with the template")
        self.sample.setReadOnly(True)
        self.sample.setFont(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont))
        self.buttons = QDialogButtonBox(
            QDialogButtonBox.StandardButton.Ok | QDialogButtonBox.StandardButton.Cancel, self
        )
        self.buttons.accepted.connect(self._take)
        self.buttons.rejected.connect(self.reject)
        self.buttons.button(QDialogButtonBox.StandardButton.Ok).setText("Use This Template")
        self._lay_out()
        self._asked = 0
        controller.changed.connect(self._ask)
        self._ask()
        self._allow()

    def _lay_out(self) -> None:
        right = QVBoxLayout()
        right.setSpacing(8)
        for widget in (self.looks, self.status):
            right.addWidget(widget)
        right.addWidget(self.sample, 1)
        row = QHBoxLayout()
        row.setSpacing(12)
        row.addWidget(self.list)
        row.addLayout(right, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(16, 16, 16, 12)
        column.setSpacing(12)
        column.addLayout(row, 1)
        column.addWidget(self.buttons)
        side = self.fontMetrics().height()
        self.list.setFixedWidth(side * 13)
        resize_on_screen(self, side * 46, side * 28)

    def _ask(self) -> None:
        """Request the samples once the data and the tokenizer are loaded, or show why they are
        not."""
        controller = self._controller
        if controller.state == "failed" and controller.problem is not None:
            self.status.setText(f"{controller.problem.sentence} {controller.problem.hint}".strip())
        elif controller.state == "open" and not self._asked:
            self._asked = controller.ask("templates", self._rendered)

    def _rendered(self, reply: Reply) -> None:
        if reply.kind == "error":
            problem = problem_of(reply)
            self.status.setText(f"{problem.sentence} {problem.hint}".strip())
        elif reply.kind == "result":
            self.show_samples(reply.data["templates"])

    def show_samples(self, samples: Sequence[Mapping[str, Any]]) -> None:
        """Show these templates; the node's one is selected."""
        self._samples = list(samples)
        for sample in self._samples:
            sign = " ≠" if sample["differs"] else ""
            item = QListWidgetItem(f"{sample['title']}{sign}")
            item.setSizeHint(row_size(self))
            self.list.addItem(item)
        ids = [s["id"] for s in self._samples]
        now = self._controller.document.graph.node(self._train).settings.get(SETTING, OWN)
        self.list.setCurrentRow(ids.index(now) if now in ids else 0)
        self.list.setFocus()

    def _show(self, row: int) -> None:
        self._allow()
        if not 0 <= row < len(self._samples):
            return
        sample = self._samples[row]
        self.looks.setText(str(sample["looks"]).replace("⏎", "↵"))
        self.looks.setVisible(bool(sample["looks"]))
        self.status.setText(judgement(sample))
        self.sample.setPlainText(str(sample["sample"]))

    def _allow(self) -> None:
        ok = self.buttons.button(QDialogButtonBox.StandardButton.Ok)
        ok.setEnabled(0 <= self.list.currentRow() < len(self._samples))

    def _take(self) -> None:
        row = self.list.currentRow()
        graph = self._controller.document.graph
        if not 0 <= row < len(self._samples) or not graph.has(self._train):
            return
        chosen = str(self._samples[row]["id"])
        if chosen == OWN:
            graph = reset_setting(graph, self._train, SETTING)
        else:
            graph = set_setting(graph, self._train, SETTING, chosen)
        self._controller.document.end_merge()
        self._controller.document.edit(graph, "Change Chat template")
        self.accept()

    def done(self, result: int) -> None:
        """Qt: cancel the request when the dialog is closed."""
        self._controller.link.cancel(self._asked)
        super().done(result)


def judgement(sample: Mapping[str, Any]) -> str:
    """What to know before choosing a template."""
    if sample["id"] == OWN:
        return SAFE if sample["sample"] else "The model has no chat template."
    words = DIFFERS if sample["differs"] else SAME
    missing = list(sample["missing_tokens"])
    if missing:
        words += f" The tokenizer splits {', '.join(missing)} into several tokens."
    return words
