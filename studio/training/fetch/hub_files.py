"""Which files of a data set on the hub belong to a configuration and a split.

This is declared under ``configs`` in the data set card, and otherwise follows from the names of
files and folders. Works on names only: no network, no file is opened.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from studio.data.reading.file_types import kind_of_name

_SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_NO_DATA = {
    "dataset_infos.json",
    "dataset_info.json",
    "dataset_dict.json",
    "state.json",
    "readme.md",
}


class NoSuchPart(Exception):
    """The data set has no such configuration or split; the text is a clause about it."""


def files_of(
    names: Sequence[str], configs: Sequence[Mapping[str, Any]], config: str, split: str
) -> list[str]:
    """The files of a split, in order; raises ``NoSuchPart``."""
    chosen = _config(configs, config)
    listed = [n for n in sorted(names) if not PurePosixPath(n).name.startswith(".")]
    if chosen is not None and chosen.get("data_files") is not None:
        splits = _by_card(listed, chosen["data_files"])
    else:
        folder = str((chosen or {}).get("data_dir") or ("" if chosen else config)).strip("./")
        splits = _by_name(_below(listed, folder))
    if not any(splits.values()):
        kinds = ", ".join(sorted({PurePosixPath(n).suffix or n for n in listed})) or "nothing"
        raise NoSuchPart(
            f"has no data files that can be read without running its code (it contains {kinds})"
        )
    found = splits.get(split) or splits.get(_plain(split)) or []
    if not found:
        raise NoSuchPart(
            f"has no split “{split}”; it has: {', '.join(s for s in splits if splits[s])}"
        )
    odd = next((n for n in found if kind_of_name(_path(n)) is None), None)
    if odd is not None:
        raise NoSuchPart(f"stores this split in an unsupported file type ({odd})")
    return found


def _config(configs: Sequence[Mapping[str, Any]], wanted: str) -> Mapping[str, Any] | None:
    if not configs:
        return None
    names = [str(c.get("config_name", "default")) for c in configs]
    if wanted:
        if wanted not in names:
            raise NoSuchPart(f"has no configuration “{wanted}”; it has: {', '.join(names)}")
        return configs[names.index(wanted)]
    default = next((c for c in configs if c.get("default")), None)
    if default is None and len(configs) > 1 and "default" not in names:
        raise NoSuchPart(f"has several configurations; choose one of: {', '.join(names)}")
    return default or configs[names.index("default") if "default" in names else 0]


def _by_card(names: Sequence[str], data_files: Any) -> dict[str, list[str]]:
    splits: dict[str, list[str]] = {}
    if isinstance(data_files, Mapping):
        data_files = [{"split": s, "path": p} for s, p in data_files.items()]
    for entry in [data_files] if isinstance(data_files, str) else data_files:
        split, paths = "train", entry
        if isinstance(entry, Mapping):
            split, paths = str(entry.get("split", "train")), entry.get("path", [])
        for pattern in [paths] if isinstance(paths, str) else paths:
            matches = [n for n in names if _matches(str(pattern), n)]
            splits.setdefault(split, []).extend(
                n for n in matches if n not in splits.get(split, [])
            )
    return splits


def _matches(pattern: str, name: str) -> bool:
    """Match a path like a shell: ``*`` within a folder, ``**`` across folders."""
    text = re.escape(pattern.removeprefix("./"))
    text = text.replace(r"\*\*/", "(?:.*/)?").replace(r"\*\*", ".*").replace(r"\*", "[^/]*")
    return re.fullmatch(text.replace(r"\?", "[^/]"), name) is not None


def _below(names: Sequence[str], folder: str) -> list[str]:
    if not folder:
        return list(names)
    starts = (f"{folder}/", f"data/{folder}/")
    found = [n for n in names if n.startswith(starts)]
    if not found:
        raise NoSuchPart(f"has no configuration “{folder}”")
    return found


def _by_name(names: Sequence[str]) -> dict[str, list[str]]:
    """The files of the most frequent type that belong to the split by their paths; files without a
    split in their path are training files.
    """
    data = {n: kind_of_name(_path(n)) for n in names if _path(n).name.lower() not in _NO_DATA}
    kinds = Counter(k for k in data.values() if k and k != "text") or Counter(
        filter(None, data.values())
    )
    if not kinds:
        return {}
    kind = kinds.most_common(1)[0][0]
    splits: dict[str, list[str]] = {}
    for name, own in data.items():
        if own == kind:
            splits.setdefault(_split_in(name), []).append(name)
    if list(splits) == [""]:
        return {"train": splits[""]}
    return splits


def _split_in(name: str) -> str:
    """The split named in a path, searched from its end; empty if there is none."""
    for part in reversed(PurePosixPath(name).parts):
        for word in re.split(r"[^a-z]+", part.lower()):
            if _plain(word) in _SPLITS:
                return _plain(word)
    return ""


def _plain(word: str) -> str:
    return next((s for s, words in _SPLITS.items() if word.lower() in words), word)


def _path(name: str) -> Path:
    return Path(name)
