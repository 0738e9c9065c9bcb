"""The files of a ``source`` setting: one file, several, a pattern, or a folder.

Several are separated by “;” or line breaks. Only ZIP archives are opened, for their list of files.
"""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from studio.data.reading import walk
from studio.data.reading.archive import archive_of, is_archive, members_of
from studio.data.reading.file_types import kind_of_name
from studio.data.reading.source import bad_file, unreadable
from studio.errors import StudioError
from studio.node_settings.dataset import DatasetSettings

MOST_FILES = 10_000
HUB = "hub:"
_FAMILY = {
    "jsonl": "JSON",
    "json": "JSON",
    "csv": "CSV",
    "parquet": "Parquet",
    "arrow": "Arrow",
    "sheet": "spreadsheet",
    "sqlite": "SQLite",
}
_SAVED = "state.json"  # beside the Arrow files of datasets.save_to_disk


@dataclass(frozen=True)
class Found:
    """Files in reading order, and notes for the user about the selection."""

    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()


def is_hub(source: str) -> bool:
    """Whether a source is a data set on the hub."""
    return source.strip().startswith(HUB)


def parts_of(source: str, project_dir: Path) -> list[Path]:
    """The paths in a source; relative ones start from the project's folder."""
    single = _path(source, project_dir)
    if "\n" not in source.strip() and _there(single):
        return [single]
    parts = [p.strip() for p in re.split(r"[;\n]", source)]
    return [_path(p, project_dir) for p in parts if p]


def _path(text: str, project_dir: Path) -> Path:
    try:
        return project_dir / Path(text.strip()).expanduser()
    except RuntimeError:  # ~nobody
        return project_dir / text.strip()


def _there(path: Path) -> bool:
    try:
        return os.path.lexists(path)
    except ValueError:  # a NUL character
        return False


def find_files(source: str, project_dir: Path) -> Found:
    """The files of a source; raises ``StudioError`` when there are none, or too many types."""
    files: list[Path] = []
    notes: list[str] = []
    for part in parts_of(source, project_dir):
        if os.path.isdir(part):
            found = _in_folder(part)
        elif not _there(part) and archive_of(part) is None and glob.has_magic(str(part)):
            found = _matching(part)
        elif is_archive(part) and part.is_file():
            found = _in_archive(part)
        else:
            found = Found((part,))
        files += found.files
        notes += found.notes
    if not files:
        raise StudioError(
            "no file is chosen.",
            hint="Choose a file with your examples.",
            field="source",
            code="no_file",
        )
    return Found(tuple(dict.fromkeys(files)), tuple(notes))


def _matching(pattern: Path) -> Found:
    found = [Path(p) for p in sorted(glob.glob(str(pattern), recursive=True))]
    files = [p for p in found if not p.is_dir() and (kind_of_name(p) or is_archive(p))]
    if not files:
        raise bad_file(
            pattern, "matches no data file", "Check the pattern; * matches any name.", "no_match"
        )
    return _with_members(files)


def _with_members(paths: Sequence[Path]) -> Found:
    """The files, and in place of each archive its members."""
    parts = [_in_archive(p) if is_archive(p) else Found((p,)) for p in paths]
    return Found(
        tuple(p for part in parts for p in part.files),
        tuple(note for part in parts for note in part.notes),
    )


def _in_archive(archive: Path) -> Found:
    """The data files of an archive, like those of a folder."""
    members = members_of(archive)
    files = [p for p in members if kind_of_name(p)]
    if not files:
        raise bad_file(
            archive,
            "is a ZIP archive without data files",
            "Choose an archive with files such as .jsonl, .csv or .parquet.",
            "empty_folder",
        )
    if any(p.name == _SAVED for p in files) and any(p.suffix == ".arrow" for p in files):
        files = [p for p in files if p.suffix == ".arrow"]
    found = _one_family(archive, files)
    others = [p for p in members if not kind_of_name(p)]
    if not others:
        return found
    names = ", ".join(p.name for p in others[:3]) + (" …" if len(others) > 3 else "")
    number = "1 file" if len(others) == 1 else f"{len(others)} files"
    note = f"{number} in {archive.name} that the program does not read were ignored ({names})."
    return Found(found.files, (*found.notes, note))


def _in_folder(folder: Path) -> Found:
    _refuse_several_sets(folder)
    files = _data_files(folder)
    if not files:
        raise bad_file(
            folder,
            "is a folder without data files",
            "Choose a file, or a folder with .jsonl, .json, .csv, .parquet, .arrow, .xlsx, .sqlite, .txt or .md files.",
            "empty_folder",
        )
    if (folder / _SAVED).is_file():
        return Found(tuple(p for p in files if p.suffix == ".arrow"))
    data = [p for p in files if not is_archive(p)]
    if not data:
        return _with_members(files)
    found = _one_family(folder, data)
    archives = [p.name for p in files if is_archive(p)]
    if not archives:
        return found
    names = ", ".join(archives[:3]) + (" …" if len(archives) > 3 else "")
    number = "1 ZIP archive" if len(archives) == 1 else f"{len(archives)} ZIP archives"
    note = f"{number} beside the other files in {folder.name} were ignored ({names})."
    return Found(found.files, (*found.notes, note))


def _refuse_several_sets(folder: Path) -> None:
    if not (folder / "dataset_dict.json").is_file():
        return
    splits = ", ".join(sorted(p.parent.name for p in folder.glob(f"*/{_SAVED}")))
    raise bad_file(
        folder,
        f"is a saved dataset with several splits: {splits or 'none'}",
        f"Choose the folder of one split, such as {folder.name}/train.",
        "several_splits",
    )


def _data_files(folder: Path) -> tuple[Path, ...]:
    try:
        found = walk.walk(folder)
    except OSError as error:
        raise unreadable(Path(error.filename or folder), error) from error
    if found.too_large:
        raise bad_file(
            folder,
            f"contains more than {walk.MOST_NAMES:,} files and folders, too many to search",
            "Choose a subfolder, or the files themselves: several paths separated by "
            "“;”, or a pattern such as data/*.jsonl.",
            "folder_too_large",
        )
    if len(found.files) > MOST_FILES:
        raise bad_file(
            folder,
            f"contains more than {MOST_FILES:,} data files",
            "Combine them, or choose a subfolder.",
            "too_many_files",
        )
    return found.files


def _one_family(folder: Path, files: Sequence[Path]) -> Found:
    """Text files beside tables are ignored as notes; tables of several types may contain the same rows."""
    families = Counter(_FAMILY.get(str(kind_of_name(p)), "text") for p in files)
    tables = {n: c for n, c in families.items() if n != "text"}
    if len(tables) > 1:
        kinds = " and ".join(f"{count} {name}" for name, count in sorted(tables.items()))
        raise bad_file(
            folder,
            f"contains files of several types ({kinds}), which may contain the same rows twice",
            f"Choose one type, such as {folder.name}/*.jsonl.",
            "mixed_folder",
        )
    if not tables or "text" not in families:
        return Found(tuple(files))
    kept = tuple(p for p in files if kind_of_name(p) != "text")
    return Found(kept, (_left_out(folder, [p for p in files if p not in kept]),))


def _left_out(folder: Path, texts: list[Path]) -> str:
    names = ", ".join(p.name for p in texts[:3]) + (" …" if len(texts) > 3 else "")
    number = "1 text file" if len(texts) == 1 else f"{len(texts)} text files"
    return f"Ignored {number} next to the tables in {folder.name} ({names})."


def sources_or_none(
    source: str, project_dir: Path, find: Callable[[str, Path], Found] = find_files
) -> tuple[Path, ...]:
    """Like ``find_files``, but returns no files instead of raising an error."""
    try:
        return find(source, project_dir).files
    except (StudioError, OSError, ValueError):
        return ()


def dataset_files(settings: DatasetSettings, project_dir: Path) -> Iterator[Path]:
    """The files of a Dataset node; a data set on the hub is identified by its name and revision."""
    sources = [settings.source]
    if settings.split_mode == "file":
        sources.append(settings.validation_source)
    for source in sources:
        if source.strip() and not is_hub(source):
            files = sources_or_none(source, project_dir)
            yield from dict.fromkeys(archive_of(path) or path for path in files)
