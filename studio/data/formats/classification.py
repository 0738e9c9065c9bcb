"""The classification format: a text and its label become an instruction and the label's name.

A causal model learns the name like any other answer. Numeric labels get their names from the
settings, because a number alone carries no meaning.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from pydantic import field_validator

from studio.data.columns import named
from studio.data.reading.class_labels import ClassNumber
from studio.data.row_format import (
    NOT_MINE,
    Canonical,
    Detection,
    Row,
    RowError,
    RowFormat,
    as_text,
    column,
    judged,
    kind_of,
    optional_column,
    text,
)
from studio.graph.node_type import Variant
from studio.graph.schema import Settings, setting

_TEXT = ("sentence", "content", "review", "tweet", "document", "comment", "title")
_LABEL = ("label_text", "labels", "category", "class", "intent", "sentiment", "emotion")
_ENOUGH = 10
_MOST_LISTED, _LONGEST_LIST = 100, 2000
COLUMNS = {"text_column": _TEXT, "label_column": _LABEL}


class ClassificationSettings(Settings):
    """Names of the columns and labels, and the instruction."""

    text_column: str = setting(
        "text",
        "Text column",
        "Column with the text to classify. Also detected: “sentence”, “content”, "
        "“review”, “tweet”, “document”, “comment” and “title”.",
        min_length=1,
        max_length=200,
    )
    label_column: str = setting(
        "label",
        "Label column",
        "Column with the label: a name, or the index of a label name, starting at "
        "0. Also detected: “label_text”, “labels”, “category”, “class”, “intent”, "
        "“sentiment” and “emotion”.",
        min_length=1,
        max_length=200,
    )
    label_names: list[str] = setting(
        [],
        "Label names",
        "Label names in the order of their numbers, such as negative, positive. "
        "Required if the labels are numbers and the file does not contain their "
        "names; otherwise they restrict the allowed labels.",
        max_length=1000,
        placeholder="negative, positive",
    )
    template: str = setting(
        "Which label fits this text? Answer with the label only.\nLabels: {labels}\n\n{text}",
        "Question",
        "Prompt for the model. {text} is replaced by the text of the row, {labels} by the label names "
        "separated by commas: those above, otherwise those that occur in the data, at most 100. Lines "
        "with {labels} are omitted if there are none, or more.",
        widget="multiline",
        min_length=1,
        max_length=4000,
    )

    @field_validator("template")
    @classmethod
    def _has_text(cls, value: str) -> str:
        if "{text}" not in value:
            raise ValueError(
                "The question does not contain {text}, which is replaced by the text of the row."
            )
        return value

    @field_validator("label_names")
    @classmethod
    def _are_names(cls, value: list[str]) -> list[str]:
        names = [n.strip() for n in value]
        if any(not n for n in names) or len(set(names)) < len(names):
            raise ValueError("Label names must be unique and not empty.")
        return names


class _Listed(ClassificationSettings):
    """The settings with the labels that occur in the data."""

    occurring: tuple[str, ...] = ()


def complete(
    rows: Iterable[Row], settings: ClassificationSettings
) -> tuple[ClassificationSettings, str]:
    """The settings with the labels of all rows, so that each question can list them."""
    if settings.label_names or "{labels}" not in settings.template:
        return settings, ""
    found: set[str] = set()
    for row in rows:
        name = optional_column(row, settings, "label_column", _LABEL)
        value = row[name] if name else None
        if isinstance(value, ClassNumber):
            return settings, ""  # the file names its labels
        if name is None:
            continue
        with suppress(RowError):
            found.add(_label(value, name, ()))
        if len(found) > _MOST_LISTED:
            break
    names = tuple(sorted(found, key=lambda label: (label.casefold(), label)))
    if not names:
        return settings, ""
    if len(names) > _MOST_LISTED or sum(map(len, names)) > _LONGEST_LIST:
        return settings, (
            "The questions list no labels: the data has too many. Write those to list into “Label names”."
        )
    shown = ", ".join(names[:10]) + (" …" if len(names) > 10 else "")
    listed = _Listed(**settings.model_dump(), occurring=names)
    return listed, f"The questions list the {len(names)} labels that occur in the data: {shown}."


def detect(columns: Sequence[str], rows: Sequence[Row]) -> Detection:
    """Rows with a text and a short label."""
    name, label = named(columns, "text", _TEXT), named(columns, "label", _LABEL)
    if name is None or label is None:
        return NOT_MINE
    given = [r.get(label) for r in rows]
    usual = (name, label) == ("text", "label")
    reason = f"the rows have the columns {name} and {label}"
    if any(isinstance(g, int) and not isinstance(g, (bool, ClassNumber)) for g in given):
        reason += ", and the label is a number, which requires “Label names”"
    sure = 0.9 if usual else 0.8 if label == "label" else 0.6
    if len(given) >= _ENOUGH and len(set(map(str, given))) > len(given) / 2:
        sure = 0.35  # values hardly repeat: titles or topics rather than labels

    def fits(row: Row) -> bool:
        return not isinstance(row.get(name), (list, dict)) and _is_label(row.get(label))

    return judged(sure, reason, rows, fits)


def _is_label(value: Any) -> bool:
    is_integer = isinstance(value, float) and value.is_integer()
    return isinstance(value, int) or is_integer or (isinstance(value, str) and len(value) <= 60)


def convert(row: Row, settings: ClassificationSettings) -> Canonical:
    """The question about the text and the label's name, as messages."""
    name = column(row, settings, "text_column", _TEXT)
    label = column(row, settings, "label_column", _LABEL)
    value = row[label]
    known = value.names if isinstance(value, ClassNumber) else ()
    names = settings.label_names or known
    said = _label(value, label, names)
    shown = ", ".join(names or getattr(settings, "occurring", ()))
    kept = [li for li in settings.template.split("\n") if shown or "{labels}" not in li]
    head, *rest = "\n".join(kept).replace("{labels}", shown).split("{text}")
    question = text(row, name).join([head, *rest])
    return {
        "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": said}]
    }


def _label(value: Any, name: str, names: Sequence[str]) -> str:
    """The name of a label; raises ``RowError`` if it has none."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) and not names:
        return "true" if value else "false"
    if isinstance(value, (bool, int)):
        return _numbered(int(value), name, names)
    if isinstance(value, (list, tuple, dict)):
        raise RowError(
            f"has {kind_of(value)} in column “{name}” instead of a single label",
            "Keep one label per row, or join them into one text.",
            column=name,
            code="bad_label",
        )
    said = as_text(value, f"column “{name}”", name).strip()
    if not said:
        raise RowError(
            f"has an empty label in column “{name}”",
            "Enter a label, or remove the row.",
            column=name,
            code="empty_content",
        )
    if names and said not in names and said.isdecimal():
        return _numbered(int(said), name, names)
    if (names and said not in names) or said.lstrip("-").isdecimal():
        return _unnamed(said, name, names)
    return said


def _numbered(value: int, name: str, names: Sequence[str]) -> str:
    return names[value] if 0 <= value < len(names) else _unnamed(str(value), name, names)


def _unnamed(value: str, name: str, names: Sequence[str]) -> str:
    if not names:
        raise RowError(
            f"has the label {value} in column “{name}”, a number without a label name",
            "Enter the label names in the order of their numbers in the settings of "
            "the format “Classification”.",
            column=name,
            code="unnamed_label",
            setting="label_names",
        )
    known = ", ".join(names)
    raise RowError(
        f"has the label “{value[:80]}” in column “{name}”, which is not one of the {len(names)} label "
        "names",
        f"Correct the label or the label names ({known[:200]}). A label of -1 usually means "
        "that the row has no label.",
        column=name,
        code="unknown_label",
    )


VARIANT = Variant(
    kind="format",
    id="classification",
    title="Classification",
    order=38,
    help="A text and its label. Each row becomes a question that lists the labels, "
    "answered with the label name.",
    settings=ClassificationSettings,
    payload=RowFormat(detect, convert, COLUMNS, complete=complete),
)
