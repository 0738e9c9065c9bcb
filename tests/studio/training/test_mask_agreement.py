"""The masks of others on the same rows: transformers' assistant mask, and TRL's templates for it.

Where a template marks its answers with ``{% generation %}``, transformers masks by these marks. The
studio proves the same places in another way, so both must agree to the token; where they do not, the
marks take in what the generation prompt already gives, which the model is never asked to write.
"""

from __future__ import annotations

import copy
import importlib.util
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from studio.training.tokens.chat import TemplateRefused, render
from studio.training.tokens.encoder import Encoder
from studio.training.tokens.masks import render_row
from tests.studio.training.test_data import word_tokenizer

START = "{% for m in messages %}{% if m.role == 'assistant' %}"
END = "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ ASK }}{% endif %}"
CALLS = (
    "{% for c in m.tool_calls or [] %}{{ '<call>' + c.function.name + (c.function.arguments | tojson) }}"
    "{% endfor %}"
)


def marked(ask: str, said: str, other: str, first: str = "") -> str:
    """A template that marks what it writes after ``ask`` as the answer."""
    answer = "{{ ASK }}{% generation %}" + said + "{% endgeneration %}{% else %}"
    return (first + START + answer + other + END).replace("ASK", repr(ask))


CHATML = "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
TEMPLATES = {
    "chatml": marked(
        "<|im_start|>assistant\n", "{{ m.content }}" + CALLS + "{{ '<|im_end|>\n' }}", CHATML
    ),
    "llama 3": marked(
        "<|h|>assistant<|/h|>\n\n",
        "{{ m.content | trim }}" + CALLS + "<|eot|>",
        "{{ '<|h|>' + m.role + '<|/h|>\n\n' + m.content | trim + '<|eot|>' }}",
        "{{ bos_token }}",
    ),
    "gemma": marked(
        "<turn>model\n",
        "{{ m.content | trim }}" + CALLS + "{{ '</turn>\n' }}",
        "{{ '<turn>' + m.role + '\n' + m.content | trim + '</turn>\n' }}",
        "{{ bos_token }}",
    ),
    "mistral": marked(
        "",
        "{{ ' ' + m.content }}" + CALLS + "{{ eos_token }}",
        "{{ '[INST] ' + m.content + '[/INST]' }}",
    ),
    "smollm 3": marked(
        "<|im_start|>assistant\n",
        "{{ '<think>\n\n</think>\n' + m.content }}" + CALLS + "{{ '<|im_end|>\n' }}",
        CHATML,
        "{{ '<|im_start|>system\n## Metadata\n<|im_end|>\n' }}",
    ),
}


def said(role: str, content: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


CALL = [{"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}]
CHATS = {
    "single": [said("user", "Two and two?"), said("assistant", "It is 4.")],
    "multi": [
        said("user", " the question "),
        said("assistant", " ü, an answer"),
        said("user", "and?"),
        said("assistant", "No - why?"),
        said("user", "x"),
        said("assistant", "the end of it"),
    ],
    "system": [said("system", "Be brief."), said("user", "Hello"), said("assistant", "Hi.")],
    "open": [said("user", "Hello"), said("assistant", "Hi."), said("user", "And?")],
    "tools": [
        said("user", "add"),
        said("assistant", "", tool_calls=CALL),
        said("tool", "7"),
        said("assistant", "it is 7"),
    ],
}
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]


def tokenizer_with(template: str) -> Any:
    tokenizer = copy.copy(word_tokenizer())  # it is shared by the tests of a process
    tokenizer.chat_template = template
    return tokenizer


def theirs(tokenizer: Any, chat: list[dict[str, Any]], tools: Any) -> list[int]:
    """transformers' labels; -100 where its assistant mask is 0."""
    found = tokenizer.apply_chat_template(
        chat, tools=tools, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    pairs = zip(found["input_ids"], found["assistant_masks"], strict=True)
    return [i if trained else -100 for i, trained in pairs]


def ours(tokenizer: Any, chat: list[dict[str, Any]], tools: Any) -> list[list[int]]:
    row = {"messages": chat, "tools": json.dumps(tools) if tools else None}
    encoder = Encoder(tokenizer, 10_000, end_token="never")
    return [r.labels for r in encoder.encode(render_row(tokenizer, row))]


@pytest.mark.parametrize("chat", CHATS)
@pytest.mark.parametrize("name", TEMPLATES)
def test_transformers_masks_the_same_tokens(name: str, chat: str) -> None:
    tokenizer = tokenizer_with(TEMPLATES[name])
    tools = TOOLS if chat == "tools" else None
    wanted = theirs(tokenizer, CHATS[chat], tools)
    assert any(v != -100 for v in wanted)
    assert ours(tokenizer, CHATS[chat], tools) == [wanted]


# ------------------------------------------------------------------ TRL, where it is installed


@lru_cache(maxsize=1)
def trl_templates() -> dict[str, str]:
    """The templates with marks that TRL trains with; it is read, not imported."""
    found = importlib.util.find_spec("trl")
    if found is None or found.origin is None:
        return {}
    files = (Path(found.origin).parent / "chat_templates").glob("*_training.jinja")
    return {f.stem: f.read_text(encoding="utf-8") for f in sorted(files)}


def runs(labels: list[int]) -> list[list[int]]:
    """The runs of trained tokens."""
    found: list[list[int]] = [[]]
    for label in labels:
        if label != -100:
            found[-1].append(label)
        elif found[-1]:
            found.append([])
    return [f for f in found if f]


@pytest.mark.skipif(not trl_templates(), reason="TRL is not installed")
@pytest.mark.parametrize("chat", CHATS)
@pytest.mark.parametrize("name", trl_templates() or ["none"])
def test_trl_trains_the_same_or_more_of_the_header(name: str, chat: str) -> None:
    """Every answer that is trained here ends one that TRL trains; what TRL has before it is a part of
    the generation prompt. Templates that need other contents refuse both."""
    tokenizer = tokenizer_with(trl_templates()[name])
    tools = TOOLS if chat == "tools" else None
    if name.startswith("diffusion_gemma") and chat == "tools":
        pytest.skip("asks for the answer to a tool without the header that it writes before it")
    try:
        rows = ours(tokenizer, CHATS[chat], tools)
    except TemplateRefused:
        return
    wanted = runs(theirs(tokenizer, CHATS[chat], tools))
    if len(rows) > 1:
        assert len(rows) == len(wanted), "one row per answer: the end of the whole differs"
        return
    got = runs(rows[0])
    assert len(got) == len(wanted)
    answers = [i for i, m in enumerate(CHATS[chat]) if m["role"] == "assistant"]
    asked = [render(tokenizer, CHATS[chat][:i], ask=True, tools=tools) for i in answers]
    for mine, other in zip(got, wanted, strict=True):
        assert other[len(other) - len(mine) :] == mine
        assert any(tokenizer.decode(other[: len(other) - len(mine)]) in text for text in asked)
