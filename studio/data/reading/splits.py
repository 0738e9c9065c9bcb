"""Which files of a dataset are training, validation and test files.

A dataset card declares it under ``configs``; otherwise it follows from the names of files and
folders. Works on names relative to the dataset, with “/” between folders: no file is opened, and
folders on this machine and datasets on the Hub follow the same rules.

A name counts as a split if it consists of the split, besides numbers of shards and words such as
“data” (``train-00000-of-00002.parquet``, ``dev-v2.0.json``, ``test_data.csv``). A name with further
words (``squad_train.json``) counts beside a file that has the same words and another split. One that
only begins or ends with a test or validation split (``blind_test.jsonl``) counts beside any file for
training, which is stated: rows of a test are never trained by accident.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from studio.data.reading.file_types import PACKED, kind_of_name

TRAIN, VALIDATION, TEST = "train", "validation", "test"
ALL = "*"
_WORDS: Mapping[str, tuple[str, ...]] = {
    TRAIN: ("train", "training", "trn"),
    VALIDATION: ("validation", "valid", "val", "vld", "dev", "eval", "evaluation", "holdout"),
    TEST: ("test", "tests", "testing", "tst"),
}
_FILLERS = {"data", "dataset", "datasets", "set", "split", "splits"}
_SHARDS = {"part", "parts", "shard", "shards", "chunk", "chunks", "file", "of"}
_DECLARED = re.compile(r"(.+)-\d{5}-of-\d{5}")
_HOLDOUT = re.compile(r"(?<![a-z])h[eo]ld[\s_-]?out(?![a-z])", re.IGNORECASE)
_HASH = re.compile(r"[-_.](?=[a-f]*\d)[0-9a-f]{8,}$")
BOOKKEEPING = frozenset({"dataset_infos.json", "dataset_info.json", "dataset_dict.json"})
"""JSON files that describe a dataset and hold no rows."""
_NO_DATA = BOOKKEEPING | {"state.json", "readme.md"}


class NoSuchPart(Exception):
    """The dataset has no such configuration or split; the text is a clause about it.

    ``choices`` are the names to choose from where the user has to choose, ``of`` is what they are.
    """

    def __init__(self, clause: str, choices: Sequence[str] = (), of: str = "configuration") -> None:
        super().__init__(clause)
        self.choices = tuple(choices)
        self.of = of


@dataclass(frozen=True)
class Sides:
    """The files of each side of the split, in order.

    ``unnamed`` files belong to no split. ``config`` is the configuration (or split) that was
    selected, and ``others`` the remaining ones. ``absent`` are splits of the dataset card without a file,
    ``doubtful`` files of any side whose name has test or validation in it, but belongs to no other file;
    ``joined`` are training files beside others that are named train. ``declared``: a dataset card decides.
    """

    train: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    unnamed: tuple[str, ...] = ()
    config: str = ""
    others: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    doubtful: tuple[str, ...] = ()
    joined: tuple[str, ...] = ()
    declared: bool = False

    @property
    def named(self) -> bool:
        """Whether there is more than one side."""
        return bool(self.validation or self.test)


# ---------------------------------------------------------------- by dataset card


def files_of(
    names: Sequence[str], configs: Sequence[Mapping[str, Any]], config: str, split: str
) -> list[str]:
    """The files of one split by its name, in order; raises ``NoSuchPart``."""
    splits = _splits_of(names, configs, config)
    found = splits.get(split) or splits.get(_plain(split)) or []
    if not found:
        raise NoSuchPart(_no_split(split, splits))
    return _readable(found)


def sides_of(names: Sequence[str], configs: Sequence[Mapping[str, Any]], config: str) -> Sides:
    """All sides of a dataset on the Hub; raises ``NoSuchPart``."""
    splits = _splits_of(names, configs, config)
    sides = by_split(splits)
    if not sides.train:
        raise NoSuchPart(_no_split(TRAIN, splits))
    _readable([*sides.train, *sides.validation])
    return sides


def by_card(
    names: Sequence[str], configs: Sequence[Mapping[str, Any]], config: str, split: str = TRAIN
) -> Sides:
    """The sides that the card of a folder declares; files that it does not name are unnamed.

    Empty if the card names no file that is there. Raises ``NoSuchPart``.
    """
    found = {str(c.get("config_name", "default")): _declared(names, c) for c in configs}
    there = {name: splits for name, splits in found.items() if any(splits.values())}
    if not there:
        return Sides(absent=tuple(dict.fromkeys(s for splits in found.values() for s in splits)))
    chosen = _chosen(
        {n: next((c for c in configs if _is(c, n)), {}) for n in there}, config, several=True
    )
    merged: dict[str, list[str]] = defaultdict(list)
    for name in chosen:
        for own, files in there[name].items():
            merged[own] += [f for f in files if f not in merged[own]]
    sides = by_split(merged, split)
    known = {f for splits in there.values() for files in splits.values() for f in files}
    return Sides(
        sides.train,
        sides.validation,
        sides.test,
        (*sides.unnamed, *(n for n in names if n not in known and kind_of_name(_path(n)))),
        ", ".join(chosen) if len(found) > 1 else sides.config,
        (*(n for n in found if n not in chosen), *sides.others),
        tuple(s for n in chosen for s, files in there[n].items() if not files),
        declared=True,
    )


def by_split(splits: Mapping[str, Sequence[str]], wanted: str = TRAIN) -> Sides:
    """The sides of declared splits, such as ``train_sft`` and ``test_sft``.

    With another ``wanted`` split than the default, its files are trained. Raises ``NoSuchPart`` if
    several splits may be meant.
    """
    filled = {name: tuple(files) for name, files in splits.items() if files}
    sides: dict[str, list[str]] = defaultdict(list)
    for name in filled:
        sides[_side_of_split(name)].append(name)
    if wanted != TRAIN:
        found = next((n for n in (wanted, _plain(wanted)) if n in filled), None)
        if found is None:
            raise NoSuchPart(_no_split(wanted, filled), tuple(filled), "split")
        rest = _suffix(found)
        train = [found]
        validation = [n for n in sides[VALIDATION] if n != found and _suffix(n) in (rest, "")]
    else:
        train = [TRAIN] if TRAIN in filled else sides[TRAIN] or [n for n in sides[""] if n]
        train = train or [n for n in sides[""] if not n]
        validation = sides[VALIDATION]
        if len(train) > 1:
            raise NoSuchPart(
                f"has several splits to train on; choose one of: {', '.join(train)}", train, "split"
            )
    used = {*train, *validation, *sides[TEST]}

    def join(of: Iterable[str]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(f for n in of for f in filled[n]))

    return Sides(
        join(train),
        join(validation),
        join(n for n in sides[TEST] if n not in train),
        join(n for n in filled if not n and n not in used),
        ", ".join(train),
        tuple(n for n in filled if n and n not in used),
    )


def _splits_of(
    names: Sequence[str], configs: Sequence[Mapping[str, Any]], config: str
) -> dict[str, list[str]]:
    """Name of a split -> files, of a dataset on the Hub."""
    chosen = _config(configs, config)
    listed = [n for n in sorted(names) if not PurePosixPath(n).name.startswith(".")]
    if chosen is not None and chosen.get("data_files") is not None:
        splits = _by_patterns(listed, chosen["data_files"])
    else:
        folder = str((chosen or {}).get("data_dir") or ("" if chosen else config)).strip("./")
        splits = _by_kind(_below(listed, folder))
    if not any(splits.values()):
        kinds = ", ".join(sorted({PurePosixPath(n).suffix or n for n in listed})) or "nothing"
        raise NoSuchPart(
            f"has no data files that can be read without running its code (it contains {kinds})"
        )
    return splits


def _no_split(split: str, splits: Mapping[str, Sequence[str]]) -> str:
    return f"has no split “{split}”; it has: {', '.join(s for s in splits if s and splits[s])}"


def _readable(found: list[str]) -> list[str]:
    odd = next((n for n in found if kind_of_name(_path(n)) is None), None)
    if odd is not None:
        raise NoSuchPart(f"stores this split in an unsupported file type ({odd})")
    return found


def _config(configs: Sequence[Mapping[str, Any]], wanted: str) -> Mapping[str, Any] | None:
    if not configs:
        return None
    by_name = {str(c.get("config_name", "default")): c for c in configs}
    return by_name[_chosen(by_name, wanted)[0]]


def _chosen(
    configs: Mapping[str, Mapping[str, Any]], wanted: str, several: bool = False
) -> list[str]:
    """The selected configurations; with ``several`` a list of names or ``*`` is possible."""
    names = list(configs)
    if wanted.strip() == ALL and several:
        return names
    if wanted:
        asked = [wanted]
        if several and wanted not in names:
            asked = [n.strip() for n in wanted.split(",") if n.strip()]
        for name in asked:
            if name not in names:
                raise NoSuchPart(
                    f"has no configuration “{name}”; it has: {', '.join(names)}", names
                )
        return asked
    default = next((n for n, c in configs.items() if c.get("default")), None)
    if default is None and len(names) > 1 and "default" not in names:
        raise NoSuchPart(f"has several configurations; choose one of: {', '.join(names)}", names)
    return [default or ("default" if "default" in names else names[0])]


def _is(config: Mapping[str, Any], name: str) -> bool:
    return str(config.get("config_name", "default")) == name


def _declared(names: Sequence[str], config: Mapping[str, Any]) -> dict[str, list[str]]:
    """Split -> files of a configuration in a card."""
    if config.get("data_files") is not None:
        return _by_patterns(names, config["data_files"])
    folder = str(config.get("data_dir") or "").strip("./")
    try:
        return _by_kind(_below(names, folder))
    except NoSuchPart:
        return {}


def _by_patterns(names: Sequence[str], data_files: Any) -> dict[str, list[str]]:
    splits: dict[str, list[str]] = {}
    if isinstance(data_files, Mapping):
        data_files = [{"split": s, "path": p} for s, p in data_files.items()]
    for entry in _listed(data_files):
        split, paths = TRAIN, entry
        if isinstance(entry, Mapping):
            split, paths = str(entry.get("split", TRAIN)), entry.get("path")
        files = splits.setdefault(split, [])
        for pattern in _listed(paths):
            files += [n for n in names if _matches(str(pattern), n) and n not in files]
    return splits


def _listed(value: Any) -> list[Any]:
    """A value of a dataset card that may be a list, a single value, or empty."""
    return value if isinstance(value, list) else [] if value is None else [value]


def _matches(pattern: str, name: str) -> bool:
    """Match a path like a shell: ``*`` within a folder, ``**`` across folders."""
    parts = name.split("/")
    matched = {0}  # how many parts the pattern may have matched so far
    for part in pattern.removeprefix("./").split("/"):
        if part == "**":
            matched = set(range(min(matched, default=len(parts) + 1), len(parts) + 1))
        else:
            matched = {n + 1 for n in matched if n < len(parts) and fnmatchcase(parts[n], part)}
    return len(parts) in matched


def _below(names: Sequence[str], folder: str) -> list[str]:
    if not folder:
        return list(names)
    starts = (f"{folder}/", f"data/{folder}/")
    found = [n for n in names if n.startswith(starts)]
    if not found:
        raise NoSuchPart(f"has no configuration “{folder}”")
    return found


def _by_kind(names: Sequence[str]) -> dict[str, list[str]]:
    """The files of the most frequent type by their split; without any, all are training files."""
    data = {n: kind_of_name(_path(n)) for n in names if _path(n).name.lower() not in _NO_DATA}
    kinds = Counter(k for k in data.values() if k and k not in ("text", "document")) or Counter(
        filter(None, data.values())
    )
    if not kinds:
        return {}
    kind = kinds.most_common(1)[0][0]
    sides = by_names([name for name, own in data.items() if own == kind], ALL)
    splits = {
        TRAIN: [*sides.train],
        VALIDATION: [*sides.validation],
        TEST: [*sides.test],
        "": [*sides.unnamed],
    }
    return {split: files for split, files in splits.items() if files}


# ---------------------------------------------------------------- by names


@dataclass(frozen=True)
class _Place:
    """A split that a part of a path names. ``group`` is the rest of the path, which files of the
    same data have in common; without ``sure`` it needs a file of another split to count. ``at_end``:
    the part begins or ends with it."""

    side: str
    group: tuple[str, ...]
    sure: bool
    at_end: bool


def by_names(names: Sequence[str], config: str = "") -> Sides:
    """The sides by the names of files and folders; without any split, all are training files.

    Training files in several groups (``en/train.jsonl``, ``de/train.jsonl``) are configurations:
    ``config`` selects one, several with commas, or ``*`` all of them; raises ``NoSuchPart`` if none
    is selected or there is no such group.
    """
    placed = _placed(names)
    groups = list(dict.fromkeys(p.group for p in placed.values() if p and p.side == TRAIN))
    shown = {"/".join(g) or ".": g for g in groups}
    chosen, below = _groups(names, shown, config)
    if below is not None:
        found = by_names(below, ALL)
        return Sides(found.train, found.validation, found.test, found.unnamed, config.strip())
    sides: dict[str, list[str]] = defaultdict(list)
    doubtful = {n: side for n, p in placed.items() if p is None and (side := _hinted_side(n))}
    certain = any(n not in doubtful and (p is None or p.side == TRAIN) for n, p in placed.items())
    for name, place in placed.items():
        if place is None:
            sides[doubtful.get(name, "") if certain else ""].append(name)
        elif place.group in chosen or place.group not in groups:  # shared by all groups
            sides[place.side].append(name)
    joined: list[str] = []
    if not sides[TRAIN] or not (sides[VALIDATION] or sides[TEST]):
        joined = sides[""] if sides[TRAIN] else []
        sides[TRAIN] = [n for n in placed if n in {*sides[TRAIN], *sides[""]}]
        sides[""] = []
    several = len(groups) > 1
    return Sides(
        tuple(sides[TRAIN]),
        tuple(sides[VALIDATION]),
        tuple(sides[TEST]),
        tuple(sides[""]),
        ", ".join(n for n, g in shown.items() if g in chosen) if several else "",
        tuple(n for n, g in shown.items() if g not in chosen),
        doubtful=tuple(doubtful),
        joined=tuple(joined),
    )


def named_split(name: str) -> str:
    """The split that a file or folder names by itself, or an empty text."""
    return max((p.side for p in _places(name) if p.sure), key=_caution, default="")


def _hinted_side(name: str) -> str:
    """The side that a name begins or ends with, if it is validation or test and no other is named."""
    places = _places(name)
    if any(p.side == TRAIN for p in places):
        return ""
    return max((p.side for p in places if p.at_end), key=_caution, default="")


def _groups(
    names: Sequence[str], shown: Mapping[str, tuple[str, ...]], config: str
) -> tuple[set[tuple[str, ...]], list[str] | None]:
    """The selected groups; or the names below a folder that is selected instead."""
    config = config.strip()
    if config == ALL or (not config and len(shown) < 2):
        return set(shown.values()), None
    choices = ", ".join(shown)
    if not config:
        if "default" in shown:
            return {shown["default"]}, None
        raise NoSuchPart(f"has several configurations; choose one of: {choices}", tuple(shown))
    wanted = [w.strip().strip("/").lower() or "." for w in config.split(",")]
    if all(w in shown for w in wanted):
        return {shown[w] for w in wanted}, None
    try:
        return set(), _below(names, config.strip("./"))
    except NoSuchPart as error:
        there = f"; it has: {choices}" if shown and choices != "." else ""
        raise NoSuchPart(f"{error}{there}", tuple(shown)) from error


def _placed(names: Sequence[str]) -> dict[str, _Place | None]:
    """The split of each file: test before validation before train where a path names several."""
    places = {name: _places(name) for name in names}
    sides: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for found in places.values():
        for place in found:
            sides[place.group].add(place.side)
    plain = {_plain_group(name) for name, found in places.items() if not found}

    def counts(place: _Place) -> bool:
        if place.sure or len(sides[place.group]) > 1:
            return True
        return place.side != TRAIN and place.group in plain  # chats.jsonl and chats_test.jsonl

    return {
        name: max(filter(counts, found), key=lambda p: _caution(p.side), default=None)
        for name, found in places.items()
    }


def _caution(side: str) -> int:
    return (TRAIN, VALIDATION, TEST).index(side)


def _places(name: str) -> list[_Place]:
    *folders, file = name.split("/")
    parts = [*folders, _stem(file)]
    found = []
    for index, part in enumerate(parts):
        before = tuple(filter(None, map(_group_word, parts[:index])))
        declared = index == len(folders) and _DECLARED.fullmatch(part)
        words = _without_numbers(_words(declared.group(1) if declared else part))
        ends = [at for at, word in enumerate(words) if word not in _FILLERS]
        for at, word in enumerate(words):
            side = _side_of_word(word)
            if side:
                rest = [w for w in words[:at] if w not in _FILLERS]
                rest += [w for w in words[at + 1 :] if not _is_number(w) and w not in _FILLERS]
                group = (*before, "_".join(rest)) if rest else before
                at_end = at in (ends[0], ends[-1])
                found.append(_Place(side, group, not rest or bool(declared), at_end))
    return found


def _plain_group(name: str) -> tuple[str, ...]:
    """The group of a file without a split in its path."""
    *folders, file = name.split("/")
    words = [w for w in _without_numbers(_words(_stem(file))) if w not in _FILLERS]
    return (*filter(None, map(_group_word, folders)), *(["_".join(words)] if words else []))


def _group_word(folder: str) -> str:
    """What a folder adds to a group; nothing for “data” and for numbered parts."""
    words = _words(folder)
    shards = any(w in _SHARDS for w in words)
    used = [w for w in words if w not in _FILLERS and not (shards and _is_number(w))]
    return folder.lower() if used else ""


def _stem(file: str) -> str:
    while kind_of_name(_path(file)) or _path(file).suffix.lower() in (*PACKED, ".zip"):
        stem = _path(file).stem
        if stem == file:
            break
        file = stem
    return _HASH.sub("", file)


def _words(text: str) -> list[str]:
    """The words and numbers of a name, in lower case; TrainSet are two words."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", _HOLDOUT.sub("holdout", text))
    return [w.lower() for w in re.findall(r"[^\W\d_]+|\d+", spaced)]


def _without_numbers(words: list[str]) -> list[str]:
    """Without what numbers shards and versions at both ends (``01_train_v2_part3``)."""
    while words and words[0].isdigit():
        words = words[1:]
    while len(words) > 1 and _is_number(words[-1]):
        words = words[:-1]
    return words


def _is_number(word: str) -> bool:
    return word.isdigit() or word in _SHARDS or (len(word) == 1 and word.isascii())


def _side_of_word(word: str) -> str:
    return next(
        (s for s, words in _WORDS.items() if word in words or word.removesuffix("set") in words),
        "",
    )


def _side_of_split(name: str) -> str:
    """The side of a declared split: its first or last word names it (``train_sft``)."""
    words = _without_numbers(_words(name))
    ends = {_side_of_word(w) for w in (words[0], words[-1])} - {""} if words else set()
    return max(ends, key=_caution, default="")


def _suffix(split: str) -> str:
    return "_".join(w for w in _words(split) if not _side_of_word(w))


def _plain(word: str) -> str:
    return _side_of_word(word.lower()) or word


def _path(name: str) -> Path:
    return Path(name)
