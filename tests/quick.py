"""The quick choice of tests, loaded by ``python3 -m tests quick`` as a pytest plugin.

A test belongs to it when it needs no torch, no Qt and no child process. Nothing lists those tests: the first
attempt to import one of these libraries or to start a process skips the test, so that a new one falls on
the right side by itself.
"""

from __future__ import annotations

import sys
from typing import Any

import pytest

LIBRARIES = {
    "torch",
    "transformers",
    "peft",
    "datasets",
    "accelerate",
    "bitsandbytes",
    "trl",
    "PySide6",
    "pyqtgraph",
}
PROCESSES = {"subprocess.Popen", "os.fork", "os.posix_spawn", "os.exec"}


def _guard(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "import":
        library = str(arguments[0]).partition(".")[0]
        if library in LIBRARIES:
            _skip(f"needs {library}")
    elif event in PROCESSES:
        _skip("starts a process")


def _skip(reason: str) -> None:
    raise pytest.skip.Exception(f"not quick: {reason}", allow_module_level=True)


def pytest_sessionstart() -> None:
    """Begin only now: pytest's own plugins have been imported, pytest-qt with Qt among them."""
    sys.addaudithook(_guard)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say what the quick choice leaves to the whole suite."""
    left = len(terminalreporter.stats.get("skipped", []))
    terminalreporter.write_line(
        f"{left} left to the whole suite: they need torch, Qt or a process."
    )
