"""The quick check of data files while the graph is edited: first rows only, a few milliseconds.

Later rows are checked when the step runs. Results are cached until files or settings change.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from operator import is_
from pathlib import Path

from studio.chat_templates.render import is_hasty
from studio.data.columns import without_split_names
from studio.data.detect import AUTO, UNUSED, Chosen, format_of, unused_hint
from studio.data.reading.archive import archive_of, stat_of
from studio.data.reading.reader import QUICK_ROWS, check_file, read_rows
from studio.data.reading.source import Note, ReadOptions, SourceRow, bad_file
from studio.data.sources import Sources, describe_sources, sources_of
from studio.errors import Problem, StudioError
from studio.graph.node_type import CheckContext, Variant
from studio.node_settings.dataset import DatasetSettings

_LOOKED_AT = 20  # the quick check opens the first of many files
UNSURE = 0.5
_RESULTS_KEPT = 64
_PATIENCE_S = 0.5  # slow templates: the remaining rows are checked in the step
_TOO_SLOW = "template_too_slow"
_SHOWN_AT_THE_FIELD = ("invalid_setting", "unknown_setting")


@dataclass(frozen=True)
class FirstRows:
    """The format of a file, and the columns and keys of its first rows that are not used."""

    chosen: Chosen
    unused: tuple[str, ...] = ()


def quick_check(settings: DatasetSettings, context: CheckContext) -> Iterable[Problem]:
    """The problems of the chosen files that a quick check can find."""
    sources = None
    try:
        sources = sources_of(settings, context.project_dir, downloads=True)
        looked = look_at(sources, settings, context.variants.get("format", {}))
    except StudioError as error:
        if error.code in _SHOWN_AT_THE_FIELD and settings.format != "auto":
            return  # already reported by the check of the settings
        yield context.problem(
            error.sentence,
            error.field,
            hint=error.hint,
            code=error.code,
            file=error.file,
            line=error.line,
            severity="warning" if error.code == _TOO_SLOW and is_hasty() else "error",
        )
        if sources is not None and error.code == "unknown_format":
            yield from _warnings(sources, settings, context)  # perhaps the wrong sheet is read
        return
    yield from _warnings(sources, settings, context)
    unused = tuple(dict.fromkeys(name for found in looked for name in found.unused))
    if unused:
        yield context.problem(
            f"{UNUSED}: {', '.join(f'“{name}”' for name in unused)}.",
            "format",
            hint=unused_hint(unused),
            code="unused_column",
            severity="warning",
        )
    chosen = looked[0].chosen if looked else None
    if chosen is not None and chosen.reason and chosen.confidence < UNSURE:
        yield context.problem(
            f"the format was detected as “{chosen.variant.title}”, but not with certainty: {chosen.reason}.",
            "format",
            hint="Choose the format.",
            code="unsure_format",
            severity="warning",
        )
    for remark in (*describe_sources(sources), *sources.remarks):
        yield context.problem(
            remark.sentence, "source", hint=remark.hint, code=remark.code, severity=remark.level
        )


def look_at(
    sources: Sources, settings: DatasetSettings, variants: Mapping[str, Variant]
) -> list[FirstRows]:
    """What the first rows of each file show, as far as it was determined."""
    looked: list[FirstRows] = []
    for path in _checked_files(sources):  # all have the format of the first one
        first = looked[0].chosen if looked else None
        found = check_first_rows(path, settings, variants, first)
        if found is not None and path in sources.validation:
            found = replace(found, unused=without_split_names(found.unused))
        looked += [found] if found is not None else []
    return looked


def _checked_files(sources: Sources) -> tuple[Path, ...]:
    """The first files for training and for validation."""
    return (*sources.train[:_LOOKED_AT], *sources.validation[:_LOOKED_AT])


def _warnings(
    sources: Sources, settings: DatasetSettings, context: CheckContext
) -> Iterator[Problem]:
    """What readers noted about the first rows of each file, as far as it is a warning."""
    for path in _checked_files(sources):
        for note in notes_of(path, options_of(settings)):
            yield context.problem(
                note, note.field, hint=note.hint, code=note.code, file=str(path), severity="warning"
            )


def detected_format(
    settings: DatasetSettings, project_dir: Path, variants: Mapping[str, Variant]
) -> str:
    """The id of the files' format, if a quick check can determine it."""
    if settings.format != AUTO:
        return settings.format
    try:
        path = next(iter(sources_of(settings, project_dir).train))
        key = (AUTO, stamp_of(path), settings.model_dump_json())
        rows = first_rows(path, options_of(settings), strict=False)
        return _kept(
            key, variants, lambda: FirstRows(format_of(settings, path, rows, variants))
        ).chosen.variant.id
    except (StudioError, OSError, StopIteration):
        return ""


def options_of(settings: DatasetSettings) -> ReadOptions:
    """The read options of the settings."""
    return ReadOptions(settings.encoding, settings.documents, settings.row_unit, settings.table)


def check_first_rows(
    path: Path,
    settings: DatasetSettings,
    variants: Mapping[str, Variant],
    known: Chosen | None = None,
) -> FirstRows | None:
    """The format of a file, or the ``known`` one, and what it does not use; raises ``StudioError``
    when its first rows are invalid.

    Checks one row, and further rows for up to half a second.
    """
    skips = not stops_at_first_rows(settings)
    key = (
        settings.model_dump_json(),
        stamp_of(path),
        known and repr((known.variant.id, known.settings)),
    )
    rows = first_rows(path, options_of(settings), strict=not skips)
    if not rows or (settings.format != "auto" and settings.format not in variants):
        return None  # a giant first row is checked in the step; an unknown format is reported elsewhere

    def convert_rows() -> FirstRows:
        chosen = known or format_of(settings, path, rows, variants)
        unused: dict[str, None] = {}
        started = 0.0
        for row in rows:
            try:
                unused.update(dict.fromkeys(chosen.read(row, path)[1]))
            except StudioError:
                if not skips:
                    raise
            started = started or time.monotonic()  # start-up for the first row is not counted
            if time.monotonic() - started > _PATIENCE_S:
                break
        return FirstRows(chosen, tuple(unused))

    return _kept(key, variants, convert_rows)


_results: dict[Hashable, tuple[tuple[Variant, ...], FirstRows]] = {}


def _kept(
    key: Hashable, variants: Mapping[str, Variant], find: Callable[[], FirstRows]
) -> FirstRows:
    """The cached result of ``find`` for this key and these formats; errors are not cached."""
    formats = tuple(variants.values())
    known = _results.get(key)
    if known is not None and len(known[0]) == len(formats) and all(map(is_, known[0], formats)):
        return known[1]
    found = find()
    if len(_results) >= _RESULTS_KEPT:
        _results.clear()
    _results[key] = formats, found
    return found


def stamp_of(path: Path) -> Hashable:
    """A stamp that changes with the file.

    It is taken before the rows are read: rows that are newer than their stamp are only read once
    more.
    """
    try:
        stat = (archive_of(path) or path).stat()
    except (OSError, ValueError):
        return None  # an invalid name, or no file: reported when rows are read
    return str(path), stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino


def stops_at_first_rows(settings: DatasetSettings) -> bool:
    """Whether an invalid row among the first rows of a file stops a run.

    It does not if the settings may exclude it; the check of all rows then decides.
    """
    may_exclude = (
        bool(settings.drop_rows.strip())
        or settings.split_mode == "column"
        or 0 < settings.limit < QUICK_ROWS
    )
    return settings.on_bad_rows == "stop" and not may_exclude


def first_rows(
    path: Path, options: ReadOptions | None = None, *, strict: bool = True
) -> list[SourceRow]:
    """The first rows of a file; raises ``StudioError`` when there are none or they cannot be read.

    If ``strict`` is off, invalid rows are skipped.
    """
    found, _ = _looked_at(path, options or ReadOptions())
    if isinstance(found, StudioError):
        raise copy.copy(found)  # callers add the node's name to the error
    bad = next((r.error for r in found if r.error is not None), None)
    if bad is not None and (strict or all(r.error is not None for r in found)):
        raise copy.copy(bad)
    return [r for r in found if r.error is None]


def notes_of(path: Path, options: ReadOptions) -> tuple[Note, ...]:
    """The notes about a file that are warnings, as far as its first rows show them."""
    return _looked_at(path, options)[1]


def _looked_at(
    path: Path, options: ReadOptions
) -> tuple[list[SourceRow] | StudioError, tuple[Note, ...]]:
    check_file(path, options)
    stat = stat_of(path)
    return _first_rows(path, options, stat.changed_ns, stat.size)


@lru_cache(maxsize=64)
def _first_rows(
    path: Path, options: ReadOptions, changed_ns: int, size: int
) -> tuple[list[SourceRow] | StudioError, tuple[Note, ...]]:
    del changed_ns  # part of the cache key, so that a changed file is read again
    notes: list[str] = []
    options = replace(options, note=notes.append)
    rows: list[SourceRow] | StudioError
    try:
        rows = list(read_rows(path, options, quick=True, strict=False))
    except StudioError as error:
        rows = error
    if rows == [] and size < 256 * 1024:
        rows = bad_file(path, "contains no rows", "Choose a file that contains rows.", "no_rows")
    found = (n for n in dict.fromkeys(notes) if isinstance(n, Note) and n.code)
    return rows, tuple(found)
