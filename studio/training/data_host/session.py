"""The opened data of the data host, and the answers to requests about it.

Each public method answers the request of the same name (``studio.preview.protocol``) as a
generator, which the host advances. Weights are never loaded.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from studio.data.canonical import content_hash
from studio.errors import StudioError, errors_of
from studio.graph.registry import load_registry
from studio.preview.protocol import DATA_CHANGED, Kind
from studio.preview.report import SUSPICIOUS
from studio.preview.tokens import TokenRow
from studio.runs.token_request import TokenRequest, request_from_json
from studio.training.data.by_number import Item, Rows
from studio.training.data.source_order import SourceRow
from studio.training.data_host.batch_view import (
    TrainingRows,
    Unit,
    batch_of,
    is_padded,
    padded,
    padding_of,
)
from studio.training.data_host.open_source import Opener, Say
from studio.training.data_host.preview import preview
from studio.training.data_host.token_view import view_rows
from studio.training.model.quiet import quiet_libraries
from studio.training.report import row_facts
from studio.training.report.fixes import setting_of
from studio.training.report.make import PROGRESS_EVERY_S, Pace, ReportMaker
from studio.training.report.row_facts import Facts, facts_of, in_thread, is_giant
from studio.training.report.row_index import RowIndex
from studio.training.tokens.chat_choice import (
    rendered_samples,
    unread_arguments,
    with_template,
)
from studio.training.tokens.encoder import Encoder, load_tokenizer
from studio.training.tokens.limits import learned_positions

Answer = Iterator[tuple[Kind, Mapping[str, Any]] | None]
T = TypeVar("T")
Waiting = Generator[None, None, T]
MOST_ROWS = 500
MOST_CHARACTERS = 20_000_000


@dataclass(frozen=True)
class Opened:
    """Rows and tokenizer of one request."""

    request: TokenRequest
    rows: Rows
    encoder: Encoder
    folder: Path
    index: RowIndex
    units: list[Unit] = field(default_factory=list)


class Session:
    """The opened data; ``title`` is the title of its Train node."""

    def __init__(self, work: Path, stopped: Callable[[], bool], say: Say) -> None:
        self.title = ""
        self._registry = load_registry()
        self._opener = Opener(self._registry, work, stopped, say)
        self._open: Opened | None = None
        self._tokenizers: dict[Path, Any] = {}
        quiet_libraries()

    # -------------------------------------------------------------- requests

    def open(self, asked: Mapping[str, Any]) -> Answer:
        """Open data and tokenizer."""
        if self._open is not None:
            self._open.rows.close()
        self._open = None
        request = request_from_json(asked["request"])
        self.title = request.title
        runs = Path(asked["runs"])
        rows = self._opener.rows(request, runs)
        try:
            folder = self._opener.model_folder(request, runs)
            request = as_taken(request, learned_positions(folder))
            encoder = encoder_of(self._tokenizer(folder), request.settings, request.title)
        except BaseException:
            rows.close()
            raise
        self._open = Opened(request, rows, encoder, folder, RowIndex(rows.count))
        yield (
            "result",
            {
                "tokenizer": str(folder),
                "rows": rows.count,
                "max_length": request.max_length,
            },
        )

    def rows(self, asked: Mapping[str, Any]) -> Answer:
        """Rows with their tokens, or the rows of a batch."""
        data = self._opened()
        if asked.get("batch"):
            yield from one_batch(data, max(1, int(asked["batch"])))
            return
        first = max(1, int(asked.get("first", 1)))
        limit = min(MOST_ROWS, int(asked.get("limit", 50)))
        items = data.rows.rows(first, min(data.rows.count, first + limit - 1))
        views = yield from _flagged(data, items)
        yield "result", {"rows": [v.to_json() for v in views], "count": data.rows.count}

    def report(self, asked: Mapping[str, Any]) -> Answer:
        """The data report over all rows."""
        del asked
        data = self._opened()
        unread = unread_arguments(self._tokenizer(data.folder), data.request.settings)
        yield from ReportMaker(
            data.request,
            data.rows,
            data.encoder,
            data.index,
            _longest_taken(data.folder),
            tuple(f"The chat template does not read the argument “{name}”." for name in unread),
        ).run()

    def templates(self, asked: Mapping[str, Any]) -> Answer:
        """The available chat templates, and the sample conversation rendered by each."""
        del asked
        samples = rendered_samples(self._tokenizer(self._opened().folder))
        yield "result", {"templates": [{**s, "sample": s["text"]} for s in samples]}

    def preview(self, asked: Mapping[str, Any]) -> Answer:
        """Rows as a Dataset node with these settings reads them."""
        variants = self._registry.variants["format"]
        place = Path(asked["project_dir"])
        first, limit = max(1, int(asked.get("first", 1))), int(asked.get("limit", 20))
        yield "result", preview(asked["settings"], place, variants, first, limit)

    def next_suspicious(self, asked: Mapping[str, Any]) -> Answer:
        """Search after row ``after``, in slices, for a row with one of the flags."""
        data = self._opened()
        kinds = tuple(asked.get("kinds") or SUSPICIOUS)
        yield from next_suspicious(data, int(asked.get("after", 0)), kinds)

    # -------------------------------------------------------------- parts

    def _opened(self) -> Opened:
        if self._open is None:
            raise StudioError("No data is open.", hint="Open it first.", code="not_open")
        if self._open.rows.has_changed():
            self._open.rows.close()
            self._open = None
            raise StudioError(
                "A file of the data has changed.", hint="Open the data again.", code=DATA_CHANGED
            )
        return self._open

    def release(self) -> None:
        """Close the files of the data until the next request."""
        if self._open is not None:
            self._open.rows.release()

    def _tokenizer(self, folder: Path) -> Any:
        if folder not in self._tokenizers:
            self._tokenizers[folder] = load_tokenizer(folder)
        return self._tokenizers[folder]


def encoder_of(tokenizer: Any, settings: Mapping[str, Any], title: str = "Train") -> Encoder:
    """The encoder of a training with these settings of the Train node."""
    rules = {n: settings[n] for n in ("end_token", "bos", "long_text") if n in settings}
    with errors_of(title):
        chosen = with_template(tokenizer, settings)
    return Encoder(chosen, int(settings["max_length"]), str(settings["train_on"]), **rules)


def as_taken(request: TokenRequest, positions: int | None) -> TokenRequest:
    """The request with the effective maximum length, which is limited by the number of learned
    ``positions`` (``studio.training.tokens.limits``).
    """
    if positions is None or positions >= request.max_length:
        return request
    return replace(request, settings={**request.settings, "max_length": positions})


def _longest_taken(folder: Path) -> int | None:
    """The maximum number of tokens of the model, if its weights or config define it."""
    positions = learned_positions(folder)
    if positions is not None:
        return positions
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return int(config.get("text_config", config)["max_position_embeddings"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def next_suspicious(data: Opened, after: int, kinds: Sequence[str]) -> Answer:
    """Look on behind row ``after``, in slices, until a row has one of the flags."""
    pace, reported = Pace(), time.monotonic()
    while True:
        number, hit = data.index.next(after, kinds)
        if hit or not number:
            yield "result", {"number": number, "flags": data.index.of(number) if hit else ()}
            return
        started = time.monotonic()
        items = data.rows.rows(number, min(data.rows.count, number + pace.rows - 1))
        for facts in facts_of(data.request.title, data.encoder, items):
            if facts is None:
                yield None
                continue
            data.index.put(facts.item.number, _marks(data.index, facts))
        after = number - 1
        pace.took(time.monotonic() - started)
        if started - reported >= PROGRESS_EVERY_S:
            reported = started
            yield "progress", _searching(number, data.rows.count)
        yield None


def _marks(index: RowIndex, facts: Facts) -> list[str]:
    """The codes of a row, including whether it duplicates an earlier one."""
    if facts.item.split == "left_out":
        return []
    again = facts.row is not None and index.says_again(facts.item.number, content_hash(facts.row))
    return [*facts.marks, *["duplicate"] * again]


def one_batch(data: Opened, number: int) -> Answer:
    """The rows of a batch; the first call reads all rows to determine which take part."""
    if not data.units:
        training = TrainingRows(data.rows.settings)
        pace, first, count = Pace(), 1, data.rows.count
        while first <= count:
            started = time.monotonic()
            items = data.rows.rows(first, min(count, first + pace.rows - 1))
            for facts in facts_of(data.request.title, data.encoder, items):
                if facts is None:
                    yield None
                    continue
                training.add(facts)
            first += len(items)
            pace.took(time.monotonic() - started)
            yield "progress", {**_searching(first - 1, count), "title": "Creating batches"}
        data.units.extend(training.units())
    settings = data.request.settings
    units, batches = batch_of(data.units, settings, number)
    views = yield from _parts(data, units)
    if is_padded(settings):
        tokenizer = data.encoder.tokenizer
        views = padded(views, int(tokenizer.pad_token_id), str(tokenizer.pad_token))
    shown = {"rows": [v.to_json() for v in views], "count": data.rows.count}
    padding = padding_of(data.units, settings)
    yield "result", {**shown, "batch": number, "batches": batches, "padding": padding}


def _parts(data: Opened, units: Sequence[Unit]) -> Waiting[list[TokenRow]]:
    """The parts of rows that are in a batch, in its order; each row is tokenized once."""
    wanted: dict[int, set[int]] = {}
    for unit in units:
        wanted.setdefault(unit.number, set()).add(unit.part)
    found: dict[tuple[int, int], TokenRow] = {}
    for number, pieces in wanted.items():
        views = yield from token_rows(data, data.rows.rows(number, number), pieces)
        found.update(((number, v.part), v) for v in views)
        if views[0].error:  # it is too long
            found.update(((number, part), replace(views[0], part=part)) for part in pieces)
    return [found[unit.number, unit.part] for unit in units]


def _searching(done: int, total: int) -> dict[str, Any]:
    return {
        "title": "Searching for a row with findings",
        "phase": "search",
        "done": done,
        "total": total,
        "unit": "rows",
        "eta_s": None,
    }


def _flagged(data: Opened, items: list[Item]) -> Waiting[list[TokenRow]]:
    """The items with their tokens and the codes of their findings."""
    flags = {item.number: data.index.of(item.number) or () for item in items}
    small = [i for i in items if i.row is None or not is_giant(i.row)]
    for facts in facts_of(data.request.title, data.encoder, small):
        if facts is None:
            yield None
            continue
        known = flags[facts.item.number]
        flags[facts.item.number] = tuple(dict.fromkeys([*facts.marks, *known]))
    alone = setting_of(data.request, "deduplicate")
    views = []
    for view in (yield from token_rows(data, items)):
        left_out = alone and "duplicate" in flags[view.number]
        split = "left_out" if left_out else view.split
        views.append(replace(view, split=split, flags=flags[view.number]))
    return views


def token_rows(
    data: Opened, items: list[Item], pieces: Collection[int] | None = None
) -> Waiting[list[TokenRow]]:
    """The items with their tokens; one that cannot be shown has the reason.

    ``pieces`` selects those of a divided text.
    """
    with contextlib.suppress(StudioError):
        if all(i.row is not None and not is_giant(i.row) for i in items):
            return (yield from _shown(data, items, pieces))
    found: list[TokenRow] = []
    for item in items:
        found += yield from _one(data, item, pieces)
    return found


def _shown(
    data: Opened, items: list[Item], pieces: Collection[int] | None
) -> Waiting[list[TokenRow]]:
    rows = [SourceRow(i.number, i.split, i.row) for i in items if i.row is not None]
    tokenize = partial(view_rows, data.request.title, data.encoder, rows, pieces)
    texts = [r.row.get("text") for r in rows]
    if None not in texts and sum(map(len, filter(None, texts))) > row_facts.GIANT:
        return (yield from in_thread(tokenize))
    return (
        tokenize()
    )  # conversations are rendered by one process, which takes one request at a time


def _one(data: Opened, item: Item, pieces: Collection[int] | None) -> Waiting[list[TokenRow]]:
    error = item.error
    giant = item.row is not None and is_giant(item.row)
    if giant and not _can_be_shown(item.row or {}):
        error = StudioError(
            f"Row {item.number} is too long to be shown as tokens.",
            hint=_giant_hint(item.row or {}, data.encoder),
        )
    if error is None:
        try:
            return (yield from _shown(data, [item], pieces))
        except StudioError as refused:
            error = refused
    return [
        TokenRow(
            item.number,
            item.source,
            item.line,
            item.split,
            "",
            (),
            error=error.sentence,
            hint=error.hint,
        )
    ]


def _can_be_shown(row: Mapping[str, Any]) -> bool:
    """Whether a giant row can be shown: plain text, which needs no chat template, up to a length that
    takes half a minute.
    """
    text = row.get("text")
    return text is not None and len(text) <= MOST_CHARACTERS


def _giant_hint(row: Mapping[str, Any], encoder: Encoder) -> str:
    if row.get("text") is not None and encoder.long_text == "split":
        return "In training it is split into rows of the maximum length."
    return "In training it is truncated at the maximum length. Split it into several rows."
