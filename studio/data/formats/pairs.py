"""The text pair format: a text and what becomes of it, such as a summary, a solution or a translation.

The row becomes a user message and its answer. A column of translations, ``{"en": ..., "de": ...}``, is
a pair of two languages.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from studio.data.columns import has_content, named, normalized
from studio.data.formats._columns import BESIDE, BesideSettings, unused_beside, with_columns_beside
from studio.data.row_format import (
    NOT_MINE,
    Canonical,
    Detection,
    Row,
    RowError,
    RowFormat,
    answer_text,
    as_text,
    column,
    judged,
    optional_column,
    text,
)
from studio.graph.node_type import Variant
from studio.graph.schema import setting

_SUMMARIZED = (
    *("document", "article", "dialogue", "dialog", "conversation", "transcript", "report", "story"),
    *("post", "body", "content", "text"),
)
_SUMMARY = ("summary", "highlights", "tldr", "abstract")
_CERTAIN = {
    **{(source, target): 0.9 for source in _SUMMARIZED for target in _SUMMARY},
    ("problem", "solution"): 0.9,
    ("user", "assistant"): 0.9,
    ("human", "assistant"): 0.9,
    ("user_message", "assistant_message"): 0.9,
    ("user_prompt", "assistant_response"): 0.9,
    ("user_query", "bot_response"): 0.9,
    ("user", "bot"): 0.85,
    ("human", "bot"): 0.85,
    ("human", "gpt"): 0.85,
    ("human", "ai"): 0.85,
    ("user", "ai"): 0.85,
    ("comment", "reply"): 0.8,
    ("email", "reply"): 0.8,
    ("message", "reply"): 0.8,
    ("message", "response"): 0.8,
    ("input_text", "output_text"): 0.9,
    ("input_text", "target_text"): 0.9,
    ("inputs", "targets"): 0.9,
    ("inputs", "outputs"): 0.9,
    ("source_text", "target_text"): 0.85,
    ("src_text", "tgt_text"): 0.85,
    ("problem", "generated_solution"): 0.85,
    ("question", "solution"): 0.8,
    ("problem", "answer"): 0.75,
    ("source", "target"): 0.8,
    ("src", "tgt"): 0.8,
}
"""How certain it is that two columns are such a pair; other combinations need the user's choice."""
_CERTAINTY = {(normalized(s), normalized(t)): sure for (s, t), sure in _CERTAIN.items()}
_LAST = ("post", "body", "content", "text", "source", "src", "question")
_SOURCE = (*dict.fromkeys(s for s, _ in _CERTAIN if s not in ("problem", *_LAST)), *_LAST)
_TARGET = (*dict.fromkeys(t for _, t in _CERTAIN if t not in ("solution", "answer")), "answer")
"""Names that often stand beside such a pair, such as “text” and “source”, come last."""
_TRANSLATION = ("translations",)
COLUMNS = {
    "source_column": _SOURCE,
    "target_column": _TARGET,
    "translation_column": _TRANSLATION,
    **BESIDE,
}


class PairSettings(BesideSettings):
    """Names of the columns, the languages of translations, and the instruction."""

    source_column: str = setting(
        "problem",
        "Text column",
        "Column with the input text. Also detected: “document”, “article”, “dialogue”, “conversation”, "
        "“transcript”, “user”, “human”, “user_message”, “message”, “inputs”, “input_text”, “text”, "
        "“source”, “question” and similar names.",
        min_length=1,
        max_length=200,
    )
    target_column: str = setting(
        "solution",
        "Target column",
        "Column with the text that the model learns. Also detected: “summary”, “highlights”, “tldr”, "
        "“abstract”, “assistant”, “bot”, “assistant_message”, “reply”, “targets”, “output_text”, "
        "“target”, “answer” and similar names.",
        min_length=1,
        max_length=200,
    )
    translation_column: str = setting(
        "translation",
        "Translation column",
        "An object with one text per language, such as {“en”: …, “de”: …}, instead of the two columns.",
        max_length=200,
        advanced=True,
    )
    source_language: str = setting(
        "",
        "From language",
        "Key of the language to translate from. If empty, the first one of the row.",
        max_length=50,
        advanced=True,
    )
    target_language: str = setting(
        "",
        "To language",
        "Key of the language to translate to. If empty, the second one of the row.",
        max_length=50,
        advanced=True,
    )
    instruction: str = setting(
        "",
        "Instruction",
        "Placed before each text, followed by a blank line, for example “Summarize this text.” Without "
        "it, the model learns to do the same with any text.",
        widget="multiline",
        max_length=4000,
    )


def detect(columns: Sequence[str], rows: Sequence[Row]) -> Detection:
    """Rows with two columns that are known as a pair, or with translations."""
    source, target = named(columns, "problem", _SOURCE), named(columns, "solution", _TARGET)
    if source is not None and target is not None:
        sure = _CERTAINTY.get((normalized(source), normalized(target)), 0.0)
        if sure:
            reason = f"the rows have the columns {source} and {target}"
            return judged(sure, reason, rows, lambda r: _is_text(r.get(source)))
    name = named(columns, "translation", _TRANSLATION)
    if name is None:
        return NOT_MINE
    first = next((r[name] for r in rows if _languages(r.get(name))), None)
    if first is None:
        return NOT_MINE
    languages = list(_languages(first))
    reason = (
        f"the column {name} holds translations ({', '.join(languages)}); the direction is from "
        f"{languages[0]} to {languages[1]} unless the format settings say otherwise"
    )
    return judged(0.45, reason, rows, lambda r: bool(_languages(r.get(name))))


def _is_text(value: Any) -> bool:
    return not isinstance(value, (list, tuple, Mapping))


def _languages(value: Any) -> dict[str, str]:
    """The texts of a translation by language; empty if the value is not one. It may be JSON text, or
    lists of languages and texts, as the datasets library stores translations."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return {}
    if not isinstance(value, Mapping) or len(value) < 2:
        return {}
    languages, texts = value.get("language"), value.get("translation")
    if isinstance(languages, list) and isinstance(texts, list) and len(languages) == len(texts):
        value = dict(zip(map(str, languages), texts, strict=True))
    return dict(value) if all(isinstance(v, str) for v in value.values()) else {}


def convert(row: Row, settings: PairSettings) -> Canonical:
    """The text, with the instruction before it, and its target as messages."""
    translation = optional_column(row, settings, "translation_column", _TRANSLATION)
    if translation and (texts := _languages(row[translation])):
        given, wanted = _translated(texts, translation, settings)
    else:
        given = text(row, column(row, settings, "source_column", _SOURCE))
        wanted = answer_text(row, column(row, settings, "target_column", _TARGET))
    instruction = settings.instruction.strip()
    question = f"{instruction}\n\n{given}" if instruction else given
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": wanted}]
    return with_columns_beside(row, settings, messages)


def _translated(value: Mapping[str, Any], name: str, settings: PairSettings) -> tuple[str, str]:
    """The texts of the two languages of a translation."""
    source, target = _direction(value, settings)
    for language, field in ((source, "source_language"), (target, "target_language")):
        if language not in value:
            raise RowError(
                f"has no language “{language}” in column “{name}”; it has {', '.join(value)}",
                "Choose the languages in the format settings.",
                column=name,
                code="missing_language",
                setting=field,
            )
    texts = [as_text(value[n], f"“{n}” of column “{name}”", name) for n in (source, target)]
    return texts[0], texts[1]


def _direction(value: Mapping[str, Any], settings: PairSettings) -> tuple[str, str]:
    source, target = settings.source_language.strip(), settings.target_language.strip()
    rest = [n for n in value if n not in (source, target)]
    source = source or (rest.pop(0) if rest else "")
    return source, target or (rest.pop(0) if rest else "")


def unused(row: Row, settings: PairSettings) -> list[str]:
    """The other languages of a translation."""
    name = optional_column(row, settings, "translation_column", _TRANSLATION)
    beside = unused_beside(row, settings)
    texts = _languages(row[name]) if name else {}
    direction = _direction(texts, settings)
    return beside + [
        f"{name}.{n}" for n, said in texts.items() if n not in direction and has_content(said)
    ]


VARIANT = Variant(
    kind="format",
    id="pairs",
    title="Text pairs",
    order=32,
    help="A text and its target, such as document and summary, problem and solution, user and assistant, "
    "or two languages of a translation.",
    settings=PairSettings,
    payload=RowFormat(detect, convert, COLUMNS, unused=unused),
)
