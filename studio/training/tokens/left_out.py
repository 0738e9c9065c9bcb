"""What the chat template omits of a conversation: a system message, tools, results of tools,
thoughts, calls, names.

Each part is rendered once more with a mark at its end. A mark that is missing in the text belongs to
a part that the template does not show. Where the marks change anything else in the text, each kind is
changed by itself: it is left out when that changes nothing.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from studio.chat_templates import names_in
from studio.preview.report import Severity
from studio.training.tokens.chat import Message, TemplateRefused
from studio.training.tokens.spans import THOUGHTS_END, Conversation, Wanted

SYSTEM, TOOLS, RESULTS = "lost_system", "lost_tools", "lost_results"
THOUGHTS, CALLS, NAMES = "lost_thoughts", "lost_calls", "lost_names"
TRAINED_CALLS, KWARGS = "lost_trained_calls", "lost_kwargs"
EMPTY, PROMPT = "empty_thoughts", "other_prompt"

WORDS: dict[str, tuple[Severity, str, str]] = {
    SYSTEM: (
        "warning",
        "In 1 row the chat template omits the system message.",
        "In {n} rows the chat template omits the system message.",
    ),
    TOOLS: (
        "warning",
        "In 1 row the chat template omits the tools, so the model does not see what it may call.",
        "In {n} rows the chat template omits the tools, so the model does not see what it may "
        "call.",
    ),
    RESULTS: (
        "warning",
        "In 1 row the chat template omits what a tool returned, so the model does not see what its "
        "answer is based on.",
        "In {n} rows the chat template omits what tools returned, so the model does not see what "
        "its answers are based on.",
    ),
    THOUGHTS: (
        "warning",
        "In 1 row the chat template omits the thoughts before an answer; they are not trained.",
        "In {n} rows the chat template omits the thoughts before answers; they are not trained.",
    ),
    CALLS: (
        "warning",
        "In 1 row the chat template omits a tool call that is context.",
        "In {n} rows the chat template omits tool calls that are context.",
    ),
    NAMES: (
        "warning",
        "In 1 row the chat template omits the name of a speaker.",
        "In {n} rows the chat template omits the names of speakers.",
    ),
    KWARGS: (
        "warning",
        "1 row has chat_template_kwargs that the chat template does not read.",
        "{n} rows have chat_template_kwargs that the chat template does not read.",
    ),
    PROMPT: (
        "warning",
        "In 1 row an answer does not begin as the generation prompt of the chat template does, with "
        "which the tuned model is asked.",
        "In {n} rows an answer does not begin as the generation prompt of the chat template does, with "
        "which the tuned model is asked.",
    ),
    EMPTY: (
        "info",
        "In 1 row the chat template adds an empty thought before an answer, which is trained.",
        "In {n} rows the chat template adds an empty thought before answers, which is trained.",
    ),
}
"""Severity, and the sentence for one row and for {n} rows, of report and run."""

Part = tuple[str, int]
"""A kind of part, and the message that has it (-1: none)."""

_MARK = "qZvK{}kVzQ"


def marked(talk: Conversation, only: Part | None = None) -> Conversation | None:
    """The conversation with a mark at the end of each part that a template may leave out, or of one of
    them; ``None`` if it has none."""
    numbers = itertools.count()
    marks: dict[str, Part] = {}

    def mark(kind: str, index: int) -> str:
        if only not in (None, (kind, index)):
            return ""
        made = _MARK.format(next(numbers))
        marks[made] = kind, index
        return made

    messages = [_with_marks(m, i, mark) for i, m in enumerate(talk.messages)]
    tools = talk.tools and [_with_name(tool, mark(TOOLS, -1)) for tool in talk.tools]
    made = replace(talk, messages=messages, tools=tools, ahead={}, marks=marks, marked=None)
    return made if marks else None


def _with_marks(message: Message, index: int, mark: Any) -> Message:
    found = dict(message)
    role, content = found["role"], str(found.get("content") or "")
    if role in ("system", "tool") and content:
        found["content"] = _ended(content, mark(SYSTEM if role == "system" else RESULTS, index))
    if role == "assistant" and (last := _last_thought(content)):
        found["content"] = _ended(content[:last], mark(THOUGHTS, index)) + content[last:]
    if found.get("reasoning_content"):
        found["reasoning_content"] = _ended(found["reasoning_content"], mark(THOUGHTS, index))
    if role != "tool" and found.get("name"):
        found["name"] = str(found["name"]) + mark(NAMES, index)
    if found.get("tool_calls"):
        found["tool_calls"] = [_with_name(c, mark(CALLS, index)) for c in found["tool_calls"]]
    return found


def _with_name(given: Message, mark: str) -> Message:
    """A tool or a call with the mark at the end of its name."""
    if given.get("function"):
        return {**given, "function": _with_name(given["function"], mark)}
    return {**given, "name": str(given.get("name", "")) + mark}


def _ended(text: str, mark: str) -> str:
    """The text with a mark before the blanks at its end, which templates remove."""
    last = len(text.rstrip())
    return text[:last] + mark + text[last:]


def _last_thought(content: str) -> int:
    """Where the last thought within an answer ends; 0 if there is none."""
    ends = [m.start() for m in THOUGHTS_END.finditer(content)]
    return ends[-1] if ends and content[: ends[-1]].strip() else 0


def wanted_marks(made: Conversation, trained: Sequence[int], *, at_once: bool) -> list[Wanted]:
    """The texts of the marked conversation that ``left_out`` looks at: the whole one, and up to each
    trained answer with a thought or a call, as it is trained."""
    own = {i + 1 for kind, i in made.marks.values() if kind in (THOUGHTS, CALLS) and i in trained}
    counts = {len(made.messages), *(() if at_once else own)}
    return [(count, False) for count in sorted(counts, reverse=True)]


def left_out(talk: Conversation, trained: Sequence[int], *, at_once: bool) -> tuple[str, ...]:
    """The kinds of parts that the template does not show. Thoughts and calls count where they are
    trained: in the text up to their answer, or in the whole one if all are trained ``at_once``."""
    found = [KWARGS] if unread(talk) else []
    shape = shape_of(talk, trained, at_once=at_once)
    known = _known.get(shape) if shape is not None else None
    if known is None:
        made = talk.marked or marked(talk)
        counts = wanted_marks(made, trained, at_once=at_once) if made is not None else ()
        lost = [
            kind
            for count, _ in counts
            if made is not None
            for kind in _missing(talk.first(count), made, trained, at_once)
        ]
        known = tuple(dict.fromkeys(lost))
        if shape is not None:
            _known[shape] = known
            if len(_known) > _MOST_KNOWN:
                _known.pop(next(iter(_known)))
    return (*found, *known)


# ------------------------------------------------------------------ rows alike

_MOST_KNOWN = 10_000
_known: dict[Any, tuple[str, ...]] = {}
"""What was found for a template and conversations of one shape."""

_INSPECTS = re.compile(
    r"\bin\b(?!\s*(?:loop_)?(?:messages|tools)\b)|with\(|split|find|replace|count|index\(|length|:\d|\d:"
    r"|(?:content|text)['\"\]]*\s*[=!<>]="
)
"""Signs that a template looks at what messages say: then the outcome may differ between rows."""


def shape_of(talk: Conversation, trained: Sequence[int], *, at_once: bool) -> Any:
    """Everything that decides what a template shows of a conversation if it does not look at what
    messages say; ``None`` if it may do so."""
    template = talk.tokenizer.chat_template
    if not isinstance(template, str) or _INSPECTS.search(template):
        return None
    messages = tuple(
        (
            m["role"],
            bool(m.get("content")),
            bool(_last_thought(str(m.get("content") or ""))),
            bool(m.get("reasoning_content")),
            bool(m.get("name")),
            len(m.get("tool_calls") or ()),
        )
        for m in talk.messages
    )
    kwargs = json.dumps(talk.kwargs, sort_keys=True, default=str)
    return template, at_once, tuple(trained), messages, len(talk.tools or ()), kwargs


def is_known(talk: Conversation, trained: Sequence[int], *, at_once: bool) -> bool:
    """Whether ``left_out`` needs no marks for this conversation."""
    shape = shape_of(talk, trained, at_once=at_once)
    return shape is not None and shape in _known


# ------------------------------------------------------------------ what is missing


def _missing(
    talk: Conversation, made: Conversation, trained: Sequence[int], at_once: bool
) -> Iterator[str]:
    """What is missing in the text of the first messages."""
    count = len(talk.messages)
    try:
        text, shown = talk.text(), made.text(count)
    except TemplateRefused:
        return
    lost = set()
    for mark, (kind, index) in made.marks.items():
        own = kind in (THOUGHTS, CALLS) and index in trained
        concerns = (at_once or index == count - 1) if own else count == len(made.messages)
        if concerns and mark not in shown and (own or kind != THOUGHTS):
            lost.add((kind, index, TRAINED_CALLS if kind == CALLS and own else kind))
    for mark in made.marks:
        shown = shown.replace(mark, "")
    for kind, index, name in sorted(lost):
        if shown == text or _changes_nothing(talk, (kind, index), text):
            yield name


def _changes_nothing(talk: Conversation, part: Part, text: str) -> bool:
    alone = marked(talk, part)
    try:
        return alone is not None and alone.text() == text
    except TemplateRefused:
        return False


# ------------------------------------------------------------------ variables of the template


def unread(talk: Conversation) -> tuple[str, ...]:
    """The row's ``chat_template_kwargs`` that the template does not read."""
    names = names_read(talk.tokenizer) if talk.kwargs else frozenset(talk.kwargs)
    return () if names is None else tuple(name for name in talk.kwargs if name not in names)


def names_read(tokenizer: Any) -> frozenset[str] | None:
    """The variables that the chat template reads; ``None`` where this is not known."""
    template = tokenizer.chat_template
    return names_in(template) if isinstance(template, str) else None
