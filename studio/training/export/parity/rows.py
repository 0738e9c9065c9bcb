"""The rows on which an export is compared with the trained model: held-out ones of this project.

Tokens and expected answers are those of the training: the same encoder makes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from studio.errors import StudioError
from studio.node_settings.train import TrainSettings
from studio.training.answer.questions import Question
from studio.training.data.arrow import open_rows
from studio.training.tokens.as_trained import settings_as_trained
from studio.training.tokens.chat import TemplateRefused, render
from studio.training.tokens.encoder import IGNORED, Encoder, rendered
from studio.training.tokens.masks import conversation_of
from studio.values import AdapterValue, DatasetValue, ModelValue

LONGEST = 512
"""Tokens of a row that are used."""
_ANSWER = 64
"""Tokens of an answer among which positions are chosen."""
_POSITIONS = 96
_PROBABILITIES = 8_000_000
"""The numbers that are stored: positions by vocabulary."""
MOST_NEW = 48
_GENERAL = (
    "The capital of France is",
    "def add(a, b):\n    return",
    "Once upon a time there was a small house at the edge of a wood, and in it",
)


@dataclass(frozen=True)
class Asked:
    """A row: its tokens, the positions whose token is predicted (each from the tokens before it), the length of the
    prompt, and, for rows with an answer, the question. ``chat`` holds the messages before the answer, if it is a
    conversation, and ``prompt`` their text by the chat template."""

    ids: list[int]
    places: list[int]
    start: int
    question: Question | None = None
    chat: tuple[list[dict[str, Any]], Any, Any] | None = None
    prompt: str = ""


@dataclass(frozen=True)
class HeldOut:
    """The rows, and what they are in words. ``labelled``: their tokens are expected ones, so that a loss can be
    computed. ``ends`` are the tokens with which their answers end."""

    rows: list[Asked]
    source: str
    labelled: bool
    ends: set[int] = field(default_factory=set)

    @property
    def labels(self) -> list[int]:
        """The expected token of every position."""
        return [row.ids[place] for row in self.rows for place in row.places]

    @property
    def questions(self) -> list[Question]:
        """The questions, if every row has one whose answer is short enough to be generated."""
        found = [row.question for row in self.rows if row.question is not None]
        short = all(q.tokens <= MOST_NEW for q in found)
        return found if short and len(found) == len(self.rows) else []

    @property
    def new_tokens(self) -> int:
        """The number of tokens to generate for each prompt."""
        longest = max((q.tokens for q in self.questions), default=0)
        return min(MOST_NEW, longest + max(4, longest // 4)) if longest else 16


def held_out(
    trained: AdapterValue | None,
    evaluated: DatasetValue | None,
    tokenizer: Any,
    wanted: int,
    vocabulary: int,
) -> HeldOut:
    """Evenly spaced rows: the validation rows of the training, those of an evaluation of the same model, else the
    training rows; general texts if there are none. Not more positions than the vocabulary allows."""
    dataset = trained.dataset if trained is not None else None
    most = max(8, min(_POSITIONS, _PROBABILITIES // max(vocabulary, 1)))
    wanted = min(wanted, most)
    choices = [(evaluated, "train", "evaluated rows")] if evaluated is not None else []
    if evaluated is not None and evaluated.validation_rows:
        choices = [(evaluated, "validation", "evaluated rows")]
    if dataset is not None:
        if dataset.validation_rows:
            choices.append((dataset, "validation", "validation rows"))
        choices.append((dataset, "train", "training rows, because none are held out"))
    settings = settings_as_trained(trained.train if trained is not None else {})
    for chosen, split, words in choices:
        rows, ends = _encoded(chosen, split, tokenizer, settings, wanted, most)
        if rows:
            return HeldOut(rows, f"{len(rows)} {words}", True, ends)
    return HeldOut(_general(tokenizer), "general texts, because there are no rows", False)


def _encoded(
    dataset: DatasetValue,
    split: str,
    tokenizer: Any,
    settings: TrainSettings,
    wanted: int,
    most: int,
) -> tuple[list[Asked], set[int]]:
    folder = Path(dataset.path) / split
    if not folder.is_dir() or dataset.shape not in ("messages", "prompt", "text"):
        return [], set()
    stored = open_rows(folder)
    count = min(wanted, len(stored))
    encoder = Encoder(
        tokenizer,
        min(settings.max_length, LONGEST),
        "last_answer",
        settings.end_token,
        settings.bos,
    )
    each = max(1, most // max(count, 1))
    found, ends = [], set()
    for index in range(count):
        try:
            asked = _asked(encoder, stored[index * len(stored) // count], each)
        except (StudioError, TemplateRefused):
            continue  # a row that the template rejects was no training row either
        if asked is not None:
            found.append(asked)
            if asked.question is not None and encoder.ends.is_ended(asked.ids):
                ends.add(_last(encoder, asked.ids))
    return found, ends


def _last(encoder: Encoder, ids: list[int]) -> int:
    known = encoder.tokenizer.added_tokens_decoder
    return next((i for i in reversed(ids) if i in known), ids[-1])


def _asked(encoder: Encoder, row: dict[str, Any], each: int) -> Asked | None:
    tokenizer = encoder.tokenizer
    (*_, text) = rendered(encoder, row)
    (coded,) = encoder.encode([text])
    answered = text.answered and not text.plain
    coded = coded.cut(encoder.max_length)
    trained = [i for i, label in enumerate(coded.labels) if label != IGNORED and i]
    if not trained:
        return None
    start = trained[0] if answered else max(1, len(coded.ids) // 2)
    block = [i for i in trained if i >= start][:_ANSWER]
    if not block:
        return None
    places = _spread(block, each)
    if not answered:
        return Asked(coded.ids, places, start)
    said = coded.ids[start:]
    expected = text.said[-1] if text.said else row.get("completion") or ""
    taught = str(tokenizer.decode(said, skip_special_tokens=True))
    question = Question("", coded.ids[:start], expected, taught, len(said))
    chat, prompt = None, ""
    talk = conversation_of(tokenizer, row) if row.get("messages") else None
    answers = [i for i, m in enumerate(talk.messages) if m["role"] == "assistant"] if talk else []
    if talk is not None and answers:
        last = answers[-1]
        messages = [dict(m) for m in talk.messages[:last]]
        prompt = render(tokenizer, messages, ask=True, tools=talk.tools, kwargs=talk.kwargs)
        chat = (messages, talk.tools, talk.kwargs)
    return Asked(coded.ids, places, start, question, chat, prompt)


def _spread(places: Sequence[int], count: int) -> list[int]:
    """At most ``count`` of the positions, evenly spaced, with the first and the last one."""
    if len(places) <= count:
        return list(places)
    if count == 1:
        return [places[0]]
    return [places[round(i * (len(places) - 1) / (count - 1))] for i in range(count)]


def _general(tokenizer: Any) -> list[Asked]:
    found = []
    for text in _GENERAL:
        ids = tokenizer(text, verbose=False)["input_ids"]
        found.append(Asked(ids, list(range(1, len(ids))), len(ids)))
    return [a for a in found if a.places]


def trained_as(value: AdapterValue | ModelValue) -> AdapterValue | None:
    """The training whose result it is; ``None`` for a model that was not trained here."""
    if isinstance(value, AdapterValue):
        return value
    if not value.merged_from:
        return None
    return AdapterValue.model_validate(value.merged_from[-1]["adapter"])
