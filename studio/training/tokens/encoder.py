"""Tokenizes rows into token ids and labels, stored as memory-mapped Arrow.

This happens once before the training loop, so that the result can be inspected and is not computed
again on resume. Labels are -100 for tokens that are not trained. Batches and padding come later.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, List, Value

from studio.errors import StudioError
from studio.graph.context import StepContext
from studio.model.damaged import reading
from studio.system import busy_files
from studio.training.data.arrow import RowWriter, open_rows
from studio.training.tokens import cache as token_cache
from studio.training.tokens.chat import (
    TemplateRefused,
    has_plain_template,
    load_tokenizer,
)
from studio.training.tokens.counts import Counts, refuse_empty, tell, tell_added_end
from studio.training.tokens.ends import Ends, written_end
from studio.training.tokens.labels import Encoded, encoded, span_of_tokens, token_pieces
from studio.training.tokens.masks import IGNORED, Rendered, UnprovableMask, render_row, talks_of
from studio.training.tokens.pieces import pieces_of
from studio.training.tokens.spans import Conversation
from studio.training.tokens.ways_out import way_out, way_round
from studio.values import DatasetValue

__all__ = ["IGNORED", "Encoded", "Encoder", "Tokenized", "load_tokenizer", "tokenize_dataset"]

FEATURES = Features(
    {
        "input_ids": List(Value("int32")),
        "labels": List(Value("int32")),
        "weights": List(Value("float32")),
        "line": Value("int64"),
        "source": Value("string"),
        "row": Value("int64"),
    }
)
_ROWS_AT_ONCE = 128
_RENDERED_AT_ONCE = 32
_CHARACTERS_AT_ONCE = 200_000


@dataclass(frozen=True)
class Tokenized:
    """The tokenized rows: ``input_ids`` and ``labels`` of equal length per row, and ``weights``,
    which is null when all trained tokens have weight 1.

    ``line`` and ``source`` are the row's position in the user's files, ``row`` its index in its
    split; some templates, and long texts, turn one row into several.
    """

    train: Dataset
    validation: Dataset | None
    counts: Counts


@dataclass(frozen=True)
class Origin:
    """Where a row comes from: the line of the file ``source``, and the index in its split."""

    line: int
    source: str
    row: int


@dataclass(frozen=True)
class Encoder:
    """Turns canonical rows into token ids and labels for one tokenizer."""

    tokenizer: Any
    max_length: int
    train_on: str = "answers"
    end_token: str = "auto"
    bos: str = "auto"
    long_text: str = "cut"

    def encode(self, texts: list[Rendered]) -> list[Encoded]:
        """Ids, labels and weights of rendered texts before truncation, in one call of the tokenizer."""
        fast = bool(self.tokenizer.is_fast)
        with reading(Path(self.tokenizer.name_or_path), "tokenizer"):
            batch = self.tokenizer(
                [t.text for t in texts],
                add_special_tokens=False,
                verbose=False,
                return_attention_mask=False,
                return_offsets_mapping=fast,
            )
        offsets = batch["offset_mapping"] if fast else [None] * len(texts)
        return [
            self._finish(t, ids, o)
            for t, ids, o in zip(texts, batch["input_ids"], offsets, strict=True)
        ]

    def _finish(self, item: Rendered, ids: list[int], offsets: Any) -> Encoded:
        if self.train_on == "all":
            owners: list[int] | None = [0] * len(ids)
        else:
            owners = span_of_tokens(offsets, item.spans) if offsets is not None else None
        if owners is None:
            ids, owners = token_pieces(self.tokenizer, item.text, item.spans)
        row = encoded(ids, owners, item.weights)
        if item.raw:
            return self.ends.raw(row, train_bos=self.train_on == "all")
        return self.ends.answered(row) if item.answered else row

    def rows_of(self, text: Rendered, row: Encoded) -> list[Encoded]:
        """The training rows of an encoded text: the text itself before truncation, or the pieces of
        a long plain text that is to be divided.
        """
        if text.plain and self.long_text == "split" and len(row.ids) > self.max_length:
            return pieces_of(row, self.max_length)
        return [row]

    @cached_property
    def ends(self) -> Ends:
        """The rules for BOS and end token."""
        return Ends(self.tokenizer, self.end_token, self.bos)


def tokenize_dataset(
    context: StepContext,
    dataset: DatasetValue,
    tokenizer: Any,
    *,
    max_length: int,
    train_on: str,
    folder: Path,
    end_token: str = "auto",
    bos: str = "auto",
    long_text: str = "cut",
) -> Tokenized:
    """Tokenize every row of ``dataset`` into ``folder`` and open the result.

    Rows are truncated to ``max_length`` tokens; with ``long_text="split"`` plain text is divided
    into pieces instead. A row without trained tokens is excluded and counted. Raises
    ``StudioError`` when no token would be trained, when the chat template refuses a row, or when
    the position of the answer in the text cannot be proven.
    """
    refuse_shape(context, dataset)
    context.phase("tokenize", "Tokenizing")
    busy_files.tidy(folder)
    encoder = Encoder(tokenizer, max_length, train_on, end_token, bos, long_text)
    train, held_out = _from_cache(context, dataset, encoder, folder)
    plain = has_plain_template(tokenizer) and dataset.format != "text"
    if dataset.shape == "messages" and end_token == "auto" and not encoder.ends.template_ends:
        tell_added_end(context, tokenizer)
    tell(context, train, held_out, max_length, plain, plain_text=dataset.shape == "text")
    validation = open_rows(folder / "validation") if held_out.rows else None
    return Tokenized(open_rows(folder / "train"), validation, train)


def refuse_shape(context: StepContext, dataset: DatasetValue) -> None:
    """Raise ``StudioError`` for rows that supervised fine-tuning does not support."""
    what = {"preference": "preferences", "label": "labels for good and bad answers"}.get(
        dataset.shape
    )
    if what:
        raise StudioError(
            f"the rows contain {what}, which supervised fine-tuning does not use.",
            title="Data for another objective",
            hint="Choose another format in the Dataset node, or other data.",
            field="objective",
            code="wrong_shape",
            file=dataset.sources[0] if dataset.sources else None,
        )


def _from_cache(
    context: StepContext, dataset: DatasetValue, encoder: Encoder, folder: Path
) -> tuple[Counts, Counts]:
    """Take the tokens from the cache, or tokenize and cache them; returns the counts of both splits."""
    if not token_cache.limit_bytes():
        return _write(context, dataset, encoder, folder, dataset.sha256)
    key = token_cache.key_of(Path(dataset.path), encoder, context.check)
    counts = token_cache.fetch(key, folder, context.check)
    if counts is not None:
        context.notice(
            "Tokens read from the cache: rows, tokenizer and settings have not changed.",
            level="info",
        )
        return Counts(**counts["train"]), Counts(**counts["validation"])
    train, held_out = _write(context, dataset, encoder, folder, key)
    counts = {"train": asdict(train), "validation": asdict(held_out)}
    token_cache.store(key, folder, counts, context.check)
    return train, held_out


def _write(
    context: StepContext, dataset: DatasetValue, encoder: Encoder, folder: Path, name: str
) -> tuple[Counts, Counts]:
    """Tokenize both splits; ``name`` identifies the content."""
    train, held_out = Counts(), Counts()
    _write_split(context, encoder, dataset, folder / "train", name[:16], train)
    refuse_empty(context, dataset, train, encoder.max_length)
    if dataset.validation_rows:
        _write_split(context, encoder, dataset, folder / "validation", name[:16], held_out)
    return train, held_out


def _write_split(
    context: StepContext,
    encoder: Encoder,
    dataset: DatasetValue,
    target: Path,
    name: str,
    counts: Counts,
) -> None:
    """Tokenize one split; the name of ``target`` is the split."""
    rows = open_rows(Path(dataset.path) / target.name)
    before = dataset.train_rows if target.name == "validation" else 0
    total = dataset.train_rows + dataset.validation_rows
    with RowWriter(target, FEATURES, f"{name}-{target.name}") as writer:
        for texts, origins, done in _batches(context, encoder, rows, counts):
            writer.write(_columns(_kept(encoder, texts, origins, counts)))
            context.progress("tokenize", before + done, total, "rows")


def _columns(rows: list[tuple[Encoded, Origin]]) -> dict[str, list[Any]]:
    """The values of ``FEATURES``."""
    return {
        "input_ids": [r.ids for r, _ in rows],
        "labels": [r.labels for r, _ in rows],
        "weights": [r.weights for r, _ in rows],
        "line": [o.line for _, o in rows],
        "source": [o.source for _, o in rows],
        "row": [o.row for _, o in rows],
    }


def _batches(
    context: StepContext, encoder: Encoder, rows: Dataset, counts: Counts
) -> Iterator[tuple[list[Rendered], list[Origin], int]]:
    """Batches of rendered texts with their origins, and the number of rows done."""
    texts: list[Rendered] = []
    origins: list[Origin] = []
    size = 0
    for index, (row, parts) in enumerate(_rendered_rows(encoder, rows)):
        if len(parts) > 1:
            counts.note("split", row["line"])
        for code in dict.fromkeys(c for p in parts for c in p.left_out):
            counts.note_left_out(code, row["line"])
            if code not in counts.ways:
                found = way_out(encoder.tokenizer, row, encoder.train_on, code)
                counts.ways[code] = found.text
        if written_end(encoder.tokenizer, row):
            counts.note("ended", row["line"])
        texts += parts
        origins += [Origin(row["line"], row["source"], index)] * len(parts)
        size += sum(len(r.text) for r in parts)
        if len(texts) >= _ROWS_AT_ONCE or size >= _CHARACTERS_AT_ONCE:
            yield texts, origins, index + 1
            texts, origins, size = [], [], 0
    if texts:
        yield texts, origins, len(rows)


def _rendered_rows(
    encoder: Encoder, rows: Iterable[dict[str, Any]]
) -> Iterator[tuple[dict[str, Any], list[Rendered]]]:
    """Each row with its training texts; raises ``StudioError`` with the line of one that is refused."""
    for some in _groups(rows):
        talks = talks_of(encoder.tokenizer, some, encoder.train_on)
        yield from ((r, rendered(encoder, r, t)) for r, t in zip(some, talks, strict=True))


def _groups(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    rest = iter(rows)
    while some := list(itertools.islice(rest, _RENDERED_AT_ONCE)):
        yield some


def rendered(
    encoder: Encoder, row: dict[str, Any], talk: Conversation | None = None
) -> list[Rendered]:
    """The row's training texts, from its conversation when that is there already; raises
    ``StudioError`` with its line."""
    where = {"file": row["source"], "line": row["line"]}
    place = f"{Path(row['source']).name}, line {row['line']}"
    try:
        return render_row(encoder.tokenizer, row, encoder.train_on, talk)
    except TemplateRefused as error:
        way = way_round(encoder.tokenizer, row, encoder.train_on, str(error))
        raise StudioError(
            f"the chat template rejects {place}: {str(error).rstrip('.!')}.",
            title="The chat template rejects a row",
            hint=way.text,
            code="template_refused",
            field="chat_template",
            **where,
        ) from error
    except UnprovableMask as error:
        way = way_round(encoder.tokenizer, row, encoder.train_on, str(error), unprovable=True)
        raise StudioError(
            f"the chat template of this model does not show which tokens of {place} belong to "
            f"the answer, because {error}.",
            title="The answers cannot be located",
            hint=way.text,
            code="unstable_template",
            field="chat_template" if way.template else "train_on",
            **where,
        ) from error


def _kept(
    encoder: Encoder, texts: list[Rendered], origins: list[Origin], counts: Counts
) -> list[tuple[Encoded, Origin]]:
    """The rows with at least one trained token within the limit; the first token of a row is never predicted."""
    kept = []
    for row, origin in _in_pieces(encoder, texts, origins, counts):
        if len(row.ids) > encoder.max_length:
            counts.note("cut", origin.line)
            row = row.cut(encoder.max_length)
        trained = sum(v != IGNORED for v in row.labels[1:])
        if not trained or (row.weights is not None and not any(row.weights[1:])):
            counts.note("dropped", origin.line)
            continue
        counts.rows += 1
        counts.tokens += len(row.ids)
        counts.trained += trained
        kept.append((row, origin))
    return kept


def _in_pieces(
    encoder: Encoder, texts: list[Rendered], origins: list[Origin], counts: Counts
) -> Iterator[tuple[Encoded, Origin]]:
    """Every row with its origin; long plain text is divided into pieces if so configured."""
    for text, row, origin in zip(texts, encoder.encode(texts), origins, strict=True):
        pieces = encoder.rows_of(text, row)
        if len(pieces) > 1:
            counts.note("divided", origin.line)
            counts.pieces += len(pieces)
        yield from ((piece, origin) for piece in pieces)
