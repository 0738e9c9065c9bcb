"""PDF, Word, HTML and EPUB documents as text, converted by the optional package markitdown.

The text of a document is divided into rows like a text file, by default into one. Converted text is
cached by content, as the conversion of a long document takes a minute.
"""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from studio.data.reading import text
from studio.data.reading.archive import local_file, refuse_bomb, sha256_of, stat_of
from studio.data.reading.encoding import detect_encoding
from studio.data.reading.input import Input
from studio.data.reading.source import ReadOptions, SourceRow, bad_file
from studio.system.atomic import write_atomic
from studio.system.paths import cache_dir

REQUIREMENT = "markitdown[docx,pdf]>=0.1.8,<0.2"
INSTALL = f'"{sys.executable}" -m pip install "{REQUIREMENT}"'
_LARGE = 500_000  # bytes; a larger document takes too long for a quick check


def can_read() -> bool:
    """Whether the package that converts documents is installed."""
    return find_spec("markitdown") is not None


def read_document(path: Path, options: ReadOptions) -> Iterator[SourceRow]:
    """The rows of a document; a quick check gives no rows of a large one."""
    if not can_read():
        raise bad_file(
            path,
            f"is a document ({path.suffix.lstrip('.').upper()}), which needs the package markitdown",
            f"Install it with: {INSTALL}",
            "missing_package",
        )
    if options.limit is not None and stat_of(path).size > _LARGE:
        return
    content = _text(path, options).encode("utf-8", errors="replace")
    if not content.strip():
        raise bad_file(
            path,
            "contains no text; it may be scanned",
            "Recognize its text with an OCR program first, or remove it.",
            "no_text",
        )
    stream = io.BytesIO(content)
    yield from text.rows_from(Input(path, stream, stream, plain=True), options)


def _text(path: Path, options: ReadOptions) -> str:
    """The text of a document, from the cache or converted."""
    charset = None
    if path.suffix.lower() in (".html", ".htm"):
        detected = detect_encoding(path, options.encoding)
        charset = detected.encoding
        for note in detected.notes:
            options.note(note)
    name = f"{sha256_of(path)[:32]}-{version('markitdown')}-{charset or 'binary'}.md"
    kept = cache_dir() / "documents" / name
    try:
        return kept.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        pass  # not converted yet, or damaged
    found = _converted(path, charset)
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(kept, found.encode("utf-8", "replace").decode("utf-8"))
    except OSError:
        pass  # a cache that cannot be written only costs time
    return found


def _converted(path: Path, charset: str | None) -> str:
    from markitdown import StreamInfo, converters

    # Without MarkItDown's choice of a converter, which reads a damaged PDF file as plain text.
    suffix = path.suffix.lower()
    made = {
        ".pdf": converters.PdfConverter,
        ".docx": converters.DocxConverter,
        ".epub": converters.EpubConverter,
    }.get(suffix, converters.HtmlConverter)
    with local_file(path) as file:
        refuse_bomb(path, file)
        try:
            with file.open("rb") as stream, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = made().convert(stream, StreamInfo(extension=suffix, charset=charset))
        except Exception as error:  # each format has a library with errors of its own
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1].rstrip(".")
            raise bad_file(
                path,
                f"cannot be converted to text ({reason[:200]})",
                "Open it in another program and save it as text.",
                "corrupt_document",
            ) from error
    return str(found.markdown)
