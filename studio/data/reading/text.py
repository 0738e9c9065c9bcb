"""Plain text and Markdown: each document is a row with the column ``text``.

A document is the entire file, a paragraph (text between blank lines) or a line.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from studio.data.reading.input import Input, decode, lines_of, open_input
from studio.data.reading.source import ReadOptions, SourceRow, bad_file, bad_row
from studio.errors import StudioError

LARGEST_DOCUMENT = 64 * 1024 * 1024


def read_text(path: Path, options: ReadOptions) -> Iterator[SourceRow]:
    """The documents of the file; one that is not UTF-8 is a bad row."""
    with open_input(path, options) as source:
        yield from rows_from(source, options)


def rows_from(
    source: Input, options: ReadOptions, start: int | None = None, number: int = 0
) -> Iterator[SourceRow]:
    """The documents from an offset in the text, with ``number`` lines before it."""
    kept: list[bytes] = []
    size = begin = first = end = 0
    for line, raw, place in lines_of(source, options.limit, start=start, number=number):
        blank = raw.isspace()
        if kept and (options.documents == "line" or (blank and options.documents == "paragraph")):
            yield _row(source, kept, first, begin, end)
            kept = []
        if blank and not kept:
            continue
        if not kept:
            begin, first, size = place, line, 0
        kept.append(raw)
        size, end = size + len(raw), place + len(raw)
        if size > LARGEST_DOCUMENT:
            raise _too_long(source.path, first)
    if kept and not _cut(options, end - source.base):
        yield _row(source, kept, first, begin, end)


def _cut(options: ReadOptions, done: int) -> bool:
    """Whether the quick check ended inside the document."""
    return options.limit is not None and done >= options.limit


def _row(source: Input, kept: list[bytes], line: int, begin: int, end: int) -> SourceRow:
    done = source.done(end)
    try:
        parts = [decode(raw, source.path, line + i) for i, raw in enumerate(kept)]
    except StudioError as error:
        return bad_row(line, source.path, error, done, begin)
    bad = next((i for i, part in enumerate(parts) if "\0" in part), None)
    if bad is not None:
        nul = bad_file(
            source.path,
            "contains NUL characters, which are not valid in text",
            "Save the file as UTF-8 text.",
            "bad_character",
            line=line + bad,
        )
        return bad_row(line, source.path, nul, done, begin)
    text = "".join(parts).replace("\r\n", "\n").strip("\n")
    return SourceRow(line, {"text": text}, done, source.path, None, begin)


def _too_long(path: Path, line: int) -> StudioError:
    error = bad_file(
        path,
        "starts a row of more than 64 MB",
        "Set “Rows in text files” to Paragraphs or Lines, or divide the file into several files.",
        "giant_document",
        line=line,
    )
    error.field = "documents"
    return error
