"""Runs ``ollama create`` for an exported folder, with its output, and ends it when it is stopped."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

from studio.errors import StudioError
from studio.export_folder.commands import ollama_name
from studio.export_folder.modelfile import MODELFILE
from studio.system.children import NO_WINDOW, end_child, end_with_us

WHERE = "Ollama is not on the PATH of this program. Get it at https://ollama.com/download, and start it once."
_GRACE_S = 5.0
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b\x0c\x0e-\x1f]")


def is_installed() -> bool:
    """Whether ``ollama`` is on the PATH."""
    return shutil.which("ollama") is not None


def create_model(
    folder: Path, said: Callable[[str], object], stopped: Callable[[], bool] = lambda: False
) -> str:
    """Run ``ollama create`` for this folder, and return the name of the model; ``said`` receives each new line of its
    output, from another thread. Raises ``StudioError`` with what Ollama reports, or after a stop."""
    program = shutil.which("ollama")
    if program is None:
        raise StudioError("ollama was not found.", hint=WHERE, code="no_ollama")
    name = ollama_name(folder)
    process = subprocess.Popen(
        [program, "create", name, "-f", str(folder / MODELFILE)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        creationflags=NO_WINDOW,
    )
    end_with_us(process)
    lines: list[str] = []

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            text = _CONTROL.sub("", line).strip()
            if text and lines[-1:] != [text]:
                lines.append(text)
                said(text)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        while process.poll() is None:
            if stopped():
                raise StudioError(f"ollama create {name} was stopped.", code="ollama_stopped")
            reader.join(0.1)
    finally:
        end_child(process, _GRACE_S)
        reader.join(5)
        if process.stdout is not None:
            process.stdout.close()
    if process.returncode:
        why = lines[-1] if lines else f"exit code {process.returncode}"
        raise StudioError(
            f"ollama create {name} failed: {why.removeprefix('Error: ').rstrip('.')}.",
            hint="Start Ollama, and try again. The folder of the export is complete.",
            code="ollama_failed",
        )
    return name
