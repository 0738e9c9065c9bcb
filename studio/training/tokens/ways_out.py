"""What a user can do about a row that the chat template leaves a part of, or refuses.

Every way is tried on the row itself before it is named: the templates of the library by rendering the
row with them, other settings by rendering it with these.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from studio import chat_templates
from studio.chat_templates import TemplateInfo
from studio.data.canonical import template_kwargs_of
from studio.training.tokens import left_out
from studio.training.tokens.chat import TemplateRefused
from studio.training.tokens.chat_choice import SAMPLE, library_source, missing_tokens
from studio.training.tokens.masks import UnprovableMask, render_row
from studio.training.tokens.spans import Conversation

Row = Mapping[str, Any]


@dataclass(frozen=True)
class WayOut:
    """Sentences that say what to do, and the template of the library that they name."""

    text: str
    template: str = ""


def way_out(tokenizer: Any, row: Row, train_on: str, code: str) -> WayOut:
    """What to do about a part that is left out; ``code`` is its kind (``left_out``)."""
    if code == left_out.KWARGS:
        return WayOut(_without_kwargs(tokenizer, row))
    if code == left_out.EMPTY:
        return WayOut(_without_empty(tokenizer, row, train_on))
    own = _lost(tokenizer, row, train_on) or ()
    other = _other_template(tokenizer, row, train_on, {*own} - {code})
    ways = []
    if other is not None:
        ways.append(f"choose the chat template “{other.title}” on the Train node")
    if code == left_out.THOUGHTS:
        if train_on == "all" and _keeps(tokenizer, row, "answers", code):
            ways.append("set “Train on” to Answers only")
        if _keeps(tokenizer, _inlined(row), train_on, code):
            ways.append("write the thoughts into the answers as <think>…</think>")
    if not ways:
        ways.append("use a model whose chat template shows it, or a custom template")
    return WayOut(_sentence(ways), other.id if other is not None else "")


def way_round(
    tokenizer: Any, row: Row, train_on: str, why: str, *, unprovable: bool = False
) -> WayOut:
    """What to do about a row that the template refuses, or does not show the answers of. What helped a
    row that was refused for the same reason is tried first: a file may have many."""
    key = str(tokenizer.chat_template), train_on, why
    known = _helped.get(key)
    if known is None or (known.template and not _helps(tokenizer, row, train_on, known.template)):
        known = _helped[key] = _way_round(tokenizer, row, train_on, unprovable=unprovable)
        while len(_helped) > _REMEMBERED:
            _helped.pop(next(iter(_helped)))
    return known


_helped: dict[tuple[str, str, str], WayOut] = {}
_REMEMBERED = 100


_MINOR = frozenset((left_out.EMPTY, left_out.KWARGS))
"""What a template that is proposed may add, or not read."""


def _helps(tokenizer: Any, row: Row, train_on: str, name: str) -> bool:
    source = library_source(tokenizer, chat_templates.template(name))
    return _loses_nothing(_with_source(tokenizer, source), row, train_on)


def _way_round(tokenizer: Any, row: Row, train_on: str, *, unprovable: bool) -> WayOut:
    other = _other_template(tokenizer, row, train_on, ())
    ways = []
    if other is not None:
        ways.append(f"choose the chat template “{other.title}” on the Train node")
    if unprovable:
        for name, value in _no_thinking(tokenizer):
            asked = {**row, "chat_template_kwargs": f'{{"{name}": {value}}}'}
            if _loses_nothing(tokenizer, asked, train_on):
                ways.append(f'set “Template arguments” to {{"{name}": {value}}}')
        if _loses_nothing(tokenizer, row, "all"):
            ways.append("set “Train on” to All tokens")
    elif _takes_others(tokenizer):
        ways.append("change that row")
    if not ways:
        ways.append("use a model with another chat template")
    return WayOut(_sentence(ways), other.id if other is not None else "")


def _loses_nothing(tokenizer: Any, row: Row, train_on: str) -> bool:
    """Whether the template takes the row and leaves out nothing of the conversation."""
    lost = _lost(tokenizer, row, train_on)
    return lost is not None and set(lost) <= {left_out.KWARGS}


def _without_kwargs(tokenizer: Any, row: Row) -> str:
    read = left_out.names_read(tokenizer) or ()
    names = ", ".join(f"“{n}”" for n in template_kwargs_of(row) if n not in read)
    return f"The first one has {names}. Remove them, or choose a chat template that reads them."


def _sentence(ways: list[str]) -> str:
    text = ", or ".join(ways)
    return text[0].upper() + text[1:] + "."


def _other_template(
    tokenizer: Any, row: Row, train_on: str, accepted: Collection[str]
) -> TemplateInfo | None:
    """The template of the library that takes the row and leaves out nothing but what is accepted;
    first those whose special tokens the model knows."""
    own = str(tokenizer.chat_template)
    found = []
    for number, info in enumerate(chat_templates.library()):
        chosen = _with_source(tokenizer, library_source(tokenizer, info))
        lost = _lost(chosen, row, train_on)
        if lost is None or not {*lost} <= {*accepted, *_MINOR}:
            continue
        unknown = [t for t in missing_tokens(tokenizer, info) if t not in own]
        shared = sum(t in own for t in info.tokens)
        minor = len(_MINOR.intersection(lost))
        found.append(((minor, len(unknown), -shared, number), info))
    return min(found, key=lambda pair: pair[0])[1] if found else None


def _with_source(tokenizer: Any, source: str) -> Any:
    chosen = copy.copy(tokenizer)
    chosen.chat_template = source
    return chosen


def _lost(tokenizer: Any, row: Row, train_on: str) -> tuple[str, ...] | None:
    """What the template leaves out of the row; ``None`` when it refuses it."""
    try:
        texts = render_row(tokenizer, dict(row), train_on)
    except (TemplateRefused, UnprovableMask):
        return None
    return tuple(dict.fromkeys(code for text in texts for code in text.left_out))


def _keeps(tokenizer: Any, row: Row, train_on: str, code: str) -> bool:
    """Whether the template takes the row without this finding."""
    lost = _lost(tokenizer, row, train_on)
    return lost is not None and code not in lost


def _inlined(row: Row) -> Row:
    """The row with its thoughts written into the answers."""
    messages = []
    for message in row.get("messages") or ():
        extra = json.loads(message.get("extra") or "{}")
        thought = extra.pop("reasoning_content", None)
        content = message["content"]
        if thought:
            content = f"<think>\n{thought}\n</think>\n\n{content}"
        messages.append({**message, "content": content, "extra": json.dumps(extra)})
    return {**row, "messages": messages}


def _without_empty(tokenizer: Any, row: Row, train_on: str) -> str:
    ways = ["give the rows thoughts (“reasoning_content”)"]
    for name, value in _no_thinking(tokenizer):
        asked = {**row, "chat_template_kwargs": f'{{"{name}": {value}}}'}
        if _keeps(tokenizer, asked, train_on, left_out.EMPTY):
            ways.append(
                f'set “Template arguments” to {{"{name}": {value}}}, with which the empty thought is '
                "given and not trained"
            )
    return _sentence(ways)


def _no_thinking(tokenizer: Any) -> Iterator[tuple[str, str]]:
    read = left_out.names_read(tokenizer) or ()
    for name in ("enable_thinking", "thinking"):
        if name in read:
            yield name, "false"


def _takes_others(tokenizer: Any) -> bool:
    """Whether the template takes a plain conversation, so that the row is the reason."""
    talk = Conversation(tokenizer, [*SAMPLE[1:3]])
    try:
        return bool(talk.text())
    except TemplateRefused:
        return False
