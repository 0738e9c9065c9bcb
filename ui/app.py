"""The start of the program: creates every part once and connects them.

``run_window`` opens a project, ``run_demo`` also runs the starter. The window is shown before
anything slow; torch is never imported in this process.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
import time
from pathlib import Path

from PySide6.QtCore import QTimer
from PySide6.QtGui import QIcon
from PySide6.QtWidgets import QApplication

from studio import __version__
from studio.errors import StudioError
from studio.graph.document import Document
from studio.graph.project import load_project
from studio.graph.registry import load_registry
from studio.system.paths import assets_dir, config_dir, data_dir
from studio.system.settings import load_settings
from ui.style import theme
from ui.window.crash import CrashReporter
from ui.window.main_window import MainWindow
from ui.window.preferences import Preferences
from ui.window.project_controller import starter_path
from ui.window.session import Session
from ui.window.window_store import WindowStore
from workers.run_thread import detach_all
from workers.task import wait_for_tasks

APP_ID = "lora-studio"
WINDOWS_APP_ID = "LoRAStudio.LoRAStudio"
STARTUP_LOG = "LORA_STUDIO_STARTUP_LOG"
logger = logging.getLogger(__name__)


def run_window(project: str | None = None) -> int:
    """Open the window on a project, the last one, or the starter; returns the exit code."""
    app = make_application()
    session = open_session(app, Path(project) if project else None)
    session.first_start = project is None and session.store.is_first_start()
    return _loop(app, session)


def run_demo() -> int:
    """Open the starter project and run it; results go to the default folder of runs."""
    app = make_application()
    session = open_session(app, starter_path())
    session.window.shown_first.connect(lambda: QTimer.singleShot(0, session, session.runs.run))
    return _loop(app, session)


def make_application() -> QApplication:
    """The QApplication with name, icon and crash handling."""
    identify_process()
    app = QApplication.instance()
    if not isinstance(app, QApplication):
        app = QApplication([APP_ID])  # X11 takes the first name of the window's class from it
    app.setApplicationName("LoRA Studio")
    app.setApplicationVersion(__version__)
    app.setOrganizationName(APP_ID)
    app.setDesktopFileName(APP_ID)  # Wayland shows the icon of this desktop file
    app.setWindowIcon(QIcon(str(assets_dir() / "app-icon.svg")))
    CrashReporter(data_dir() / "crash.log").install()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return app


def identify_process() -> None:
    """Windows: group the windows as those of this program, with its icon, and not as those of Python."""
    if sys.platform == "win32":
        import ctypes

        with contextlib.suppress(AttributeError, OSError):
            ctypes.windll.shell32.SetCurrentProcessExplicitAppUserModelID(WINDOWS_APP_ID)


def open_session(app: QApplication, project: Path | None = None) -> Session:
    """A window on a project, shown; everything it needs is made here."""
    loaded = load_settings()
    preferences = Preferences(loaded.settings)
    theme.apply(app, loaded.settings.theme)
    store = WindowStore(config_dir() / "window.ini")
    document, registry = Document(), load_registry()
    window = MainWindow(document, registry, loaded.settings.runs_dir())
    window.shown_first.connect(lambda: _note_startup(window))
    preferences.setParent(window)
    session = Session(window, document, registry, preferences, store)
    window.place(app.primaryScreen().availableGeometry())
    store.restore_layout(window)
    session.fold_panel()
    notices = [loaded.notice, *registry.failures, _open_first(session, project)]
    for notice in filter(None, notices):
        session.note(notice)
        window.banner.offer("notice", "info", notice)
    window.show()
    return session


def _open_first(session: Session, wanted: Path | None) -> str:
    """Open the requested project, else the last one, else the starter; returns an error message or
    an empty string."""
    message = ""
    for path in (wanted, session.store.last_project() if wanted is None else None, starter_path()):
        if path is None:
            continue
        try:
            session.project.show(load_project(path), path.resolve())
        except StudioError as error:
            message = message or f"{error.sentence} {error.hint}".strip()
        else:
            break
    return message


def _note_startup(window: MainWindow) -> None:
    """For the start-up test and ``benchmarks/window.py``: log what has been imported, and when all parts of the window
    have been painted, by the clock that processes share and in CPU time."""
    path = os.environ.get(STARTUP_LOG)
    if not path:
        return
    modules = sorted(sys.modules)

    def painted() -> None:
        times = {"monotonic_s": time.monotonic(), "cpu_s": time.process_time()}
        Path(path).write_text(json.dumps({**times, "modules": modules}), "utf-8")

    QTimer.singleShot(0, window, painted)


def _loop(app: QApplication, session: Session) -> int:
    code = app.exec()
    del session
    detach_all()
    wait_for_tasks()
    return code
