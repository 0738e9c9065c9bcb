"""The folder of an export: whether it can be written, and how it is replaced atomically.

The export is written to a staging folder and renamed when complete. An existing folder is replaced
only if all of its files were written by an earlier export.
"""

from __future__ import annotations

import glob
import itertools
import json
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from bootstrap.platforms import writable
from studio.errors import Problem, StudioError
from studio.graph.node_type import CheckContext
from studio.system import busy_files
from studio.system.paths import LENGTH_HINT, length_problem, name_problem

if TYPE_CHECKING:
    from studio.node_settings.export import ExportSettings

MANIFEST = "lora-studio.json"
_STAGING = ".lora-studio-export-"
_writable: set[str] = set()
LONGEST_IN_EXPORT = 85
"""Characters: the longest name of a file that is written, and what the name of the staging folder adds."""
_OLD = "-old"
_PROBE = f".lora-studio-{'[0-9a-f]' * 16}"
"""The files by which ``writable`` finds out whether a folder can be written."""
_KIND_OF = {
    "train": "adapter",
    "resize": "adapter",
    "adapter_mix": "adapter",
    "load_adapter": "adapter",
    "merge": "model",
    "base_model": "model",
}


def quick_check(settings: ExportSettings, context: CheckContext) -> Iterable[Problem]:
    """Whether the exporter supports its input, and whether the folder can be written."""
    variant = context.variants.get("exporter", {}).get(settings.format)
    wired = _KIND_OF.get(context.inputs.get("model", ("", None))[0])
    if variant is not None and wired is not None and wired not in variant.payload.accepts:
        yield context.problem(
            f"the format {variant.title} does not support {_article(wired)}.",
            "format",
            hint="Choose another format, or connect something else.",
            code="wrong_export",
        )
    if variant is not None:
        yield from variant.payload.check(context)
    chosen = settings.folder.strip()
    folder = context.project_dir / Path(chosen).expanduser() if chosen else None
    if variant is not None:
        try:
            own = variant.settings.model_validate(settings.format_settings)
            folder = variant.payload.place(own, "", folder) or folder
        except ValidationError:  # a Problem of the setting itself
            return
        except StudioError as error:
            yield replace(error.problem(), node=context.node)
            return
    what = refusal(folder) if folder is not None else None
    if what is not None:
        yield context.problem(f"{what[0]}.", "folder", hint=what[1], code=what[2], file=str(folder))


def _article(kind: str) -> str:
    return "an adapter" if kind == "adapter" else "a model"


def refusal(folder: Path) -> tuple[str, str, str] | None:
    """The reason why an export may not be written to ``folder``: sentence without a full stop, hint and code."""
    other = "Choose another folder."
    name = name_problem(folder)
    if name:
        return name, "Choose another name.", "invalid_name"
    length = length_problem(folder, LONGEST_IN_EXPORT)
    if length:
        return length, LENGTH_HINT, "path_too_long"
    if folder.is_file():
        return f"{folder} is a file, not a folder", other, "file_in_the_way"
    if folder.is_dir():
        foreign = foreign_files(folder)
        if foreign:
            return (
                f"{folder} contains files that are not from an export, such as {foreign[0]}",
                "Choose an empty or new folder.",
                "folder_not_empty",
            )
    place = folder.parent
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        return f"{folder} cannot be created, because {place} is a file", other, "file_in_the_way"
    if str(place) not in _writable and not writable(place):
        return f"{folder} cannot be created, because {place} is not writable", other, "not_writable"
    _writable.add(str(place))  # the check of each edit need not write again
    return None


def foreign_files(folder: Path) -> list[str]:
    """Names in ``folder`` that were not written by an earlier export."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        own = {MANIFEST, *manifest["files"]}
    except (OSError, ValueError, TypeError, KeyError):
        own = set()
    tops = {
        name.partition("/")[0] for name in own
    }  # other folders are not listed, because they may be large
    foreign = [p.name for p in folder.iterdir() if p.name not in tops]
    inside = [n for top in tops if (folder / top).is_dir() for n in _files_in(folder, folder / top)]
    return sorted([*foreign, *(n for n in inside if n not in own)])


def _files_in(folder: Path, part: Path) -> list[str]:
    """The files of a part of ``folder``, by their names relative to it."""
    return [p.relative_to(folder).as_posix() for p in sorted(part.rglob("*")) if p.is_file()]


def write_manifest(folder: Path, kind: str, described: dict[str, Any]) -> None:
    """Record the files of the export, so that a later one may replace it."""
    files = {name: (folder / name).stat().st_size for name in _files_in(folder, folder)}
    data = {"format": "lora-studio-export", "version": 1, "kind": kind, "files": files, **described}
    text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")


@dataclass
class Replacement:
    """An export that is being written to ``staging``; ``folder`` is where it is afterwards."""

    staging: Path
    folder: Path


@contextmanager
def replaced(folder: Path) -> Iterator[Replacement]:
    """A staging folder beside ``folder`` that replaces it when the block ends without an error.

    If another program uses a file in ``folder``, the export gets a numbered name beside it. Raises
    ``StudioError`` when the folder may not be replaced; ``OSError`` is not caught. No partial export
    remains in any case.
    """
    _writable.clear()
    what = refusal(folder)
    if what is not None:
        raise StudioError(
            f"{what[0]}.",
            title="Invalid output folder",
            hint=what[1],
            code=what[2],
            field="folder",
            file=str(folder),
        )
    made = _make_parents(folder)
    _clear_up(folder)
    staging = folder.with_name(f".{folder.name}{_STAGING}{secrets.token_hex(4)}")
    try:
        staging.mkdir()
        replacement = Replacement(staging, folder)
        yield replacement
        replacement.folder = _swap(staging, folder)
    except BaseException:
        busy_files.tidy(staging)
        for parent in made:
            _remove_empty(parent)
        raise


def _make_parents(folder: Path) -> list[Path]:
    """Create the parent folders; returns the new ones, the deepest first."""
    new = []
    place = folder.parent
    while not place.exists():
        new.append(place)
        place = place.parent
    folder.parent.mkdir(parents=True, exist_ok=True)
    return new


def _remove_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        return  # not empty any more


def _clear_up(folder: Path) -> None:
    """Remove what killed exports have left. If an earlier export had just been moved away, it is restored."""
    for old in folder.parent.glob(f".{glob.escape(folder.name)}{_STAGING}*"):
        if old.name.endswith(_OLD) and not folder.exists():
            busy_files.rename(old, folder)
        busy_files.tidy(old)
    # Of a process that was killed while it looked whether it may write.
    for probe in folder.parent.glob(_PROBE):
        with suppress(OSError):
            if probe.stat().st_size == 0:
                busy_files.remove(probe)


def _swap(staging: Path, folder: Path) -> Path:
    """Rename the staging folder, and return its new path: a numbered one beside ``folder`` while another program
    uses a file of the export that it should replace."""
    old = folder.with_name(f"{staging.name}{_OLD}")
    if folder.exists():
        try:
            busy_files.rename(folder, old)
        except OSError as error:
            if not busy_files.is_busy(error):
                raise
            folder = _next_free(folder)
    try:
        busy_files.move_folder(staging, folder)
    except OSError:
        if old.exists():
            busy_files.rename(old, folder)
        raise
    busy_files.tidy(old)
    return folder


def _next_free(folder: Path) -> Path:
    names = (folder.with_name(f"{folder.name}-{number}") for number in itertools.count(2))
    return next(name for name in names if not name.exists())
