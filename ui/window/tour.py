"""The tour: five steps on the starter project, each a card beside the parts of the window that it explains.

The parts have a ring. Nothing is blocked: the window below can be used during each step. The tour ends with its last
step, with Skip Tour or Esc, and when another project is opened or a node that it explains is deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QObject, QPoint, QRect, QRectF, QSize, Qt, QTimer, Slot
from PySide6.QtGui import (
    QFont,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPalette,
    QPen,
    QRegion,
    QWheelEvent,
)
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from studio.graph.document import Document
from ui.canvas.tips import announce
from ui.data.tabs import ROWS
from ui.inspector.tabs import SETTINGS
from ui.style import keys, theme
from ui.style.choice_dialog import Choice, ChoiceDialog
from ui.style.widgets import MutedLabel, TextLabel
from ui.window.main_window import RESULTS, MainWindow
from ui.window.project_controller import starter_path

if TYPE_CHECKING:
    # Import cycle: the session starts the tour, which acts on the session.
    from ui.window.session import Session

DATA, BASE, TRAIN = "data", "base", "train"
"""The nodes of the starter project that the tour explains."""
_WIDTHS_IN_DIGITS = (44, 66)
_GAP_PX = 14
_EDGE_PX = 8
_RING_PX = 3
_FOLLOWED = (
    QEvent.Type.Paint,
    QEvent.Type.Resize,
    QEvent.Type.Move,
    QEvent.Type.Show,
    QEvent.Type.Hide,
    QEvent.Type.LayoutRequest,
)


@dataclass(frozen=True)
class Part:
    """A part of the window. ``place`` is in the coordinates of the widget, ``None`` all of it. ``missing`` says where
    to find the part while it is not visible."""

    widget: QWidget
    missing: str
    place: QRect | None = None

    def rect(self) -> QRect:
        """Where the user sees it, in the coordinates of its window; empty if it is hidden or out of view."""
        if not self.widget.isVisible():
            return QRect()
        seen = self.widget.rect()
        if self.place is not None:
            seen = seen.intersected(self.place)
        window = self.widget.window()
        return QRect(self.widget.mapTo(window, seen.topLeft()), seen.size()) & window.rect()


@dataclass(frozen=True)
class Step:
    """What a step explains: its title and text, and the parts with a ring, most important first."""

    title: str
    text: str
    parts: tuple[Part, ...]


def begin(session: Session) -> None:
    """Start the tour, or start it again. Opens the starter project, after asking, if another project is open."""
    if session.tour is not None:
        session.tour.end()
    if not _on_starter(session.document):
        if not _may_open(session) or not session.project.open_starter():
            return
        if not _on_starter(session.document):
            return
    session.window.banner.dismiss("tour")
    session.tour = Tour(session)
    session.tour.go(0)


def offer(session: Session) -> None:
    """Offer the tour in a banner, unless another one is shown."""
    if not session.window.banner.key and _on_starter(session.document):
        session.window.banner.offer(
            "tour",
            "info",
            "New to LoRA Studio? A tour of five steps explains the window. It stays in the Help menu.",
            [("Start Tour", lambda: begin(session))],
        )


def _on_starter(document: Document) -> bool:
    path = document.path
    starter = path is not None and path == starter_path().resolve()
    return starter and all(document.graph.has(node) for node in (DATA, BASE, TRAIN))


def _may_open(session: Session) -> bool:
    """Nothing is lost with an empty project; otherwise say what would happen."""
    document = session.document
    if document.path is None and not document.graph.nodes:
        return True
    asked = " You are asked about unsaved changes first." if document.dirty else ""
    dialog = ChoiceDialog(
        "Tour",
        "Open the starter project for the tour?",
        f"The tour explains the window on the starter project, which opens in place of "
        f"“{document.graph.name}”.{asked}",
        (Choice("open", "Open Starter Project", default=True), Choice("cancel", "Cancel")),
        parent=session.window,
    )
    return dialog.ask() == "open"


def _around(parts: Sequence[QRect], size: QSize, room: QRect) -> Iterator[QRect]:
    """The places of this size right, left, below and above each part, moved into the room."""
    for part in parts:
        for x, y in (
            (part.right() + _GAP_PX, part.top()),
            (part.left() - _GAP_PX - size.width(), part.top()),
            (part.left(), part.bottom() + _GAP_PX),
            (part.left(), part.top() - _GAP_PX - size.height()),
        ):
            x = max(room.left(), min(x, room.right() + 1 - size.width()))
            y = max(room.top(), min(y, room.bottom() + 1 - size.height()))
            yield QRect(QPoint(x, y), size)


def _area(rect: QRect) -> int:
    return max(0, rect.width()) * max(0, rect.height())


class Ring(QWidget):
    """A ring around a part. It takes neither mouse nor keyboard, and covers only its own line."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setObjectName("tour-ring")
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        theme.changed.connect(self.update)

    def surround(self, window: QWidget, place: QRect) -> None:
        """Lie around a rectangle of a window, within it."""
        outer = place.adjusted(-_RING_PX, -_RING_PX, _RING_PX, _RING_PX)
        outer = outer.intersected(window.rect())
        if self.parentWidget() is not window:
            self.setParent(window)
        if outer != self.geometry():
            self.setGeometry(outer)
            line = 2 * _RING_PX
            inner = self.rect().adjusted(line, line, -line, -line)
            self.setMask(QRegion(self.rect()) - QRegion(inner))
        if self.isHidden():
            self.show()
            self.raise_()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Qt: the ring, in the colour of the focus."""
        del event
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(theme.colors().accent, _RING_PX))
        half = _RING_PX / 2
        frame = QRectF(self.rect()).adjusted(half, half, -half, -half)
        painter.drawRoundedRect(frame, 6, 6)


class TourCard(QFrame):
    """The text of a step, with Back, Next and Skip Tour."""

    def __init__(self, window: QWidget, end: Callable[[], None]) -> None:
        super().__init__(window)
        self.setObjectName("tour-card")
        self._end = end
        self.title = TextLabel("", self)
        font = QFont(self.title.font())
        font.setWeight(QFont.Weight.DemiBold)
        self.title.setFont(font)
        self.count = QLabel(self)
        self.count.setForegroundRole(QPalette.ColorRole.PlaceholderText)
        self.text = TextLabel("", self)
        self.note = MutedLabel("", self)
        self.skip = self._button("Skip Tour", end)
        self.skip.setToolTip("End the tour (Esc). Help → Tour starts it again.")
        self.back = self._button("Back")
        self.next = self._button("Next")
        self.next.setProperty("primary", True)
        buttons = QHBoxLayout()
        buttons.addWidget(self.skip)
        buttons.addStretch(1)
        buttons.addWidget(self.back)
        buttons.addWidget(self.next)
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(14, 12, 14, 12)
        self._column.setSpacing(6)
        top = QHBoxLayout()
        top.addWidget(self.title, 1)
        top.addWidget(self.count, 0, Qt.AlignmentFlag.AlignTop)
        self._column.addLayout(top)
        self._column.addWidget(self.text)
        self._column.addWidget(self.note)
        self._column.addSpacing(4)
        self._column.addLayout(buttons)
        theme.changed.connect(self._color)
        self._color()
        self.hide()

    def show_step(self, step: Step, at: int, of: int, note: str) -> None:
        """Show the texts of a step."""
        self.count.setText(f"Step {at + 1} of {of}")
        self.title.setText(step.title)
        self.text.setText(step.text)
        self.note.setText(note)
        self.note.setVisible(bool(note))
        self.back.setEnabled(at > 0)
        self.next.setText("Next" if at + 1 < of else "Finish")
        self.skip.setVisible(at + 1 < of)
        self.setAccessibleName(f"Tour, step {at + 1} of {of}: {step.title}")
        spoken = f"Step {at + 1} of {of}: {step.title}. {step.text} {note}".strip()
        announce(self.next, spoken)  # a screen reader stays on this button from step to step

    def sizes(self) -> list[QSize]:
        """The sizes that hold the texts: the usual one, and a wider and lower one for low windows."""
        digit = self.fontMetrics().horizontalAdvance("0")
        least = self._column.totalMinimumSize().width()
        widths = [max(digits * digit, least) for digits in _WIDTHS_IN_DIGITS]
        return [QSize(width, self._column.totalHeightForWidth(width)) for width in widths]

    def has_focus(self) -> bool:
        """Whether a button of the card has the focus of the window."""
        focused = self.window().focusWidget()
        return focused is not None and self.isAncestorOf(focused)

    def _button(self, words: str, act: Callable[[], None] | None = None) -> QPushButton:
        button = QPushButton(words, self)
        button.setAutoDefault(False)
        if act is not None:
            button.clicked.connect(act)
        return button

    def _color(self) -> None:
        look = theme.colors()
        self.setStyleSheet(
            f"#tour-card {{ background: {look.surface_raised.name()}; border-radius: 10px;"
            f" border: 1px solid {look.accent.name()}; }}"
        )

    # ------------------------------------------------------------ Qt

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Qt: Esc ends the tour; Enter presses the focused button."""
        focused = self.focusWidget()
        if event.key() == Qt.Key.Key_Escape:
            self._end()
        elif event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and isinstance(
            focused, QPushButton
        ):
            focused.click()
        event.accept()  # nothing goes to the window below

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Qt: a press beside the buttons is none on the window below."""
        event.accept()

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Qt: what is below stays."""
        event.accept()


class Tour(QObject):
    """The tour in one window, from its first step to its end."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._session = session
        self._window: MainWindow = session.window
        self.at = 0
        self._steps: Sequence[tuple[Callable[[], None], Callable[[], Step]]] = (
            (self._enter_data, self._data),
            (self._enter_base, self._base),
            (self._enter_train, self._train),
            (self._enter_run, self._run),
            (self._enter_results, self._results),
        )
        self.card = TourCard(self._window, self.end)
        self.card.back.clicked.connect(lambda: self.go(self.at - 1))
        self.card.next.clicked.connect(self._go_on)
        self.rings: list[Ring] = []
        self._opened_panel = False
        self._watched: list[QWidget] = []
        self._shown: tuple[object, ...] = ()
        self._soon = QTimer(self, singleShot=True, interval=0)
        self._soon.timeout.connect(self.follow)
        self._stop_listening = session.document.listen(self._document_changed)
        session.project.opened.connect(self.end)
        session.runs.changed.connect(self._soon.start)
        session.runs.shown_changed.connect(self._soon.start)
        self._window.banner.covers.connect(self._banner_covers)
        self._window.closing.connect(self.end)
        self._watch(self._window, self._window.canvas, self._window.canvas.viewport())

    # ------------------------------------------------------------ the steps

    def go(self, at: int) -> None:
        """Show a step."""
        self._leave()
        self.at = at
        self._steps[at][0]()
        self.follow()
        self.card.show()
        self.card.raise_()
        self.card.next.setFocus(Qt.FocusReason.TabFocusReason)

    def _go_on(self) -> None:
        if self.at + 1 < len(self._steps):
            self.go(self.at + 1)
        else:
            self.end()

    @Slot()
    def end(self) -> None:
        """End the tour; the canvas gets the focus if the card had it."""
        if self._session.tour is not self:
            return
        self._session.tour = None
        focused = self.card.has_focus()
        self._leave()
        self._soon.stop()
        self._stop_listening()
        for widget in self._watched:
            widget.removeEventFilter(self)
        for part in (self.card, *self.rings):
            part.hide()
            part.deleteLater()
        self.deleteLater()
        if focused:
            self._window.canvas.setFocus(Qt.FocusReason.OtherFocusReason)

    def _leave(self) -> None:
        """Fold what was only opened for a step, if there is still nothing to see in it."""
        if self._opened_panel and self._session.runs.shown is None:
            self._window.docks["monitor"].hide()
        self._opened_panel = False

    def _document_changed(self) -> None:
        if not _on_starter(self._session.document):
            QTimer.singleShot(0, self, self.end)  # other listeners come first

    def _enter_node(self, node: str, tab: str) -> None:
        window = self._window
        window.docks["inspector"].show()
        window.docks["inspector"].raise_()
        window.canvas.fit_all()
        window.canvas.select((node,))
        window.inspector.show_tab(node, tab)

    def _enter_data(self) -> None:
        self._enter_node(DATA, ROWS)

    def _data(self) -> Step:
        return Step(
            "Your data",
            "A Dataset node reads your examples from a file or folder: chats, questions with answers, tables or plain "
            "text. Rows shows how each row was read. The starter project has definitions, and the category of each.",
            (self._node(DATA), self._inspector()),
        )

    def _enter_base(self) -> None:
        self._enter_node(BASE, SETTINGS)

    def _base(self) -> Step:
        return Step(
            "The base model",
            "This is the model that you fine-tune. The starter project uses a small one, which any computer can train; "
            "it is downloaded at the first run. The magnifier beside Model lists others, and says which fit into the "
            "memory of this computer.",
            (self._node(BASE), self._inspector()),
        )

    def _enter_train(self) -> None:
        self._enter_node(TRAIN, SETTINGS)

    def _train(self) -> Step:
        return Step(
            "Training settings",
            "Train sets how long and how fast the model learns, and the inspector estimates memory and time. Essential "
            "shows the settings that matter most. The tip of a setting says what it does and which values are usual.",
            (self._node(TRAIN), self._inspector()),
        )

    def _enter_run(self) -> None:
        if self._session.runs.shown is not None and self._session.store.panel() != "closed":
            self._window.open_panel()

    def _run(self) -> Step:
        window, runs = self._window, self._session.runs
        button = window.tool_bar.widgetForAction(window.own["run"])
        if runs.phase == "idle" and runs.shown is None:
            key = keys.text_of(window.own["run"].shortcuts()[0])
            text = (
                f"Run ({key}) trains the model. Try it now, or continue with Next. The curves then open below the "
                "canvas, and the status bar shows the time left."
            )
            return Step("Run", text, (Part(button, "", None),))
        return Step(
            "The run",
            "The loss in the curves falls while the model learns. Nodes and status bar show the present phase and the "
            "time left. Stop saves a checkpoint, from which Resume continues. The run goes on if you close the window.",
            (self._panel(), Part(window.status, "")),
        )

    def _enter_results(self) -> None:
        self._opened_panel = self._window.docks["monitor"].isHidden()
        self._window.show_tab(RESULTS)

    def _results(self) -> Step:
        return Step(
            "Results, and what is next",
            "When a run has ended, Results says what was learned and made: adapter, merged model, the GGUF file with "
            "its check, and answers before and after. Use In adds the model to Ollama or LM Studio. For your own data "
            "choose File → New and drop a file on the canvas. Help → Guide explains the rest.",
            (self._panel(),),
        )

    # ------------------------------------------------------------ the parts

    def _node(self, node: str) -> Part:
        canvas = self._window.canvas
        known = node in canvas.graph_scene.nodes
        place = canvas.node_rect_in_view(node) if known else QRect()
        return Part(
            canvas.viewport(), "The node is out of view: View → Fit All shows all nodes.", place
        )

    def _inspector(self) -> Part:
        return Part(
            self._window.docks["inspector"], "The inspector is hidden: View → Inspector shows it."
        )

    def _panel(self) -> Part:
        return Part(
            self._window.docks["monitor"],
            "The panel is folded: View → Curves, Log and Results opens it.",
        )

    # ------------------------------------------------------------ following them

    @Slot()
    def follow(self) -> None:
        """Show the present texts, and put rings and card where the parts are now."""
        step = self._steps[self.at][1]()
        self._watch(*(part.widget for part in step.parts))
        seen = [(part.widget.window(), part.rect()) for part in step.parts]
        note = " ".join(
            p.missing for p, (_, r) in zip(step.parts, seen, strict=True) if r.isEmpty()
        )
        seen = [(window, rect) for window, rect in seen if not rect.isEmpty()]
        self._place_rings(seen)
        shown = (self.at, step.title, step.text, note)
        if shown != self._shown:
            self._shown = shown
            self.card.show_step(step, self.at, len(self._steps), note)
        place = self._place([rect for window, rect in seen if window is self._window])
        if place.size() != self.card.size():
            self.card.setFixedSize(place.size())
        self.card.move(place.topLeft())

    def _place_rings(self, seen: Sequence[tuple[QWidget, QRect]]) -> None:
        while len(self.rings) < len(seen):
            self.rings.append(Ring(self._window))
        for ring, found in zip(self.rings, seen, strict=False):
            ring.surround(*found)
        for ring in self.rings[len(seen) :]:
            ring.hide()
        self.card.raise_()

    def _place(self, parts: Sequence[QRect]) -> QRect:
        """Beside, below or above a part, where the card covers the least of all of them, if possible on the canvas;
        always in the window."""
        window = self._window
        middle = (window.canvas.parentWidget() or window).geometry()
        covered = window.banner.height() if window.banner.isVisible() else 0
        top = middle.top() + covered
        room = QRect(0, top, window.width(), window.status.geometry().top() - top)
        room = room.adjusted(_EDGE_PX, _EDGE_PX, -_EDGE_PX, -_EDGE_PX)

        def cost(at: QRect) -> tuple[int, bool, int]:
            wide = at.width() > sizes[0].width()
            return sum(_area(at & part) for part in parts), wide, -_area(at & middle)

        sizes = self.card.sizes()
        places = [place for size in sizes for place in _around(parts or [middle], size, room)]
        return min(places, key=cost)

    def _banner_covers(self, pixels: int) -> None:
        del pixels
        self._soon.start()

    def _watch(self, *widgets: QWidget) -> None:
        """See what moves these parts, and Esc outside of the card."""
        for widget in widgets:
            if widget not in self._watched:
                self._watched.append(widget)
                widget.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Qt: follow the parts; Esc ends the tour unless it cancels something on the canvas."""
        if event.type() in _FOLLOWED:
            if not self._soon.isActive():
                self._soon.start()
        elif (
            event.type() == QEvent.Type.KeyPress
            and isinstance(event, QKeyEvent)
            and event.key() == Qt.Key.Key_Escape
            and watched in (self._window, self._window.canvas)
        ):
            canvas = self._window.canvas
            if canvas.gesture is None and canvas.key_wires is None:
                self.end()
                return True
        return super().eventFilter(watched, event)
