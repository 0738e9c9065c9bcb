"""Which characters of a row are trained, and with which weight.

A wrong mask is the most frequent silent error in fine-tuning. The spans follow from the structure
of the chat template (``spans``): an answer is what rendering one more message adds after the
generation prompt. If a template does not allow this proof, the next provable method is used, or the
row is refused. The text is never searched for marker strings.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from studio.data.canonical import tools_of, weights_of
from studio.preview.tokens import IGNORED
from studio.training.tokens.chat import Message, TemplateRefused
from studio.training.tokens.ends import messages_to_render
from studio.training.tokens.spans import (
    Conversation,
    Span,
    Wanted,
    after_thoughts,
    answer_span,
    asked_answer,
    generation_spans,
    message_span,
    render_ahead,
)

__all__ = ["IGNORED", "Rendered", "Span", "TrainOn", "UnprovableMask", "render_row"]

_TAIL = 12
TrainOn = Literal["answers", "last_answer", "weights", "all"]


@dataclass(frozen=True)
class Rendered:
    """A text and its trained character spans; ``raw`` text does not have BOS and end token yet.

    ``weights`` has the weight of each span (empty: all are 1). ``said`` holds the content of each
    trained message without the template's text. ``answered``: the text ends with an answer.
    ``plain``: the text has no answers and may be divided.
    """

    text: str
    spans: tuple[Span, ...]
    raw: bool = False
    weights: tuple[float, ...] = ()
    said: tuple[str, ...] = ()
    answered: bool = True
    plain: bool = False


@dataclass(frozen=True)
class Target:
    """A message to be trained, and its weight."""

    index: int
    weight: float
    answer: bool


class UnprovableMask(Exception):
    """The trained part of the text cannot be determined with this template."""


def talks_of(
    tokenizer: Any, rows: Sequence[dict[str, Any]], train_on: str = "answers"
) -> list[Conversation | None]:
    """The conversations of canonical rows, with the texts that ``render_row`` compares rendered
    together; ``None`` for other rows."""
    talks = [
        Conversation(tokenizer, messages_to_render(tokenizer, row), tools_of(row))
        if row.get("messages")
        else None
        for row in rows
    ]
    render_ahead([(t, _wanted(t, r, train_on)) for t, r in zip(talks, rows, strict=True) if t])
    return talks


def _wanted(talk: Conversation, row: dict[str, Any], train_on: str) -> list[Wanted]:
    """The whole text, and where each message that is trained starts and ends."""
    wanted: list[Wanted] = [(len(talk.messages), False)]
    if train_on != "all":
        for target in targets_of(talk.messages, weights_of(row), train_on):
            if target.answer and _asked(talk.messages, target.index):
                wanted.append((target.index, True))
            wanted.append((target.index + 1, False))
    return list(dict.fromkeys(wanted))


def render_row(
    tokenizer: Any,
    row: dict[str, Any],
    train_on: str = "answers",
    talk: Conversation | None = None,
) -> list[Rendered]:
    """The canonical row as one training text, or one text per answer where only that can be proven.

    ``train_on="all"`` needs no proof. ``talk`` is the conversation of the row, if it was already
    made. Raises ``TemplateRefused`` or ``UnprovableMask``.
    """
    if row.get("messages"):
        if talk is None:
            (talk,) = talks_of(tokenizer, [row], train_on)
            assert talk is not None
        if train_on != "all":
            return render_messages(talk, targets_of(talk.messages, weights_of(row), train_on))
        return [_everything(talk)]
    if row.get("text") is not None:
        text = row["text"]
        return [Rendered(text, ((0, len(text)),), True, said=(text,), plain=True)]
    prompt, completion = row["prompt"], row["completion"]
    full_text = prompt + completion
    return [Rendered(full_text, ((len(prompt), len(full_text)),), True, said=(completion,))]


def _everything(talk: Conversation) -> Rendered:
    full_text = talk.text()
    answers = [m for m in talk.messages if m["role"] == "assistant"]
    for answer in answers:
        _refuse_lost(answer, full_text)
    return Rendered(
        full_text,
        ((0, len(full_text)),),
        said=tuple(_said(m) for m in answers),
        answered=bool(answers) and talk.messages[-1] is answers[-1],
    )


def targets_of(
    messages: Sequence[Any], weights: Sequence[float | None], train_on: str
) -> list[Target]:
    """The trained messages, in order.

    A weight of 0 in the data always excludes a message. Other weights are used only with
    ``train_on="weights"``, which trains a message of any role that has a weight. An answer without
    a weight before the first question is context, because it answers nothing.
    """
    found = [
        Target(i, 1.0 if train_on != "weights" or w is None else float(w), answer)
        for i, (m, w) in enumerate(zip(messages, weights, strict=True))
        if (answer := m["role"] == "assistant") or (train_on == "weights" and w)
        if w != 0 and (w is not None or _asked(messages, i))
    ]
    return found[-1:] if train_on == "last_answer" else found


def _asked(messages: Sequence[Any], index: int) -> bool:
    return any(m["role"] != "system" for m in messages[:index])


def render_messages(talk: Conversation, targets: Sequence[Target]) -> list[Rendered]:
    """A conversation with the spans of all trained messages; see ``render_row``."""
    full_text = talk.text()
    spans = [_span(talk, t, full_text) for t in targets]
    if all(s is not None for s in spans):
        return [_rendered(talk, full_text, targets, spans)]
    marked = _marked(talk, targets)
    if marked is not None:
        return [_rendered(talk, full_text, targets, marked)]
    return _one_by_one(talk, targets)


def _refuse_lost(message: Message, shown: str) -> None:
    """Raise when the text of a trained answer lacks what the message says: many templates do not
    support tools and write an empty answer for a tool call; some ignore content that is not a list of
    parts. Thoughts may be left out.
    """
    calls = [c.get("function") or c for c in message.get("tool_calls") or ()]
    if any(str(c.get("name", "")) not in shown for c in calls):
        raise TemplateRefused("it omits tool calls")
    content = str(message.get("content") or "").strip()
    said = after_thoughts(content) or content
    if said[-_TAIL:] not in shown:
        raise TemplateRefused("it omits the contents of answers")


def _span(talk: Conversation, target: Target, full_text: str) -> Span | None:
    if target.answer and _asked(talk.messages, target.index):
        return answer_span(talk, target.index, full_text)
    return message_span(talk, target.index, full_text)


def _marked(talk: Conversation, targets: Sequence[Target]) -> list[Span] | None:
    """The spans that the template marks itself, if it marks each assistant message once."""
    marked = generation_spans(talk)
    answers = [i for i, m in enumerate(talk.messages) if m["role"] == "assistant"]
    if marked is None or len(marked) != len(answers) or not all(t.answer for t in targets):
        return None
    return [marked[answers.index(t.index)] for t in targets]


def _one_by_one(talk: Conversation, targets: Sequence[Target]) -> list[Rendered]:
    """One text per answer, each ending with it; other trained messages go with the next answer."""
    parts: list[Rendered] = []
    waiting: list[Target] = []
    for target in targets:
        waiting.append(target)
        if target.answer:
            parts.append(_proven(talk.first(target.index + 1), waiting))
            waiting = []
    return [*parts, _proven(talk, waiting)] if waiting else parts


def _proven(talk: Conversation, targets: Sequence[Target]) -> Rendered:
    full_text = talk.text()
    spans = [_span(talk, t, full_text) for t in targets]
    if all(s is not None for s in spans):
        return _rendered(talk, full_text, targets, spans)
    (*others, last) = targets
    asked = None if others or not last.answer else asked_answer(talk)
    if asked is None:
        raise UnprovableMask
    return _rendered(talk, asked[0], targets, [asked[1]])


def _rendered(
    talk: Conversation, full_text: str, targets: Sequence[Target], spans: Sequence[Span | None]
) -> Rendered:
    weights = tuple(t.weight for t in targets)
    found = tuple(s for s in spans if s is not None)
    for target, (start, end) in zip(targets, found, strict=True):
        if target.answer:
            _refuse_lost(talk.messages[target.index], full_text[start:end])
    return Rendered(
        full_text,
        found,
        weights=weights if any(w != 1 for w in weights) else (),
        said=tuple(_said(talk.messages[t.index]) for t in targets),
        answered=bool(targets) and targets[-1].answer and found[-1][1] == len(full_text),
    )


def _said(message: Any) -> str:
    calls = message.get("tool_calls")
    said = str(message.get("content") or "")
    return said + json.dumps(calls, ensure_ascii=False, default=str) if calls else said
