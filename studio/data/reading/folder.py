"""The files of a ``source`` setting by the side of the split that their names say: one file,
several, a pattern, or a folder.

Several are separated by “;” or line breaks. Files with rows are not opened; only a dataset card,
the JSON files of ``save_to_disk`` and the list of files in a ZIP archive are read.
"""

from __future__ import annotations

import glob
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from studio.data.reading import walk
from studio.data.reading.archive import archive_of, is_archive, members_of
from studio.data.reading.card import card_configs
from studio.data.reading.document import INSTALL, can_read
from studio.data.reading.file_types import kind_of_name
from studio.data.reading.source import bad_file, unreadable
from studio.data.reading.splits import (
    BOOKKEEPING,
    TRAIN,
    NoSuchPart,
    Sides,
    by_card,
    by_names,
    by_split,
    named_split,
)
from studio.errors import StudioError

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
_SAVED_SPLITS = "dataset_dict.json"


@dataclass(frozen=True)
class Remark:
    """What the selection of files excluded or assumed."""

    sentence: str
    hint: str = ""
    level: Literal["info", "warning"] = "warning"
    code: str = "files_left_out"


@dataclass(frozen=True)
class Found:
    """Files in reading order, and remarks for the user about the selection.

    ``files`` are those for training, ``validation`` and ``test`` those that a folder names so. With
    these, ``unnamed`` files belong to no split. ``declared``: a dataset card decides.
    """

    files: tuple[Path, ...]
    validation: tuple[Path, ...] = ()
    test: tuple[Path, ...] = ()
    unnamed: tuple[Path, ...] = ()
    remarks: tuple[Remark, ...] = ()
    declared: bool = False

    @property
    def all(self) -> tuple[Path, ...]:
        """Every file."""
        return (*self.files, *self.validation, *self.test, *self.unnamed)


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


def find_files(source: str, project_dir: Path, config: str = "", split: str = TRAIN) -> Found:
    """The files of a source; raises ``StudioError`` when there are none, or too many types.

    ``config`` and ``split`` select a part of a folder that has several.
    """
    found: list[Found] = []
    parts = parts_of(source, project_dir)
    for part in parts:
        if os.path.isdir(part):
            found.append(_in_folder(part, config, split))
        elif is_archive(part) and part.is_file():
            found.append(_in_archive(part, config, split))
        elif not _there(part) and archive_of(part) is None and glob.has_magic(str(part)):
            found.append(_matching(part))
        else:
            found.append(Found((part,)))
    if not found:
        raise StudioError(
            "no file is chosen.",
            hint="Choose a file with your examples.",
            field="source",
            code="no_file",
        )

    def join(lists: Iterable[Iterable[Path]]) -> tuple[Path, ...]:
        return tuple(dict.fromkeys(p for files in lists for p in files))

    listed = _listed_splits(parts) if len(parts) > 1 else ()
    files = join(f.files for f in found)
    return Found(
        files,
        tuple(p for p in join(f.validation for f in found) if p not in files),
        tuple(p for p in join(f.test for f in found) if p not in files),
        tuple(p for p in join(f.unnamed for f in found) if p not in files),
        (*(r for f in found for r in f.remarks), *listed),
        any(f.declared for f in found),
    )


def _listed_splits(parts: Sequence[Path]) -> tuple[Remark, ...]:
    """A remark about paths in a list that are named test or validation: they are trained."""
    named = [p.name for p in parts if named_split(p.name) not in ("", TRAIN)]
    if not named:
        return ()
    names = _names(named)
    return (
        Remark(
            f"{names} {'is' if len(named) == 1 else 'are'} among the files for training, because "
            "each file of a list is used.",
            "Remove it from File, or choose the folder that holds the files.",
            code="split_listed",
        ),
    )


def _matching(pattern: Path) -> Found:
    found = [Path(p) for p in sorted(glob.glob(str(pattern), recursive=True))]
    files = [p for p in found if not p.is_dir() and kind_of_name(p)]
    if not files:
        raise bad_file(
            pattern, "matches no data file", "Check the pattern; * matches any name.", "no_match"
        )
    magic = next(i for i, p in enumerate(pattern.parts) if glob.has_magic(p))
    root = Path(*pattern.parts[:magic])
    sides = by_names([_relative(p, root) for p in files], "*")
    if not sides.train:  # the pattern itself names the split
        return Found(tuple(files))
    return _found(root, sides)


def _in_folder(folder: Path, config: str, split: str) -> Found:
    files, others = _data_files(folder)
    return _by_side(folder, files, others, config, split)


def _in_archive(archive: Path, config: str, split: str) -> Found:
    """The data files of a ZIP archive, like those of a folder."""
    members = [p for p in members_of(archive) if p.name not in BOOKKEEPING]
    files = [p for p in members if kind_of_name(p)]
    saved = {p.parent for p in members_of(archive) if p.name == _SAVED}
    files = [p for p in files if p.parent not in saved or p.suffix == ".arrow"]
    types = Counter(p.suffix.lower() for p in members if not kind_of_name(p))
    others = [(s, n) for s, n in types.most_common() if not walk.describes(Path(f"a{s}"))]
    if not files:
        held = f" (it has {_kinds(others)})" if others else ""
        raise bad_file(
            archive,
            f"is a ZIP archive without data files{held}",
            "Choose an archive with files such as .jsonl, .csv or .parquet.",
            "empty_folder",
        )
    return _by_side(archive, files, _other_types(archive, others), config, split)


def _by_side(
    folder: Path, files: list[Path], others: tuple[Remark, ...], config: str, split: str
) -> Found:
    """The files of a folder or archive by the side of the split that their names say."""
    documents = [p for p in files if kind_of_name(p) == "document"]
    if documents and not can_read() and len(documents) < len(files):
        files = [p for p in files if p not in documents]
        number = "1 document" if len(documents) == 1 else f"{len(documents)} documents"
        sentence = f"Ignored {number} in {folder.name}, which need the package markitdown."
        others = (*others, Remark(sentence, f"Install it with: {INSTALL}", code="files_skipped"))
    try:
        if (folder / _SAVED_SPLITS).is_file():
            sides = by_split(_saved_splits(folder, files), split)
        else:
            files, left_out = _one_family(folder, files)
            others = (*left_out, *others)
            names = [_relative(p, folder) for p in files]
            sides = by_card(names, card_configs(folder), config, split)
            if not sides.train and not sides.named:
                absent, sides = sides.absent, by_names(names, config)
                if split != TRAIN and sides.named:
                    sides = by_split(_as_splits(sides), split)
                sides = replace(sides, absent=absent)
    except NoSuchPart as error:
        raise _not_chosen(folder, error) from error
    found = _found(folder, sides)
    return replace(found, remarks=(*found.remarks, *others))


def _not_chosen(folder: Path, error: NoSuchPart) -> StudioError:
    """The error for a folder with several parts of which none, or none that exists, is selected."""
    label = {"configuration": "Configuration", "split": "Split"}[error.of]
    example = next(iter(error.choices), "")
    several = ", or * for all of them" if error.of == "configuration" else ""
    found = bad_file(
        folder,
        str(error),
        f"Choose one of these names as {label} in the Dataset node{several}."
        if example
        else f"Empty {label} in the Dataset node, or choose another folder.",
        f"several_{error.of}s" if "several" in str(error) else f"no_such_{error.of}",
    )
    found.field = "hub_config" if error.of == "configuration" else "hub_split"
    found.choices = error.choices
    return found


def _as_splits(sides: Sides) -> dict[str, tuple[str, ...]]:
    named = {"train": sides.train, "validation": sides.validation, "test": sides.test}
    return {**named, "": sides.unnamed}


def _saved_splits(folder: Path, files: Sequence[Path]) -> dict[str, list[str]]:
    """Split -> files of a saved ``DatasetDict``, whose folders are the splits."""
    splits: dict[str, list[str]] = {}
    for path in files:
        name = _relative(path, folder)
        split, slash, _ = name.partition("/")
        if slash and path.suffix == ".arrow":
            splits.setdefault(split, []).append(name)
    if not splits:
        raise _no_data_files(folder)
    return splits


def _found(root: Path, sides: Sides) -> Found:
    def paths(names: Iterable[str]) -> tuple[Path, ...]:
        return tuple(root / n for n in names)

    return Found(
        paths(sides.train),
        paths(sides.validation),
        paths(sides.test),
        paths(sides.unnamed),
        tuple(_remarks(root, sides)),
        sides.declared,
    )


def _remarks(root: Path, sides: Sides) -> Iterator[Remark]:
    if sides.others:
        yield Remark(
            f"{root.name} has several parts: {sides.config} is used, {_names(sides.others)} "
            f"{'is' if len(sides.others) == 1 else 'are'} not.",
            "Configuration and Split in the Dataset node select another one.",
            "info",
            "configuration",
        )
    if sides.absent:
        yield Remark(
            f"The dataset card of {root.name} lists files for {_names(sides.absent)} that do not "
            "exist.",
            "Download the dataset again if you need them.",
            code="split_missing",
        )
    if sides.joined:
        yield Remark(
            f"{_files_named(sides.joined)} used for training like the files named train.",
            "Rename it so that it begins with test or validation, if its rows must not be trained.",
            "info",
            "split_joined",
        )
    for side, files in (("", sides.train), ("validation", sides.validation), ("test", sides.test)):
        names = [n for n in sides.doubtful if n in files]
        if names and side:
            yield Remark(
                f"{_files_named(names)} treated as a {side} split, because the name begins or ends "
                "with one.",
                "To train on its rows, rename it or choose the files themselves.",
                code="split_doubtful",
            )
        elif names:
            yield Remark(
                f"{_files_named(names)} used for training, although the name begins or ends with the "
                "name of a test or validation split: there are no other files to train on.",
                "Choose another folder if its rows must not be trained.",
                code="split_doubtful",
            )


def _files_named(names: Sequence[str]) -> str:
    """The names of files, and the verb."""
    own = [n.rpartition("/")[2] for n in names]
    return f"{_names(own)} {'is' if len(own) == 1 else 'are'}"


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _data_files(folder: Path) -> tuple[list[Path], tuple[Remark, ...]]:
    """The files with rows below a folder, and a remark about files of other types."""
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
    files = [p for p in found.files if p.name not in BOOKKEEPING]
    saved = {p.parent for p in files if p.suffix == ".arrow" and (p.parent / _SAVED).is_file()}
    kept = {place: _arrow_files(place) for place in saved}
    files = [p for p in files if p.parent not in kept or p.name in kept[p.parent]]
    if not files:
        raise _no_data_files(folder, found.others)
    return files, _other_types(folder, found.others)


def _no_data_files(folder: Path, others: Sequence[tuple[str, int]] = ()) -> StudioError:
    held = f" (it has {_kinds(others)})" if others else ""
    return bad_file(
        folder,
        f"is a folder without data files{held}",
        "Choose the ZIP archive itself."
        if any(suffix == ".zip" for suffix, _ in others)
        else "Choose a file, or a folder with .jsonl, .json, .csv, .parquet, .arrow, .xlsx, .sqlite, .txt or "
        ".md files.",
        "empty_folder",
    )


def _arrow_files(folder: Path) -> set[str]:
    """The Arrow files of a dataset that ``save_to_disk`` wrote, without those of its cache."""
    try:
        state: Any = json.loads((folder / _SAVED).read_text(encoding="utf-8"))
        names = {str(f["filename"]) for f in state["_data_files"]}
        indirect = state.get("_indices_data_files")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {p.name for p in folder.glob("*.arrow") if not p.name.startswith("cache-")}
    if indirect:
        raise bad_file(
            folder,
            "was saved with an index of its rows, so that its Arrow files hold other rows than it",
            "Load it with datasets, and save it again after flatten_indices().",
            "saved_with_indices",
        )
    return names


def _other_types(folder: Path, others: Sequence[tuple[str, int]]) -> tuple[Remark, ...]:
    if not others:
        return ()
    count = sum(n for _, n in others)
    return (
        Remark(
            f"Ignored {_files(count)} in {folder.name} of types that are not read: {_kinds(others)}.",
            "Convert what you need to a type that is read, or remove it from the folder."
            + (
                " A ZIP archive is read when it is chosen itself."
                if dict(others).get(".zip")
                else ""
            ),
            code="files_skipped",
        ),
    )


def _kinds(others: Sequence[tuple[str, int]]) -> str:
    named = [f"{n:,} {s.lstrip('.').upper() or 'without a suffix'}" for s, n in others]
    return ", ".join(named[:6]) + (f" and {len(named) - 6} more types" if len(named) > 6 else "")


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count:,} files"


def _names(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _one_family(folder: Path, files: Sequence[Path]) -> tuple[list[Path], tuple[Remark, ...]]:
    """Text files beside tables are ignored; tables of several types may contain the same rows."""
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
    if "text" not in families:
        return list(files), ()
    if not tables:
        kept = [p for p in files if not walk.describes(p)]
        if not kept:
            raise _no_data_files(folder, Counter(p.suffix.lower() for p in files).most_common())
        about = [p.name for p in files if walk.describes(p)]
        sentence = f"Ignored {_names(about)} in {folder.name}, which describes the data."
        return kept, (Remark(sentence, level="info", code="files_skipped"),) if about else ()
    kept = [p for p in files if kind_of_name(p) in _FAMILY]
    return kept, _left_out(folder, [p for p in files if kind_of_name(p) not in _FAMILY])


def _left_out(folder: Path, texts: list[Path]) -> tuple[Remark, ...]:
    names = ", ".join(p.name for p in texts[:3]) + (" …" if len(texts) > 3 else "")
    noun = "text file" if all(kind_of_name(p) == "text" for p in texts) else "text or document file"
    number = f"1 {noun}" if len(texts) == 1 else f"{len(texts)} {noun}s"
    sentence = f"Ignored {number} next to the tables in {folder.name} ({names})."
    level: Literal["info", "warning"] = "info" if all(map(walk.describes, texts)) else "warning"
    return (Remark(sentence, level=level, code="files_skipped"),)


def holds_data(folder: Path) -> bool:
    """Whether a folder contains data files that can be read; False if it is too large to search."""
    try:
        find_files(str(folder), folder)
    except StudioError as error:
        return error.field in ("hub_config", "hub_split")  # a choice is left to the user
    except (OSError, ValueError):
        return False
    return True
