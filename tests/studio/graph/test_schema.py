"""The settings schema: what a form, a Problem and the documentation make of a field."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import ValidationError

from studio.graph.schema import Settings, fields_of, parse, problems_in, setting, to_json_schema


class Sample(Settings):
    rank: int = setting(8, "Rank", "Size.", unit="dims", ge=1, le=64, log_scale=True)
    rate: float = setting(0.1, "Rate", "Speed.", gt=0.0, lt=1.0)
    on: bool = setting(True, "On", "Switch.")
    name: str = setting("x", "Name", "Text.", min_length=1, max_length=5)
    mode: Literal["a", "b"] = setting("a", "Mode", "Choice.", choice_labels={"a": "First"})
    targets: str | list[str] = setting("all", "Targets", "Names.", special={"all": "All"})
    maybe: int | None = setting(None, "Maybe", "Optional.")
    more: dict[str, Any] = setting({}, "More", "Nested.", shown_if={"mode": "a", "on": [True]})


FIELDS = {s.name: s for s in fields_of(Sample)}


def test_kinds_and_limits() -> None:
    assert {n: s.kind for n, s in FIELDS.items()} == {
        "rank": "int",
        "rate": "float",
        "on": "bool",
        "name": "str",
        "mode": "choice",
        "targets": "list",
        "maybe": "int",
        "more": "object",
    }
    rank, rate = FIELDS["rank"], FIELDS["rate"]
    assert (rank.minimum, rank.maximum, rank.exclusive_minimum) == (1, 64, False)
    assert (rate.minimum, rate.maximum) == (0.0, 1.0)
    assert rate.exclusive_minimum
    assert rate.exclusive_maximum
    assert (FIELDS["name"].min_length, FIELDS["name"].max_length) == (1, 5)
    assert FIELDS["maybe"].optional
    assert FIELDS["mode"].choices == ("a", "b")
    assert [FIELDS["mode"].choice_label(c) for c in "ab"] == ["First", "b"]
    assert FIELDS["more"].meta.shown_if == (("mode", ("a",)), ("on", (True,)))
    assert FIELDS["rank"].meta.unit == "dims"


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"rank": 0}, "Node: Rank is 0, but it must be at least 1."),
        ({"rank": 65}, "Node: Rank is 65, but it must be at most 64."),
        ({"rate": 0}, "Node: Rate is 0, but it must be more than 0.0."),
        ({"rate": 1.0}, "Node: Rate is 1.0, but it must be less than 1.0."),
        ({"rank": "many"}, "Node: Rank is 'many', but it must be an integer."),
        ({"rank": 1.5}, "Node: Rank is 1.5, but it must be an integer."),
        ({"rate": "fast"}, "Node: Rate is 'fast', but it must be a number."),
        ({"on": "maybe"}, "Node: On is 'maybe', but it must be true or false."),
        ({"name": 7}, "Node: Name is 7, but it must be text."),
        ({"mode": "c"}, "Node: Mode is 'c', but it must be one of a, b."),
        ({"fresh": 1}, "Node: there is no setting “fresh”."),
    ],
)
def test_problems_name_field_value_and_limit(values: dict, sentence: str) -> None:
    (problem,) = problems_in(Sample, values, "n", "Node")
    assert problem.sentence == sentence
    assert (problem.node, problem.field, problem.blocks) == ("n", next(iter(values)), True)


def test_every_wrong_field_is_told_once() -> None:
    problems = problems_in(
        Sample, {"rank": 0, "mode": "c", "rate": 2}, "n", "Node", "method_settings."
    )
    assert [p.field for p in problems] == [f"method_settings.{n}" for n in ("rank", "rate", "mode")]
    assert problems_in(Sample, {}, "n", "Node") == []


class Several(Settings):
    modules: str | list[str] = setting("all", "Modules", "Which.")
    stride: int = setting(1, "Stride", "How far.", ge=1)
    listen: bool = setting(False, "Listen", "Whether.")


def test_a_field_of_several_kinds_is_told_once_and_names_may_look_like_kinds() -> None:
    problems = problems_in(Several, {"modules": 5, "stride": 0, "listen": "x"}, "n", "Node")
    assert [p.field for p in problems] == ["modules", "stride", "listen"]
    assert problems[1].sentence == "Node: Stride is 0, but it must be at least 1."


def test_the_schema_as_json() -> None:
    rows = {r["name"]: r for r in to_json_schema(Sample)}
    assert rows["rank"] == {
        "name": "rank",
        "kind": "int",
        "default": 8,
        "label": "Rank",
        "help": "Size.",
        "unit": "dims",
        "minimum": 1,
        "maximum": 64,
    }
    assert rows["maybe"]["default"] is None
    assert rows["name"]["max_length"] == 5


def test_settings_are_frozen_and_parsed() -> None:
    parsed = parse(Sample, {"rank": 9})
    assert parsed.model_dump()["rank"] == 9
    with pytest.raises(ValidationError):
        parsed.rank = 3  # type: ignore[attr-defined]
