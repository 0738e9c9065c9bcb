"""The menu bar and the tool bar.

They only arrange existing actions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QMainWindow, QMenu, QSizePolicy, QToolBar, QToolButton, QWidget

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


def fill_menus(
    window: QMainWindow, own: Actions, canvas: Actions, panels: Sequence[QAction], recent: QMenu
) -> None:
    """File, Edit, View, Run, Help."""
    bar = window.menuBar()
    file = bar.addMenu("&File")
    _add(file, own, ("new", "open"))
    file.addMenu(recent)
    _add(file, own, ("starter", None, "save", "save_as", None, "settings", None, "quit"))
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
    _add(run, own, ("run", "stop", "resume", None, "next_problem", "runs_folder"))
    help_ = bar.addMenu("&Help")
    _add(help_, own, ("shortcuts", "about"))


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
    for name in ("run", "stop", "resume"):
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
        action.setToolTip(str(path))
        action.triggered.connect(lambda _checked=False, p=path: open_(p))
    menu.setEnabled(bool(paths))


def _short(folder: Path) -> str:
    try:
        return "~/" + str(folder.relative_to(Path.home()))
    except ValueError:
        return str(folder)
