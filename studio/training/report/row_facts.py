"""The facts of one row for the report: its token counts and its findings.

They come from the encoder and the flags of ``studio.training.report.row_flags``, so that they match
the training. Totals over rows are in ``studio.training.report.totals``.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotDone
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from studio.data.rendered_chat import rendered_style
from studio.errors import StudioError, errors_of
from studio.preview.tokens import RowFlags
from studio.training.data.by_number import Item
from studio.training.report.control_tokens import control_token_in
from studio.training.report.row_checks import damage, role_error, texts_of
from studio.training.report.row_flags import flags_of
from studio.training.tokens import left_out
from studio.training.tokens.encoder import Encoder, rendered
from studio.training.tokens.ends import written_end
from studio.training.tokens.labels import Encoded
from studio.training.tokens.masks import Rendered, talks_of
from studio.training.tokens.spans import Conversation

T = TypeVar("T")
GIANT = 1_000_000
"""A row with more characters is tokenized in a thread: about a second per million characters."""
_CHARACTERS_AT_ONCE = 200_000
_WAIT_S = 0.05


_LEFT_OUT = {
    left_out.SYSTEM: "the system message",
    left_out.TOOLS: "the tools",
    left_out.RESULTS: "the result of a tool",
    left_out.THOUGHTS: "the thoughts",
    left_out.CALLS: "a tool call",
    left_out.NAMES: "the name of a speaker",
    left_out.KWARGS: "chat_template_kwargs",
    left_out.PROMPT: "begins differently",
    left_out.EMPTY: "an empty thought",
}


@dataclass(frozen=True)
class Facts:
    """One row.

    ``parts`` has the counts of each training row made from it; ``marks`` maps the codes of its
    findings (``studio.preview.report``) to short texts.
    """

    item: Item
    parts: tuple[RowFlags, ...] = ()
    marks: Mapping[str, str] = field(default_factory=dict)

    @property
    def row(self) -> Mapping[str, Any] | None:
        """The stored row, if it can be read."""
        return self.item.row

    @property
    def divided(self) -> bool:
        """Whether the parts are pieces of one long text."""
        return len(self.parts) > 1 and self.parts[-1].continues

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of the row before truncation: one number for each training row."""
        if self.divided:
            return (sum(p.total - p.continues for p in self.parts),)
        return tuple(p.total for p in self.parts)


def facts_of(title: str, encoder: Encoder, items: Sequence[Item]) -> Iterator[Facts | None]:
    """The facts of each item, in order; ``None`` while a giant row is tokenized."""
    waiting: list[tuple[Item, list[Rendered], StudioError | None]] = []
    size = 0
    talks = _talks(encoder, items)
    for place, item in enumerate(items):
        texts, refused = _texts_of(title, encoder, item, talks.get(place))
        waiting.append((item, texts, refused))
        size += sum(len(t.text) for t in texts)
        if size >= _CHARACTERS_AT_ONCE or place == len(items) - 1:
            yield from _encoded(encoder, waiting, giant=size > GIANT)
            waiting, size = [], 0


def _texts_of(
    title: str, encoder: Encoder, item: Item, talk: Conversation | None
) -> tuple[list[Rendered], StudioError | None]:
    """The training texts of a row, or why there are none."""
    if item.row is None:
        return [], None
    try:
        _refuse_other_shapes(item.row)
        with errors_of(title):
            return rendered(encoder, dict(item.row), talk), None
    except StudioError as error:
        return [], error


def _encoded(
    encoder: Encoder,
    waiting: Sequence[tuple[Item, list[Rendered], StudioError | None]],
    *,
    giant: bool,
) -> Iterator[Facts | None]:
    """The facts of rows that are tokenized in one call."""
    everything = [t for _, texts, _ in waiting for t in texts]
    rows: list[Encoded] = []
    if giant:
        rows = yield from in_thread(partial(encoder.encode, everything))
    elif everything:
        rows = encoder.encode(everything)
    encoded = iter(rows)
    for item, texts, refused in waiting:
        parts = tuple(f for t in texts for f in flags_of(encoder, t, next(encoded)))
        yield _facts(encoder.tokenizer, item, parts, refused)


def in_thread(tokenize: Callable[[], T]) -> Generator[None, None, T]:
    """The result of a function that tokenizes much; yields while it is computed in a thread."""
    pool = ThreadPoolExecutor(1)  # the tokenizer releases the interpreter lock
    done = pool.submit(tokenize)
    pool.shutdown(wait=False)
    while not done.done():
        with suppress(NotDone):
            done.result(_WAIT_S)
        yield None
    return done.result()


def _talks(encoder: Encoder, items: Sequence[Item]) -> dict[int, Conversation | None]:
    """The conversations of the rows, by place; rendered together."""
    rows = {place: dict(item.row) for place, item in enumerate(items) if item.row is not None}
    talks = talks_of(encoder.tokenizer, list(rows.values()), encoder.train_on)
    return dict(zip(rows, talks, strict=True))


def _facts(
    tokenizer: Any, item: Item, parts: tuple[RowFlags, ...], refused: StudioError | None
) -> Facts:
    if item.row is None:
        code = "broken_file" if item.ends_file else "bad_row"
        return Facts(item, (), {code: _message(item.error) or "it cannot be read"})
    marks = _text_marks(tokenizer, item.row)
    if item.unused:
        marks["unused_column"] = ", ".join(f"“{name}”" for name in item.unused)
    if refused is not None:
        return Facts(item, (), {"refused_row": _message(refused), **marks})
    facts = Facts(item, parts)
    return replace(facts, marks={**_token_marks(facts), **marks})


def is_giant(row: Mapping[str, Any]) -> bool:
    """Whether tokenizing the row takes so long that it is done in a thread."""
    return sum(len(t) for t in texts_of(row)) > GIANT


def _message(error: StudioError | None) -> str:
    """The error and its hint."""
    return f"{error.sentence} {error.hint or ''}".strip() if error else ""


def _refuse_other_shapes(row: Mapping[str, Any]) -> None:
    """Raise ``StudioError`` for rows that supervised training does not support (as ``tokenize_dataset`` does)."""
    for name, what in (("chosen", "a preference"), ("label", "a label of a good or bad answer")):
        if row.get(name) is not None:
            raise StudioError(
                f"it is {what}, which this objective does not use.",
                hint="Choose another format in the Dataset node, or other data.",
            )


def _token_marks(facts: Facts) -> dict[str, str]:
    """The findings about the row's tokens."""
    parts, total = facts.parts, sum(facts.lengths)
    marks = {}
    if all(p.zero_trained for p in parts):
        cut = any(p.answer_cut for p in parts)
        marks["zero_trained"] = (
            "the answer is beyond the maximum length" if cut else "no answer to train on"
        )
    if any(p.cut for p in parts):
        marks["cut_text" if parts[0].plain else "cut_row"] = f"{total} tokens"
    if facts.divided:
        marks["split_text"] = f"{total} tokens, {len(parts)} rows"
    if any(p.answer_cut for p in parts):
        marks["cut_answer"] = f"{total} tokens"
    if any(p.missing_end for p in parts):
        marks["missing_end"] = "no end token after the answer"
    if any(p.double_bos for p in parts):
        marks["double_bos"] = "starts with two BOS tokens"
    if any(p.empty_answer for p in parts):
        marks["empty_answer"] = "an empty answer"
    if any(p.one_token_answer for p in parts):
        marks["one_token_answer"] = "a one-token answer"
    marks.update({code: _LEFT_OUT[code] for p in parts for code in p.left_out})
    return marks


def _text_marks(tokenizer: Any, row: Mapping[str, Any]) -> dict[str, str]:
    style, end = rendered_style(row), written_end(tokenizer, row)
    control = "" if style else control_token_in(tokenizer, row)
    marks = {
        "role_error": role_error(row),
        "rendered_chat": style and f"in the style of {style}",
        "control_tokens": control and f"“{control}” in its text",
        "written_end": end and f"ends with “{end}”",
    }
    marks["encoding"] = next((d for t in texts_of(row) if (d := damage(t))), "")
    return {code: words for code, words in marks.items() if words}
