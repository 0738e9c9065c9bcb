"""Chat templates that do not end or need too much memory are refused with a sentence that names the row; what
others write is what transformers makes of them."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from studio.chat_templates import chats as module
from studio.chat_templates import library
from studio.errors import StudioError
from studio.training.data.by_number import Item
from studio.training.report.row_facts import facts_of
from studio.training.tokens.chat import TemplateRefused, render, render_many
from studio.training.tokens.chat_choice import SAMPLE_TOOLS, with_template
from studio.training.tokens.encoder import Encoder
from studio.training.tokens.spans import Conversation, render_ahead
from tests.studio.training.test_data import MARKED, messages, tokenized
from tests.studio.training.test_data import with_template as own_template
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
    yield
    module._ended.clear()


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
        ("{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}", "recursion"),
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
