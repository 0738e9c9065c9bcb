"""Copies model files, with progress, and can be stopped.

Weights are hard-linked if both folders belong to runs, whose files never change; a folder chosen by
the user gets real copies. Pickle files are skipped, because they can contain code.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from studio.errors import StudioError
from studio.model.folder_files import fault_of, shown, what_to_do
from studio.model.trust import may_run_code

if TYPE_CHECKING:
    from studio.graph.context import StepContext

_BLOCK = 8 * 1024 * 1024
_WEIGHTS = ".safetensors"
_KEPT = {_WEIGHTS, ".json", ".jinja", ".model", ".txt", ".tiktoken"}
_TEMPLATES = "additional_chat_templates/*.jinja"  # several templates of a tokenizer, by name


def model_files(folder: Path) -> list[Path]:
    """The files of a model or adapter folder that other programs need, sorted by name. Raises
    ``StudioError`` if one of them is outside the folder."""
    top = [p for p in sorted(folder.iterdir()) if p.suffix in _KEPT and not p.name.startswith(".")]
    more = sorted(folder.glob(_TEMPLATES))
    if may_run_code(folder):  # needed to load the model; trust applies to all of its code
        more += sorted(folder.rglob("*.py"))
    for path in (found := [*top, *more]):
        refuse_stray(folder, path)
    return [p for p in found if p.is_file()]


def refuse_stray(folder: Path, path: Path) -> None:
    """Raise ``StudioError`` for a link that leads out of the folder, or anything else that is not a regular
    file, except folders: nothing from outside a model folder may reach an export.
    """
    code, words = fault_of(folder, path)
    if code and not path.is_dir():
        name = shown(path.relative_to(folder).as_posix())
        raise StudioError(
            f"{name} {words}, so it cannot be copied.",
            title="A file that does not belong to the model",
            hint=what_to_do(code, name),
            code=code,
            file=str(folder),
        )


def folder_size(folder: Path) -> int:
    """The size of these files in bytes."""
    return sum(p.stat().st_size for p in model_files(folder))


def weights_size(folder: Path) -> int:
    """The size of those of them that hold weights, which are linked inside a run."""
    return sum(p.stat().st_size for p in model_files(folder) if p.suffix == _WEIGHTS)


def copy_files(
    context: StepContext, folder: Path, target: Path, *, link_weights: bool, weights: bool = True
) -> None:
    """Copy or link these files into ``target``, without the weights and their index if these are written otherwise;
    ``OSError`` is not caught."""
    files = [p for p in model_files(folder) if weights or not _is_weights(p)]
    total = sum(p.stat().st_size for p in files)
    done = 0
    for path in files:
        place = target / path.relative_to(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        if link_weights and path.suffix == _WEIGHTS and _linked(path, place):
            done += path.stat().st_size
            context.progress("export", _mb(done), _mb(total), "MB")
            continue
        done = _copied(context, path, place, done, total)


def _is_weights(path: Path) -> bool:
    return path.suffix == _WEIGHTS or path.name.endswith(f"{_WEIGHTS}.index.json")


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
