"""What is missing is installed from where it is named, with the real pip and wheels that the test makes."""

from __future__ import annotations

import threading

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from studio.errors import Problem, Stopped
from studio.events import event
from studio.export_folder import llama_cpp
from studio.export_folder.parity import Check
from studio.graph.graph import Graph, Node
from studio.system import pip_install
from tests.ui import toys
from tests.ui.conftest import MakeSession
from tests.wheels import TINY, Environment, write_wheel
from ui.dialogs.install_package import InstallDialog
from ui.style.install_button import InstallButton
from ui.window import session as sessions
from ui.window.session import Session

LEFT = Qt.MouseButton.LeftButton


@pytest.fixture
def missing(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """llama.cpp is missing, and the tiny package is installed in its place."""
    found = environment.site_packages / "tiny_reader.py"
    monkeypatch.setattr(llama_cpp, "is_installed", found.is_file)
    monkeypatch.setattr(sessions, "PACKAGES", {"llama-cpp": TINY})
    return environment


def exporting() -> Graph:
    return Graph("Gguf", (Node("export", "export", {"format": "gguf"}),))


def dialog_of(session: Session) -> InstallDialog:
    (dialog,) = (d for d in session.window.findChildren(InstallDialog) if d.isVisible())
    return dialog


def install(session: Session, qtbot: QtBot) -> InstallDialog:
    dialog = dialog_of(session)
    QTest.mouseClick(dialog.install_button, LEFT)
    qtbot.waitUntil(lambda: dialog.close_button.text() == "Close", timeout=120_000)
    return dialog


def test_from_the_warning_of_the_node(
    make_session: MakeSession, qtbot: QtBot, missing: Environment
) -> None:
    write_wheel(missing.wheels, "1.5")
    session = make_session(exporting())
    session.window.canvas.select(("export",))
    qtbot.waitUntil(lambda: session.window.inspector.findChild(InstallButton) is not None)
    button = session.window.inspector.findChild(InstallButton)
    assert button.text() == "Install llama.cpp (102 MB)…"
    QTest.mouseClick(button, LEFT)
    dialog = dialog_of(session)
    assert dialog.sentence.text() == "Tiny reader is not installed. Nothing is read back."
    assert "1 MB; 1 MB on disk" in dialog.detail.text()
    install(session, qtbot)
    assert dialog.sentence.text() == "Tiny reader is installed (tiny-reader 1.5)."
    assert [p for p in session.problems.problems if p.code == "no_llama_cpp"] == []
    qtbot.waitUntil(lambda: session.window.inspector.findChild(InstallButton) is None)
    QTest.mouseClick(dialog.close_button, LEFT)
    assert not dialog.isVisible()


def test_from_the_results_of_a_run_that_was_not_proven(
    make_session: MakeSession, qtbot: QtBot, missing: Environment
) -> None:
    session = make_session(toys.toy_graph(steps=2))
    session.runs.run()
    qtbot.waitUntil(lambda: session.window.banner.key == "ended")
    live, results = session.runs.live, session.window.results
    assert live is not None
    assert results.reader.isHidden()
    check = Check("x.gguf", "Q8_0", "llama.cpp", "not_proven", code=llama_cpp.NO_READER)
    live.state.apply(event("ExportChecked", "toy", **check.to_json()))
    session.window.show_tab(4)
    results.refresh()
    assert not results.reader.isHidden()
    results.reader.button.click()
    (missing.site_packages / "tiny_reader.py").touch()
    dialog_of(session).installed.emit("It is installed.")
    assert results.reader.button.isHidden()
    assert results.reader.words.text().startswith("llama.cpp is installed now. Press Run")


def test_a_run_that_begins_says_it(
    make_session: MakeSession, qtbot: QtBot, missing: Environment
) -> None:
    session = make_session(toys.toy_graph(steps=2000, delay_s=0.01))
    session.runs.run()
    qtbot.waitUntil(lambda: session.runs.phase == "running")
    assert session.window.banner.key != "install"  # it exports nothing
    session.runs.warnings = (Problem("No.", code="no_llama_cpp", severity="warning"),)
    session.runs.run_started.emit(session.runs.live)
    banner = session.window.banner
    assert "will count as not proven" in banner.text()
    QTest.mouseClick(banner.button("Install llama.cpp (102 MB)…"), LEFT)
    assert dialog_of(session).package is TINY
    dialog_of(session).reject()
    session.runs.stop()
    qtbot.waitUntil(lambda: session.runs.phase == "idle")


def test_a_failure_says_why(make_session: MakeSession, qtbot: QtBot, missing: Environment) -> None:
    session = make_session(exporting())
    session.window.canvas.select(("export",))
    qtbot.waitUntil(lambda: session.window.inspector.findChild(InstallButton) is not None)
    session.window.inspector.findChild(InstallButton).click()
    dialog = install(session, qtbot)
    assert dialog.sentence.text() == "Tiny reader could not be installed."
    assert "no build of tiny-reader" in dialog.detail.text()
    assert dialog.install_button.text() == "Try Again"
    assert dialog.install_button.isVisible()
    assert [p.code for p in session.problems.problems if p.code == "no_llama_cpp"]


def test_stop_and_escape_end_the_download(
    make_session: MakeSession, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch, missing: Environment
) -> None:
    seen = threading.Event()

    def download(*arguments: object, **more: object) -> None:
        tell, stopped = arguments[2], arguments[3]
        tell("Downloading Tiny reader", 0.5)  # type: ignore[operator]
        while not stopped():  # type: ignore[operator]
            seen.wait(0.02)
        raise Stopped

    monkeypatch.setattr(pip_install, "_download", download)
    session = make_session(exporting())
    sessions.help_windows.show_install(session.window, TINY, session._installed)
    dialog = dialog_of(session)
    QTest.mouseClick(dialog.install_button, LEFT)
    qtbot.waitUntil(lambda: dialog.bar.value() == 500)
    assert dialog.close_button.text() == "Stop"
    QTest.keyClick(dialog, Qt.Key.Key_Escape)
    qtbot.waitUntil(lambda: dialog.close_button.text() == "Close")
    assert dialog.sentence.text() == "The download was stopped. Nothing was installed."
    QTest.keyClick(dialog, Qt.Key.Key_Escape)
    assert not dialog.isVisible()


def test_what_cannot_be_installed_says_why(
    make_session: MakeSession, monkeypatch: pytest.MonkeyPatch, missing: Environment
) -> None:
    monkeypatch.setattr(pip_install, "refusal", lambda package: "The folder cannot be written.")
    session = make_session(exporting())
    sessions.help_windows.show_install(session.window, TINY, session._installed)
    dialog = dialog_of(session)
    assert dialog.sentence.text() == "Tiny reader cannot be installed from here."
    assert dialog.detail.text() == "The folder cannot be written."
    assert dialog.install_button.isHidden()
    QApplication.processEvents()
