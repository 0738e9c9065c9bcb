"""The base model chooser: cards of models with their facts and whether a training with them fits.

Models on this machine and widely used ones are listed at once, what fits first; the Hub is searched on request. A click
on a card is the answer. Files are read and estimates made on a pool thread; the dialog does not edit the document.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from PySide6.QtCore import QEvent, QObject, QSettings, QSize, Qt
from PySide6.QtGui import QFont, QKeyEvent, QPalette, QResizeEvent
from PySide6.QtWidgets import (
    QDialog,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from studio.errors import StudioError
from studio.estimate.words import gib, span
from studio.graph import guide
from studio.model.facts import sized
from studio.model.hub_search import HubModel, search_hub
from studio.recipe.base_models import (
    BaseChoice,
    Purpose,
    choice_of,
    choices,
    hub_candidate,
    in_order,
    known_candidates,
    local_candidates,
)
from studio.shown_text import line
from studio.system.number_text import counted
from studio.system.paths import config_dir
from ui.inspector.editors.model import recent, remember
from ui.style import icons, theme
from ui.style.guide_link import explain
from ui.style.widgets import (
    MutedLabel,
    TextLabel,
    clear,
    icon_side,
    resize_on_screen,
    scrolling,
    tab_order,
)
from workers.task import Task, run_task

_WIDTH, _HEIGHT, _SIDE = 720, 600, 18
_NARROWEST = 320  # pixels of a card
_ICONS = {"starter": "sparkles", "folder": "folder", "gguf": "box", "hub": "download"}
_SOURCES = {"starter": "Starter", "folder": "Folder", "gguf": "GGUF file", "hub": "Hub"}
_SIGNS = {
    "fits": ("circle-check", "success"),
    "4 bits": ("circle-check", "success"),
    "unknown": ("circle-question-mark", "text_muted"),
    "no": ("circle-x", "danger"),
}
Found = tuple[list[BaseChoice], str]


def facts_line(choice: BaseChoice) -> str:
    """``135 M parameters · context 8,192 · Apache-2.0 · chat template``; what is not known is said."""
    facts = choice.candidate.facts
    parameters = f"{counted(facts.parameters)} parameters" if facts.parameters else "size unknown"
    context = f"context {facts.context:,} tokens" if facts.context else "context unknown"
    template = {True: "chat template", False: "no chat template", None: "chat template unknown"}
    licence = line(facts.licence) if facts.licence else "license not stated"
    return "  ·  ".join((parameters, context, licence, template[facts.chat_template]))


def fit_line(choice: BaseChoice) -> str:
    """Whether a training fits, with memory and time as far as they are known."""
    candidate, found = choice.candidate, choice.estimate
    if candidate.fault:
        return f"Cannot be used: {candidate.fault}"
    if choice.fit == "unknown":
        return "Memory unknown before the model has been read."
    verdict = {"fits": "Fits", "4 bits": "Fits with 4 bits", "no": "Does not fit"}[choice.fit]
    if found is None or found.peak is None:
        return f"{verdict}, by its size: the weights need about {gib(choice.weights or 0)}."
    time = f", about {span(found.seconds)}" if found.seconds is not None else ""
    return f"{verdict}: about {gib(found.peak)} of {gib(found.available)} free{time}."


def disk_line(choice: BaseChoice) -> str:
    """What is on this machine, and what would be downloaded."""
    candidate = choice.candidate
    if candidate.on_disk:
        size = sized(candidate.facts.bytes_on_disk)
        return f"On this computer ({size})" if size else "On this computer"
    if candidate.source == "starter":
        return "Downloaded at the first run"
    size = sized(candidate.download)
    gated = "; needs an account on the Hub that has accepted its terms" if candidate.gated else ""
    rest = "The rest is downloaded by the run" if candidate.download is None else ""
    return (f"{size} to download" if size else rest or "Downloaded by the run") + gated


class BaseCard(QPushButton):
    """One model: title, facts, whether it fits, and where it is."""

    def __init__(self, choice: BaseChoice, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.choice = choice
        candidate = choice.candidate
        self.setObjectName(f"base:{candidate.model}")
        self.setAutoDefault(False)
        self.setEnabled(not candidate.fault)
        self._sign, self._icon = QLabel(self), QLabel(self)
        title = TextLabel(line(candidate.title), self)
        font = QFont(title.font())
        font.setWeight(QFont.Weight.DemiBold)
        title.setFont(font)
        where = QLabel(_SOURCES[candidate.source], self, textFormat=Qt.TextFormat.PlainText)
        where.setForegroundRole(QPalette.ColorRole.PlaceholderText)
        top = QHBoxLayout()
        top.setSpacing(8)
        top.addWidget(self._icon)
        top.addWidget(title, 1)
        top.addWidget(where)
        fits = QHBoxLayout()
        fits.setSpacing(8)
        fits.addWidget(self._sign, 0, Qt.AlignmentFlag.AlignTop)
        fits.addWidget(TextLabel(fit_line(choice), self), 1)
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(12, 9, 12, 9)
        self._column.setSpacing(4)
        self._column.addLayout(top)
        self._column.addWidget(MutedLabel(facts_line(choice), self))
        self._column.addLayout(fits)
        self._column.addWidget(MutedLabel(disk_line(choice), self))
        for label in self.findChildren(QLabel):
            label.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        policy = QSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)
        self.setToolTip(candidate.model)
        self.setAccessibleName(
            f"{line(candidate.title)}. {facts_line(choice).replace('  ·  ', ', ')}. "
            f"{fit_line(choice)} {disk_line(choice)}."
        )
        theme.changed.connect(self._paint)
        self._paint()

    def matches(self, words: str) -> bool:
        """Whether the name contains all of the words."""
        name = f"{self.choice.candidate.title} {self.choice.candidate.model}".lower()
        return all(word in name for word in words.lower().split())

    def sizeHint(self) -> QSize:
        """Qt: as high as the texts need at the present width."""
        return self.minimumSizeHint()

    def minimumSizeHint(self) -> QSize:
        """Qt: as narrow as there is room; Qt's own height would be that of texts wrapped at every word."""
        return QSize(1, self.heightForWidth(max(self.width(), _NARROWEST)))

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Qt: another width needs another height."""
        super().resizeEvent(event)
        if event.oldSize().width() != event.size().width():
            self.updateGeometry()

    def hasHeightForWidth(self) -> bool:
        """Qt: the texts wrap."""
        return True

    def heightForWidth(self, width: int) -> int:
        """Qt: the height that the texts need."""
        return self._column.totalHeightForWidth(width)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Qt: Enter chooses, as Space does."""
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self.click()
        else:
            super().keyPressEvent(event)

    def _paint(self) -> None:
        look, ratio = theme.colors(), self.devicePixelRatioF()
        name, role = _SIGNS["no" if self.choice.candidate.fault else self.choice.fit]
        self._sign.setPixmap(icons.pixmap(name, icon_side(self), getattr(look, role), ratio))
        source = icons.pixmap(
            _ICONS[self.choice.candidate.source], icon_side(self, 1.1), look.text_muted, ratio
        )
        self._icon.setPixmap(source)


class BaseModelDialog(QDialog):
    """Asks for a base model; ``chosen`` is the answer after it was accepted."""

    def __init__(
        self,
        sentence: str,
        make_purpose: Callable[[], Purpose],
        known: Sequence[str],
        write: Callable[[Path], str] = str,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.setObjectName("base-models")
        self.setWindowTitle("Choose a Base Model")
        explain(self, guide.PARTS["base-models"])
        self.chosen: BaseChoice | None = None
        self.cards: list[BaseCard] = []
        self._made: list[BaseChoice] = []
        self._make_purpose, self._known, self._write = make_purpose, tuple(known), write
        self._purpose: Purpose | None = None
        self._task: Task | None = None
        self._search_task: Task | None = None
        self._end_search: Callable[[], None] | None = None
        self.search = QLineEdit(self)
        self.search.setObjectName("base-search")
        self.search.setAccessibleName("Filter by name, or search the Hub")
        self.search.setPlaceholderText("Filter by name, or search the Hub")
        self.search.setClearButtonEnabled(True)
        self.search.textChanged.connect(self._filter)
        self.search.installEventFilter(self)
        self.hub = self._button("Search the Hub", "search-hub", self.search_the_hub)
        self.hub.setToolTip("Search Hugging Face for models whose names contain the text")
        self.status = MutedLabel("Reading the models on this computer…", self)
        self.status.setObjectName("base-status")
        folder = self._button("Model Folder…", "base-folder", self.choose_folder)
        file = self._button("GGUF File…", "base-file", self.choose_file)
        look = self._button("Look in Folder…", "base-look", self.look_in_folder)
        look.setToolTip("List all models in a folder and its folders; the folder is remembered")
        cancel = self._button("Cancel", "base-cancel", self.reject)
        top = QHBoxLayout()
        top.addWidget(self.search, 1)
        top.addWidget(self.hub)
        below = QHBoxLayout()
        for button in (folder, file, look):
            below.addWidget(button)
        below.addStretch(1)
        below.addWidget(cancel)
        inside = QWidget(self)
        self._list = QVBoxLayout(inside)
        self._list.setContentsMargins(0, 0, 8, 0)
        self._list.setSpacing(8)
        self._list.addStretch(1)
        self._scroll = scrolling(inside, self)
        self._scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._last = (folder, file, look, cancel)
        column = QVBoxLayout(self)
        column.setContentsMargins(_SIDE, 16, _SIDE, 14)
        column.setSpacing(10)
        column.addWidget(TextLabel(sentence, self))
        column.addLayout(top)
        column.addWidget(self.status)
        column.addWidget(self._scroll, 1)
        column.addLayout(below)
        digit = self.fontMetrics().horizontalAdvance("0")
        resize_on_screen(self, max(_WIDTH, 84 * digit), max(_HEIGHT, 60 * digit))
        self.search.setFocus()
        self.read()

    # ------------------------------------------------------------ what is offered

    def read(self) -> None:
        """List the models on this machine, in the background."""
        if self._task is not None:
            self._task.cancel()
        names, folders = [*self._known, *recent()], look_in()
        make, write = self._make_purpose, self._write

        def work() -> tuple[Purpose, list[BaseChoice]]:
            purpose = make()
            local = local_candidates(names, folders, write)
            return purpose, choices([*local, *known_candidates(local)], purpose)

        self._task = run_task(work, self._read)

    def _read(self, found: tuple[Purpose, list[BaseChoice]]) -> None:
        self._task = None
        self._purpose, local = found
        others = [
            c for c in self._made if c.candidate.model not in {k.candidate.model for k in local}
        ]
        self._show([*local, *(c for c in others if not c.candidate.on_disk)])
        self.status.setText("")
        self.status.hide()
        first = next((card for card in self.cards if card.isEnabled()), None)
        if first is not None and not self.search.text():
            first.setFocus()

    def _show(self, made: Sequence[BaseChoice]) -> None:
        assert self._purpose is not None
        self._made = in_order(made, self._purpose.facts)
        clear(self._list)
        self.cards = [BaseCard(choice, self) for choice in self._made]
        for card in self.cards:
            card.clicked.connect(lambda _=False, taken=card.choice: self._take(taken))
            self._list.addWidget(card)
        self._list.addStretch(1)
        tab_order(self.search, self.hub, *self.cards, *self._last)
        self._filter()

    def _filter(self) -> None:
        words = self.search.text()
        for card in self.cards:
            card.setVisible(card.matches(words))
        self.hub.setEnabled(bool(words.strip()) and self._search_task is None)

    # ------------------------------------------------------------ Hub

    def search_the_hub(self) -> None:
        """Search the Hub for the typed words, in the background."""
        words, purpose = self.search.text().strip(), self._purpose
        if not words or purpose is None or self._search_task is not None:
            return
        self.status.setText(f"Searching the Hub for “{words}”…")
        self.status.show()

        def work() -> list[BaseChoice]:
            found: list[HubModel] = search_hub(words, self._search_started)
            return [choice_of(hub_candidate(model), purpose) for model in found]

        self._search_task = run_task(work, self._searched, self._search_failed)
        self._filter()

    def _search_started(self, end: Callable[[], None]) -> None:
        """Called on the pool thread."""
        self._end_search = end

    def _searched(self, found: list[BaseChoice]) -> None:
        self._search_task = self._end_search = None
        names = {choice.candidate.model for choice in found}
        self._show([*(c for c in self._made if c.candidate.model not in names), *found])
        words = self.search.text().strip()
        count = "1 model" if len(found) == 1 else f"{len(found)} models"
        self.status.setText(f"{count} on the Hub for “{words}”.")
        self._filter()

    def _search_failed(self, error: Exception) -> None:
        self._search_task = self._end_search = None
        if not isinstance(error, StudioError):
            raise error
        self.status.setText(f"{error.sentence} {error.hint or ''}".strip())
        self._filter()

    # ------------------------------------------------------------ files

    def choose_folder(self) -> None:
        """Ask for a folder with a model in it."""
        chosen = QFileDialog.getExistingDirectory(self, "Select a model folder")
        if chosen:
            self._take_path(Path(chosen))

    def choose_file(self) -> None:
        """Ask for a .gguf file."""
        kinds = "GGUF models (*.gguf);;All files (*)"
        chosen, _ = QFileDialog.getOpenFileName(self, "Select a GGUF file", "", kinds)
        if chosen:
            self._take_path(Path(chosen))

    def look_in_folder(self) -> None:
        """Ask for a folder of models, and list them from now on."""
        chosen = QFileDialog.getExistingDirectory(self, "Select a folder with models")
        if chosen:
            folders = [chosen, *(str(p) for p in look_in() if str(p) != chosen)]
            _store().setValue("model_folders", folders)
            self.status.setText(f"Looking for models in {chosen}…")
            self.status.show()
            self.read()

    def _take_path(self, path: Path) -> None:
        """Choose a model by its path; it becomes the first card if it cannot be used."""
        found = [
            c
            for c in local_candidates([str(path)], (), self._write)
            if c.model == self._write(path)
        ]
        if self._purpose is None:
            return
        if not found:
            self.status.setText(
                f"{path} contains no model: a model folder has a config.json. To list the models in a "
                "folder, use Look in Folder…"
            )
            self.status.show()
        elif found[0].fault:
            self.status.setText(f"{path.name} cannot be used: {found[0].fault}")
            self.status.show()
        else:
            self._take(choice_of(found[0], self._purpose))

    def _take(self, choice: BaseChoice) -> None:
        candidate = choice.candidate
        if candidate.source in ("folder", "gguf"):
            assert self._purpose is not None
            remember(str((self._purpose.project_dir / candidate.model).absolute()))
        self.chosen = choice
        self.accept()

    # ------------------------------------------------------------ Qt

    def done(self, result: int) -> None:
        """Qt: the dialog closes; what was asked for is dropped."""
        for task in (self._task, self._search_task):
            if task is not None:
                task.cancel()
        if self._end_search is not None:
            self._end_search()
        super().done(result)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Qt: Enter in the search field searches, and Down goes to the first card."""
        if (
            watched is self.search
            and event.type() == QEvent.Type.KeyPress
            and isinstance(event, QKeyEvent)
        ):
            if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
                self.search_the_hub()
                return True
            shown = [card for card in self.cards if card.isVisible() and card.isEnabled()]
            if event.key() == Qt.Key.Key_Down and shown:
                shown[0].setFocus()
                return True
        return super().eventFilter(watched, event)

    def _button(self, words: str, name: str, act: Callable[[], object]) -> QPushButton:
        button = QPushButton(words, self)
        button.setObjectName(name)
        button.setAutoDefault(False)
        button.clicked.connect(act)
        return button


def look_in() -> list[Path]:
    """The folders to look in for models."""
    found = _store().value("model_folders") or []
    return [Path(name) for name in ([found] if isinstance(found, str) else list(found))]


def _store() -> QSettings:
    return QSettings(str(config_dir() / "inspector.ini"), QSettings.Format.IniFormat)
