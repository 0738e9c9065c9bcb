"""The schema of settings.

A settings model is a pydantic model whose fields carry label, help, unit, limits and choices. From
it come the inspector's form, validation, the saved file, ``--set`` on the command line and the
documentation table. Nothing here knows about Qt or about a particular node.
"""

from __future__ import annotations

import types
import typing
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Union

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from studio.errors import Problem
from studio.shown_text import line, short

Widget = Literal[
    "auto",
    "file",
    "folder",
    "adapter",
    "model",
    "names",
    "target_modules",
    "multiline",
    "schedule",
    "slider",
]


class Settings(BaseModel):
    """Base of every settings model: frozen, and unknown names are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class NoSettings(Settings):
    """The settings of a node or variant that has none."""


@dataclass(frozen=True)
class Meta:
    """What a form needs beyond the type: see ``setting`` for the meaning of each part."""

    label: str
    help: str
    unit: str = ""
    group: str = ""
    widget: Widget = "auto"
    advanced: bool = False
    variant: str = ""
    shown_if: tuple[tuple[str, tuple[Any, ...]], ...] = ()
    choice_labels: tuple[tuple[str, str], ...] = ()
    special: tuple[tuple[Any, str], ...] = ()
    step: float | None = None
    log_scale: bool = False
    placeholder: str = ""
    changes_result: bool = True
    port: str = ""


def setting(
    default: Any,
    label: str,
    help: str,
    *,
    unit: str = "",
    group: str = "",
    widget: Widget = "auto",
    advanced: bool = False,
    variant: str = "",
    shown_if: dict[str, Any] | None = None,
    choice_labels: dict[str, str] | None = None,
    special: dict[Any, str] | None = None,
    step: float | None = None,
    log_scale: bool = False,
    placeholder: str = "",
    changes_result: bool = True,
    port: str = "",
    **limits: Any,
) -> Any:
    """A settings field.

    ``help`` says what the setting does, typical values and the effect on memory or quality.
    ``limits`` are pydantic's (``ge``, ``gt``, ``le``, ``lt``, ``min_length`` ...). ``variant``
    names a registry kind (``format``, ``adapter``, ``objective``, ``exporter``) whose ids are the
    choices; the chosen variant's own settings are stored beside it as ``<name>_settings``.
    ``shown_if`` maps another field to the value or values for which this one matters.
    ``special`` names values with a meaning of their own (``{0: "by epochs"}``). With ``changes_result``
    False an earlier result is reused whatever the value. A setting of the input ``port`` is named after the node that
    is connected to it.
    """
    shown = tuple(
        (k, tuple(v) if isinstance(v, (list, tuple)) else (v,)) for k, v in (shown_if or {}).items()
    )
    meta = Meta(
        label,
        help,
        unit,
        group,
        widget,
        advanced,
        variant,
        shown,
        tuple((choice_labels or {}).items()),
        tuple((special or {}).items()),
        step,
        log_scale,
        placeholder,
        changes_result,
        port,
    )
    extra: Any = {"studio": meta}  # pydantic keeps it as it is; no JSON schema is made from it
    return Field(default, title=label, description=help, json_schema_extra=extra, **limits)


@dataclass(frozen=True)
class FieldSpec:
    """A settings field, flattened for forms, tables and ``nodes --json``.

    ``kind`` is ``bool``, ``int``, ``float``, ``str``, ``choice``, ``list`` or ``object``.
    ``choices`` of a list are those of its elements. ``minimum``/``maximum`` are inclusive unless the ``exclusive_*``
    flag is set.
    """

    name: str
    kind: str
    default: Any
    meta: Meta
    choices: tuple[Any, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    exclusive_minimum: bool = False
    exclusive_maximum: bool = False
    optional: bool = False
    min_length: int | None = None
    max_length: int | None = None

    def choice_label(self, value: Any) -> str:
        """The label of one choice."""
        labels: dict[object, str] = dict(self.meta.choice_labels)
        return labels.get(value, str(value))


def meta_of(info: FieldInfo) -> Meta:
    """The metadata of a field declared with ``setting``."""
    extra = info.json_schema_extra
    if isinstance(extra, dict) and isinstance(extra.get("studio"), Meta):
        return typing.cast(Meta, extra["studio"])
    return Meta(info.title or "", info.description or "")


def _kind(annotation: Any) -> tuple[str, tuple[Any, ...], bool]:
    origin = typing.get_origin(annotation)
    if origin in (Union, types.UnionType):
        parts = [a for a in typing.get_args(annotation) if a is not type(None)]
        optional = len(parts) < len(typing.get_args(annotation))
        if any(typing.get_origin(p) is list for p in parts):
            return "list", (), optional
        kind, choices, _ = _kind(parts[0])
        if kind == "choice":  # of several lists of choices
            choices = tuple(c for part in parts for c in _kind(part)[1])
        return kind, choices, optional
    if origin is Literal:
        return "choice", typing.get_args(annotation), False
    if origin in (list, tuple):
        inner = next(iter(typing.get_args(annotation)), None)
        return "list", _kind(inner)[1] if inner is not None else (), False
    if origin is dict or annotation is dict:
        return "object", (), False
    for kind, type_ in (("bool", bool), ("int", int), ("float", float), ("str", str)):
        if annotation is type_:
            return kind, (), False
    return "object", (), False


@cache
def fields_of(model: type[Settings]) -> tuple[FieldSpec, ...]:
    """The fields of a settings model in order of declaration."""
    return tuple(_field(name, info) for name, info in model.model_fields.items())


def _field(name: str, info: FieldInfo) -> FieldSpec:
    kind, choices, optional = _kind(info.annotation)
    low = high = None
    low_open = high_open = False
    shortest = longest = None
    for limit in info.metadata:
        shortest = getattr(limit, "min_length", shortest)
        longest = getattr(limit, "max_length", longest)
        if getattr(limit, "ge", None) is not None:
            low = limit.ge
        if getattr(limit, "gt", None) is not None:
            low, low_open = limit.gt, True
        if getattr(limit, "le", None) is not None:
            high = limit.le
        if getattr(limit, "lt", None) is not None:
            high, high_open = limit.lt, True
    default = info.get_default(call_default_factory=True)
    return FieldSpec(
        name,
        kind,
        default,
        meta_of(info),
        choices,
        low,
        high,
        low_open,
        high_open,
        optional,
        shortest,
        longest,
    )


def parse(model: type[Settings], values: dict[str, Any], node: str | None = None) -> Settings:
    """Validated settings; raises pydantic's ``ValidationError`` (see ``problems_in``)."""
    del node
    return model.model_validate(values)


def problems_in(
    model: type[Settings], values: dict[str, Any], node: str | None, title: str, prefix: str = ""
) -> list[Problem]:
    """One Problem per invalid or unknown field, in words that name node, field and limit."""
    try:
        model.model_validate(values)
    except ValidationError as error:
        found: dict[str, Problem] = {}
        for problem in (_problem(model, e, node, title, prefix) for e in error.errors()):
            # A field of several types (text or a list) fails once per type: report it once.
            found.setdefault(problem.field or problem.sentence, problem)
        return list(found.values())
    return []


def _problem(
    model: type[Settings], error: Any, node: str | None, title: str, prefix: str
) -> Problem:
    name = str(error["loc"][0]) if error["loc"] else ""
    info = model.model_fields.get(name)
    label = meta_of(info).label if info else name
    given = error.get("input")
    if error["type"] == "extra_forbidden":
        return Problem(
            f"{title}: there is no setting “{name}”.",
            node,
            prefix + name,
            (
                "It may come from a newer version or a missing extension; remove it to run the "
                "project."
            ),
            "unknown_setting",
        )
    if error["type"] == "value_error":
        return Problem(
            f"{title}: {error['ctx']['error']}",
            node,
            (prefix + name) or None,
            "",
            "invalid_setting",
        )
    wanted = _wanted(model, name, error)
    return Problem(
        f"{title}: {line(label)} is {short(repr(given))}, but {wanted}.",
        node,
        prefix + name,
        _hint(info),
        "invalid_setting",
    )


def _hint(info: FieldInfo | None) -> str:
    if info is None:
        return ""
    value = info.get_default()
    return (
        f"The default is {value:g}." if isinstance(value, float) else f"The default is {value!r}."
    )


def _wanted(model: type[Settings], name: str, error: Any) -> str:
    context = error.get("ctx") or {}
    kind = error["type"]
    words = {
        "greater_than_equal": ("it must be at least {}", "ge"),
        "greater_than": ("it must be more than {}", "gt"),
        "less_than_equal": ("it must be at most {}", "le"),
        "less_than": ("it must be less than {}", "lt"),
    }
    if kind in words:
        text, key = words[kind]
        return text.format(context[key])
    if kind == "literal_error" or name in model.model_fields:
        spec = _field(name, model.model_fields[name]) if name in model.model_fields else None
        if spec is not None and spec.choices:
            some = "a list of" if spec.kind == "list" else "one of"
            return f"it must be {some} {', '.join(str(c) for c in spec.choices)}"
        names = {
            "int": "an integer",
            "float": "a number",
            "bool": "true or false",
            "str": "text",
        }
        told_by_type = any(word in kind for word in ("type", "parsing", "from_float"))
        if spec is not None and spec.kind in names and told_by_type:
            return f"it must be {names[spec.kind]}"
    return str(error["msg"][0].lower() + error["msg"][1:])


def to_json_schema(model: type[Settings]) -> list[dict[str, Any]]:
    """The fields as JSON data, for ``nodes --json`` and the documentation table."""
    rows = []
    for spec in fields_of(model):
        row: dict[str, Any] = {
            "name": spec.name,
            "kind": spec.kind,
            "default": spec.default,
            "label": spec.meta.label,
            "help": spec.meta.help,
            "unit": spec.meta.unit,
            "choices": list(spec.choices),
            "minimum": spec.minimum,
            "maximum": spec.maximum,
            "variant": spec.meta.variant,
            "exclusive_minimum": spec.exclusive_minimum,
            "exclusive_maximum": spec.exclusive_maximum,
            "min_length": spec.min_length,
            "max_length": spec.max_length,
        }
        kept = {k: v for k, v in row.items() if k == "default" or not _is_empty(v)}
        rows.append(kept)
    return rows


def _is_empty(value: Any) -> bool:
    return value is None or value is False or value == "" or value == []
