"""What holds for every test: no real user folders, no network, no stray log, no leak.

Why: a test that leaves a thread or a window behind, or that logs a warning, fails here and not in
another test an hour later. It must not import Qt or torch itself: light tests stay light.
"""

from __future__ import annotations

import functools
import gc
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.missing_here import skip_what_is_missing
from tests.timing import WAIT_MS

if TYPE_CHECKING:
    from tests.wheels import Environment

# Before anything imports Qt, pyqtgraph or transformers.
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ["PYQTGRAPH_QT_LIB"] = "PySide6"
os.environ["WAKEPY_FAKE_SUCCESS"] = "1"  # runs of tests ask no desktop to stay awake
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["PYTHON_KEYRING_BACKEND"] = "keyring.backends.null.Keyring"  # not the user's tokens
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Settings and runs go to a folder of this session; a shared model cache stays, when one is set.
_HOME = tempfile.mkdtemp(prefix="lora-studio-tests-")
os.environ["LORA_STUDIO_HOME"] = _HOME

# A process in the background may ignore SIGINT, and so would every process that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

skip_what_is_missing()
OUR_LOGGERS = ("studio", "workers", "ui")
GRACE_S = 30.0


def pytest_unconfigure() -> None:
    """Remove the session's folder."""
    shutil.rmtree(_HOME, ignore_errors=True)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Name failed linters above pytest's last line, so that the exit code has its reason."""
    failed = os.environ.get("LORA_STUDIO_FAILED_LINTERS")
    if failed:
        terminalreporter.write_line(f"FAILED linters, see the top: {failed}", red=True)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip GPU tests where there is no GPU."""
    if item.get_closest_marker("gpu"):
        torch = pytest.importorskip("torch")
        if not torch.cuda.is_available():
            pytest.skip("no CUDA device here")


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Write lone surrogates of a report as their escapes: it is sent to another process as UTF-8."""
    data = yield
    return _escaped(data)


def _escaped(data: Any) -> Any:
    if isinstance(data, str):
        return data.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(data, dict):
        return {_escaped(k): _escaped(v) for k, v in data.items()}
    # pytest tells the place of a skip by its type, a tuple.
    return type(data)(_escaped(v) for v in data) if type(data) in (list, tuple) else data


class _Records(logging.Handler):
    """Keeps what our own code logged at WARNING or above."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(f"{record.levelname} {record.name}: {record.getMessage()}")


@pytest.fixture
def qtbot(qtbot: Any) -> Any:
    """Waits as long as it takes for what must come: on a busy machine that can be long."""
    for name in ("waitUntil", "waitSignal", "waitSignals", "waitExposed"):
        setattr(qtbot, name, functools.partial(getattr(qtbot, name), timeout=WAIT_MS))
    return qtbot


@pytest.fixture(autouse=True)
def no_stray_log(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail on warnings from our own loggers, unless the test is marked `allow_log`."""
    if request.node.get_closest_marker("allow_log"):
        yield
        return
    records = _Records()
    loggers = [logging.getLogger(name) for name in OUR_LOGGERS]
    for logger in loggers:
        logger.addHandler(records)
    yield
    for logger in loggers:
        logger.removeHandler(records)
    if records.texts:
        pytest.fail("logged at WARNING or above:\n" + "\n".join(records.texts), pytrace=False)


@pytest.fixture(autouse=True)
def no_leak(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail when a thread or a window outlives the test that made it."""
    threads = set(threading.enumerate())
    uses_qt = "qapp" in request.fixturenames
    windows = set(map(id, _windows())) if uses_qt else set()
    yield
    problems = [f"Python thread {name}" for name in _leaked_threads(threads)]
    if uses_qt:
        problems += [f"running QThread {name}" for name in _running_qthreads()]
        problems += [f"window {name}" for name in _leaked_windows(windows)]
    if problems:
        pytest.fail("left behind: " + "; ".join(problems), pytrace=False)


def _leaked_threads(before: set[threading.Thread]) -> list[str]:
    """Names of new non-daemon threads that do not end within the grace time."""
    deadline = time.monotonic() + GRACE_S
    leaked = [t for t in threading.enumerate() if t not in before and not t.daemon]
    for thread in leaked:
        thread.join(max(0.0, deadline - time.monotonic()))
    # A QThread that runs Python code shows up as a dummy thread; it is judged as a QThread.
    return [t.name for t in leaked if t.is_alive() and not t.name.startswith("Dummy")]


def _running_qthreads() -> list[str]:
    """QThreads made in Python that still run; each gets the grace time first."""
    from PySide6.QtCore import QThread
    from shiboken6 import isValid

    current = QThread.currentThread()
    found = [o for o in gc.get_objects() if issubclass(type(o), QThread) and isValid(o)]
    running = [t for t in found if t is not current and t.isRunning()]
    return [
        f"{type(t).__name__} {t.objectName()}".strip()
        for t in running
        if not t.wait(int(GRACE_S * 1000))
    ]


def _windows() -> list[Any]:
    """Top-level widgets that nothing owns."""
    if "PySide6.QtWidgets" not in sys.modules:
        return []
    from PySide6.QtWidgets import QApplication

    if QApplication.instance() is None:
        return []
    return [w for w in QApplication.topLevelWidgets() if w.parent() is None]


def _leaked_windows(before: set[int]) -> list[str]:
    """New top-level widgets that survive deferred deletion and the garbage collector."""
    if not [w for w in _windows() if id(w) not in before]:
        return []
    from PySide6.QtCore import QCoreApplication, QEvent

    gc.collect()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    left = [w for w in _windows() if id(w) not in before]
    return [f"{type(w).__name__} {w.objectName() or w.windowTitle()}".strip() for w in left]


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """A virtual environment that optional packages are installed into, by the pip of these tests and from a folder of
    wheels."""
    import venv
    from importlib.machinery import PathFinder

    from studio.system import pip_install
    from tests.wheels import Environment

    folder, wheels = tmp_path / "environment", tmp_path / "wheels"
    venv.create(folder, symlinks=os.name != "nt")
    wheels.mkdir()
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    found = folder.glob("Lib/site-packages" if os.name == "nt" else "lib/python3*/site-packages")
    monkeypatch.setattr(pip_install, "python", lambda: str(python))
    monkeypatch.setattr(pip_install, "environment", lambda: folder)
    pip = PathFinder.find_spec("pip")
    assert pip is not None
    assert pip.origin is not None
    monkeypatch.setenv("PYTHONPATH", str(Path(pip.origin).parents[1]))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_TIMEOUT", "120")
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CONSTRAINT"):
        monkeypatch.delenv(name, raising=False)
    return Environment(folder, next(found), wheels)
