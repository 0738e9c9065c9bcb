"""The quick look at a data file while the graph is edited: a few milliseconds, first rows only.

Deeper rows are checked when the step runs. The result is kept while file and settings stay.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from studio.errors import Problem, StudioError
from studio.formats._detect import choose_format
from studio.formats._source import SourceRow, bad_file, check_file, read_rows
from studio.graph.node_type import CheckContext, Variant

if TYPE_CHECKING:
    from studio.nodes.dataset import DatasetSettings


def quick_check(settings: DatasetSettings, context: CheckContext) -> Iterable[Problem]:
    """What is wrong with the chosen file, as far as a quick look can tell."""
    if not settings.source.strip():
        yield context.problem(
            "no file is chosen.", "source", hint="Choose a file with your examples.", code="no_file"
        )
        return
    path = source_path(settings.source, context.project_dir)
    try:
        check_first_rows(path, settings, context.variants.get("format", {}))
    except StudioError as error:
        yield context.problem(
            error.sentence, error.field, hint=error.hint, code=error.code, file=error.file,
            line=error.line,
        )  # fmt: skip


def source_path(source: str, project_dir: Path) -> Path:
    """Where the file is; a relative path starts from the project's folder."""
    return project_dir / Path(source.strip()).expanduser()


def check_first_rows(
    path: Path, settings: DatasetSettings, variants: Mapping[str, Variant]
) -> None:
    """Raise ``StudioError`` when the first rows cannot be read in the chosen format."""
    rows = first_rows(path)
    if not rows or (settings.format != "auto" and settings.format not in variants):
        return  # a giant first row waits for the step; an unknown format is said elsewhere
    chosen = choose_format(path, settings.format, settings.format_settings, rows, variants)
    for row in rows:
        chosen.convert(row, path)


def first_rows(path: Path) -> list[SourceRow]:
    """The first rows of a file; raises ``StudioError`` when they cannot be read, or are not there."""
    check_file(path)
    stat = path.stat()
    found = _first_rows(path, stat.st_mtime_ns, stat.st_size)
    if isinstance(found, StudioError):
        raise copy.copy(found)  # callers add the node's name to what they catch
    return found


@lru_cache(maxsize=32)
def _first_rows(path: Path, changed_ns: int, size: int) -> list[SourceRow] | StudioError:
    del changed_ns, size  # only there to forget the rows of a file that changed
    try:
        rows = list(read_rows(path, quick=True))
    except StudioError as error:
        return error
    if not rows and path.stat().st_size < 256 * 1024:
        return bad_file(path, "holds no rows", "Choose a file with rows in it.", "no_rows")
    return rows
