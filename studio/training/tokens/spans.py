"""Where a message stands in the text that a chat template makes of a conversation.

Why apart from ``masks``: these are the proofs. Each compares renderings of the template with one
another; none searches the text for marker strings. A place that cannot be proven is ``None``. What
is trained is decided elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from studio.chat_templates.chats import Chat, marked_spans
from studio.chat_templates.render import TemplateFailed
from studio.training.tokens.chat import (
    Message,
    TemplateRefused,
    chat_template,
    refused,
    render,
    render_many,
)

Span = tuple[int, int]
Wanted = tuple[int, bool]
"""The text of so many messages, with or without the start of the next answer."""

_PROBES = ("QxA", "ZyB")
"""Two contents that differ in their first and in their last character; nothing looks for them."""
_CHARACTERS_AHEAD = 20_000_000
"""No conversation takes more memory than this for texts that are rendered ahead."""
_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")


@dataclass(frozen=True)
class Conversation:
    """Messages as chat templates take them, and the tools that are offered to the model; ``ahead``
    has the texts that were rendered before they are asked for (see ``render_ahead``)."""

    tokenizer: Any
    messages: Sequence[Message]
    tools: Any = None
    ahead: dict[Wanted, str | TemplateRefused] = field(default_factory=dict)

    def text(self, count: int | None = None, *, ask: bool = False) -> str:
        """The first ``count`` messages (all without it) as text; raises ``TemplateRefused``."""
        count = len(self.messages) if count is None else count
        found = self.ahead.get((count, ask))
        if found is None:
            return render(self.tokenizer, self.messages[:count], ask=ask, tools=self.tools)
        if isinstance(found, TemplateRefused):
            raise found
        return found

    def first(self, count: int) -> Conversation:
        """The conversation that ends after ``count`` messages."""
        return Conversation(self.tokenizer, self.messages[:count], self.tools, self.ahead)


def render_ahead(talks: Sequence[tuple[Conversation, Sequence[Wanted]]]) -> None:
    """Render texts of many conversations with one tokenizer in few requests to the process that does
    it, which is five times as fast as one by one."""
    chats = [Chat(talk.messages, talk.tools, wanted) for talk, wanted in talks]
    several = [n for n, chat in enumerate(chats) if chat.size <= _CHARACTERS_AHEAD]
    if not several:
        return
    found = render_many(talks[0][0].tokenizer, [chats[n] for n in several])
    for n, texts in zip(several, found, strict=True):
        talk, wanted = talks[n]
        talk.ahead.update(zip(wanted, texts, strict=True))


def answer_span(talk: Conversation, index: int, whole: str) -> Span | None:
    """Where answer ``index`` stands in ``whole``: from the end of its generation prompt to the end
    of what rendering it adds. ``None`` when the template changes earlier text on the way."""
    head = talk.text(index, ask=True)
    last = index == len(talk.messages) - 1
    upto = whole if last else talk.text(index + 1)
    if whole.startswith(upto) and upto.startswith(head) and len(upto) > len(head):
        return len(head), len(upto)
    return None


def message_span(talk: Conversation, index: int, whole: str) -> Span | None:
    """Where the content of any message stands in ``whole``, with what closes its turn where the
    template shows that; never its header."""
    content = content_span(talk, index, whole)
    if content is None:
        return None
    try:
        upto = talk.text(index + 1)
    except TemplateRefused:
        return content
    closed = whole.startswith(upto) and len(upto) > content[1]
    return content[0], len(upto) if closed else content[1]


def content_span(talk: Conversation, index: int, whole: str) -> Span | None:
    """Where the content of message ``index`` stands, found by rendering other contents in its place:
    what both renderings share before and after it must be there in ``whole`` too, and what lies
    between must be the content, blanks at its ends aside."""
    content = str(talk.messages[index].get("content") or "")
    others = [_with_content(talk, index, probe) for probe in _PROBES]
    render_ahead([(other, [(len(other.messages), False)]) for other in others])
    try:
        first, second = (other.text() for other in others)
    except TemplateRefused:
        return None
    before = first[: _shared(first, second)]
    after = first[len(first) - _shared(first[::-1], second[::-1]) :]
    start, end = len(before), len(whole) - len(after)
    if not (content.strip() and start < end and whole.startswith(before) and whole.endswith(after)):
        return None
    return (start, end) if whole[start:end].strip() == content.strip() else None


def turn_start(talk: Conversation) -> int:
    """Where the turn of the first message begins; what stands before it was put there by the template
    (a system prompt of its own, a list of tools).

    The proof is the turn of the same message behind one of another role: what rendering it there adds
    must be what the text of the first message ends with. 0 where that cannot be shown, and where nothing but
    the start token stands before it.
    """
    first = talk.messages[0]
    if first["role"] == "system":
        return 0
    role = "user" if first["role"] == "assistant" else "assistant"
    other, system = ({"role": r, "content": _PROBES[0]} for r in (role, "system"))
    for before in ([first, other], [system]):
        try:
            alone = talk.text(1)
            earlier = Conversation(talk.tokenizer, before, talk.tools).text()
            later = Conversation(talk.tokenizer, [*before, first], talk.tools).text()
        except TemplateRefused:
            continue
        turn = later[len(earlier) :]
        if turn and later.startswith(earlier) and alone.endswith(turn):
            inserted = alone[: -len(turn)]
            return 0 if inserted.strip() == talk.tokenizer.bos_token else len(inserted)
    return 0


def _shared(first: str, second: str) -> int:
    """How many characters both begin with."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(first), len(second)))


def _with_content(talk: Conversation, index: int, content: str) -> Conversation:
    messages = [dict(m) for m in talk.messages]
    messages[index]["content"] = content
    return Conversation(talk.tokenizer, messages, talk.tools)


def marks_answers(tokenizer: Any) -> bool:
    """Whether the template itself marks its answers with ``{% generation %}``."""
    return bool(_GENERATION.search(str(tokenizer.chat_template)))


def generation_spans(talk: Conversation) -> tuple[Span, ...] | None:
    """The spans that the template itself marks with ``{% generation %}``, if it does."""
    if not marks_answers(talk.tokenizer):
        return None
    chat = Chat(talk.messages, talk.tools, [(len(talk.messages), False)])
    try:
        marked = marked_spans(chat_template(talk.tokenizer, talk.tools), chat)
    except TemplateFailed as error:
        raise refused(error) from error
    return tuple(marked) or None
