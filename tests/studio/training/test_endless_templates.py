"""Chat templates that do not end or need too much memory are refused with a sentence that names the row; what
others write is what transformers makes of them."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from studio.chat_templates import chats as module
from studio.chat_templates import library, mistake_in, names_in, process
from studio.chat_templates.render import TemplateFailed
from studio.chat_templates.render import render as render_rows
from studio.errors import StudioError
from studio.training.data.by_number import Item
from studio.training.report.row_facts import facts_of
from studio.training.tokens.chat import TemplateRefused, answer_start, render, render_many
from studio.training.tokens.chat_choice import SAMPLE_TOOLS, with_template
from studio.training.tokens.encoder import Encoder
from studio.training.tokens.spans import Conversation, render_ahead
from tests.studio.training.test_data import MARKED, messages, tokenized
from tests.studio.training.test_data import with_template as own_template
from tests.timing import WAIT_S
from tests.tiny import make_tiny_tokenizer

LOOPS = "{% for m in messages %}{% if 'again' in m['content'] %}{% for a in range(99999) %}" + (
    "{% for b in range(99999) %}{% endfor %}{% endfor %}{% endif %}{% endfor %}"
)
GROWS = (
    "{% set all = namespace(text='a') %}{% for n in range(60) %}"
    "{% set all.text = all.text ~ all.text %}{% endfor %}"
)
SQUARES = (
    "{% set all = namespace(number=7) %}{% for n in range(60) %}"
    "{% set all.number = all.number * all.number %}{% endfor %}"
)
CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 2, "b": [None, 0.5]}}}
TALK: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief. \n"},
    {"role": "user", "content": "Grüße <|im_end|> 你好 😀"},
    {"role": "assistant", "content": "<think>\nso\n</think>\n\nHi.", "reasoning": "why"},
    {"role": "user", "content": " 2 + 2? "},
    {"role": "assistant", "content": "", "tool_calls": [CALL], "name": None},
    {"role": "tool", "content": "4", "name": "add"},
    {"role": "assistant", "content": "4"},
]


@pytest.fixture(autouse=True)
def less_patience(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(module, "SECONDS", 1.0)
    module._ended.clear()
    module._wasted.clear()
    yield
    module._ended.clear()
    module._wasted.clear()


def rows(*said: str) -> list[dict[str, Any]]:
    return [{"messages": messages(f"u:{text}", "a:b")} for text in said]


@pytest.mark.parametrize("choice", ["model", "custom"])
def test_a_template_that_loops_on_a_row_is_ended_and_the_row_is_named(
    choice: str, tmp_path: Path
) -> None:
    tokenizer = make_tiny_tokenizer()
    looping = LOOPS + tokenizer.chat_template
    if choice == "model":
        tokenizer = own_template(looping)
    settings = {"chat_template": choice, "custom_template": looping}
    chosen = with_template(tokenizer, settings)  # plain conversations do not loop
    with pytest.raises(StudioError) as caught:
        tokenized(tmp_path, rows("a", "b", "say it again", "c"), chosen)
    assert "rows.jsonl, line 3: it does not terminate" in caught.value.sentence
    assert caught.value.line == 3


def test_a_report_goes_on_behind_such_rows() -> None:
    encoder = Encoder(own_template(LOOPS + make_tiny_tokenizer().chat_template), 99)
    stored = [
        {**r, "line": n, "source": "rows.jsonl"}
        for n, r in enumerate(rows("b", *["again"] * 4, "a"), 1)
    ]
    items = [Item(n, "train", "rows.jsonl", n, row) for n, row in enumerate(stored, 1)]
    found = [f for f in facts_of("Train", encoder, items) if f is not None]
    assert ["refused_row" in f.marks for f in found] == [False, *[True] * 4, False]
    assert "does not terminate" in found[1].marks["refused_row"]


def test_a_template_that_was_often_ended_has_less_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS", 5.0)
    template = module.ChatTemplate("{{ messages }}", {})
    assert template.time_limit == 5
    module._ended["{{ messages }}"] = 3
    assert template.time_limit == 1


def test_a_template_that_fails_in_any_way_names_the_row(tmp_path: Path) -> None:
    source = (
        "{% for m in messages %}{% if 1 // (m['content'] | length - 3) %}{% endif %}{% endfor %}"
    )
    with pytest.raises(StudioError, match=r"rows.jsonl, line 2: .*zero") as caught:
        tokenized(
            tmp_path, rows("ab", "abc"), own_template(source + make_tiny_tokenizer().chat_template)
        )
    assert caught.value.line == 2


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{ (10**7)**(10**7) }}", "power that is too large"),
        ("{{ 'a' * 10**11 }}", "repeats a sequence too often"),
        pytest.param(
            GROWS,
            "too much memory|does not terminate",  # whichever limit a machine reaches first
            marks=pytest.mark.skipif(sys.platform != "linux", reason="memory is not limited"),
        ),
        (SQUARES, "does not terminate"),
        ("{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}", "calls itself without end"),
        ("{{ raise_exception('Only one role.') }}", "Only one role."),
    ],
)
def test_no_operation_of_a_template_takes_the_time_or_the_memory(source: str, reason: str) -> None:
    tokenizer = own_template(source)
    with pytest.raises(TemplateRefused, match=reason):
        render(tokenizer, messages("u:a"))
    tokenizer.chat_template = MARKED
    assert render(tokenizer, messages("u:a"))  # the next template works


@pytest.mark.parametrize("name", ["own", "marked", *(t.id for t in library())])
@pytest.mark.parametrize("tools", [None, SAMPLE_TOOLS], ids=["plain", "tools"])
def test_every_text_is_the_one_of_transformers(name: str, tools: Any) -> None:
    tokenizer = make_tiny_tokenizer()
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    if name == "marked":
        tokenizer.chat_template = MARKED
    elif name != "own":
        tokenizer = with_template(tokenizer, {"chat_template": name})
    wanted = [(n, ask) for n in range(len(TALK), 0, -1) for ask in (False, True)]
    ((*found,),) = render_many(tokenizer, [module.Chat(TALK, tools, wanted)])
    for (count, ask), text in zip(wanted, found, strict=True):
        if isinstance(text, TemplateRefused):
            with pytest.raises(Exception, match=re.escape(str(text))):
                written(tokenizer, TALK[:count], tools, ask)
        else:
            assert text == written(tokenizer, TALK[:count], tools, ask)


def written(tokenizer: Any, talk: list[dict[str, Any]], tools: Any, ask: bool) -> str:
    return str(
        tokenizer.apply_chat_template(talk, tools=tools, tokenize=False, add_generation_prompt=ask)
    )


def test_rows_share_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = []
    exchange = module._helper.exchange
    monkeypatch.setattr(module._helper, "exchange", lambda r: [requests.append(r), exchange(r)][1])
    tokenized(tmp_path, rows(*"abcdefghij" * 10), make_tiny_tokenizer())
    assert len(requests) < 10


def test_a_conversation_too_long_to_be_rendered_ahead_is_rendered_when_asked() -> None:
    tokenizer = make_tiny_tokenizer()
    talk = Conversation(tokenizer, messages("u:" + "a" * 100_000, "a:b"))
    render_ahead([(talk, [(2, False)] * 1000)])
    assert not talk.ahead
    assert talk.text().endswith("b<|im_end|>\n")


def test_a_tokenizer_with_rendering_of_its_own_is_asked_for_it() -> None:
    class Own(PreTrainedTokenizerFast):  # type: ignore[misc]
        def apply_chat_template(self, conversation: Any, **options: Any) -> Any:
            if len(conversation) > 1:
                raise KeyError
            return f"{conversation[0]['content']} {options['add_generation_prompt']}"

    tokenizer = Own(tokenizer_object=make_tiny_tokenizer().backend_tokenizer)
    assert render(tokenizer, messages("u:a"), ask=True) == "a True"
    with pytest.raises(TemplateRefused, match="KeyError"):
        render(tokenizer, messages("u:a", "a:b"))


def test_of_several_templates_the_one_for_tools_is_taken() -> None:
    tokenizer = own_template(None)
    tokenizer.chat_template = {"default": "no tools", "tool_use": "with tools"}
    found = render_many(
        tokenizer,
        [module.Chat(messages("u:a"), t, [(1, False)]) for t in (None, SAMPLE_TOOLS)],
    )
    assert found == [["no tools"], ["with tools"]]


HOSTILE = {
    "range": "{% for i in range(10**9) %}{% endfor %}",
    "center": "{{ 'a' | center(1000000000) }}",
    "indent": "{{ 'a\nb' | indent(1000000000) }}",
    "format filter": "{{ '%0999999999d' | format(1) }}",
    "format method": "{{ '{:{w}}'.format(1, w=999999999) }}",
    "lipsum": "{{ lipsum(n=100000000) }}",
    "constant": "{{ [1] | slice(1000000000) | list | length }}",  # computed when it is compiled
    "caller": "{% macro a() %}{{ caller() }}{{ caller() }}{% endmacro %}"
    + "{% call a() %}" * 18
    + "{{ range(99999) | join }}"
    + "{% endcall %}" * 18,
    "two macros": "{% macro a(n) %}{{ b(n) }}{% endmacro %}{% macro b(n) %}{{ a(n) }}{% endmacro %}{{ a(0) }}",
    "parentheses": "{{ " + "(" * 50000 + "1" + ")" * 50000 + " }}",
    "ifs": "{% if messages %}" * 400 + "x" + "{% endif %}" * 400,
    "fors": "{% for m in messages %}" * 60 + "x" + "{% endfor %}" * 60,
    "terms": "{{ " + "+".join(["a"] * 100_000) + " }}",
    "chain": "{{ a" + ".b" * 50000 + " }}",
    "digits": "{{ " + "9" * 5000 + " }}",
    "tojson": "{{ messages | tojson(indent=999999999) }}",
    "recursive loop": "{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    "long": "{# a #}" * 400_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_every_hostile_template_is_refused_in_time(name: str) -> None:
    source = HOSTILE[name]
    names_in(source)  # nothing of a template is computed in this process
    mistake_in(source)
    ((outcome,),) = render_many(
        own_template(source), [module.Chat(messages("u:a"), None, [(1, False)])]
    )
    assert isinstance(outcome, TemplateRefused)
    assert "exited" not in str(outcome)
    with pytest.raises(TemplateFailed):
        render_rows([source], {"messages": [1]}, 1.0)
    assert render_rows(["{{ a }}"], {"a": 1}) == ["1"]


def test_a_slow_template_is_not_tried_for_each_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.3)
    slow = "{% for a in range(9999) %}{% for b in range(999) %}{% endfor %}{% endfor %}"
    tokenizer = own_template(slow + make_tiny_tokenizer().chat_template)
    chat = module.Chat(messages("u:a"), None, [(1, False)])
    *_, last = (found[0] for found in render_many(tokenizer, [chat] * 20))
    assert isinstance(last, TemplateRefused)
    assert str(last) == "it takes too long"
    requests: list[str] = []
    monkeypatch.setattr(module._helper, "exchange", requests.append)
    assert [type(t) for t in render_many(tokenizer, [chat])[0]] == [TemplateRefused]
    assert not requests


def test_where_the_system_bounds_no_memory_the_process_is_watched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(process, "WATCHED", True)
    monkeypatch.setattr(process, "MOST_BYTES", 60 << 20)
    helper = process.HelperProcess()
    grows = "{% set n = namespace(t=[]) %}{% for i in range(99999) %}{% set n.t = [n.t, 'a' * 9999 ~ i] %}{% endfor %}"
    asked = {"row": {}, "sources": [grows], "seconds": WAIT_S, "largest": 100}
    with pytest.raises(process.HelperEnded, match="too much memory"):
        helper.exchange(json.dumps(asked))
    assert helper.exchange(json.dumps({**asked, "sources": ["a"]}))["texts"] == ["a"]
    helper.close()


def test_memory_that_earlier_templates_keep_is_not_charged_to_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    helper = process.HelperProcess()
    replies = [{"texts": ["a"]}, {"error": "", "memory": True}, {"texts": ["b"]}]
    monkeypatch.setattr(helper, "_exchanged", lambda r: [replies.pop(0), helper.count()][0])
    monkeypatch.setattr(helper, "count", lambda: setattr(helper, "_replies", 1), raising=False)
    assert [helper.exchange("{}") for _ in range(2)] == [{"texts": ["a"]}, {"texts": ["b"]}]


def test_several_templates_by_name_are_tried_before_the_rows() -> None:
    tokenizer = own_template(None)
    tokenizer.chat_template = {"default": LOOPS.replace("'again'", "''"), "tool_use": "a"}
    with pytest.raises(StudioError, match="does not terminate"):
        with_template(tokenizer, {"chat_template": "model"})


@pytest.mark.parametrize("source", ["{{ (10**7)**(10**7) }}", LOOPS.replace("'again'", "''")])
def test_the_start_of_an_answer_is_not_looked_for_without_end(source: str) -> None:
    assert answer_start(own_template(source)) == ""
    assert answer_start(make_tiny_tokenizer()) == "<|im_start|>assistant\n"
