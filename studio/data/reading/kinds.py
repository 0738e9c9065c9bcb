"""Which reader a file has: by its name, and by a look at its start where the name is often wrong."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from studio.data.reading.source import Reader, ReadOptions, bad_file

KINDS: Mapping[str, str] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".txt": "text",
    ".text": "text",
    ".md": "text",
    ".markdown": "text",
}
"""Endings -> kinds of files; the kinds of text may be gzip-compressed, with ``.gz`` behind."""

BINARY = frozenset({"parquet", "arrow"})


def kind_of_name(path: Path) -> str | None:
    """The kind that the file's name says, or ``None``."""
    packed = path.suffix.lower() == ".gz"
    kind = KINDS.get(Path(path.stem).suffix.lower() if packed else path.suffix.lower())
    return None if packed and kind in BINARY else kind


def kind_of(path: Path, options: ReadOptions) -> str:
    """The kind of a file that is there; raises ``StudioError`` for an unknown one."""
    kind = kind_of_name(path)
    if kind is None:
        raise _unknown(path)
    if kind in ("jsonl", "json"):
        from studio.data.reading.json import is_lines

        really = "jsonl" if is_lines(path, options, kind == "jsonl") else "json"
        if really != kind:
            words = {"jsonl": "JSON lines", "json": "one JSON value"}
            options.note(f"{path.name} holds {words[really]} in spite of its ending.")
        return really
    return kind


def reader_of(path: Path, options: ReadOptions) -> Reader:
    """The reader for a file that is there; raises ``StudioError`` for an unknown kind."""
    from studio.data.reading.arrow import read_arrow
    from studio.data.reading.csv import read_csv
    from studio.data.reading.json import read_json
    from studio.data.reading.jsonl import read_jsonl
    from studio.data.reading.parquet import read_parquet
    from studio.data.reading.text import read_text

    readers: dict[str, Reader] = {
        "jsonl": read_jsonl,
        "json": read_json,
        "csv": read_csv,
        "parquet": read_parquet,
        "arrow": read_arrow,
        "text": read_text,
    }
    return readers[kind_of(path, options)]


def _unknown(path: Path) -> Exception:
    if path.suffix.lower() in (".zip", ".tar", ".tgz", ".7z", ".bz2", ".xz", ".zst"):
        return bad_file(
            path,
            f"is an archive (“{path.suffix}”)",
            "Unpack it first; only .gz is read as it is.",
            "unknown_suffix",
        )
    kind = f"ends in “{path.suffix}”" if path.suffix else "has no ending such as .jsonl"
    return bad_file(
        path,
        f"{kind}, which is not a known kind of file",
        "Use a .jsonl, .json, .csv, .tsv, .parquet, .arrow, .txt or .md file.",
        "unknown_suffix",
    )
