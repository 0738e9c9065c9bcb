"""Which messages are trained: answers, weights, and the greeting that answers nobody."""

from __future__ import annotations

from typing import Any

import pytest

from studio.training.tokens.masks import render_row, targets_of

TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}.{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


class _Tokenizer:
    """Renders like transformers; no token is needed here."""

    chat_template = TEMPLATE
    special_tokens_map: dict[str, str] = {}
    added_tokens_decoder: dict[int, Any] = {}
    all_special_tokens: tuple[str, ...] = ()

    def apply_chat_template(
        self, messages: Any, *, tools: Any, tokenize: bool, add_generation_prompt: bool
    ) -> str:
        from transformers.utils.chat_template_utils import render_jinja_template

        (text,), _ = render_jinja_template(
            conversations=[messages],
            tools=tools,
            chat_template=self.chat_template,
            add_generation_prompt=add_generation_prompt,
        )
        return str(text)


def conversation(said: str) -> list[dict[str, Any]]:
    """One message per word: its first letter is the role."""
    roles = {"s": "system", "u": "user", "a": "assistant"}
    return [{"role": roles[word[0]], "content": word, "weight": None} for word in said.split()]


def trained(said: str, train_on: str = "answers") -> list[str]:
    """What is trained of a conversation."""
    (row,) = render_row(_Tokenizer(), {"messages": conversation(said)}, train_on)
    return [row.text[start:end] for start, end in row.spans]


@pytest.mark.parametrize(
    ("said", "answers"),
    [
        ("a-hello u-one a-two", ["a-two."]),
        ("s-rules a-hello u-one a-two u-three a-four", ["a-two.", "a-four."]),
        ("a-hello a-again u-one a-two", ["a-again.", "a-two."]),
        ("u-one a-two", ["a-two."]),
        ("s-rules a-hello", []),
    ],
)
def test_a_greeting_before_any_question_is_context(said: str, answers: list[str]) -> None:
    assert trained(said) == answers


def test_the_last_answer_alone() -> None:
    assert trained("a-hello u-one a-two u-three a-four", "last_answer") == ["a-four."]


def test_a_weight_trains_a_greeting_and_zero_leaves_an_answer_out() -> None:
    messages = conversation("a-hello u-one a-two")
    found = targets_of(messages, [1.0, None, 0.0], "weights")
    assert [(t.index, t.weight) for t in found] == [(0, 1.0)]
    assert [t.index for t in targets_of(messages, [None, None, 0.0], "answers")] == []
