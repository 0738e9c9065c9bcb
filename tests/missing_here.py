"""Skips a test at the point where it makes what this system does not have.

Windows has no named pipes, and makes links only with a permission; Windows and macOS have no names that are not
UTF-8. Nothing lists the tests that need them, so that a new one is skipped by itself.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).resolve().parent
NO_PERMISSION = 1314  # ERROR_PRIVILEGE_NOT_HELD


def skip_what_is_missing() -> None:
    """Called once, before the tests are collected."""
    if not hasattr(os, "mkfifo"):
        os.mkfifo = _no_pipes  # type: ignore[attr-defined,unused-ignore]
    link = Path.symlink_to

    def symlink_to(self: Path, *arguments: Any, **options: Any) -> None:
        try:
            link(self, *arguments, **options)
        except OSError as error:
            ours = Path(sys._getframe(1).f_code.co_filename).is_relative_to(
                TESTS
            )  # not pytest itself
            if ours and getattr(error, "winerror", None) == NO_PERMISSION:
                pytest.skip("making links needs a permission on this system")
            raise

    Path.symlink_to = symlink_to  # type: ignore[assignment,method-assign,unused-ignore]


def odd_name(name: bytes) -> str:
    """A file name that is not UTF-8; skips the test where names are text."""
    if sys.platform in ("win32", "darwin"):
        pytest.skip("names of files are text on this system")
    return os.fsdecode(name)


def unix_socket() -> socket.socket:
    """A socket that lies in a folder as a file."""
    if not hasattr(socket, "AF_UNIX"):
        pytest.skip("there are no such sockets on this system")
    return socket.socket(socket.AF_UNIX)


def _no_pipes(*_: object, **__: object) -> None:
    pytest.skip("there are no named pipes on this system")
