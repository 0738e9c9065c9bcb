"""The canvas's actions: text, icon, keys and tip in one table, for menus, tool bars and the keyboard.

They call methods of ``Commands`` by name. Keys act while the canvas has the focus; Undo and Redo
act in the entire window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt
from PySide6.QtGui import QAction, QKeySequence

from ui.style import icons

if TYPE_CHECKING:
    from ui.canvas.view import CanvasView


@dataclass(frozen=True)
class Spec:
    """One action."""

    name: str
    text: str
    icon: str
    keys: tuple[str, ...]
    tip: str
    needs: str = ""  # "nodes": something is selected; "one": exactly one node; "any": not empty


SPECS = (
    Spec("undo", "Undo", "undo-2", ("Ctrl+Z",), "Undo the last change"),
    Spec("redo", "Redo", "redo-2", ("Ctrl+Shift+Z", "Ctrl+Y"), "Redo the last undone change"),
    Spec(
        "cut", "Cut", "scissors", ("Ctrl+X",), "Move the selected nodes to the clipboard", "nodes"
    ),
    Spec("copy", "Copy", "copy", ("Ctrl+C",), "Copy the selected nodes and their wires", "nodes"),
    Spec("paste", "Paste", "clipboard-paste", ("Ctrl+V",), "Paste nodes at the cursor"),
    Spec(
        "duplicate",
        "Duplicate",
        "copy-plus",
        ("Ctrl+D",),
        "Duplicate the selected nodes",
        "nodes",
    ),
    Spec("delete", "Delete", "trash-2", ("Del", "Backspace"), "Delete the selection", "selection"),
    Spec("rename", "Rename", "pencil", ("F2",), "Rename the node", "one"),
    Spec(
        "select_all",
        "Select All",
        "square-dashed-mouse-pointer",
        ("Ctrl+A",),
        "Select all nodes",
        "any",
    ),
    Spec("palette", "Add Node…", "plus", ("Tab",), "Search for a node to add at the cursor"),
    Spec("zoom_in", "Zoom In", "zoom-in", ("Ctrl++", "Ctrl+="), "Enlarge the graph"),
    Spec("zoom_out", "Zoom Out", "zoom-out", ("Ctrl+-",), "Shrink the graph"),
    Spec("zoom_reset", "Actual Size", "search", ("Ctrl+0",), "Show the graph at 100 %"),
    Spec("fit", "Fit All", "maximize", ("Home", "Shift+1"), "Show the entire graph", "any"),
    Spec("frame", "Frame Selection", "scan", ("F",), "Show the selected nodes", "nodes"),
)
_WINDOW_WIDE = ("undo", "redo")


def make_actions(view: CanvasView) -> dict[str, QAction]:
    """All actions by name; children of the view."""
    made: dict[str, QAction] = {}
    for spec in SPECS:
        action = QAction(spec.text, view)
        action.setProperty("plain-text", spec.text)
        action.setShortcuts([QKeySequence(key) for key in spec.keys])
        action.setShortcutContext(
            Qt.ShortcutContext.WindowShortcut
            if spec.name in _WINDOW_WIDE
            else Qt.ShortcutContext.WidgetShortcut
        )
        action.triggered.connect(getattr(view.commands, spec.name))
        icons.put(action, spec.icon)
        view.addAction(action)
        made[spec.name] = action
    update_actions(view, made)
    return made


def update_actions(view: CanvasView, actions: dict[str, QAction]) -> None:
    """Enable what can be done now; Undo and Redo name their step."""
    count = len(view.selected_ids())
    met = {
        "": True,
        "nodes": count > 0,
        "one": count == 1,
        "any": bool(view.document.graph.nodes),
        "selection": count > 0 or bool(view.selected_wires()),
    }
    for spec in SPECS:
        action = actions[spec.name]
        action.setEnabled(met[spec.needs])
        native = QKeySequence.SequenceFormat.NativeText
        keys = " or ".join(QKeySequence(key).toString(native) for key in spec.keys)
        action.setToolTip(f"{spec.tip} ({keys})")
        action.setStatusTip(spec.tip)
    for name, label in (("undo", view.document.undo_label), ("redo", view.document.redo_label)):
        word = name.capitalize()
        actions[name].setText(f"{word} {label}" if label else word)
        actions[name].setEnabled(label is not None)
