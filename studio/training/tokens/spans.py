"""Where a message is in the text that a chat template makes of a conversation.

These are the proofs used by ``masks``. Each compares several renderings of the template; none
searches the text for marker strings. A position that cannot be proven is ``None``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from studio.chat_templates.chats import Chat, marked_spans
from studio.chat_templates.render import TemplateFailed
from studio.training.tokens.chat import (
    Message,
    TemplateRefused,
    as_taken,
    chat_template,
    refused,
    render,
    render_many,
)

Span = tuple[int, int]
Wanted = tuple[int, bool]
"""The text of so many messages, with or without the start of the next answer."""

_PROBES = ("QxA", "ZyB")
"""Two contents that differ in their first and last character; the text is not searched for them."""
_CHARACTERS_AHEAD = 20_000_000
"""Texts are rendered ahead only for conversations below this size, to limit memory."""
_TAGS = r"(?:think|thinking|thought|seed:think)"
THOUGHTS_END = re.compile(rf"</{_TAGS}>|\[/THINK\]|<\|END_THINKING\|>")
EMPTY_THOUGHT = re.compile(
    rf"\s*(?:<{_TAGS}>|\[THINK\]|<\|START_THINKING\|>)?\s*(?:{THOUGHTS_END.pattern})"
)
_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")


@dataclass(frozen=True)
class Conversation:
    """Messages in the form that chat templates take, the tools offered to the model, and further
    variables of the template; ``ahead`` holds texts that were rendered in advance (see
    ``render_ahead``). ``marked`` is the same conversation with ``marks`` (see ``left_out``)."""

    tokenizer: Any
    messages: Sequence[Message]
    tools: Any = None
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    ahead: dict[Wanted, str | TemplateRefused] = field(default_factory=dict)
    marked: Conversation | None = None
    marks: Mapping[str, tuple[str, int]] = field(default_factory=dict)

    def text(self, count: int | None = None, *, ask: bool = False) -> str:
        """The first ``count`` messages as text, by default all; raises ``TemplateRefused``."""
        count = len(self.messages) if count is None else count
        found = self.ahead.get((count, ask))
        if found is None:
            return render(
                self.tokenizer,
                self.messages[:count],
                ask=ask,
                tools=self.tools,
                kwargs=self.kwargs,
            )
        if isinstance(found, TemplateRefused):
            raise found
        return found

    def first(self, count: int) -> Conversation:
        """The first ``count`` messages as a conversation."""
        return replace(self, messages=self.messages[:count])

    def with_messages(self, messages: Sequence[Message]) -> Conversation:
        """Other messages with the same tools and variables."""
        return replace(self, messages=messages, ahead={}, marked=None)


def render_ahead(talks: Sequence[tuple[Conversation, Sequence[Wanted]]]) -> None:
    """Render texts of many conversations with one tokenizer in few requests to the helper process;
    one request per text takes five times as long."""
    chats = [Chat(talk.messages, talk.tools, wanted, talk.kwargs) for talk, wanted in talks]
    several = [n for n, chat in enumerate(chats) if chat.size <= _CHARACTERS_AHEAD]
    if not several:
        return
    found = render_many(talks[0][0].tokenizer, [chats[n] for n in several])
    for n, texts in zip(several, found, strict=True):
        talk, wanted = talks[n]
        talk.ahead.update(zip(wanted, texts, strict=True))


def answer_span(talk: Conversation, index: int, full_text: str) -> Span | None:
    """The span of answer ``index`` in ``full_text``: from the end of its generation prompt to the end
    of the text that the answer adds.

    ``None`` when the template changes earlier text.
    """
    head = talk.text(index, ask=True)
    last = index == len(talk.messages) - 1
    upto = full_text if last else talk.text(index + 1)
    if full_text.startswith(upto) and upto.startswith(head) and len(upto) > len(head):
        return len(head), len(upto)
    return None


def asked_answer(talk: Conversation) -> tuple[str, Span] | None:
    """The last message with the text that the model has before it, where the template rewrites that
    text once the answer is there: GPT-OSS shows the thought before a tool call only until the final
    answer.

    Proof: without these earlier thoughts the template makes the same text, which begins with its
    generation prompt; the rest is the answer. ``None`` where this does not hold.
    """
    index = len(talk.messages) - 1
    head, full_text = talk.text(index, ask=True), talk.text()
    for keys in (("reasoning_content",), ("reasoning_content", "content")):
        bare = _without_thoughts(talk, index, keys)
        render_ahead([(bare, [(index + 1, False), (index, True)])])
        try:
            start = bare.text(index, ask=True)
            if bare.text() == full_text and full_text.startswith(start):
                answer = full_text[len(start) :]
                return (head + answer, (len(head), len(head) + len(answer))) if answer else None
        except TemplateRefused:
            continue
    return None


def _without_thoughts(talk: Conversation, before: int, keys: Sequence[str]) -> Conversation:
    """The conversation without the thoughts of earlier answers: their own key, and the content of a
    message that calls a tool."""
    messages = [dict(m) for m in talk.messages]
    for message in messages[:before]:
        if message["role"] == "assistant":
            message.pop("reasoning_content", None)
            if "content" in keys and message.get("tool_calls"):
                message["content"] = ""
    return talk.with_messages(messages)


def after_thoughts(content: str) -> str:
    """What follows the thoughts that are written into an answer; all of it where there are none."""
    return THOUGHTS_END.split(content)[-1].strip()


def call_span(talk: Conversation, index: int, full_text: str) -> Span | None:
    """The span of a tool call in ``full_text`` where the generation prompt goes on with what a call
    does not begin with: DeepSeek asks with “<think>”, and writes calls right after the header.

    Proof: the header is what the template writes before two different answers, and both the
    generation prompt and the call begin with it.
    """
    if not talk.messages[index].get("tool_calls"):
        return None
    before, head = talk.text(index), talk.text(index, ask=True)
    upto = talk.text(index + 1)
    others = [
        talk.with_messages([*talk.messages[:index], {"role": "assistant", "content": probe}])
        for probe in _PROBES
    ]
    render_ahead([(other, [(index + 1, False)]) for other in others])
    try:
        first, second = (other.text() for other in others)
    except TemplateRefused:
        return None
    start = _shared(first, second)
    header = first[len(before) : start]
    begin_alike = all(t.startswith(before + header) for t in (first, head, upto))
    proven = header and begin_alike and full_text.startswith(upto) and len(upto) > start
    return (start, len(upto)) if proven else None


def message_span(talk: Conversation, index: int, full_text: str) -> Span | None:
    """The span of a message's content in ``full_text``, including the end of its turn if the template
    shows it, but without its header.
    """
    content = content_span(talk, index, full_text)
    if content is None:
        return None
    try:
        upto = talk.text(index + 1)
    except TemplateRefused:
        return content
    closed = full_text.startswith(upto) and len(upto) > content[1]
    return content[0], len(upto) if closed else content[1]


def content_span(talk: Conversation, index: int, full_text: str) -> Span | None:
    """The span of the content of message ``index``, found by rendering other contents in its place.

    The text that both renderings share before and after the content must also surround it in
    ``full_text``, and the text between must equal the content, ignoring whitespace at its ends.
    """
    content = str(talk.messages[index].get("content") or "")
    others = [_with_content(talk, index, probe) for probe in _PROBES]
    render_ahead([(other, [(len(other.messages), False)]) for other in others])
    try:
        first, second = (other.text() for other in others)
    except TemplateRefused:
        return None
    before = first[: _shared(first, second)]
    after = first[len(first) - _shared(first[::-1], second[::-1]) :]
    start, end = len(before), len(full_text) - len(after)
    if not (
        content.strip()
        and start < end
        and full_text.startswith(before)
        and full_text.endswith(after)
    ):
        return None
    return (start, end) if full_text[start:end].strip() == content.strip() else None


def turn_start(talk: Conversation) -> int:
    """Where the turn of the first message begins; the template itself wrote the text before it (a
    default system prompt, a list of tools).

    Proof: the same message is rendered after a message of another role, and the text that this adds
    must be the end of the first message's text. 0 if this cannot be shown, or if only the BOS token
    comes before it.
    """
    first = talk.messages[0]
    if first["role"] == "system":
        return 0
    role = "user" if first["role"] == "assistant" else "assistant"
    other, system = ({"role": r, "content": _PROBES[0]} for r in (role, "system"))
    for before in ([first, other], [system]):
        try:
            alone = talk.text(1)
            earlier = talk.with_messages(before).text()
            later = talk.with_messages([*before, first]).text()
        except TemplateRefused:
            continue
        turn = later[len(earlier) :]
        if turn and later.startswith(earlier) and alone.endswith(turn):
            inserted = alone[: -len(turn)]
            return 0 if inserted.strip() == talk.tokenizer.bos_token else len(inserted)
    return 0


def _shared(first: str, second: str) -> int:
    """The length of the common prefix."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(first), len(second)))


def _with_content(talk: Conversation, index: int, content: str) -> Conversation:
    messages = [dict(m) for m in talk.messages]
    messages[index]["content"] = content
    return talk.with_messages(messages)


def marks_answers(tokenizer: Any) -> bool:
    """Whether the template marks its answers with ``{% generation %}``."""
    return bool(_GENERATION.search(str(tokenizer.chat_template)))


def generation_spans(talk: Conversation) -> tuple[Span, ...] | None:
    """The spans that the template marks with ``{% generation %}``, if any."""
    if not marks_answers(talk.tokenizer):
        return None
    chat = Chat(talk.messages, talk.tools, [(len(talk.messages), False)], talk.kwargs)
    chat = as_taken(talk.tokenizer, chat)
    try:
        marked = marked_spans(chat_template(talk.tokenizer, talk.tools), chat)
    except TemplateFailed as error:
        raise refused(error) from error
    return tuple(marked) or None
