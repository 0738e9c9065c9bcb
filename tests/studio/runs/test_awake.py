"""Automatic sleep is prevented while a run is going; if that is not possible, the run says so.

The desktop is a real message bus with a simulated session manager. For Windows and macOS, the platform that wakepy
detects is set by the test, and the system's function or program is simulated.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from studio.events import Event
from studio.runs import awake, host
from tests.studio.runs import toy_runs
from tests.studio.runs.toy_runs import events_of, follow, start
from tests.timing import WAIT_S, wait_until

MANAGER = "org.gnome.SessionManager"


class SessionManager(threading.Thread):
    """Answers Inhibit and Uninhibit as GNOME does; ``held`` are the requests in force."""

    def __init__(self, address: str) -> None:
        from jeepney.io.blocking import open_dbus_connection

        super().__init__(name="session manager", daemon=True)
        self.held: dict[int, int] = {}
        self.asked: list[int] = []
        self._ends = threading.Event()
        self._bus = open_dbus_connection(address)

    def serve(self) -> None:
        from jeepney.bus_messages import message_bus
        from jeepney.io.blocking import Proxy

        Proxy(message_bus, self._bus).RequestName(MANAGER)
        self.start()

    def run(self) -> None:
        from jeepney import HeaderFields, MessageType, new_method_return

        while not self._ends.is_set():
            try:
                call = self._bus.receive(timeout=0.05)
            except TimeoutError:
                continue
            if call.header.message_type != MessageType.method_call:
                continue
            if call.header.fields.get(HeaderFields.member) == "Inhibit":
                flags = call.body[3]
                self.asked.append(flags)
                self.held[len(self.asked)] = flags
                answer = new_method_return(call, "u", (len(self.asked),))
            else:
                self.held.pop(call.body[0])
                answer = new_method_return(call)
            self._bus.send(answer)

    def end(self) -> None:
        self._ends.set()
        self.join(WAIT_S)
        self._bus.close()


@pytest.fixture
def desktop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SessionManager]:
    """A desktop with a session manager."""
    if not shutil.which("dbus-daemon"):
        pytest.skip("no dbus-daemon here")
    command = ["dbus-daemon", "--session", "--nofork", "--print-address"]
    bus = subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8")
    assert bus.stdout is not None
    address = bus.stdout.readline().strip()
    manager = SessionManager(address)
    manager.serve()
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", address)
    monkeypatch.delenv("WAKEPY_FAKE_SUCCESS", raising=False)
    monkeypatch.setenv("DISPLAY", ":0")
    yield manager
    manager.end()
    bus.terminate()
    bus.communicate()


@pytest.fixture
def no_desktop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a session bus and without a display."""
    for name in ("DBUS_SESSION_BUS_ADDRESS", "WAKEPY_FAKE_SUCCESS", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)


def test_sleep_is_inhibited_inside_and_only_there(desktop: SessionManager) -> None:
    said: list[Event] = []
    with awake.kept_awake(True, said.append):
        assert list(desktop.held.values()) == [4]  # suspend, not the screen
    assert desktop.held == {}
    with pytest.raises(KeyError), awake.kept_awake(True, said.append):
        raise KeyError
    assert len(desktop.asked) == 2
    assert desktop.held == {}
    assert said == []


def test_it_can_be_turned_off(desktop: SessionManager) -> None:
    with awake.kept_awake(False, lambda _: None):
        assert desktop.asked == []


def test_a_run_keeps_the_computer_awake_until_it_ends(
    tmp_path: Path, desktop: SessionManager
) -> None:
    run = toy_runs.folder(tmp_path, block={"how": "check"})
    watch = start(run)
    follow(watch, until=lambda e: e.name == "Phase" and e.node == "block")
    assert list(desktop.held.values()) == [4]
    watch.stop()
    follow(watch)
    wait_until(lambda: desktop.held == {})
    assert "automatic sleep is prevented (org.gnome.SessionManager)" in run.log_path.read_text(
        encoding="utf-8"
    )


def test_the_setting_reaches_the_run(
    tmp_path: Path, desktop: SessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORA_STUDIO_HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "config").mkdir(parents=True)
    (tmp_path / "home" / "config" / "settings.toml").write_text("keep_awake = false\n", "utf-8")
    run = toy_runs.folder(tmp_path)
    assert host.start(run).wait(WAIT_S) == 0
    assert desktop.asked == []


@pytest.mark.usefixtures("no_desktop")
@pytest.mark.parametrize("display", ["", "DISPLAY", "WAYLAND_DISPLAY"])
def test_a_computer_that_may_sleep_says_so_in_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, display: str
) -> None:
    if display:
        monkeypatch.setenv(display, "x")
    run = toy_runs.folder(tmp_path)
    assert host.start(run).wait(WAIT_S) == 0
    sentences = [str(e.get("sentence")) for e in events_of(run) if e.name == "Notice"]
    assert sentences == ([awake.NOT_POSSIBLE] if display else [])
    assert "Could not activate" in run.log_path.read_text(encoding="utf-8")
    assert run.status() == "completed"


def pretend(monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
    """Let wakepy take this system for another."""
    from wakepy.core import IdentifiedPlatformType

    for module in ("mode", "method", "prioritization"):
        found = IdentifiedPlatformType[platform]
        monkeypatch.setattr(f"wakepy.core.{module}.CURRENT_PLATFORM", found)


@pytest.mark.usefixtures("no_desktop")
def test_windows_is_asked_for_the_system_and_not_for_the_screen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []

    class Ask:
        restype: object = None

        def __call__(self, flags: int) -> int:
            asked.append(flags)
            return 0x80000000

    kernel = SimpleNamespace(SetThreadExecutionState=Ask())
    monkeypatch.setattr(ctypes, "windll", SimpleNamespace(kernel32=kernel), raising=False)
    pretend(monkeypatch, "WINDOWS")
    with awake.kept_awake(True, lambda _: pytest.fail("nothing to say")):
        assert asked == [0x80000001]  # continuous, system
    assert asked == [0x80000001, 0x80000000]


@pytest.mark.skipif(os.name == "nt", reason="the program is a shell script")
@pytest.mark.usefixtures("no_desktop")
def test_caffeinate_runs_on_macos_as_long_as_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "caffeinate"
    program.write_text(f"#!/bin/sh\necho on > {tmp_path}/state\nexec cat\n", "utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    pretend(monkeypatch, "MACOS")
    before = len(psutil.Process().children())
    with awake.kept_awake(True, lambda _: pytest.fail("nothing to say")):
        wait_until((tmp_path / "state").exists)
        assert len(psutil.Process().children()) == before + 1
    assert len(psutil.Process().children()) == before


@pytest.mark.usefixtures("no_desktop")
@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_windows_and_macos_may_sleep(monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
    assert awake.may_sleep(os.environ, platform)
    assert not awake.may_sleep(os.environ, "linux")


@pytest.mark.usefixtures("no_desktop")
def test_a_fault_of_the_library_never_fails_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    import wakepy

    def fails(**_: object) -> None:
        raise OSError("odd")

    monkeypatch.setattr(wakepy.keep, "running", fails)
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(awake, "may_sleep", lambda: True)
    said: list[Event] = []
    with awake.kept_awake(True, said.append):
        pass
    assert [event.get("hint") for event in said] == [awake.REMEDY]
