"""Custom templates: what they make, what they may not do, and that nothing in them lasts for ever."""

from __future__ import annotations

import re
from typing import Any

import pytest

from studio.chat_templates import render
from studio.data.row_format import RowError
from studio.graph.registry import load_registry
from studio.graph.schema import problems_in

CUSTOM = load_registry().variants["format"]["custom"]
LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


def converted(row: dict[str, Any], **settings: Any) -> dict[str, Any]:
    found: dict[str, Any] = CUSTOM.payload.convert(row, CUSTOM.settings(**settings))
    return found


def as_text(template: str, **row: Any) -> str:
    """One row through a text template."""
    return str(converted(row, shape="text", text_template=template)["text"])


def test_three_templates_make_a_conversation() -> None:
    row = {"title": "Oslo", "body": "A city.", "lang": "en"}
    templates = {
        "system_template": "{% if lang == 'en' %}Answer in English.{% endif %}",
        "user_template": "What is {{ title }}?",
        "assistant_template": "{{ body | trim }}",
    }
    asked = [
        {"role": "user", "content": "What is Oslo?"},
        {"role": "assistant", "content": "A city."},
    ]
    system = {"role": "system", "content": "Answer in English."}
    assert converted(row, **templates) == {"messages": [system, *asked]}
    assert converted({**row, "lang": "no"}, **templates) == {"messages": asked}


def test_one_template_makes_a_text_and_keeps_its_line_ends() -> None:
    template = "{{ a }}:\n{% for x in many %}- {{ x.name }}\n{% endfor %}"
    many = [{"name": "é"}, {"name": "中"}]
    assert as_text(template, a="List", many=many) == "List:\n- é\n- 中\n"


def test_columns_with_spaces_numbers_and_null() -> None:
    assert as_text(
        "{{ row['long name'] }}/{{ n }}/{{ x }}", **{"long name": "a", "n": 3, "x": None}
    ) == ("a/3/")
    assert (
        as_text("{{ gone | default('nobody') }}{% if gone is defined %}!{% endif %}", a=1)
        == "nobody"
    )


def test_a_missing_column_is_named_with_those_that_are_there() -> None:
    with pytest.raises(RowError, match="no column “titel”") as caught:
        converted({"title": "a", "body": "b"}, user_template="{{ titel }}", assistant_template="x")
    assert "question template" in caught.value.what
    assert "title, body" in caught.value.what
    assert caught.value.code == "missing_column"


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ title }", "line 1"),
        ("a\nb {% if x %}\nc", "if"),
        ("\n\n{% endfor %}", "line 3"),
        ("a\n{{ title | shout }}", "line 2: there is no filter “shout”"),
        ("{% include 'secrets' %}", "line 1"),
        ("{" * 3 + "(" * 5000, "nested"),
    ],
)
def test_a_template_with_a_mistake_is_a_problem_of_its_field(template: str, words: str) -> None:
    values = {"shape": "text", "text_template": template}
    (problem,) = problems_in(CUSTOM.settings, values, "data", CUSTOM.title, "format_settings.")
    assert problem.field == "format_settings.text_template"
    assert words in problem.sentence
    assert problem.sentence.endswith(".")


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (LOOP, "was stopped after 2 seconds"),
        (
            "{{ range(99999)|map('string')|join|length|string + lipsum(n=10**7) }}",
            "was stopped after",
        ),
        ("{% for a in range(99999) %}{{ 'x' * 5000 }}{% endfor %}", "more than 1,000,000"),
        ("{{ 'x' * 10**10 }}", "repeats a sequence too often"),
        ("{{ 2**(10**9) }}", "power that is too large"),
        ("{{ 'x' | center(99999999999) }}", "too much memory"),
        ("{{ '%99999999999d' | format(1) }}", "too much memory"),
        (
            "{% set n = namespace(s='xxxxxxxx') %}{% for i in range(90) %}{% set n.s = n.s ~ n.s %}"
            "{% endfor %}{{ n.s }}",
            "too much memory|was stopped",
        ),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "calls itself"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ row.update({'a': 1}) }}", "unsafe"),
        ("{{ self._TemplateReference__context }}", "unsafe"),
        ("{{ 1 // 0 }}", "by zero"),
        ("{{ a.b.c }}", "no attribute"),
    ],
)
def test_a_template_that_does_too_much_ends_with_one_sentence(template: str, words: str) -> None:
    with pytest.raises(RowError) as caught:
        as_text(template, a="x")
    assert re.search(words, caught.value.what)
    assert "\n" not in caught.value.what
    assert caught.value.hint
    assert as_text("{{ a }}", a="still here") == "still here"


def test_what_was_ended_is_not_waited_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A form that is drawn again, or a file whose every row loops, must not cost 2 s each time."""
    looping = LOOP + "{{ a }}"
    with pytest.raises(RowError, match="stopped"):
        as_text(looping, a="again")
    monkeypatch.setattr(render.PLAIN, "exchange", lambda request: pytest.fail(request))
    with pytest.raises(RowError, match="stopped"):
        as_text(looping, a="again")


def test_a_row_with_odd_values_reaches_the_template() -> None:
    from datetime import date
    from decimal import Decimal

    row = {"day": date(2024, 1, 2), "price": Decimal("1.50"), "nul": "a\x00b", "half": "\ud800"}
    assert as_text("{{ day }} {{ price }} {{ nul }}", **row) == "2024-01-02 1.50 a\x00b"
    with pytest.raises(RowError, match="surrogate"):
        as_text("{{ half }}", **row)


def test_an_empty_answer_is_refused() -> None:
    with pytest.raises(RowError, match="renders to an empty text with the answer template"):
        converted({"a": " "}, user_template="hi", assistant_template="{{ a }}")
