"""Facts about the rows of a project, found in milliseconds: number, length and fraction of trained
tokens.

Lengths in tokens are estimated as a quarter of the number of characters, the usual ratio for
English; the estimate says so. A large file is not read completely: the first rows and the file's
size are enough.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from studio.data.columns import named
from studio.data.formats.text import COLUMNS
from studio.data.reading.file_types import PACKED, kind_of_name
from studio.data.reading.source import Documents

SAMPLE_BYTES = 2**20
CHARACTERS_PER_TOKEN = 4.0
TEMPLATE_TOKENS = 8
"Approximate number of tokens that a chat template adds per message."
_TEXT_COLUMNS = COLUMNS["text_column"]
_ANSWERS = ("completion", "output", "response", "answer", "chosen")


@dataclass(frozen=True)
class DataFacts:
    """``rows`` before the validation split, or without the ``validation`` rows. Lengths in tokens;
    ``labels`` is the share of tokens that are answers. ``exact`` when they were counted with the
    tokenizer. ``lengths`` are those of the rows that were looked at, ``texts`` the same where all are plain
    text."""

    rows: int
    mean: float
    longest: int
    labels: float
    exact: bool = False
    validation: int = 0
    texts: tuple[int, ...] = ()
    lengths: tuple[int, ...] = ()


def in_pieces(data: DataFacts, length: int) -> DataFacts:
    """The rows that a training makes of plain text, where longer text is split
    (``studio.training.tokens.pieces``); other rows stay as they are."""
    if not data.texts:
        return data
    pieces = sum(max(1, math.ceil((n - 1) / (length - 1))) for n in data.texts)
    tokens = (
        sum(data.texts) + pieces - len(data.texts)
    )  # each later one begins with a token of context
    each = pieces / len(data.texts)
    return replace(
        data,
        rows=round(data.rows * each),
        validation=round(data.validation * each),
        mean=tokens / pieces,
        longest=min(data.longest, length),
        texts=(),
        lengths=tuple(n for text in data.texts for n in _pieces(text, length)),
    )


def _pieces(text: int, length: int) -> Iterator[int]:
    """The lengths of the rows that plain text of ``text`` tokens is split into."""
    while text > length:
        yield length
        text -= length - 1
    yield text


def read_data_facts(path: Path, documents: Documents = "file") -> DataFacts | None:
    """Facts of a JSONL, JSON, CSV, TSV, text or Markdown file, the last two divided into rows as
    ``documents`` says; ``None`` for others and for unreadable ones."""
    try:
        found = path.stat()
        return _facts(path, documents, found.st_mtime_ns, found.st_size)
    except (OSError, ValueError, RecursionError):
        return None


@lru_cache(maxsize=128)
def _facts(path: Path, documents: Documents, stamp: int, size: int) -> DataFacts | None:
    del stamp
    with path.open("rb") as file:
        head = file.read(SAMPLE_BYTES)
    if kind_of_name(path) == "text":
        return _text_facts(head, size, documents) if path.suffix.lower() not in PACKED else None
    rows = list(_rows(path, head, complete=size <= SAMPLE_BYTES))
    if not rows:
        return None
    lengths = [_tokens(row) for row in rows]
    answered = [_answer(row) for row in rows]
    characters = sum(len(json.dumps(r, ensure_ascii=False)) for r in rows) + len(rows)
    count = (
        len(rows) if size <= SAMPLE_BYTES else max(len(rows), round(size / characters * len(rows)))
    )
    answers = sum(a for a in answered if a is not None)
    share = answers / max(1, sum(lengths)) if all(a is not None for a in answered) else 1.0
    return DataFacts(
        count,
        sum(lengths) / len(lengths),
        max(lengths),
        min(1.0, share),
        texts=tuple(lengths) if all(_plain(r) for r in rows) else (),
        lengths=tuple(lengths),
    )


def _text_facts(head: bytes, size: int, documents: Documents) -> DataFacts | None:
    text = head.decode("utf-8-sig", errors="replace")
    more = size / max(1, len(head))
    if documents == "file":
        lengths, more = [_text_tokens(len(text.strip("\n")) * more)] if text.strip() else [], 1.0
    else:
        found = text.split("\n") if documents == "line" else re.split(r"\n\s*\n", text)
        lengths = [_text_tokens(len(part)) for part in found if part.strip()]
    if not lengths:
        return None
    count, mean = round(len(lengths) * more), sum(lengths) / len(lengths)
    each = tuple(lengths)
    return DataFacts(count, mean, max(lengths), 1.0, texts=each, lengths=each)


def _text_tokens(characters: float) -> int:
    return round(characters / CHARACTERS_PER_TOKEN) + 1  # and the end token


def _rows(path: Path, head: bytes, *, complete: bool) -> Iterator[Any]:
    kind = kind_of_name(path) if path.suffix.lower() not in PACKED else None
    text = head.decode("utf-8-sig", errors="replace")
    if kind == "json" and complete:
        data = json.loads(text)
        yield from data if isinstance(data, list) else []
        return
    lines = text.split("\n")  # as rows are read: other line ends may occur within a text
    lines = [line for line in (lines if complete else lines[:-1]) if line.strip()]
    if kind == "jsonl":
        yield from map(json.loads, lines)
    elif kind == "csv":
        yield from lines[1:]


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return "".join(_text(v) for v in value.values())
    if isinstance(value, list):
        return "".join(_text(v) for v in value)
    return value if isinstance(value, str) else ""


def _turns(row: Any) -> list[Any]:
    found = [v for v in row.values() if isinstance(v, list)] if isinstance(row, Mapping) else []
    return found[0] if found else []


def _plain(row: Any) -> str:
    """The text of a row that is nothing but text; empty for others."""
    if not isinstance(row, Mapping) or _turns(row) or _answer(row) is not None:
        return ""
    found = row.get(named(tuple(row), "text", _TEXT_COLUMNS) or "")
    return found if isinstance(found, str) else ""


def _tokens(row: Any) -> int:
    if text := _plain(row):
        return _text_tokens(len(text))
    turns = max(2, len(_turns(row)))
    return round(len(_text(row)) / CHARACTERS_PER_TOKEN) + TEMPLATE_TOKENS * turns


def _answer(row: Any) -> float | None:
    """Tokens of the answers of a row; ``None`` if the answers cannot be identified."""
    if not isinstance(row, Mapping):
        return None
    for key in _ANSWERS:
        if isinstance(row.get(key), str):
            return len(row[key]) / CHARACTERS_PER_TOKEN + 2
    turns = [t for t in _turns(row) if isinstance(t, Mapping)]
    said = [
        _text(t.get("content", t.get("value", "")))
        for t in turns
        if t.get("role", t.get("from")) in ("assistant", "gpt", "model")
    ]
    return sum(len(s) / CHARACTERS_PER_TOKEN + 2 for s in said) if said else None
