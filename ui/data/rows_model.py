"""All rows of the open data as a table that fetches visible pages.

A file of 100,000 rows costs no more than the visible rows: the newest requests are sent first and
old pages are dropped. It does not decide which data are open.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any

from PySide6.QtCore import (
    QAbstractTableModel,
    QModelIndex,
    QPersistentModelIndex,
    Qt,
    QTimer,
    Signal,
)
from PySide6.QtGui import QColor, QIcon

from studio.errors import Problem
from studio.preview.protocol import Reply
from studio.preview.tokens import Token, TokenRow, row_from_json
from ui.data.controller import DataController, problem_of
from ui.data.token_words import SPLIT_WORDS, flag_words, length
from ui.style import icons, theme

PAGE_ROWS = 40
_PAGES_KEPT = 40
_ASKED_AT_ONCE = 2
_MOST_WANTED = 3
_WAIT_MS = 15
_PREVIEW = 140
COLUMNS = ("Row", "Trained", "Split", "Text")
NUMBER, TRAINED, SIDE, TEXT = range(4)
Index = QModelIndex | QPersistentModelIndex
Role = Qt.ItemDataRole


@dataclass(frozen=True)
class Entry:
    """A row of the table: the training rows made from one row of the data, and some of its text."""

    number: int
    views: tuple[TokenRow, ...]
    preview: str

    @property
    def view(self) -> TokenRow:
        """The first of its training rows."""
        return self.views[0]


def entries_in(data: Mapping[str, Any]) -> list[Entry]:
    """The entries of a ``rows`` result."""
    views = [row_from_json(r) for r in data["rows"]]
    grouped = groupby(views, key=lambda v: v.number)
    return [entry_of(number, tuple(group)) for number, group in grouped]


def entry_of(number: int, views: tuple[TokenRow, ...]) -> Entry:
    """An entry with a preview of the user's message."""
    view = views[0]
    spans = [r for r in view.roles if r.role == "user"] or list(view.roles[:1])
    tokens = view.tokens[spans[0].first : spans[0].after] if spans else view.tokens
    text = "".join(t.text for t in _message_in(tokens)[: 2 * _PREVIEW]) or view.text
    plain = " ".join(text[: 4 * _PREVIEW].split())
    return Entry(number, views, view.error or plain.removeprefix("user ")[:_PREVIEW])


def _message_in(tokens: Sequence[Token]) -> Sequence[Token]:
    """The text after the last special token: templates put a system prompt before the message."""
    end = len(tokens)
    while end and (tokens[end - 1].special or not tokens[end - 1].text.strip()):
        end -= 1
    first = end
    while first and not tokens[first - 1].special:
        first -= 1
    return tokens[first:end]


class RowsModel(QAbstractTableModel):
    """``loaded`` carries the first and last row number of a page; ``failed`` a Problem."""

    loaded = Signal(object)
    failed = Signal(object)

    def __init__(self, controller: DataController, parent: Any = None) -> None:
        super().__init__(parent)
        self._controller = controller
        self._count = 0
        self._batch: list[Entry] | None = None
        self._pages: OrderedDict[int, list[Entry]] = OrderedDict()
        self._asked: dict[int, int] = {}
        self._wanted: list[int] = []
        self._timer = QTimer(self, singleShot=True, interval=_WAIT_MS)
        self._timer.timeout.connect(self._fetch)

    def show_all(self, count: int) -> None:
        """Show the rows from 1 to ``count``; cached ones are dropped."""
        self.beginResetModel()
        self._forget()
        self._count, self._batch = count, None
        self.endResetModel()

    def show_batch(self, entries: Sequence[Entry]) -> None:
        """Show only these rows."""
        self.beginResetModel()
        self._batch = list(entries)
        self.endResetModel()

    def leave_batch(self) -> None:
        """Show all rows again."""
        if self._batch is not None:
            self.beginResetModel()
            self._batch = None
            self.endResetModel()

    def entry(self, at: int) -> Entry | None:
        """The entry in a line of the table (from 0); requested if it has not been fetched yet."""
        if self._batch is not None:
            return self._batch[at] if 0 <= at < len(self._batch) else None
        if not 0 <= at < self._count:
            return None
        page = self._pages.get(at // PAGE_ROWS)
        if page is None:
            self._want(at // PAGE_ROWS)
            return None
        self._pages.move_to_end(at // PAGE_ROWS)
        inside = at % PAGE_ROWS
        return page[inside] if inside < len(page) else None

    # ------------------------------------------------------------ fetching

    def _want(self, page: int) -> None:
        if page in self._asked.values():
            return
        if page in self._wanted:
            self._wanted.remove(page)
        self._wanted = [*self._wanted, page][-_MOST_WANTED:]
        if (
            not self._timer.isActive()
        ):  # a restart at every repaint would put it off for as long as they go on
            self._timer.start()

    def _fetch(self) -> None:
        while (
            self._wanted and len(self._asked) < _ASKED_AT_ONCE and self._controller.state == "open"
        ):
            page = self._wanted.pop()
            number = self._controller.ask(
                "rows", self._replied, entries_in, first=page * PAGE_ROWS + 1, limit=PAGE_ROWS
            )
            self._asked[number] = page

    def _replied(self, reply: Reply) -> None:
        if not reply.last or reply.id not in self._asked:
            return
        page = self._asked.pop(reply.id)
        if reply.kind == "result":
            self._take(page, reply.data["read"])
        elif reply.kind == "error" and not self._controller.host_failed(reply):
            self._pages[page] = []
            problem: Problem = problem_of(reply)
            self.failed.emit(problem)
        self._fetch()

    def _take(self, page: int, entries: list[Entry]) -> None:
        self._pages[page] = entries
        while len(self._pages) > _PAGES_KEPT:
            self._pages.popitem(last=False)
        first = page * PAGE_ROWS
        last = min(self._count, first + PAGE_ROWS) - 1
        if self._batch is None:
            self.dataChanged.emit(self.index(first, 0), self.index(last, len(COLUMNS) - 1))
        self.loaded.emit((first + 1, last + 1))

    def _forget(self) -> None:
        for number in self._asked:
            self._controller.link.cancel(number)
        self._asked.clear()
        self._wanted.clear()
        self._pages.clear()

    # ------------------------------------------------------------ Qt

    def rowCount(self, parent: Index | None = None) -> int:
        """Qt: the number of rows, fetched or not."""
        if parent is not None and parent.isValid():
            return 0
        return self._count if self._batch is None else len(self._batch)

    def columnCount(self, parent: Index | None = None) -> int:
        """Qt: the columns."""
        return 0 if parent is not None and parent.isValid() else len(COLUMNS)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = 0) -> Any:
        """Qt: the titles."""
        if orientation == Qt.Orientation.Horizontal and role == Role.DisplayRole:
            return COLUMNS[section]
        return _side(section) if role == Role.TextAlignmentRole else None

    def data(self, index: Index, role: int = 0) -> Any:
        """Qt: the content of a cell."""
        if role == Role.TextAlignmentRole:
            return _side(index.column())
        if role not in (
            Role.DisplayRole,
            Role.DecorationRole,
            Role.ToolTipRole,
            Role.ForegroundRole,
            Role.AccessibleTextRole,
        ):
            return None
        entry = self.entry(index.row())
        if entry is None:
            known = role == Role.DisplayRole and self._batch is None
            return (str(index.row() + 1), "", "", "…")[index.column()] if known else None
        if role == Role.DisplayRole:
            return cell(entry, index.column())
        if role == Role.ToolTipRole:
            return flag_words(entry.view) or None
        if role == Role.AccessibleTextRole:
            words = cell(entry, index.column())
            return f"{flag_words(entry.view)}: {words}" if index.column() == TEXT else words
        return _look(entry, index.column(), role)


def cell(entry: Entry, column: int) -> str:
    """The text of a cell."""
    view = entry.view
    if column == NUMBER:
        return str(entry.number)
    if column == TRAINED:
        if view.divided:  # some of its pieces may not have been fetched
            return f"{view.whole_trained}/{view.whole_tokens}"
        trained = sum(v.count("trained") for v in entry.views)
        return "–" if view.error else f"{trained}/{sum(length(v) for v in entry.views)}"
    if column == SIDE:
        return SPLIT_WORDS.get(view.split, view.split)
    return entry.preview


def _side(column: int) -> int:
    side = Qt.AlignmentFlag.AlignLeft
    if column in (NUMBER, TRAINED):
        side = Qt.AlignmentFlag.AlignRight
    return int(side | Qt.AlignmentFlag.AlignVCenter)


def _look(entry: Entry, column: int, role: int) -> Any:
    marked = bool(entry.view.flags or entry.view.error)
    if role == Role.DecorationRole and column == TEXT and marked:
        name = "circle-alert" if entry.view.error else "triangle-alert"
        look = theme.colors()
        color = look.danger if entry.view.error else look.warning
        return _sign(name, color.name(), look.text_on_accent.name())
    if role == Role.ForegroundRole and entry.view.split == "left_out":
        return theme.colors().text_muted
    return None


@lru_cache(maxsize=16)
def _sign(name: str, color: str, chosen: str) -> QIcon:
    """An icon that can also be seen on the colour of the selection."""
    made = QIcon()
    for mode, shown in ((QIcon.Mode.Normal, color), (QIcon.Mode.Selected, chosen)):
        for size in icons.SIZES_PX:
            made.addPixmap(icons.pixmap(name, size, QColor(shown)), mode)
    return made
