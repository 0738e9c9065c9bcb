"""Detects the format of a file, and converts its rows with file and line in every error."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from studio.chat_templates import template_kwargs
from studio.data.columns import (
    MEDIA,
    content_kind,
    counts_rows,
    has_content,
    holds_thoughts,
    ignored_name,
    is_bookkeeping,
    is_prose,
    is_split_name,
    marks_held_out,
    media_kind,
    media_mark,
    named,
    normalized,
)
from studio.data.reading.conversations import is_lone_message
from studio.data.reading.source import SourceRow, bad_file
from studio.data.reading.structs import without_filler
from studio.data.rendered_chat import style_of
from studio.data.row_format import Canonical, Detection, Row, RowError, RowFormat, optional_column
from studio.errors import StudioError
from studio.graph.node_type import Variant
from studio.graph.schema import Settings, problems_in
from studio.node_settings.dataset import DatasetSettings

AUTO = "auto"
KWARGS = "chat_template_kwargs"
"""The key of a row with its own variables of the chat template, in every format."""
_SURE_ENOUGH = 0.3
_LONG_ENOUGH = 32
_LOST = 0.5  # the confidence of a format for each column with content that it does not use
_CLOSE = 0.1


UNUSED = "Not used for training"
UNUSED_HINT = (
    "Choose a format or a column setting that uses them, or add them to “Ignored columns” of the "
    "Dataset node."
)


def unused_hint(names: Collection[str]) -> str:
    """What to do about unused columns; for a column that assigns rows to splits, how to use it."""
    split = next((n for n in names if is_split_name(n)), "")
    if not split:
        return UNUSED_HINT
    hint = (
        f"Rows that “{split}” marks as validation or test, if any, are trained like the others: to keep them "
        f"out, set “Validation rows” to “By column” and “Split column” to “{split}”."
    )
    return hint if len(names) == 1 else f"{UNUSED_HINT} {hint}"


@dataclass(frozen=True)
class Chosen:
    """A format with its settings; ``reason`` says why it was detected, and is empty if it was chosen.

    ``also_used`` are columns that other settings use, ``ignored`` (normalized) those that the user
    does not want to use. ``remark`` says what was found in all rows and is used for each of them.
    """

    variant: Variant
    settings: Settings
    reason: str = ""
    confidence: float = 1.0
    also_used: frozenset[str] = frozenset()
    ignored: frozenset[str] = frozenset()
    remark: str = ""

    def convert(self, row: SourceRow, path: Path) -> Canonical:
        """The canonical row; raises ``StudioError`` with file, line and column."""
        return self.read(row, path)[0]

    def read(self, row: SourceRow, path: Path) -> tuple[Canonical, tuple[str, ...]]:
        """The canonical row, and the names of its columns and keys that hold something and are not
        used; raises ``StudioError`` with file, line and column."""
        canonical = self.canonical(row, path)
        return canonical, self.check_unused(row, path, canonical)

    def canonical(self, row: SourceRow, path: Path) -> Canonical:
        """The canonical row; unlike ``convert``, it accepts rows with content that is not used."""
        payload: RowFormat = self.variant.payload
        try:
            return _with_kwargs(payload.convert(row.data, self.settings), row.data)
        except RowError as error:
            raise self._located(error, row, path) from error

    def check_unused(self, row: SourceRow, path: Path, canonical: Canonical) -> tuple[str, ...]:
        """What is not used of a row; raises ``StudioError`` where it is known to carry content."""
        try:
            unused = self.unused(row.data, canonical)
        except RowError as error:
            raise self._located(error, row, path) from error
        for name in unused:
            lost = self.lost_content(name, row, path)
            if lost is not None:
                raise lost
        return unused

    def _located(self, error: RowError, row: SourceRow, path: Path) -> StudioError:
        located = bad_file(path, error.what, error.hint, error.code, line=row.line)
        if error.setting is not None:
            located.field = "format" if self.reason else f"format_settings.{error.setting}"
        return located

    def columns_not_used(self, columns: Sequence[str]) -> tuple[str, ...]:
        """The columns that the format does not use, without bookkeeping and ignored ones."""
        return tuple(c for c in self._free_columns(tuple(columns)) if not is_bookkeeping(c))

    def _free_columns(self, columns: tuple[str, ...]) -> tuple[str, ...]:
        found = self._free.get(columns)
        if found is None:
            unused = column_map(self.variant, self.settings, columns)["unused"]
            found = tuple(
                c for c in unused if c not in self.also_used and normalized(c) not in self.ignored
            )
            self._free[columns] = found
        return found

    @cached_property
    def _free(self) -> dict[tuple[str, ...], tuple[str, ...]]:
        return {}

    def unused(self, row: Row, canonical: Canonical) -> tuple[str, ...]:
        """Columns whose content is nowhere in the canonical row, and what the format leaves out."""
        names = [
            name
            for name in self._free_columns(tuple(row))
            if (
                not is_bookkeeping(name)
                or media_kind(name, row[name])
                or marks_held_out(name, row[name])
            )
            and not counts_rows(name, row[name])
            and not (name == KWARGS and canonical.get("messages"))
            and has_content(row[name])
            and not _occurs(row[name], canonical)
        ]
        inner = self.variant.payload.unused(row, self.settings)
        names += [n for n in (*inner, _mark_in(canonical)) if self._counts(n)]
        return tuple(names)

    def _counts(self, name: str) -> bool:
        plain = ignored_name(name)
        names = {normalized(plain), normalized(plain.partition(":")[0])}
        return bool(name) and names.isdisjoint(self.ignored)

    def lost_content(self, name: str, row: SourceRow, path: Path) -> StudioError | None:
        """The error for an unused column or key of a row if it is known to carry content, or for a mark
        that stands for media."""
        plain = ignored_name(name)
        value = row.data.get(name)
        kind = (media_kind(name, value) if name in row.data else None) or content_kind(plain)
        if kind in MEDIA and is_prose(value):
            return None
        if kind is None and holds_thoughts(name, value):
            kind = "reasoning"
        if kind is None and media_mark(name) != name:
            return None
        if kind is None:
            what = f"has the mark “{name}”, which stands for something that this program cannot train on"
            hint = f"Remove the row or the mark, or add “{name}” to “Ignored columns” to train with it as text."
            return self._located(RowError(what, hint, code="unused_content"), row, path)
        what = f"has {kind} in “{name}”, which "
        if kind in MEDIA:
            what += "this program cannot train on"
            hint = "Remove the row"
        else:
            what += f"the format “{self.variant.title}” does not use"
            hint = (
                "Choose a format or a column setting that uses it" if name == plain else "Remove it"
            )
        hint += f", or add “{plain}” to “Ignored columns” to train without it."
        return self._located(RowError(what, hint, code="unused_content"), row, path)


def _mark_in(canonical: Canonical) -> str:
    """The first mark in the questions of a row that stands for an image, a video or a sound, or ``""``."""
    texts = [canonical.get("prompt") or ""]
    texts += [m["content"] for m in canonical.get("messages") or () if m["role"] != "assistant"]
    return next((m for t in texts if ("<" in t or "[" in t) and (m := media_mark(t))), "")


def _occurs(value: Any, canonical: Canonical) -> bool:
    """Whether a text also stands in the canonical row, such as the prompt beside its messages."""
    if not isinstance(value, str):
        return False
    wanted = value.strip()
    texts = [canonical.get(n) or "" for n in ("text", "prompt", "completion")]
    said = [m for n in _LISTS for m in canonical.get(n) or ()]
    texts += [m.get(key) or "" for m in said for key in ("content", "reasoning_content")]
    if len(wanted) < _LONG_ENOUGH:  # a short text occurs by chance
        return any(wanted == text.strip() for text in texts)
    return any(wanted in text for text in texts)


_LISTS = ("messages", "chosen", "rejected")


def format_of(
    settings: DatasetSettings,
    path: Path,
    rows: Sequence[SourceRow],
    variants: Mapping[str, Variant],
) -> Chosen:
    """The format of a Dataset node's file: the one of the settings, or the one that fits best."""
    return choose_format(
        path,
        settings.format,
        settings.format_settings,
        rows,
        variants,
        also_used=_columns_of_split(settings),
        ignored=settings.ignored_columns,
    )


def _with_kwargs(canonical: Canonical, row: Row) -> Canonical:
    """The row with its own variables of the chat template, which any conversation may have."""
    given = row.get(KWARGS)
    if given is None or not canonical.get("messages"):
        return canonical
    try:
        found = template_kwargs(without_filler(given))
    except ValueError as error:
        raise RowError(
            f"has “{KWARGS}” that {error}",
            'Write an object such as {"enable_thinking": false}, or remove it.',
            column=KWARGS,
            code="bad_template_kwargs",
        ) from error
    return {**canonical, KWARGS: found} if found else canonical


def choose_format(
    path: Path,
    format_id: str,
    own_settings: Mapping[str, Any],
    rows: Sequence[SourceRow],
    variants: Mapping[str, Variant],
    *,
    also_used: Collection[str] = (),
    ignored: Collection[str] = (),
) -> Chosen:
    """The named format, or for ``auto`` the one that best fits the first rows.

    ``also_used`` are columns that other settings use, ``ignored`` those that need not be used.
    """
    also, skipped = frozenset(also_used), frozenset(map(normalized, ignored))
    if format_id != AUTO:
        variant = variants[format_id]
        return Chosen(variant, _parsed(variant, own_settings), also_used=also, ignored=skipped)
    found = detect(rows, variants, {*also, *ignored})
    if not found or found[0][1].confidence < _SURE_ENOUGH:
        _refuse_known_export(path, rows)
        columns = ", ".join(_columns(rows)) or "none"
        raise bad_file(
            path,
            f"matches no known format; its columns are {columns}",
            "Choose the format, and enter its columns in the format settings; the format “Custom template” "
            "takes any columns.",
            "unknown_format",
        )
    variant, detection = found[0]
    known = {k: v for k, v in own_settings.items() if k in variant.settings.model_fields}
    reason = detection.reason + _rival(found)
    return Chosen(variant, _parsed(variant, known), reason, detection.confidence, also, skipped)


def _refuse_known_export(path: Path, rows: Sequence[SourceRow]) -> None:
    """Raise ``StudioError`` for media, and for the files of other programs that are known and cannot be
    read."""
    for row in rows[:1]:
        for name, value in row.data.items():
            kind = media_kind(name, value) if has_content(value) else None
            if kind is not None:
                raise bad_file(
                    path,
                    f"has {kind} in “{name}”, which this program cannot train on, and no text and answer "
                    "of a known format",
                    "Choose data with a text and its answer, or a format for the other columns, with "
                    f"“{name}” in “Ignored columns”.",
                    "unknown_format",
                )
        for name, value in row.data.items():
            style = style_of(value) if isinstance(value, str) else None
            if style is not None:
                raise bad_file(
                    path,
                    f"holds conversations as text in “{name}”, in the style of {style.title}",
                    f"Choose the format “Rendered conversations”, with “{name}” as its text column.",
                    "unknown_format",
                )
        for fits, what, hint in _EXPORTS:
            if fits(row.data):
                raise bad_file(path, what, hint, "unknown_format")


def _is_span(value: Any) -> bool:
    if isinstance(value, Mapping):
        return {"start", "end"} <= value.keys()
    numbers = value[:2] if isinstance(value, (list, tuple)) and len(value) == 3 else ()
    return len(numbers) == 2 and all(isinstance(n, int) for n in numbers)


def _is_nested_squad(row: Row) -> bool:
    found = row.get("paragraphs")
    return isinstance(found, list) and any(isinstance(p, Mapping) and "qas" in p for p in found)


def _is_message_tree(row: Row) -> bool:
    return isinstance(row.get("prompt"), Mapping) and "replies" in row["prompt"]


_EXPORTS: tuple[tuple[Callable[[Row], bool], str, str], ...] = (
    (
        is_lone_message,
        "looks like a table with one message per row, and no column says which conversation a message "
        "belongs to",
        "Add a column conversation_id, and a column role with user and assistant. To train on each "
        "message as a plain text, choose the format “Plain text”.",
    ),
    (
        _is_nested_squad,
        "is SQuAD in its nested form, with paragraphs and their questions",
        "Write one row per question with the columns context, question and answers.",
    ),
    (
        _is_message_tree,
        "holds trees of messages (a prompt with replies), as OpenAssistant exports them",
        "Use the file with one message per row (message_id, parent_id, role, text), which is read.",
    ),
    (
        lambda r: {"conversation_a", "conversation_b"} <= r.keys(),
        "compares two conversations, as LMSYS exports its arena",
        "Write the better conversation into a column chosen and the other into rejected.",
    ),
    (
        lambda r: {"preferred_output", "non_preferred_output"} <= r.keys(),
        "holds preferences as OpenAI takes them, with nested messages",
        "Write the columns prompt (the messages of the input), chosen and rejected.",
    ),
    (
        lambda r: isinstance(r.get("annotations"), list) and isinstance(r.get("data"), Mapping),
        "is an export of Label Studio with nested annotations",
        "Export it as JSON-MIN or CSV: then each row has its text and its label as columns.",
    ),
    (
        lambda r: (
            isinstance(r.get("fields"), Mapping)
            and any(n in r for n in ("responses", "suggestions", "annotations"))
        ),
        "is an export of Argilla with nested fields and responses",
        "Export it with its method to_datasets, and keep the columns of the text and of the answer.",
    ),
    (
        lambda r: any(isinstance(v, list) and v and all(map(_is_span, v)) for v in r.values()),
        "holds labels of parts of a text (start, end, label), which no format here can use",
        "Write what the model has to answer as a text, or choose a custom template.",
    ),
    (
        lambda r: any(str(n).endswith("_tags") and isinstance(v, list) for n, v in r.items()),
        "holds a label for each word, which no format here can use",
        "Write what the model has to answer as a text, or choose a custom template.",
    ),
)
"""Files of other programs: how they are recognized, what they are, and what to do."""


def _columns_of_split(settings: DatasetSettings) -> list[str]:
    """The columns that decide on the split."""
    by_mode = {"column": settings.split_column, "group": settings.group_column}
    return [name for mode, name in by_mode.items() if settings.split_mode == mode]


def _rival(found: Sequence[tuple[Variant, Detection]]) -> str:
    """Names the second-best format if it fits nearly as well."""
    (_, best), (other, next_best) = found[0], found[1] if len(found) > 1 else found[0]
    if len(found) < 2 or next_best.confidence < _SURE_ENOUGH:
        return ""
    close = best.confidence - next_best.confidence < _CLOSE
    return f"; “{other.title}” also matches" if close else ""


def detect(
    rows: Sequence[SourceRow],
    variants: Mapping[str, Variant],
    ignored: Collection[str] = (),
) -> list[tuple[Variant, Detection]]:
    """All formats with their confidence, in descending order.

    A format that leaves out a column that is known to carry content is less likely, except for media,
    which no format uses. ``ignored`` are columns that no format has to use.
    """
    columns, data = _columns(rows), [r.data for r in rows]
    skipped = set(map(normalized, ignored))
    content = [c for c in columns if content_kind(c) not in (None, *MEDIA)]
    content = [c for c in content if normalized(c) not in skipped]
    content = [c for c in content if any(has_content(r.get(c)) for r in data)]
    judged = []
    for variant in variants.values():
        detection = variant.payload.detect(columns, data)
        if detection.confidence > 0 and content:
            unused = column_map(variant, variant.settings(), columns)["unused"]
            lost = [c for c in content if c in unused]
            detection = replace(detection, confidence=detection.confidence * _LOST ** len(lost))
        judged.append((variant, detection))
    return sorted(judged, key=lambda pair: (-pair[1].confidence, pair[0].order))


def describe_detection(
    rows: Sequence[SourceRow],
    variants: Mapping[str, Variant],
    ignored: Collection[str] = (),
) -> list[tuple[str, str, float, str]]:
    """(id, title, confidence, reason) of every format that fits, by descending confidence."""
    found = detect(rows, variants, ignored)
    return [(v.id, v.title, d.confidence, d.reason) for v, d in found if d.confidence > 0]


def column_map(variant: Variant, settings: Settings, columns: Sequence[str]) -> dict[str, Any]:
    """``bound``: the column of this file for each setting that names a column, or ``None``.

    ``unused``: the columns that the format does not use, in the order of the file. A setting that was
    left empty ignores the columns that it would find otherwise.
    """
    payload: RowFormat = variant.payload
    bound = {f: optional_column(columns, settings, f, a) for f, a in payload.columns.items()}
    taken = {*bound.values(), *payload.used(settings)}
    for field, aliases in payload.columns.items():
        default = type(settings).model_fields[field].default
        if default and not getattr(settings, field):
            taken.add(named(columns, default, aliases))
    unused = () if "row" in taken else tuple(c for c in columns if c not in taken)
    return {"bound": bound, "unused": unused}


def _columns(rows: Sequence[SourceRow]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for row in rows for name in row.data))


def _parsed(variant: Variant, values: Mapping[str, Any]) -> Settings:
    try:
        return variant.settings.model_validate(dict(values))
    except ValidationError as error:
        problem = problems_in(variant.settings, dict(values), None, variant.title)[0]
        raise StudioError(
            problem.sentence,
            hint=problem.hint,
            field=f"format_settings.{problem.field}",
            code=problem.code,
        ) from error
