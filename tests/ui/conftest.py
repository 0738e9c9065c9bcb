"""A whole window for tests: its own home, toys to run, nothing left behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import QSettings
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot
from shiboken6 import isValid

from studio.graph.document import Document
from studio.graph.graph import Graph
from studio.graph.project import save_project
from studio.graph.registry import Registry
from studio.runs.folder import RunFolder, list_runs
from studio.system.settings import AppSettings
from tests.ui import toys
from ui.style import theme
from ui.window.main_window import MainWindow
from ui.window.preferences import Preferences
from ui.window.session import Session
from ui.window.window_store import WindowStore
from workers.run_thread import detach_all
from workers.task import wait_for_tasks

MakeSession = Callable[..., Session]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for settings, runs and unsaved changes of one test."""
    folder = tmp_path / "home"
    monkeypatch.setenv("LORA_STUDIO_HOME", str(folder))
    return folder


@pytest.fixture
def toy_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A registry with a node that pretends to train."""
    return toys.install(tmp_path / "site", monkeypatch)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A saved project with one toy."""
    path = tmp_path / "work" / "toys.studio"
    path.parent.mkdir()
    save_project(path, toys.toy_graph())
    return path


def end_runs(home: Path) -> None:
    """Stop every host that a test left alive."""
    for run in list_runs(home / "data" / "runs"):
        if run.is_running():
            run.command("stop")


@pytest.fixture
def make_session(
    qtbot: QtBot, qapp: QApplication, home: Path, toy_registry: Registry
) -> Iterator[MakeSession]:
    """Opens windows as ``ui.app`` does, and closes them all at the end."""
    opened: list[Session] = []

    def make(graph: Graph | None = None, path: Path | None = None, **settings: object) -> Session:
        values = AppSettings(**{"theme": "dark", "run_in": "thread", **settings})
        preferences = Preferences(values, home / "config" / "settings.toml")
        document = Document()
        window = MainWindow(document, toy_registry, values.runs_dir())
        preferences.setParent(window)
        store = WindowStore(home / "config" / "window.ini")
        session = Session(window, document, toy_registry, preferences, store)
        session.project.show(graph if graph is not None else toys.toy_graph(), path)
        window.resize(1280, 800)
        window.share_space(window.size())
        window.show()
        qtbot.waitExposed(window)
        qtbot.waitUntil(lambda: window.monitor is not None)
        opened.append(session)
        return session

    theme.apply(qapp, "dark")
    yield make
    for session in opened:
        close(session)
    end_runs(home)
    detach_all()
    wait_for_tasks()
    QSettings(str(home / "config" / "window.ini"), QSettings.Format.IniFormat).sync()


def close(session: Session) -> None:
    """Close a window without any question, and let it go."""
    if not isValid(session.window):
        return
    session.window.may_close = lambda: True
    session.window.close()
    session.window.deleteLater()


def runs_of(session: Session) -> list[RunFolder]:
    """The runs in the session's folder."""
    return list_runs(session.runs.runs_dir)
