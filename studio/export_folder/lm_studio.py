"""Adds a GGUF file to the models of LM Studio: ``PUBLISHER/MODEL/FILE.gguf`` in its models folder.

The folder is where LM Studio says (``~/.lmstudio-home-pointer``, ``downloadsFolder`` in its ``settings.json``), else
``~/.lmstudio/models``, or ``~/.cache/lm-studio/models`` of older versions. Files are linked where that is possible.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from studio.errors import StudioError
from studio.model.folder_files import json_or_empty
from studio.system import busy_files, disk

PUBLISHER = "lora-studio"
MISSING = (
    "LM Studio was not found: it has no folder for models yet.",
    "Get it at https://lmstudio.ai and start it once, or choose a Folder.",
)
"""Sentence and hint."""
_BLOCK = 8 * 1024 * 1024
_QUANTIZATION = re.compile(r"-(F32|F16|BF16|I?Q\d\w*)$")


def models_folder(home: Path | None = None) -> Path | None:
    """The models folder of LM Studio; ``None`` if it has never been started by this user."""
    home = home or Path.home()
    found = _home(home)
    if found is None:
        return None
    stated = json_or_empty(found, "settings.json").get("downloadsFolder")
    return Path(stated) if isinstance(stated, str) and stated else found / "models"


def _home(home: Path) -> Path | None:
    with suppress(OSError, UnicodeDecodeError):
        pointed = Path((home / ".lmstudio-home-pointer").read_text(encoding="utf-8").strip())
        if pointed.is_dir() and pointed.is_absolute():
            return pointed
    known = (home / ".lmstudio", home / ".cache" / "lm-studio")
    return next((place for place in known if place.is_dir()), None)


def place_for(file: Path, models: Path) -> Path:
    """Where a file of this name belongs: the quantizations of one model share a folder."""
    return model_folder(models, PUBLISHER, _QUANTIZATION.sub("", file.stem)) / file.name


def model_folder(models: Path, publisher: str, model: str) -> Path:
    """The folder of all quantizations of a model."""
    return models / publisher / f"{model}-GGUF"


def add_model(
    file: Path, models: Path, progress: Callable[[int, int], None] = lambda done, total: None
) -> Path:
    """Link or copy a GGUF file into the models folder, and return its new path. ``progress(done, total)`` is called
    with bytes; what it raises stops the copy, and nothing is left. Raises ``StudioError``."""
    target = place_for(file, models)
    needed = file.stat().st_size if file.is_file() else 0
    with disk.explain_errors("the model in LM Studio", target.parent, needed=needed):
        if not file.is_file():
            raise StudioError(f"{file} does not exist any more.", hint="Run the export again.")
        target.parent.mkdir(parents=True, exist_ok=True)
        part = busy_files.new_part(target)
        try:
            _bring(file, part, progress)
            busy_files.replace(part, target)
        finally:
            if part.exists():
                busy_files.remove(part)
    return target


def _bring(file: Path, part: Path, progress: Callable[[int, int], None]) -> None:
    with suppress(OSError):
        os.link(file, part)
        return
    total, done = file.stat().st_size, 0
    disk.refuse_full("the model in LM Studio", part.parent, total)
    with file.open("rb") as source, part.open("wb") as copy:
        while block := source.read(_BLOCK):
            copy.write(block)
            done += len(block)
            progress(done, total)
        copy.flush()
        os.fsync(copy.fileno())
