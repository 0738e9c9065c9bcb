"""The system's file manager opens at a file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ui.monitor.reveal import reveal


def test_explorer_gets_a_path_with_comma_and_spaces_in_quotes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "Rows, final.csv"
    file.touch()
    started: list[object] = []
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(subprocess, "Popen", started.append)
    assert reveal(file)
    assert started == [f'explorer /select,"{file}"']
