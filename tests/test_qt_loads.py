"""A window is promised only if Qt loads; otherwise one sentence says why and what to do."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

import main
from bootstrap import qt, requirements, system

ROOT = Path(__file__).resolve().parent.parent
NO_GL = "libGL.so.1: cannot open shared object file: No such file or directory"


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch):
    """A function that sets platform, base Python and Windows build."""

    def choose(platform: str, base: Path | None = None, build: int = 22631) -> None:
        monkeypatch.setattr(sys, "platform", platform)
        monkeypatch.setattr(
            sys, "getwindowsversion", lambda: types.SimpleNamespace(build=build), raising=False
        )
        monkeypatch.setattr(sys, "prefix", "/home/ä/lora-studio/.venv")
        monkeypatch.setattr(sys, "base_prefix", str(base or "/usr"))
        monkeypatch.setattr(system, "package_manager", lambda: "apt-get")
        monkeypatch.setattr(system, "is_root", lambda: False)
        monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)

    return choose


def test_a_missing_system_library_is_named_with_its_command(on) -> None:
    on("linux")
    assert qt.explain(NO_GL) == (
        "Qt cannot be loaded: the system library libGL.so.1 is missing. "
        "Install it with: sudo apt-get install -y --no-install-recommends libgl1"
    )
    assert "libodd.so.2 is missing" in qt.explain(NO_GL.replace("libGL.so.1", "/x/libodd.so.2"))


def test_an_old_linux_is_named(on) -> None:
    on("linux")
    message = (
        "/lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.34' not found "
        "(required by /v/PySide6/Qt/lib/libQt6Core.so.6)"
    )
    assert "too old" in qt.explain(message)
    assert "glibc 2.34" in qt.explain(message)


def test_an_older_library_that_comes_first_is_named(on, monkeypatch: pytest.MonkeyPatch) -> None:
    on("linux")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/conda/lib")
    message = (
        "/opt/conda/lib/libstdc++.so.6: version `GLIBCXX_3.4.30' not found (required by /v/lib.so)"
    )
    sentence = qt.explain(message)
    assert "LD_LIBRARY_PATH (/opt/conda/lib)" in sentence
    assert sentence.endswith("Start without LD_LIBRARY_PATH.")


@pytest.mark.parametrize("conda", [False, True])
def test_an_old_runtime_on_windows(on, tmp_path: Path, conda: bool) -> None:
    if conda:
        (tmp_path / "conda-meta").mkdir()
    on("win32", tmp_path)
    message = (
        "DLL load failed while importing QtWidgets: Die angegebene Prozedur wurde nicht gefunden."
    )
    sentence = qt.explain(message)
    assert message in sentence
    assert ("Anaconda" in sentence) is conda
    assert ("Install Python from python.org" in sentence) is conda
    assert ("winget install Microsoft.VCRedist.2015+.x64" in sentence) is not conda


def test_an_old_windows_is_named(on) -> None:
    on("win32", build=14393)
    assert "Windows 10 version 1809" in qt.explain("DLL load failed while importing QtCore: x")


def test_an_old_macos_and_another_architecture(on, monkeypatch: pytest.MonkeyPatch) -> None:
    on("darwin")
    monkeypatch.setattr(qt.platform, "mac_ver", lambda: ("12.7.6", ("", "", ""), "arm64"))
    old = (
        "dlopen(/v/QtCore.abi3.so, 0x0002): Symbol not found: __ZNSt3\n  Referenced from: /v/QtCore "
        "(built for macOS 13.0 which is newer than running OS)"
    )
    assert "macOS 13.0 or newer, but this is macOS 12.7.6" in qt.explain(old)
    mixed = "dlopen(x): (mach-o file, but is an incompatible architecture (have 'arm64', need 'x86_64'))"
    assert "installed for arm64, but this Python runs as x86_64" in qt.explain(mixed)


def test_a_python_of_the_system_is_never_to_be_deleted(on, monkeypatch: pytest.MonkeyPatch) -> None:
    on("linux")
    assert "Delete the folder /home/ä/lora-studio/.venv" in qt.explain("odd")
    monkeypatch.setattr(sys, "prefix", "/usr")
    assert "Delete" not in qt.explain("odd")
    assert "-m pip install --force-reinstall PySide6-Essentials" in qt.explain("odd")


@pytest.mark.parametrize(
    ("environment", "absent", "asks_x11", "expected"),
    [
        ({"DISPLAY": ":0"}, "", True, None),
        ({"WAYLAND_DISPLAY": "w"}, "", False, None),
        ({"WAYLAND_DISPLAY": "w", "DISPLAY": ":0"}, "", False, None),
        ({"WAYLAND_DISPLAY": "w", "DISPLAY": ":0"}, "libwayland-cursor.so.0", True, None),
        ({"WAYLAND_DISPLAY": "w"}, "libwayland-cursor.so.0", False, "libwayland-cursor0"),
        (
            {"QT_QPA_PLATFORM": "wayland", "DISPLAY": ":0"},
            "libwayland-client.so.0",
            False,
            "client0",
        ),
        ({"QT_QPA_PLATFORM": "offscreen"}, "libwayland-client.so.0", False, None),
    ],
)
def test_the_libraries_of_the_display_server_that_qt_will_use(
    on, monkeypatch: pytest.MonkeyPatch, environment, absent, asks_x11, expected
) -> None:
    on("linux")
    asked: list[bool] = []
    monkeypatch.setattr(system, "loads", lambda library: library != absent)
    monkeypatch.setattr(system, "libraries_problem", lambda window: asked.append(window))
    monkeypatch.setattr(requirements, "pyside_problem", lambda: None)
    monkeypatch.setattr(qt, "import_problem", lambda: None)
    problem = qt.window_problem(environment)
    assert asked == [asks_x11]
    assert (expected in problem) if expected else problem is None


@pytest.fixture
def broken(tmp_path: Path) -> dict[str, str]:
    """An environment in which PySide6 is installed and does not load."""
    package = tmp_path / "site" / "PySide6"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("", "utf-8")
    (package / "QtCore.py").write_text(f"raise ImportError({NO_GL!r})", "utf-8")
    return {
        **os.environ,
        "PYTHONPATH": str(tmp_path / "site"),
        "QT_QPA_PLATFORM": "minimal",
        "LORA_STUDIO_HOME": str(tmp_path / "home"),
    }


def test_the_window_says_in_a_sentence_that_qt_does_not_load(broken: dict[str, str]) -> None:
    result = subprocess.run(
        [sys.executable, str(ROOT / "main.py")],
        env=broken,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert result.returncode == 1
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    (line,) = result.stderr.splitlines()
    assert line.startswith("The window cannot open: Qt cannot be loaded: ")
    assert "libGL.so.1 is missing" in line


def test_the_demo_runs_in_the_terminal_if_qt_does_not_load(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import studio.cli

    ran: list[list[str]] = []
    monkeypatch.setattr(main, "display_available", lambda: True)
    monkeypatch.setattr(main, "_prepare", lambda arguments: None)
    monkeypatch.setattr(qt, "window_problem", lambda: qt.explain("odd"))
    monkeypatch.setattr(studio.cli, "main", lambda arguments: ran.append(arguments) or 0)
    assert main.main(["demo"]) == 0
    assert ran == [["demo"]]
    said = capsys.readouterr().err
    assert "Qt cannot be loaded: odd" in said
    assert "the demo runs in the terminal" in said
