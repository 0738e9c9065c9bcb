"""Chat templates of well-known families, to choose from where a model has none or the wrong one.

Each is a ``.jinja`` file beside this one, written after the family's published token format; it takes
the variables that transformers gives to chat templates. What is different from the tokenizer files of
a family is said in ``looks``. Nothing here may import torch; transformers only in the helper process.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from studio.chat_templates.process import PLAIN, HelperEnded

_FOLDER = Path(__file__).parent
LARGEST_SOURCE = 2_000_000


@dataclass(frozen=True)
class TemplateInfo:
    """A template of the library. ``looks`` shows what it writes, ``tokens`` are the special tokens
    that it needs beside BOS and the end token, ``tools`` whether it has a place for tools."""

    id: str
    title: str
    looks: str
    tokens: tuple[str, ...] = ()
    tools: bool = False

    @property
    def source(self) -> str:
        """The template itself."""
        return _source(self.id)


@lru_cache(maxsize=64)
def _source(name: str) -> str:
    return (_FOLDER / f"{name}.jinja").read_text(encoding="utf-8").strip()


_TURN = ("<|im_start|>", "<|im_end|>")
_LIBRARY = (
    TemplateInfo("chatml", "ChatML", "<|im_start|>user ⏎ … <|im_end|>", _TURN),
    TemplateInfo(
        "llama-3",
        "Llama 3",
        "<|start_header_id|>user<|end_header_id|> ⏎⏎ … <|eot_id|>",
        ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    ),
    TemplateInfo("llama-2", "Llama 2", "<s>[INST] … [/INST] … </s>"),
    TemplateInfo(
        "mistral",
        "Mistral (v0.3)",
        "<s>[INST] …[/INST] …</s>; the system message is part of the first question",
        ("[INST]", "[/INST]"),
    ),
    TemplateInfo(
        "mistral-tekken",
        "Mistral (Tekken)",
        "<s>[SYSTEM_PROMPT]…[/SYSTEM_PROMPT][INST]…[/INST]…</s>",
        ("[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"),
        tools=True,
    ),
    TemplateInfo(
        "gemma",
        "Gemma",
        "<bos><start_of_turn>user ⏎ …<end_of_turn>; the system message is part of the first "
        "question",
        ("<start_of_turn>", "<end_of_turn>"),
    ),
    TemplateInfo(
        "phi-3",
        "Phi-3",
        "<|user|> ⏎ …<|end|>; without an end-of-text token at the end",
        ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
    ),
    TemplateInfo("phi-4", "Phi-4", "<|im_start|>user<|im_sep|>…<|im_end|>", (*_TURN, "<|im_sep|>")),
    TemplateInfo(
        "qwen-2.5",
        "Qwen 2.5",
        "ChatML with a default system message and tools",
        _TURN,
        tools=True,
    ),
    TemplateInfo(
        "qwen-3",
        "Qwen 3",
        "ChatML with reasoning in <think> before the last answer, and tools",
        (*_TURN, "<think>", "</think>"),
        tools=True,
    ),
    TemplateInfo(
        "deepseek-r1",
        "DeepSeek R1",
        "DeepSeek with thoughts in <think> before the last answer; it asks with <think>",
        ("<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>", "<think>", "</think>"),
    ),
    TemplateInfo(
        "deepseek",
        "DeepSeek",
        "<｜User｜>…<｜Assistant｜>…<｜end▁of▁sentence｜>",
        ("<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>"),
    ),
    TemplateInfo("zephyr", "Zephyr", "<|user|> ⏎ …</s>"),
    TemplateInfo("alpaca", "Alpaca", "### Instruction: ⏎ … ⏎⏎ ### Response: ⏎ …</s>"),
    TemplateInfo("vicuna", "Vicuna", "USER: … ASSISTANT: …</s>"),
    TemplateInfo("plain", "Plain roles", "user: … ⏎ assistant: …</s>"),
)


def library() -> tuple[TemplateInfo, ...]:
    """All templates, in the order in which they are shown."""
    return _LIBRARY


def template(name: str) -> TemplateInfo:
    """The template of this id; raises ``KeyError``."""
    return {t.id: t for t in _LIBRARY}[name]


_RESERVED = (
    "messages",
    "conversation",
    "conversations",
    "tools",
    "chat_template",
    "add_generation_prompt",
    "continue_final_message",
    "return_assistant_tokens_mask",
    "tokenize",
)


def template_kwargs(given: Any) -> dict[str, Any]:
    """Further variables of a chat template from a JSON object, or JSON text of one; empty for nothing.
    Raises ``ValueError`` with what is wrong, as the end of a sentence."""
    if isinstance(given, str) and given.strip():
        try:
            given = json.loads(given)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"are not valid JSON ({error})") from error
    if given is None or given == "" or (isinstance(given, str) and not given.strip()):
        return {}
    if not isinstance(given, Mapping):
        raise ValueError('are not a JSON object such as {"enable_thinking": false}')
    for name in given:
        if name in _RESERVED:
            raise ValueError(f"contain “{name}”, which the program sets itself")
        if not str(name).isidentifier():
            raise ValueError(f"contain “{name}”, which cannot be the name of a variable")
    return dict(given)


def with_defaults(source: str, values: Mapping[str, Any]) -> str:
    """The chat template with values for variables that it is not given; whoever renders it, does so
    with them."""
    lines = "".join(
        f"{{%- if {name} is not defined %}}{{%- set {name} = {_literal(value)} %}}{{%- endif %}}"
        for name, value in values.items()
    )
    return f"{lines}{{{{- '' }}}}{source}" if lines else source


def _literal(value: Any) -> str:
    """A JSON value as Jinja writes it."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        pairs = (f"{_literal(str(k))}: {_literal(v)}" for k, v in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_literal, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def mistake_in(source: str) -> str:
    """What is wrong with the writing of a chat template, with its line; empty when nothing is.
    Nothing is rendered."""
    from jinja2 import TemplateSyntaxError

    if len(source) > LARGEST_SOURCE:
        return f"has more than {LARGEST_SOURCE:,} characters"
    try:
        _parsed(source)
    except TemplateSyntaxError as error:
        return f"has a syntax error in line {error.lineno}: {error.message}".rstrip(".")
    except RecursionError:
        return "is nested too deeply"
    except ValueError as error:  # a number with too many digits
        return f"cannot be read: {error}"
    return ""


_NAMES_S = 2.0


@lru_cache(maxsize=64)
def names_in(source: str) -> frozenset[str] | None:
    """The variables that a template reads; ``None`` if it cannot be parsed, in time."""
    if len(source) > LARGEST_SOURCE:
        return None
    try:
        reply = PLAIN.exchange(json.dumps({"names": source, "seconds": _NAMES_S}))
    except HelperEnded:
        return None
    return None if reply["names"] is None else frozenset(reply["names"])


def _parsed(source: str) -> Any:
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):  # type: ignore[misc]
        tags = {"generation"}

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    return ImmutableSandboxedEnvironment(extensions=[Generation, loopcontrols]).parse(source)
