"""Processes on Windows, simulated: a fake kernel32, closed pipes, code pages, signals and codes of errors."""

from __future__ import annotations

import ctypes
import errno
import io
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from safetensors import SafetensorError

from studio.chat_templates.process import HelperEnded, HelperProcess
from studio.cli import attend as attend_module
from studio.cli import main as cli_main
from studio.errors import StudioError
from studio.estimate import ask
from studio.runs import host, processes
from studio.runs.control import Control
from studio.runs.failures import as_studio_error
from studio.system import children, disk, windows
from studio.system.children import end_child, module_command, start_child
from studio.system.memory import out_of_memory_in
from tests.studio.runs import toy_runs, toys
from tests.windows_files import windows_error
from ui.window.crash import CrashReporter


class Kernel:
    """kernel32 as far as the program uses it; ``refusing`` functions return 0, as in a sandbox."""

    def __init__(self, refusing: tuple[str, ...] = ()) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.handlers: list[Any] = []
        self._refusing = refusing

    def _said(self, name: str, what: Any, result: int = 1) -> int:
        self.calls.append((name, what))
        return 0 if name in self._refusing else result

    def CreateJobObjectW(self, security: None, name: None) -> int:
        return self._said("create", None, 71)

    def GetCurrentProcess(self) -> int:
        return -1

    def SetInformationJobObject(self, job: int, kind: int, data: Any, size: int) -> int:
        limits = data._obj
        assert (job, kind, size) == (71, 9, ctypes.sizeof(limits))
        return self._said("limits", limits.flags)

    def AssignProcessToJobObject(self, job: int, process: int) -> int:
        return self._said("assign", (job, process))

    def SetProcessInformation(self, process: int, kind: int, data: Any, size: int) -> int:
        state = data._obj
        assert (process, size) == (-1, 12)
        return self._said("throttling", (kind, state.version, state.control, state.state))

    def SetConsoleCtrlHandler(self, handler: Any, add: int) -> int:
        self.handlers.append(handler)
        return self._said("handler", add)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    made = Kernel()
    monkeypatch.setattr(windows, "_kernel", lambda: made)
    children._our_job.cache_clear()
    yield made
    children._our_job.cache_clear()


# ------------------------------------------------------------------ the host and its helpers end together


def test_the_structure_has_the_size_of_windows() -> None:
    """JOBOBJECT_EXTENDED_LIMIT_INFORMATION on 64 bits."""
    assert ctypes.sizeof(windows._Limits) == 144
    assert windows._Limits.flags.offset == 16


def test_a_host_and_all_that_it_starts_end_together(kernel: Kernel) -> None:
    assert windows.Job().add()
    assert kernel.calls == [("create", None), ("limits", 0x2000), ("assign", (71, -1))]


def test_a_helper_ends_with_the_window(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    started = SimpleNamespace(_handle=5)
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **more: started)
    for _ in range(2):
        assert start_child(["x"], io.StringIO()) is started
    assert [c for c in kernel.calls if c[0] == "assign"] == [("assign", (71, 5))] * 2
    assert [c for c in kernel.calls if c[0] == "create"] == [("create", None)]  # one job


def test_the_process_for_templates_ends_with_the_window(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess.Popen, "_handle", 9, raising=False)
    helper = HelperProcess()
    assert helper.exchange('{"names": ["{{ a }}"], "seconds": 5}') == {"names": ["a"]}
    helper.close()
    assert ("assign", (71, 9)) in kernel.calls


@pytest.mark.parametrize("name", ["create", "limits", "assign"])
def test_a_refused_job_is_no_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "_kernel", lambda: Kernel((name,)))
    assert windows.Job().add() is False


def test_nothing_is_asked_of_other_systems() -> None:
    assert windows.Job().add() is False
    assert windows.use_all_cores() is False
    assert windows.on_console_close(lambda: None) is False


# ------------------------------------------------------------------ cores


@pytest.mark.parametrize("low_priority", [False, True])
def test_a_run_uses_all_cores_also_at_low_priority(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, low_priority: bool
) -> None:
    """A lower priority class alone would put it on the efficient cores of a hybrid processor."""
    lowered: list[Any] = []
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(processes.psutil, "BELOW_NORMAL_PRIORITY_CLASS", 16384, raising=False)
    monkeypatch.setattr(processes.psutil.Process, "nice", lambda self, value: lowered.append(value))
    monkeypatch.setattr(os, "nice", lowered.append)
    processes.set_priority(low_priority)
    assert lowered == ([16384] if low_priority else [])
    assert kernel.calls == [("throttling", (4, 1, 1, 0))]


def test_an_older_windows_has_no_power_throttling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "_kernel", lambda: SimpleNamespace(GetCurrentProcess=lambda: -1))
    assert windows.use_all_cores() is False


# ------------------------------------------------------------------ signals


@pytest.fixture
def break_signal(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """SIGBREAK, or another signal in its place."""
    found = getattr(signal, "SIGUSR1", None) or signal.SIGBREAK
    monkeypatch.setattr(signal, "SIGBREAK", found, raising=False)
    names = (signal.SIGTERM, signal.SIGINT, found)
    before = {name: signal.getsignal(name) for name in names}
    yield found
    for name, handler in before.items():
        signal.signal(name, handler)


def test_ctrl_break_stops_the_host_with_a_checkpoint(break_signal: int) -> None:
    control = Control()
    host.stop_on_signals(control)
    signal.raise_signal(break_signal)
    assert control.stop_requested()


def test_ctrl_break_stops_a_run_in_the_terminal(break_signal: int) -> None:
    with attend_module._caught() as interrupts:
        signal.raise_signal(break_signal)
    assert interrupts.count == 1


def test_a_closed_console_stops_the_run_and_waits(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, break_signal: int
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(windows.time, "sleep", waited.append)
    control = Control()
    host.stop_on_signals(control)
    (handler,) = kernel.handlers
    assert [handler(event) for event in (0, 1)] == [0, 0]  # Ctrl+C and Ctrl+Break are signals
    assert not control.stop_requested()
    assert handler(2) == 1
    assert control.stop_requested()
    assert waited == [windows.CLOSING_S]
    with attend_module._caught() as interrupts:
        assert kernel.handlers[-1](6) == 1
    assert interrupts.count == 1


# ------------------------------------------------------------------ UTF-8 and code pages

ODD = {
    "PYTHONUTF8": "0",
    "PYTHONIOENCODING": "cp1252:strict",
    "LC_ALL": "C",
    "PYTHONCOERCECLOCALE": "0",
}
SAYS = "import sys; print(open(sys.argv[1]).read(), '\\u2192', '\\udc80')"


def test_helpers_read_and_print_utf_8_whatever_the_code_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ODD.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "file").write_text("日本", encoding="utf-8")
    with tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
        process = start_child([sys.executable, "-c", SAYS, str(tmp_path / "file")], errors)
        assert process.stdout is not None
        assert process.stdout.read() == "日本 → \\udc80\n"
        end_child(process, 1.0)


def test_a_host_reads_and_prints_utf_8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ODD.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "file").write_text("日本", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", SAYS, str(tmp_path / "file")],
        env=host._environment(toy_runs.folder(tmp_path)),
        capture_output=True,
        check=False,
    )
    assert done.stdout.decode() == "日本 → \\udc80\n", done.stderr


def test_templates_render_in_utf_8(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ODD.items():
        monkeypatch.setenv(name, value)
    helper = HelperProcess()
    assert helper.exchange('{"names": ["{{ ä }} →"], "seconds": 5}') == {"names": ["ä"]}
    helper.close()


def test_a_crash_is_reported_without_a_console(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """pythonw has no standard error, and that of a closed console refuses."""
    del caplog
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    for stream in (None, narrow):
        monkeypatch.setattr(sys, "stderr", stream)
        error = ValueError("→")
        CrashReporter(tmp_path / "crash.log")._write("→")
        from ui.window import crash

        crash._print(str(error))
    assert "→" in (tmp_path / "crash.log").read_text(encoding="utf-8")


# ------------------------------------------------------------------ closed pipes


class Closed(io.TextIOWrapper):
    """A pipe whose reader has gone, as Windows reports it."""

    def __init__(self) -> None:
        self.waiting = False
        super().__init__(io.BytesIO(), encoding="utf-8")

    def write(self, text: str) -> int:
        self.waiting = True
        return len(text)

    def flush(self) -> None:
        if self.waiting:
            raise OSError(errno.EINVAL, "Invalid argument")

    def close(self) -> None:
        self.flush()


@pytest.fixture
def as_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only for what asks whether a pipe is closed; the rest of Python stays on Linux."""
    monkeypatch.setattr(
        children, "sys", SimpleNamespace(platform="win32", executable=sys.executable)
    )


def test_what_a_closed_pipe_is(as_windows: None) -> None:
    assert children.is_closed_pipe(OSError(errno.EINVAL, "Invalid argument"))
    assert children.is_closed_pipe(BrokenPipeError())
    assert not children.is_closed_pipe(OSError(errno.EINVAL, "Invalid argument", "a?b"))
    assert not children.is_closed_pipe(OSError(errno.ENOSPC, "No space left on device"))


def test_an_invalid_argument_is_no_closed_pipe_elsewhere() -> None:
    assert not children.is_closed_pipe(OSError(errno.EINVAL, "Invalid argument"))


@pytest.mark.usefixtures("as_windows")
def test_a_command_whose_output_is_closed_ends_quietly(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("studio.cli._close_output", lambda: None)
    monkeypatch.setattr(sys, "stdout", Closed())
    assert cli_main(["nodes"]) == 0
    assert capfd.readouterr().err == ""


@pytest.mark.usefixtures("as_windows")
def test_a_run_whose_output_is_closed_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORA_STUDIO_EXTENSIONS", toys.MODULE)
    run = toy_runs.folder(tmp_path, train={"steps": 2000, "pause": 0.01})
    monkeypatch.setattr(sys, "stdout", Closed())
    with pytest.raises(OSError, match="Invalid argument"):
        attend_module.attend(lambda: toy_runs.start(run), as_json=True)
    assert run.status() == "stopped"


@pytest.mark.usefixtures("as_windows")
def test_a_template_that_ends_its_process_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    helper = HelperProcess()
    process = helper._running()
    process.kill()
    process.wait()
    assert process.stdin is not None
    process.stdin.close()
    monkeypatch.setattr(process, "stdin", Closed())
    monkeypatch.setattr(process, "poll", lambda: None)
    with pytest.raises(HelperEnded, match="ends the process"):
        helper.exchange("{}")


@pytest.mark.usefixtures("as_windows")
def test_an_estimate_whose_process_ends_at_once_has_its_reason_elsewhere() -> None:
    process: Any = SimpleNamespace(stdin=Closed(), stdout=iter(()))
    assert list(ask._follow(process, {})) == []


def test_a_real_module_runs_as_a_child() -> None:
    """The whole of ``start_child``, for which the tests above replace parts."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
        process = start_child(module_command("this"), errors)
        assert process.stdout is not None
        assert "Zen" in process.stdout.readline()
        end_child(process, 1.0)


# ------------------------------------------------------------------ codes of errors

FULL = (
    windows_error(112, "x"),
    windows_error(39, "x"),
    SafetensorError(
        "Error while serializing: I/O error: Es steht nicht genug Speicherplatz (os error 112)"
    ),
    SafetensorError("I/O error: (os error 39)"),
    RuntimeError("IOError: Detail: [Windows error 112] There is not enough space on the disk."),
    RuntimeError("[WinError 112] There is not enough space on the disk: 'x'"),
    RuntimeError("(os error 1295)"),
)


@pytest.mark.parametrize("error", FULL, ids=str)
def test_a_full_disk(error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert disk.is_full(error)
    known = as_studio_error(error, "Train", tmp_path)
    assert known is not None
    assert (known.code, known.hint) == ("disk_full", disk.FREE_SPACE)
    with pytest.raises(StudioError, match="the disk is full"), disk.explain_errors("it", tmp_path):
        raise error


def test_the_same_numbers_mean_something_else_on_linux() -> None:
    """112 is EHOSTDOWN and 39 is ENOTEMPTY."""
    assert not disk.is_full(SafetensorError("I/O error: (os error 112)"))
    assert not disk.is_full(SafetensorError("I/O error: (os error 39)"))
    assert disk.is_full(SafetensorError("I/O error: (os error 28)"))
    assert disk.number_of(SafetensorError("(os error 5)")) == errno.EIO


MEANS = {
    5: "permissions",
    19: "read-only",
    21: "connected",
    32: "Another program uses it",
    33: "Another program uses it",
    53: "connected",
    206: "shorter",
    1117: "failed",
    1224: "Another program uses it",
}


@pytest.mark.parametrize("code", MEANS)
def test_what_to_do(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MEANS[code] in disk.what_to_do(windows_error(code))
    monkeypatch.setattr(sys, "platform", "win32")
    assert MEANS[code] in disk.what_to_do(SafetensorError(f"(os error {code})"))


def test_a_paging_file_that_is_too_small_is_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    error = SafetensorError(
        "The paging file is too small for this operation to complete. (os error 1455)"
    )
    assert out_of_memory_in(error) is error
