"""Tokenizer and chat template: how messages become the text that the model sees.

Why: training, evaluation and export must render a conversation in exactly one way. A model without
a chat template gets a plain one, and that one travels with everything that is saved, so that the
tuned model is asked as it was taught. Nothing here may guess from rendered text where a turn ends.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from studio.chat_templates import template
from studio.chat_templates.chats import Chat, ChatTemplate, render_chats
from studio.chat_templates.render import TemplateFailed
from studio.data.canonical import as_template_messages
from studio.data.tool_calls import WRITTEN
from studio.errors import StudioError
from studio.model.damaged import reading
from studio.model.trust import may_run_code
from studio.system.memory import out_of_memory_in

Message = Mapping[str, Any]

_PLAIN = template("plain").source
"""``role: content`` on a line of its own; an answer ends with the end-of-text token."""


class TemplateRefused(Exception):
    """The chat template rejects these messages; the text is its reason. ``slow``: it was ended."""

    def __init__(self, why: str, *, slow: bool = False) -> None:
        super().__init__(why)
        self.slow = slow


_take_text: set[str] = set()
"""Templates that were found to take the arguments of tool calls as text."""


def load_tokenizer(path: str | Path) -> Any:
    """The tokenizer of a local folder, with a pad token, and a chat template in any case."""
    folder = Path(path)
    with reading(folder, "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(
            str(path), trust_remote_code=may_run_code(folder), local_files_only=True
        )
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
        _try_out(tokenizer)
        if not tokenizer.chat_template:
            tokenizer.chat_template = plain_template(tokenizer)
    _refuse_incomplete(tokenizer, folder)
    return tokenizer


def _try_out(tokenizer: Any) -> None:
    """Use all that is used of a tokenizer: odd values in its files fail only then."""
    tokenizer.decode(tokenizer("a b", add_special_tokens=False, verbose=False)["input_ids"])
    starts_with_bos(tokenizer)
    dict(tokenizer.special_tokens_map)
    list(tokenizer.all_special_ids)
    list(tokenizer.added_tokens_decoder.items())


def _refuse_incomplete(tokenizer: Any, folder: Path) -> None:
    named = tokenizer.chat_template
    texts = list(named.values()) if isinstance(named, dict) else [named]
    if not all(isinstance(t, str) for t in texts):
        raise StudioError(
            f"the chat template of {folder} is not text.",
            title="The chat template does not work",
            hint="Correct chat_template in its tokenizer_config.json.",
            code="bad_template",
            file=str(folder / "tokenizer_config.json"),
        )
    if tokenizer.pad_token_id is None:
        raise StudioError(
            f"the tokenizer of {folder} names no token for the end of a text, for padding, or for "
            "what it does not know.",
            title="No tokenizer",
            hint="Set eos_token in its tokenizer_config.json, or copy that file again.",
            code="no_tokenizer",
            file=str(folder / "tokenizer_config.json"),
        )


def plain_template(tokenizer: Any) -> str:
    """The template for a model that has none; it starts with BOS where the tokenizer would."""
    return ("{{ bos_token }}" if starts_with_bos(tokenizer) else "") + _PLAIN


def has_plain_template(tokenizer: Any) -> bool:
    """Whether the tokenizer's template is the plain one of this module."""
    return str(tokenizer.chat_template or "").endswith(_PLAIN)


def starts_with_bos(tokenizer: Any) -> bool:
    """Whether the tokenizer puts a BOS token before plain text on its own."""
    bos = tokenizer.bos_token_id
    return bos is not None and tokenizer("a", verbose=False)["input_ids"][:1] == [bos]


def render(
    tokenizer: Any,
    messages: Sequence[Message],
    *,
    ask: bool = False,
    tools: Any = None,
    kwargs: Message | None = None,
) -> str:
    """The conversation as text; with ``ask`` it ends where the next answer starts. ``messages`` are
    stored or plain ones; ``tools`` is what the row offers to the model, ``kwargs`` its further
    variables of the template. Raises ``TemplateRefused``."""
    chat = Chat(as_template_messages(messages), tools, [(len(messages), ask)], kwargs or {})
    ((outcome,),) = render_many(tokenizer, [chat])
    if isinstance(outcome, TemplateRefused):
        raise outcome
    return outcome


def answer_start(tokenizer: Any) -> str:
    """What the chat template writes before an answer; empty where it takes no plain question."""
    question = [{"role": "user", "content": "?"}]
    try:
        asked = render(tokenizer, question)
        return render(tokenizer, question, ask=True).removeprefix(asked)
    except TemplateRefused:
        return ""


def render_many(tokenizer: Any, chats: Sequence[Chat]) -> list[list[str | TemplateRefused]]:
    """The wanted texts of conversations, or why the template rejects one; see ``Chat``.

    The arguments of tool calls are objects; a template that takes them as JSON text (DeepSeek) fails
    with objects, or writes them as Python does, and is given text.

    A template is rendered in a process that is ended when it takes too long. A tokenizer with an
    ``apply_chat_template`` of its own is Python code that the user allowed to run: it is called here,
    without a time limit, because it may need anything of the tokenizer, and could do more harm than
    not to end.
    """
    given = chats
    chats = [as_taken(tokenizer, chat) for chat in chats]
    found = _texts(tokenizer, chats)
    doubtful = [n for n, c in enumerate(chats) if _doubtful(c, found[n])]
    if doubtful:
        others = [_with_text_arguments(given[n]) for n in doubtful]
        for n, texts in zip(doubtful, _texts(tokenizer, others), strict=True):
            if _fits_better(chats[n], found[n], texts):
                _take_text.add(str(tokenizer.chat_template))
                found[n] = texts
    return found


def as_taken(tokenizer: Any, chat: Chat) -> Chat:
    """The conversation with arguments of tool calls as this template was found to take them."""
    takes_text = str(tokenizer.chat_template) in _take_text and _arguments(chat)
    return _with_text_arguments(chat) if takes_text else _with_objects(chat)


def _calls(messages: Sequence[Message]) -> list[Any]:
    return [c.get("function") or c for m in messages for c in m.get("tool_calls") or ()]


def _arguments(chat: Chat) -> list[Any]:
    """The arguments of all tool calls that are objects."""
    calls = _calls(chat.messages)
    return [c["arguments"] for c in calls if isinstance(c.get("arguments"), Mapping)]


def _with_objects(chat: Chat) -> Chat:
    """The conversation with arguments only as objects."""
    if not any(WRITTEN in call for call in _calls(chat.messages)):
        return chat
    messages = copy.deepcopy(list(chat.messages))
    for call in _calls(messages):
        call.pop(WRITTEN, None)
    return replace(chat, messages=messages)


def _with_text_arguments(chat: Chat) -> Chat:
    messages = copy.deepcopy(list(chat.messages))
    for call in _calls(messages):
        written = call.pop(WRITTEN, None)
        if isinstance(call.get("arguments"), Mapping):
            call["arguments"] = written or json.dumps(call["arguments"], ensure_ascii=False)
    return replace(chat, messages=messages)


def _doubtful(chat: Chat, texts: Sequence[str | TemplateRefused]) -> bool:
    """Whether arguments as text may fit the template better."""
    objects = _arguments(chat)
    return bool(objects) and (
        any(isinstance(t, TemplateRefused) and not t.slow for t in texts)
        or _as_python(objects, texts)
    )


def _as_python(objects: Sequence[Any], texts: Sequence[str | TemplateRefused]) -> bool:
    """Whether a text shows arguments as Python writes a dict."""
    return any(o and str(o) in t for o in objects for t in texts if isinstance(t, str))


def _fits_better(
    chat: Chat, before: Sequence[str | TemplateRefused], after: Sequence[str | TemplateRefused]
) -> bool:
    """Whether the template takes more with arguments as text, or no longer writes them as Python."""
    failed = [sum(isinstance(t, TemplateRefused) for t in texts) for texts in (before, after)]
    objects = _arguments(chat)
    return failed[1] < failed[0] or (failed[1] == failed[0] == 0 and not _as_python(objects, after))


def _texts(tokenizer: Any, chats: Sequence[Chat]) -> list[list[str | TemplateRefused]]:
    if has_own_rendering(tokenizer):
        return [[_own_text(tokenizer, c, *wanted) for wanted in c.wanted] for c in chats]
    if isinstance(tokenizer.chat_template, str):
        return _rendered(tokenizer, chats)
    # Several templates by name: the tools decide which one.
    return [found for chat in chats for found in _rendered(tokenizer, [chat])]


def chat_template(tokenizer: Any, tools: Any = None) -> ChatTemplate:
    """What ``apply_chat_template`` of transformers gives to the template of this tokenizer."""
    return ChatTemplate(
        tokenizer.get_chat_template(None, tools), dict(tokenizer.special_tokens_map)
    )


def has_own_rendering(tokenizer: Any) -> bool:
    """Whether the tokenizer renders conversations with Python code of its own."""
    return type(tokenizer).apply_chat_template is not PreTrainedTokenizerBase.apply_chat_template


def _rendered(tokenizer: Any, chats: Sequence[Chat]) -> list[list[str | TemplateRefused]]:
    try:
        found = render_chats(chat_template(tokenizer, chats[0].tools), chats)
    except (ValueError, TypeError, RecursionError) as error:  # no such template, no JSON
        return [[refused(error)] * len(c.wanted) for c in chats]
    return [[t if isinstance(t, str) else refused(t) for t in texts] for texts in found]


def _own_text(tokenizer: Any, chat: Chat, count: int, ask: bool) -> str | TemplateRefused:
    try:
        return str(
            tokenizer.apply_chat_template(
                chat.messages[:count],
                tools=chat.tools,
                tokenize=False,
                add_generation_prompt=ask,
                **chat.kwargs,
            )
        )
    except Exception as error:  # code of a model may fail in any way
        if out_of_memory_in(error) is not None:
            raise
        return refused(error)


def refused(error: Exception) -> TemplateRefused:
    """A failure of the template in words."""
    if isinstance(error, TemplateFailed) and error.slow:
        why = "does not terminate" if error.why.startswith("was stopped") else error.why
        return TemplateRefused(f"it {why}", slow=True)
    return TemplateRefused(str(error) or type(error).__name__)
