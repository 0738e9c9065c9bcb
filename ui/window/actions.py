"""The window's own actions: text, icon, keys and tip in one table. The canvas has its own.

Menus, tool bar, shortcut sheet and tests read the same table. The main window connects the actions.
"""

from __future__ import annotations

from dataclasses import dataclass

from PySide6.QtGui import QAction, QKeySequence
from PySide6.QtWidgets import QWidget

from ui.style import icons


@dataclass(frozen=True)
class Spec:
    """One action; ``role`` is the theme colour of its icon."""

    name: str
    text: str
    icon: str
    keys: tuple[str, ...] = ()
    tip: str = ""
    role: str | None = None


SPECS = (
    Spec("new", "New", "file-plus", ("Ctrl+N",), "Create an empty project"),
    Spec("open", "Open…", "folder-open", ("Ctrl+O",), "Open a project"),
    Spec(
        "starter",
        "Open Starter Project",
        "sparkles",
        (),
        "Open the project that comes with LoRA Studio",
    ),
    Spec("save", "Save", "save", ("Ctrl+S",), "Save the project"),
    Spec(
        "save_as", "Save As…", "save-all", ("Ctrl+Shift+S",), "Save the project under another name"
    ),
    Spec("settings", "Settings…", "settings", ("Ctrl+,",), "Settings of LoRA Studio"),
    Spec("quit", "Quit", "log-out", ("Ctrl+Q",), "Close the window"),
    Spec("run", "Run", "play", ("Ctrl+Return", "Ctrl+Enter"), "Run the project", "success"),
    Spec("stop", "Stop", "square", ("Ctrl+.",), "Save a checkpoint and stop the run", "danger"),
    Spec(
        "resume",
        "Resume",
        "skip-forward",
        ("Ctrl+Shift+Return",),
        "Resume the stopped run of this project",
    ),
    Spec("next_problem", "Next Problem", "circle-alert", ("F8",), "Go to the next problem"),
    Spec("runs_folder", "Show Runs Folder", "folder", (), "Open the folder that contains the runs"),
    Spec(
        "theme",
        "Toggle Dark Theme",
        "moon",
        ("Ctrl+Shift+L",),
        "Switch between the dark and the light theme",
    ),
    Spec("shortcuts", "Keyboard Shortcuts", "keyboard", ("?", "F1"), "Show all keyboard shortcuts"),
    Spec("about", "About LoRA Studio", "info", (), "Version and license"),
)


def make_actions(window: QWidget) -> dict[str, QAction]:
    """All actions by name; children of the window, active everywhere in it."""
    made: dict[str, QAction] = {}
    for spec in SPECS:
        action = QAction(spec.text, window)
        action.setObjectName(spec.name)
        action.setProperty("plain-text", spec.text)  # Run is labelled Preparing… for a while
        action.setShortcuts([QKeySequence(key) for key in spec.keys])
        action.setStatusTip(spec.tip)
        action.setToolTip(tool_tip(spec))
        icons.put(action, spec.icon, spec.role)
        window.addAction(action)
        made[spec.name] = action
    made["quit"].setMenuRole(QAction.MenuRole.QuitRole)
    made["settings"].setMenuRole(QAction.MenuRole.PreferencesRole)
    made["about"].setMenuRole(QAction.MenuRole.AboutRole)
    return made


def tool_tip(spec: Spec) -> str:
    """What the action does and its first key."""
    if not spec.keys:
        return spec.tip
    key = QKeySequence(spec.keys[0]).toString(QKeySequence.SequenceFormat.NativeText)
    return f"{spec.tip} ({key})"
