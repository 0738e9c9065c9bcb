"""The window's own actions in one table (text, icon, keys, tip), and the menu bar and tool bar that
arrange them and those of the canvas.

The shortcut sheet and tests read the same table. The main window connects the actions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QMainWindow, QMenu, QSizePolicy, QToolBar, QToolButton, QWidget

from ui.style import icons, keys
from ui.style.widgets import plain_tip

Actions = Mapping[str, QAction]
_EDIT = (
    "undo",
    "redo",
    None,
    "cut",
    "copy",
    "paste",
    "duplicate",
    "delete",
    None,
    "rename",
    "select_all",
    "palette",
)
_VIEW = ("fit", "frame", "zoom_in", "zoom_out", "zoom_reset")
ICON_PX = 18


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
    Spec(
        "template",
        "New from Template…",
        "workflow",
        ("Ctrl+Shift+N",),
        "Create a project from a template with sample data",
    ),
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
    Spec(
        "hub_token",
        "Hugging Face Token…",
        "key",
        (),
        "Enter the token for uploads to the Hugging Face Hub, and for private and gated models",
    ),
    Spec("quit", "Quit", "log-out", ("Ctrl+Q",), "Close the window"),
    Spec("run", "Run", "play", ("Ctrl+Return", "Ctrl+Enter"), "Run the project", "success"),
    Spec("stop", "Stop", "square", ("Ctrl+.",), "Save a checkpoint and stop the run", "danger"),
    Spec(
        "finish",
        "Finish Training",
        "circle-check",
        (),
        "End the training with its current step, keep the weights that Result is set to, and go on "
        "with merge, export and evaluation",
    ),
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
    Spec("guide", "Guide", "book-open", (), "Open the guide, which needs no network"),
    Spec(
        "guide_here",
        "Guide to This Part of the Window",
        "book-open",
        ("F1",),
        "Open the guide at the page about what has the focus",
    ),
    Spec(
        "tour",
        "Tour",
        "mouse-pointer-2",
        (),
        "Explain the main parts of the window in five steps, on the starter project",
    ),
    Spec(
        "shortcuts",
        "Keyboard Shortcuts",
        "keyboard",
        ("?", "Ctrl+/"),
        "Show all keyboard shortcuts and mouse gestures",
    ),
    Spec("about", "About LoRA Studio", "info", (), "Version and license"),
)


def make_actions(window: QWidget) -> dict[str, QAction]:
    """All actions by name; children of the window, active everywhere in it."""
    made: dict[str, QAction] = {}
    for spec in SPECS:
        action = QAction(spec.text, window)
        action.setObjectName(spec.name)
        action.setProperty("plain-text", spec.text)  # Run is labelled Preparing… for a while
        action.setShortcuts(keys.keys_for(spec.name, spec.keys))
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
    return f"{spec.tip} ({keys.text_of(keys.keys_for(spec.name, spec.keys)[0])})"


def fill_menus(
    window: QMainWindow, own: Actions, canvas: Actions, panels: Sequence[QAction], recent: QMenu
) -> None:
    """File, Edit, View, Run, Help."""
    bar = window.menuBar()
    file = bar.addMenu("&File")
    _add(file, own, ("new", "template", "open"))
    file.addMenu(recent)
    _add(
        file, own, ("starter", None, "save", "save_as", None, "settings", "hub_token", None, "quit")
    )
    edit = bar.addMenu("&Edit")
    _add(edit, canvas, _EDIT)
    view = bar.addMenu("&View")
    _add(view, canvas, _VIEW)
    view.addSeparator()
    for action in panels:
        view.addAction(action)
    view.addSeparator()
    view.addAction(own["theme"])
    run = bar.addMenu("&Run")
    _add(run, own, ("run", "stop", "finish", "resume", None, "next_problem", "runs_folder"))
    help_ = bar.addMenu("&Help")
    _add(help_, own, ("guide", "guide_here", "tour", None, "shortcuts", "about"))


def _add(menu: QMenu, actions: Actions, names: Sequence[str | None]) -> None:
    for name in names:
        if name is None:
            menu.addSeparator()
        elif name in actions:
            menu.addAction(actions[name])


def make_tool_bar(window: QMainWindow, own: Actions, canvas: Actions) -> QToolBar:
    """Run and Stop first and with text; the others as icons."""
    bar = QToolBar("Tools", window)
    bar.setObjectName("tools")
    bar.setMovable(False)
    bar.setIconSize(QSize(ICON_PX, ICON_PX))
    bar.setContextMenuPolicy(Qt.ContextMenuPolicy.PreventContextMenu)
    for name in ("run", "stop", "finish", "resume"):
        bar.addAction(own[name])
        button = bar.widgetForAction(own[name])
        if isinstance(button, QToolButton):
            button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
            button.setObjectName(f"{name}-button")
    bar.addSeparator()
    for name in ("new", "open", "save"):
        bar.addAction(own[name])
    bar.addSeparator()
    for name in ("undo", "redo"):
        bar.addAction(canvas[name])
    bar.addSeparator()
    for name in ("zoom_out", "zoom_in", "fit"):
        bar.addAction(canvas[name])
    space = QWidget(bar)
    space.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
    bar.addWidget(space)
    for name in ("shortcuts", "theme", "settings"):
        bar.addAction(own[name])
    window.addToolBar(bar)
    return bar


def fill_recent(menu: QMenu, paths: Sequence[Path], open_: Callable[[Path], object]) -> None:
    """The recent projects, by name with their folder."""
    menu.clear()
    for path in paths:
        action = menu.addAction(f"{path.stem}   ({_short(path.parent)})")
        action.setToolTip(plain_tip(str(path)))
        action.triggered.connect(lambda _checked=False, p=path: open_(p))
    menu.setEnabled(bool(paths))


def _short(folder: Path) -> str:
    try:
        return "~/" + str(folder.relative_to(Path.home()))
    except ValueError:
        return str(folder)
