"""Which characters of a row are trained, and how much each counts.

Why: a wrong mask is the commonest silent failure of fine-tuning. The spans come from the chat
template's own structure (``spans``): an answer is what rendering one more message adds after the
generation prompt. Where a template does not allow that proof, the next provable way is taken, or the
row is refused; text is never searched for marker strings.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from studio.data.canonical import messages_of, tools_of, weights_of
from studio.preview.tokens import IGNORED
from studio.training.tokens.chat import TemplateRefused
from studio.training.tokens.spans import (
    Conversation,
    Span,
    Wanted,
    answer_span,
    generation_spans,
    message_span,
    render_ahead,
)

__all__ = ["IGNORED", "Rendered", "Span", "TrainOn", "UnprovableMask", "render_row"]

_TAIL = 12
TrainOn = Literal["answers", "last_answer", "weights", "all"]


@dataclass(frozen=True)
class Rendered:
    """Text and the character spans that are trained; ``raw`` text still lacks BOS and end token.

    ``weights`` has the weight of each span (empty: all weigh 1). ``said`` has what each trained
    message says by itself, without what the template writes around it. ``answered``: the text ends
    where an answer does. ``plain``: text that answers nothing, and may be split.
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
    """A message that is to be trained, and how much it counts."""

    index: int
    weight: float
    answer: bool


class UnprovableMask(Exception):
    """The template gives no way to tell what is trained apart from the rest."""


def talks_of(
    tokenizer: Any, rows: Sequence[dict[str, Any]], train_on: str = "answers"
) -> list[Conversation | None]:
    """The conversations of canonical rows, with the texts that ``render_row`` compares rendered
    together; ``None`` for other rows."""
    talks = [
        Conversation(tokenizer, messages_of(row), tools_of(row)) if row.get("messages") else None
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
    """The canonical row as one training text, or one per answer where only that can be proven.

    With ``train_on="all"`` nothing has to be proven. ``talk`` is the row's conversation, when it is
    there already. Raises ``TemplateRefused`` or ``UnprovableMask``.
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
    whole = prompt + completion
    return [Rendered(whole, ((len(prompt), len(whole)),), True, said=(completion,))]


def _everything(talk: Conversation) -> Rendered:
    whole = talk.text()
    answers = [m for m in talk.messages if m["role"] == "assistant"]
    return Rendered(
        whole,
        ((0, len(whole)),),
        said=tuple(_said(m) for m in answers),
        answered=bool(answers) and talk.messages[-1] is answers[-1],
    )


def targets_of(
    messages: Sequence[Any], weights: Sequence[float | None], train_on: str
) -> list[Target]:
    """The messages that are trained, in order.

    A weight of 0 in the data always keeps a message out; other weights count with
    ``train_on="weights"`` only, where a message of any role with a weight is trained. An answer
    without a weight that stands before any question is context: nothing asked for it.
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
    """A conversation with the span of everything that is trained; see ``render_row``."""
    whole = talk.text()
    _refuse_lost(talk, whole)
    spans = [_span(talk, t, whole) for t in targets]
    if all(s is not None for s in spans):
        return [_rendered(talk, whole, targets, spans)]
    marked = _marked(talk, targets)
    if marked is not None:
        return [_rendered(talk, whole, targets, marked)]
    return _one_by_one(talk, targets)


def _refuse_lost(talk: Conversation, whole: str) -> None:
    """Many templates know no tools and write an empty answer where a tool is called; some write
    nothing of a text that is not a list of parts."""
    calls = [c for m in talk.messages for c in m.get("tool_calls") or ()]
    names = [str((c.get("function") or c).get("name", "")) for c in calls]
    if any(n not in whole for n in names):
        raise TemplateRefused("it leaves out the calls of tools")
    said = (str(m.get("content") or "").strip() for m in talk.messages if m["role"] == "assistant")
    if any(
        s[-_TAIL:] not in whole for s in said
    ):  # its beginning may be thoughts, which it may drop
        raise TemplateRefused("it leaves out what the answers say")


def _span(talk: Conversation, target: Target, whole: str) -> Span | None:
    if target.answer and _asked(talk.messages, target.index):
        return answer_span(talk, target.index, whole)
    return message_span(talk, target.index, whole)


def _marked(talk: Conversation, targets: Sequence[Target]) -> list[Span] | None:
    """The template's own marks, where it marks each assistant message once."""
    marked = generation_spans(talk)
    answers = [i for i, m in enumerate(talk.messages) if m["role"] == "assistant"]
    if marked is None or len(marked) != len(answers) or not all(t.answer for t in targets):
        return None
    return [marked[answers.index(t.index)] for t in targets]


def _one_by_one(talk: Conversation, targets: Sequence[Target]) -> list[Rendered]:
    """One text per answer, each ending with it; what else is trained goes with the next answer."""
    parts: list[Rendered] = []
    waiting: list[Target] = []
    for target in targets:
        waiting.append(target)
        if target.answer:
            parts.append(_proven(talk.first(target.index + 1), waiting))
            waiting = []
    return [*parts, _proven(talk, waiting)] if waiting else parts


def _proven(talk: Conversation, targets: Sequence[Target]) -> Rendered:
    whole = talk.text()
    spans = [_span(talk, t, whole) for t in targets]
    if any(s is None for s in spans):
        raise UnprovableMask
    return _rendered(talk, whole, targets, spans)


def _rendered(
    talk: Conversation, whole: str, targets: Sequence[Target], spans: Sequence[Span | None]
) -> Rendered:
    weights = tuple(t.weight for t in targets)
    found = tuple(s for s in spans if s is not None)
    return Rendered(
        whole,
        found,
        weights=weights if any(w != 1 for w in weights) else (),
        said=tuple(_said(talk.messages[t.index]) for t in targets),
        answered=bool(targets) and targets[-1].answer and found[-1][1] == len(whole),
    )


def _said(message: Any) -> str:
    calls = message.get("tool_calls")
    said = str(message.get("content") or "")
    return said + json.dumps(calls, ensure_ascii=False, default=str) if calls else said
