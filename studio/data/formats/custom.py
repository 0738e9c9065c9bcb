"""The custom format: Jinja templates with the columns of a row as variables.

Either one template makes the complete text of a row, or three make its system message, question and
answer. They are rendered in a helper process with limits of time and size.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from pydantic import field_validator

from studio.chat_templates import names_in
from studio.chat_templates.render import TemplateFailed, mistake_in, render
from studio.data.row_format import (
    NOT_MINE,
    Canonical,
    Detection,
    Row,
    RowError,
    RowFormat,
    as_text,
)
from studio.graph.node_type import Variant
from studio.graph.schema import Settings, setting

_CHAT = {"shape": "chat"}
_TITLES = {
    "text_template": "text template",
    "system_template": "system template",
    "user_template": "question template",
    "assistant_template": "answer template",
}


class CustomSettings(Settings):
    """The templates."""

    shape: Literal["chat", "text"] = setting(
        "chat",
        "Make",
        "Create a question with an answer, formatted with the chat template, or "
        "plain text that is trained as it is.",
        choice_labels={"chat": "Question and answer", "text": "Plain text"},
    )
    user_template: str = setting(
        "{{ prompt }}",
        "Question",
        "Template of the prompt. Write column names in double braces, such as {{ "
        'title }}, or {{ row["long name"] }} for names with spaces. Jinja\'s if, '
        "for and filters are supported: {{ title | trim }}.",
        widget="multiline",
        min_length=1,
        max_length=20_000,
        shown_if=_CHAT,
    )
    assistant_template: str = setting(
        "{{ completion }}",
        "Answer",
        "Template of the answer that the model learns.",
        widget="multiline",
        min_length=1,
        max_length=20_000,
        shown_if=_CHAT,
    )
    system_template: str = setting(
        "",
        "System message",
        "Template of the system message. If it renders to an empty text, there is "
        "no system message.",
        widget="multiline",
        max_length=20_000,
        shown_if=_CHAT,
    )
    text_template: str = setting(
        "{{ text }}",
        "Text",
        "Template of the complete text of a row. Only the end token is added.",
        widget="multiline",
        min_length=1,
        max_length=20_000,
        shown_if={"shape": "text"},
    )

    @field_validator("user_template", "assistant_template", "system_template", "text_template")
    @classmethod
    def _is_a_template(cls, value: str) -> str:
        mistake = mistake_in(value)
        if mistake:
            raise ValueError(f"The template {mistake.rstrip('.')}.")
        return value


def detect(columns: Sequence[str], rows: Sequence[Row]) -> Detection:
    """Never detected: only the user knows the templates."""
    del columns, rows
    return NOT_MINE


def convert(row: Row, settings: CustomSettings) -> Canonical:
    """The rendered text or messages."""
    fields = _fields(settings)
    try:
        texts = render([getattr(settings, f) for f in fields], row)
    except TemplateFailed as error:
        raise _row_error(error, fields, row) from error
    said = dict(zip(fields, texts, strict=True))
    if settings.shape == "text":
        return {"text": _filled(said, "text_template")}
    messages = [
        {"role": "user", "content": _filled(said, "user_template")},
        {"role": "assistant", "content": _filled(said, "assistant_template")},
    ]
    preamble = said.get("system_template", "")
    if preamble.strip():
        preamble = as_text(preamble, "the system template's text", "")
        messages.insert(0, {"role": "system", "content": preamble})
    return {"messages": messages}


def _fields(settings: CustomSettings) -> list[str]:
    """The settings whose templates are rendered."""
    if settings.shape == "text":
        return ["text_template"]
    system = ["system_template"] if settings.system_template.strip() else []
    return [*system, "user_template", "assistant_template"]


def _filled(said: dict[str, str], name: str) -> str:
    if not said[name].strip():
        raise RowError(
            f"renders to an empty text with the {_TITLES[name]}",
            "Change the template, or remove the row.",
            code="empty_content",
        )
    return as_text(said[name], f"the {_TITLES[name]}'s text", "")


def _row_error(error: TemplateFailed, fields: Sequence[str], row: Row) -> RowError:
    title = _TITLES[fields[error.at]]
    if error.missing:
        return RowError(
            f"has no column “{error.missing}”, which the {title} uses; its columns are {', '.join(row) or 'none'}",
            f'Use one of these columns in the template, or write {{{{ {error.missing} | default("") '
            "}} if the column may be missing.",
            column=error.missing,
            code="missing_column",
            setting=fields[error.at],
        )
    if error.slow:
        return RowError(
            f"cannot be rendered: the template {error.why}",
            "It loops forever or takes too long. Simplify it.",
            code="template_too_slow",
            setting=fields[0] if len(fields) == 1 else None,
        )
    why = error.why.rstrip(".")[:300].replace("\n", " ")
    return RowError(
        f"cannot be rendered with the {title}: {why}",
        "Correct the template in the format settings.",
        code="template_failed",
        setting=fields[error.at],
    )


def used(settings: CustomSettings) -> Iterable[str]:
    """The columns that the templates use."""
    return set().union(*(names_in(getattr(settings, f)) or () for f in _fields(settings)))


VARIANT = Variant(
    kind="format",
    id="custom",
    title="Custom template",
    order=70,
    help="Custom templates that use the columns as variables, for rows that match no other format.",
    settings=CustomSettings,
    payload=RowFormat(detect, convert, used=used),
)
