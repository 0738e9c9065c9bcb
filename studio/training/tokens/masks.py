"""Which characters of a row are trained, and with which weight.

A wrong mask is the most frequent silent error in fine-tuning. The spans follow from the structure
of the chat template (``spans``): an answer is what rendering one more message adds after the
generation prompt. If a template does not allow this proof, the next provable method is used, or the
row is refused. The text is never searched for marker strings.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from studio.data.canonical import template_kwargs_of, tools_of, weights_of
from studio.preview.tokens import IGNORED
from studio.training.tokens.chat import Message, TemplateRefused
from studio.training.tokens.ends import messages_to_render
from studio.training.tokens.left_out import (
    EMPTY,
    PROMPT,
    THOUGHTS,
    TRAINED_CALLS,
    is_known,
    left_out,
    marked,
    wanted_marks,
)
from studio.training.tokens.spans import (
    EMPTY_THOUGHT,
    Conversation,
    Span,
    Wanted,
    after_thoughts,
    answer_span,
    asked_answer,
    call_span,
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
    ``plain``: the text has no answers and may be divided. ``left_out``: the kinds of parts of the row
    that the template does not show, and what it adds to answers (``left_out``).
    """

    text: str
    spans: tuple[Span, ...]
    raw: bool = False
    weights: tuple[float, ...] = ()
    said: tuple[str, ...] = ()
    answered: bool = True
    plain: bool = False
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Target:
    """A message to be trained, and its weight."""

    index: int
    weight: float
    answer: bool


class UnprovableMask(Exception):
    """The trained part of the text cannot be determined with this template; the text is its reason."""


def talks_of(
    tokenizer: Any, rows: Sequence[dict[str, Any]], train_on: str = "answers"
) -> list[Conversation | None]:
    """The conversations of canonical rows, with the texts that ``render_row`` compares rendered
    together; ``None`` for other rows."""
    talks: list[Conversation | None] = []
    wanted = []
    for row in rows:
        if not row.get("messages"):
            talks.append(None)
            continue
        talk = conversation_of(tokenizer, row)
        targets, at_once = _targets(talk, row, train_on), train_on == "all"
        answers = _answers(targets)
        made = None if is_known(talk, answers, at_once=at_once) else marked(talk)
        if made is not None:
            talk = replace(talk, marked=made)
            wanted.append((made, wanted_marks(made, answers, at_once=at_once)))
        wanted.append((talk, _wanted(talk, targets, train_on)))
        talks.append(talk)
    render_ahead(wanted)
    return talks


def conversation_of(tokenizer: Any, row: Mapping[str, Any]) -> Conversation:
    """The conversation of a canonical row."""
    messages = messages_to_render(tokenizer, row)
    return Conversation(tokenizer, messages, tools_of(row), template_kwargs_of(row))


def _targets(talk: Conversation, row: dict[str, Any], train_on: str) -> list[Target]:
    if train_on == "all":
        answers = [i for i, m in enumerate(talk.messages) if m["role"] == "assistant"]
        return [Target(i, 1.0, answer=True) for i in answers]
    return targets_of(talk.messages, weights_of(row), train_on)


def _answers(targets: Sequence[Target]) -> list[int]:
    return [t.index for t in targets if t.answer]


def _wanted(talk: Conversation, targets: Sequence[Target], train_on: str) -> list[Wanted]:
    """The whole text, and where each message that is trained starts and ends."""
    wanted: list[Wanted] = [(len(talk.messages), False)]
    if train_on == "all":
        targets = targets[-1:]  # only to see how its answer begins
    for target in targets:
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
        targets = _targets(talk, row, train_on)
        if train_on == "all":
            return [_everything(talk, targets)]
        return render_messages(talk, targets)
    if row.get("text") is not None:
        text = row["text"]
        return [Rendered(text, ((0, len(text)),), True, said=(text,), plain=True)]
    prompt, completion = row["prompt"], row["completion"]
    full_text = prompt + completion
    return [Rendered(full_text, ((len(prompt), len(full_text)),), True, said=(completion,))]


def _everything(talk: Conversation, targets: Sequence[Target]) -> Rendered:
    full_text = talk.text()
    answers = [talk.messages[t.index] for t in targets]
    for answer in answers:
        _refuse_lost(answer, full_text)
    added: list[str] = []
    for target in targets[-1:]:
        start = len(talk.text(target.index, ask=True)) if target.index else 0
        added += _added(talk, target.index, full_text, full_text[start:])
    text = Rendered(
        full_text,
        ((0, len(full_text)),),
        said=tuple(_said(m) for m in answers),
        answered=bool(answers) and talk.messages[-1] is answers[-1],
        left_out=tuple(added),
    )
    return _compared(talk, targets, [text], at_once=True)[0]


def _compared(
    talk: Conversation, targets: Sequence[Target], texts: list[Rendered], *, at_once: bool
) -> list[Rendered]:
    """The texts with what the template leaves out of the conversation; raises ``TemplateRefused`` if
    that is something to be trained."""
    lost = left_out(talk, _answers(targets), at_once=at_once)
    if TRAINED_CALLS in lost:
        raise TemplateRefused("it omits tool calls")
    return [replace(t, left_out=(*lost, *t.left_out)) for t in texts] if lost else texts


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
        texts = [_rendered(talk, full_text, targets, spans)]
        return _compared(talk, targets, texts, at_once=False)
    marked_spans = _marked(talk, targets)
    if marked_spans is None or _has_thoughts(talk):
        try:
            texts = _one_by_one(talk, targets)
            return _compared(talk, targets, texts, at_once=False)
        except UnprovableMask:
            if marked_spans is None:
                raise
    texts = [_rendered(talk, full_text, targets, marked_spans or ())]
    return _compared(talk, targets, texts, at_once=True)


def _has_thoughts(talk: Conversation) -> bool:
    """Whether a text of the whole conversation may lack thoughts of earlier answers."""
    made = talk.marked or marked(talk)
    return made is not None and any(kind == THOUGHTS for kind, _ in made.marks.values())


def _refuse_lost(message: Message, shown: str) -> None:
    """Raise when the text of a trained answer lacks what the message says: some templates ignore
    content that is not a list of parts. Thoughts may be left out, and the content of a tool call,
    which GPT-OSS takes for a thought.
    """
    content = str(message.get("content") or "").strip()
    said = after_thoughts(content) or content
    if said[-_TAIL:] not in shown and not message.get("tool_calls"):
        raise TemplateRefused("it omits the contents of answers")


def _span(talk: Conversation, target: Target, full_text: str) -> Span | None:
    if target.answer and _asked(talk.messages, target.index):
        found = answer_span(talk, target.index, full_text)
        return found or call_span(talk, target.index, full_text)
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
        failed = next(t for t, s in zip(targets, spans, strict=True) if s is None)
        raise UnprovableMask(_why(talk, failed))
    return _rendered(talk, asked[0], targets, [asked[1]])


def _why(talk: Conversation, target: Target) -> str:
    """Why the place of a message cannot be proven."""
    if target.answer and _asked(talk.messages, target.index):
        before, head = talk.text(target.index), talk.text(target.index, ask=True)
        upto = talk.text(target.index + 1)
        if head.startswith(before) and upto.startswith(before) and not upto.startswith(head):
            prompt = head[len(before) :].strip().replace("\n", "⏎")
            return f"it asks for an answer with “{prompt}”, and does not begin the answer with it"
    return "it changes earlier text"


def _rendered(
    talk: Conversation, full_text: str, targets: Sequence[Target], spans: Sequence[Span | None]
) -> Rendered:
    weights = tuple(t.weight for t in targets)
    found = tuple(s for s in spans if s is not None)
    added: dict[str, None] = {}
    for target, (start, end) in zip(targets, found, strict=True):
        if target.answer:
            shown = full_text[start:end]
            _refuse_lost(talk.messages[target.index], shown)
            added.update(dict.fromkeys(_added(talk, target.index, full_text, shown)))
    return Rendered(
        full_text,
        found,
        weights=weights if any(w != 1 for w in weights) else (),
        said=tuple(_said(talk.messages[t.index]) for t in targets),
        answered=bool(targets) and targets[-1].answer and found[-1][1] == len(full_text),
        left_out=tuple(added),
    )


def _added(talk: Conversation, index: int, full_text: str, shown: str) -> Iterator[str]:
    """What the template does to an answer that the row does not say: an empty thought before it; no
    beginning of its own generation prompt."""
    message = talk.messages[index]
    thinks = message.get("reasoning_content") or EMPTY_THOUGHT.match(str(message.get("content")))
    if not thinks and EMPTY_THOUGHT.match(shown):
        yield EMPTY
    if not _asked(talk.messages, index) or full_text.startswith(talk.text(index, ask=True)):
        return
    if full_text.startswith(talk.text(index)):
        yield PROMPT


def _said(message: Any) -> str:
    calls = message.get("tool_calls")
    said = str(message.get("content") or "")
    return said + json.dumps(calls, ensure_ascii=False, default=str) if calls else said
