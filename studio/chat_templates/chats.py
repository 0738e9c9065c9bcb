"""Conversations rendered with a chat template in the helper process, many texts in one request.

Why: a template may loop on a single row, or need more memory than there is. A request costs 0.8 ms
where the rendering itself takes 0.15 ms, so that one request carries all texts of many conversations
(0.19 ms each). The helper renders with transformers' own function: a text is the same as from
``apply_chat_template``. Which texts are needed is decided by the caller.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from studio.chat_templates import LARGEST_SOURCE
from studio.chat_templates.process import HelperEnded, HelperProcess
from studio.chat_templates.render import TemplateFailed

SECONDS = 5.0
"""The time limit of one text."""
LARGEST_TEXT = 50_000_000
_SHORT_S, _AFTER = 1.0, 3
"""After so many conversations that a template did not end for, it has less time for the next ones:
nobody waits for each row of a file."""
PATIENCE_S = 20.0
"""The time that one template may waste in all: with texts that it does not end for, and the CPU time
of slow ones. After that it is not tried again."""
_RESTART_S = 2.0
"""About what a new process takes until it renders."""
_CHATS_AT_ONCE = 64
_CHARACTERS_AT_ONCE = 2_000_000

_helper = HelperProcess()
_ended: Counter[str] = Counter()
_wasted: dict[str, float] = defaultdict(float)


@dataclass(frozen=True)
class Chat:
    """A conversation as chat templates take it, and which texts of it are wanted: of its first
    messages, so many, with or without the start of the next answer. ``kwargs`` are further variables
    of the template (``enable_thinking``)."""

    messages: Sequence[Mapping[str, Any]]
    tools: Any
    wanted: Sequence[tuple[int, bool]]
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """About how many characters all wanted texts have together."""
        return len(self.wanted) * sum(len(str(m.get("content") or "")) for m in self.messages)


@dataclass(frozen=True)
class ChatTemplate:
    """A template with the special tokens that it may name, and its limits."""

    source: str
    tokens: Mapping[str, Any]
    seconds: float | None = None
    largest: int = LARGEST_TEXT

    @property
    def time_limit(self) -> float:
        """The seconds for one text."""
        if self.seconds is not None:
            return self.seconds
        return min(_SHORT_S, SECONDS) if _ended[self.source] >= _AFTER else SECONDS


def render_chats(template: ChatTemplate, chats: Sequence[Chat]) -> list[list[str | TemplateFailed]]:
    """For each conversation the wanted texts, or why one could not be rendered."""
    return [found for part in _parts(template, chats) for found in _rendered(template, part)]


def marked_spans(template: ChatTemplate, chat: Chat) -> list[tuple[int, int]]:
    """What the template marks with ``{% generation %}`` in the first wanted text; raises
    ``TemplateFailed``."""
    reply = _ask(template, [chat], marks=True)
    (outcome, *_) = [reply] if isinstance(reply, TemplateFailed) else _outcomes(reply[0])
    if isinstance(outcome, TemplateFailed):
        raise outcome
    return [(int(start), int(end)) for start, end in reply[0][0]["marks"]]


def _parts(template: ChatTemplate, chats: Sequence[Chat]) -> Iterator[list[Chat]]:
    """The conversations of one request; each by itself once the template was ended."""
    part: list[Chat] = []
    size = 0
    for chat in chats:
        full = len(part) >= _CHATS_AT_ONCE or size + chat.size > _CHARACTERS_AT_ONCE
        if part and (full or _ended[template.source]):
            yield part
            part, size = [], 0
        part.append(chat)
        size += chat.size
    if part:
        yield part


def _rendered(template: ChatTemplate, chats: list[Chat]) -> list[list[str | TemplateFailed]]:
    reply = _ask(template, chats, marks=False)
    if not isinstance(reply, TemplateFailed):
        return [_outcomes(found) for found in reply]
    if len(chats) == 1:
        return [[reply] * len(chats[0].wanted)]
    return [found for chat in chats for found in _rendered(template, [chat])]  # which one was it?


def _outcomes(found: list[Any]) -> list[str | TemplateFailed]:
    """The texts of a reply: a number stands for so many characters of the first one."""
    outcomes: list[str | TemplateFailed] = []
    for text in found:
        if isinstance(text, int):
            text = str(outcomes[0])[:text]
        if isinstance(text, dict):
            text = (
                TemplateFailed(0, text["error"], slow=bool(text.get("slow")))
                if "error" in text
                else text["text"]
            )
        outcomes.append(text)
    return outcomes


def _ask(template: ChatTemplate, chats: list[Chat], *, marks: bool) -> Any:
    """The helper's reply, or why there is none."""
    if len(template.source) > LARGEST_SOURCE:
        return TemplateFailed(0, f"has more than {LARGEST_SOURCE:,} characters")
    left = PATIENCE_S - _wasted[template.source]
    if left <= 0:
        return TemplateFailed(0, "takes too long", slow=True)
    seconds = min(template.time_limit, left)
    request = {
        "chat": template.source,
        "tokens": template.tokens,
        "seconds": seconds,
        "largest": template.largest,
        "marks": marks,
        "budget": left,
        "talks": [(c.messages, c.tools, c.wanted, dict(c.kwargs)) for c in chats],
    }
    try:
        reply = _helper.exchange(json.dumps(request, default=str))
    except HelperEnded as error:
        _ended[template.source] += 1
        _wasted[template.source] += seconds if error.slow else _RESTART_S
        if error.slow:
            return TemplateFailed(0, f"was stopped after {seconds:.2g} seconds", slow=True)
        return TemplateFailed(0, error.why)
    _wasted[template.source] += reply["spent"]
    return reply["talks"]
