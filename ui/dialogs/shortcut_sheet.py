"""All keyboard shortcuts and mouse gestures in groups, with a search field. It reads actions and never triggers
them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from PySide6.QtCore import QEvent, QObject, Qt
from PySide6.QtGui import QAction, QKeyEvent
from PySide6.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QHeaderView,
    QLineEdit,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from ui.style import keys
from ui.style.widgets import child_items, resize_on_screen, row_size, top_items

Row = tuple[str, str]
_AROUND_PX = 140  # margins, indentation, padding and the scroll bar


@dataclass(frozen=True)
class KeyGroup:
    """A title and rows of words and keys."""

    title: str
    rows: tuple[Row, ...]


def group_of(title: str, actions: Iterable[QAction]) -> KeyGroup:
    """The shortcuts of actions that have any. An action whose text changes (Undo Move) has its
    permanent text as ``plain-text``."""
    rows = []
    for action in actions:
        shortcuts = [keys.text_of(key) for key in action.shortcuts()]
        if any(shortcuts):
            words = (action.property("plain-text") or action.text()).replace("&", "")
            rows.append((words, "  or  ".join(filter(None, shortcuts))))
    return KeyGroup(title, tuple(rows))


_CTRL = keys.command_word()
_CTRL_TAB = "Meta" if keys.control() == Qt.KeyboardModifier.MetaModifier else "Ctrl"
CANVAS_KEYS = KeyGroup(
    "Keys on the canvas",
    (
        ("Move the selected nodes by one grid step", "Arrow keys"),
        ("Move the selected nodes by ten grid steps", "Shift+arrow keys"),
        ("Select the nearest node in a direction", "Alt+arrow keys"),
        (
            "Select the next or previous node",
            f"{keys.text_of(f'{_CTRL_TAB}+Tab')}  or  {keys.text_of(f'{_CTRL_TAB}+Shift+Tab')}",
        ),
        ("Edit the settings of the selected node", "Enter"),
        ("Connect: choose a port of the selected node, then one that fits", "C, arrow keys, Enter"),
        ("Connect: move a wire", "C, arrow keys to its input, Enter"),
        ("Connect: remove the wire of a port", "C, arrow keys, Delete"),
        ("Connect: add a node for the wire", "C, Enter, Tab"),
        ("Pan while the mouse is dragged", "Space"),
        ("Open the menu of the selected node", keys.text_of("Shift+F10")),
        ("Go to the templates on an empty canvas", "Down arrow"),
        ("Cancel a drag, or clear the selection", "Esc"),
    ),
)
MOUSE = KeyGroup(
    "Mouse on the canvas",
    (
        ("Pan", "Drag with the middle button"),
        ("Zoom at the cursor", "Wheel"),
        ("Pan or zoom with a touchpad", "Two fingers or pinch"),
        ("Select a node and show its settings", "Click the node"),
        ("Add to the selection or remove from it", f"Shift or {_CTRL} and click"),
        ("Select several nodes", "Drag on empty canvas"),
        ("Connect two nodes", "Drag from a port to a port"),
        ("Add a node and connect it", "Drag from a port to empty canvas"),
        ("Move or remove a wire", "Drag from its input"),
        ("Search for a node to add", "Double-click empty canvas"),
        ("Open the menu of a node or wire", "Right-click it"),
    ),
)
PLOT_MOUSE = KeyGroup(
    "Mouse on a plot",
    (
        ("Zoom at the cursor", "Wheel"),
        ("Pan", "Drag"),
        ("Reset the view and follow new data", "Double-click"),
        ("Open the menu", "Right-click"),
    ),
)
FORM_KEYS = KeyGroup(
    "In a form",
    (
        ("Next or previous field", f"Tab  or  {keys.text_of('Shift+Tab')}"),
        ("Change a number by one step", "Up  or  Down"),
        ("Change a number by ten steps", "Page Up  or  Page Down"),
        ("Show or hide the help of a field", keys.text_of("Shift+F1")),
        ("Open a list", keys.text_of("Alt+Down")),
    ),
)


class ShortcutSheet(QDialog):
    """Groups of keys and gestures. ``actions`` maps a group's title to its actions."""

    def __init__(
        self,
        actions: Mapping[str, Sequence[QAction]],
        extra: Sequence[KeyGroup] = (CANVAS_KEYS, MOUSE, PLOT_MOUSE, FORM_KEYS),
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle("Keyboard shortcuts")
        groups = [group_of(title, found) for title, found in actions.items()]
        self._tree = self._make_tree([g for g in [*groups, *extra] if g.rows])
        self._search = QLineEdit(self)
        self._search.setObjectName("search")
        self._search.setAccessibleName("Search for an action or key")
        self._search.setPlaceholderText("Search for an action or key")
        self._search.setClearButtonEnabled(True)
        self._search.textChanged.connect(self._filter)
        self._search.installEventFilter(self)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close, self)
        buttons.rejected.connect(self.reject)
        column = QVBoxLayout(self)
        column.setContentsMargins(16, 16, 16, 12)
        column.setSpacing(10)
        column.addWidget(self._search)
        column.addWidget(self._tree, 1)
        column.addWidget(buttons)
        rows = [row for top in top_items(self._tree) for row in child_items(top)]
        metrics = self.fontMetrics()
        wide = (max(metrics.horizontalAdvance(row.text(n)) for row in rows) for n in range(2))
        resize_on_screen(self, sum(wide) + _AROUND_PX, metrics.height() * 34)
        self._search.setFocus()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Up and down in the search line move in the list."""
        moves = (Qt.Key.Key_Up, Qt.Key.Key_Down, Qt.Key.Key_PageUp, Qt.Key.Key_PageDown)
        pressed = event.type() == QEvent.Type.KeyPress
        if pressed and isinstance(event, QKeyEvent) and event.key() in moves:
            self._tree.keyPressEvent(event)
            return True
        return super().eventFilter(watched, event)

    def _make_tree(self, groups: Sequence[KeyGroup]) -> QTreeWidget:
        tree = QTreeWidget(self)
        tree.setObjectName("keys")
        tree.setAccessibleName("Keyboard shortcuts")
        tree.setHeaderLabels(["Action", "Keys"])
        tree.setRootIsDecorated(False)
        tree.setUniformRowHeights(True)
        tree.setIndentation(12)
        for group in groups:
            top = QTreeWidgetItem([group.title])
            font = tree.font()
            font.setBold(True)
            top.setFont(0, font)
            top.setSizeHint(0, row_size(self))
            top.setFlags(Qt.ItemFlag.ItemIsEnabled)
            top.addChildren([QTreeWidgetItem(list(row)) for row in group.rows])
            tree.addTopLevelItem(top)
            top.setFirstColumnSpanned(True)
            top.setExpanded(True)
        tree.header().setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        tree.header().setSectionResizeMode(1, QHeaderView.ResizeMode.ResizeToContents)
        tree.header().setStretchLastSection(False)
        return tree

    def _filter(self, text: str) -> None:
        words = text.casefold().split()
        for top in top_items(self._tree):
            for row in child_items(top):
                content = f"{top.text(0)} {row.text(0)} {row.text(1)}".casefold()
                row.setHidden(not all(word in content for word in words))
            top.setHidden(all(row.isHidden() for row in child_items(top)))
