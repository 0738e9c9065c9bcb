"""Types of data files by their names. No file is opened."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

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
    ".xlsx": "sheet",
    ".xlsm": "sheet",
    ".xlsb": "sheet",
    ".xls": "sheet",
    ".ods": "sheet",
    ".sqlite": "sqlite",
    ".sqlite3": "sqlite",
    ".db": "sqlite",
    ".pdf": "document",
    ".docx": "document",
    ".html": "document",
    ".htm": "document",
    ".epub": "document",
    ".txt": "text",
    ".text": "text",
    ".md": "text",
    ".markdown": "text",
}
"""Suffix -> file type. Files of text may be compressed and end in ``PACKED``."""

PACKED = (".gz", ".bz2", ".xz", ".zst")
BINARY = frozenset({"parquet", "arrow", "sheet", "sqlite", "document"})
_NO_DATA = ("thumbs.db",)


def kind_of_name(path: Path) -> str | None:
    """The file type of a name, or ``None``."""
    if path.name.lower() in _NO_DATA:
        return None
    packed = path.suffix.lower() in PACKED
    kind = KINDS.get(Path(path.stem).suffix.lower() if packed else path.suffix.lower())
    return None if packed and kind in BINARY else kind
