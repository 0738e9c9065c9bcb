"""Errors of the system that nothing else handled are shown in words, and everything else as a bug."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from PySide6.QtWidgets import QDialog, QLabel
from pytestqt.qtbot import QtBot

from ui.dialogs.crash_dialog import CrashDialog
from ui.window.crash import CrashReporter


def shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception) -> tuple[str, str]:
    """Title and texts of the dialog for an error."""
    found: list[tuple[str, str]] = []

    def remember(dialog: QDialog) -> int:
        texts = [label.text() for label in dialog.findChildren(QLabel)]
        found.append((dialog.windowTitle(), "\n".join(texts)))
        return 0

    monkeypatch.setattr(CrashDialog, "exec", remember)
    CrashReporter(tmp_path / "window.log").handle(type(error), error, None)
    (only,) = found
    return only


@pytest.mark.allow_log
@pytest.mark.parametrize(
    "number",
    [
        errno.EIO,
        errno.ENOTDIR,
        errno.ESTALE,
        errno.EROFS,
        errno.ENOSPC,
        errno.EMFILE,
        errno.ENAMETOOLONG,
    ],
    ids=lambda n: errno.errorcode[n],
)
def test_an_error_of_the_system_in_words(
    qtbot: QtBot,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: int,
) -> None:
    error = OSError(number, os.strerror(number), str(tmp_path / "project.studio"))
    title, text = shown(monkeypatch, tmp_path, error)
    assert title in ("A file or folder cannot be used", "The disk is full")
    assert str(tmp_path) in text
    assert "unexpected" not in text
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.allow_log
@pytest.mark.parametrize(
    ("error", "found"),
    [
        (KeyError("x"), "KeyError"),
        (ValueError("caf\udce9.jsonl"), "\\udce9.jsonl"),  # a name that cannot be written as UTF-8
    ],
    ids=["bug", "surrogate"],
)
def test_a_bug_stays_a_bug(
    qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, found: str
) -> None:
    title, text = shown(monkeypatch, tmp_path, error)
    assert title == "Something went wrong"
    assert found in text
    assert found in (tmp_path / "window.log").read_text(encoding="utf-8")


@pytest.mark.allow_log
def test_an_error_in_a_folder_that_was_deleted(
    qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder that the program was started in."""
    place = tmp_path / "deleted"
    place.mkdir()
    monkeypatch.chdir(place)
    place.rmdir()
    title, text = shown(monkeypatch, tmp_path, OSError(errno.EIO, os.strerror(errno.EIO)))
    assert title == "A file or folder cannot be used"
    assert "disk or its connection has failed" in text
