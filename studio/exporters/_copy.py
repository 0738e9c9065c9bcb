"""Copying model files with progress and stop points.

Weights are hard-linked where both places belong to runs, which are never changed afterwards; a
folder that the user named gets real copies. Pickled files are left behind: they can hold code.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from studio.trust import may_run_code

if TYPE_CHECKING:
    from studio.runs.context import StepContext

_BLOCK = 8 * 1024 * 1024
_WEIGHTS = ".safetensors"
_KEPT = {_WEIGHTS, ".json", ".jinja", ".model", ".txt", ".tiktoken"}


def model_files(folder: Path) -> list[Path]:
    """The files of a model or adapter folder that other programs need, in order of name."""
    kept = _KEPT | {".py"} if may_run_code(folder) else _KEPT  # without its code it cannot load
    files = [p for p in sorted(folder.iterdir()) if p.is_file() and p.suffix in kept]
    return [p for p in files if not p.name.startswith(".")]


def folder_size(folder: Path) -> int:
    """Bytes of these files."""
    return sum(p.stat().st_size for p in model_files(folder))


def copy_files(
    context: StepContext, files: Sequence[Path], target: Path, *, link_weights: bool
) -> None:
    """Put the files into ``target``; ``OSError`` passes through."""
    total = sum(p.stat().st_size for p in files)
    done = 0
    for path in files:
        place = target / path.name
        if link_weights and path.suffix == _WEIGHTS and _linked(path, place):
            done += path.stat().st_size
            context.progress("export", _mb(done), _mb(total), "MB")
            continue
        done = _copied(context, path, place, done, total)


def _linked(path: Path, place: Path) -> bool:
    with suppress(OSError):
        os.link(path.resolve(), place)
        return True
    return False


def _copied(context: StepContext, path: Path, place: Path, done: int, total: int) -> int:
    with path.open("rb") as source, place.open("wb") as file:
        while block := source.read(_BLOCK):
            file.write(block)
            done += len(block)
            context.progress("export", _mb(done), _mb(total), "MB")
        file.flush()
        os.fsync(file.fileno())
    return done


def _mb(size: int) -> float:
    return round(size / 1e6, 2)
