"""The data that is open in the data host, and the answers to the requests about it.

Each public method answers the request of its name (``studio.data_protocol``) as a generator; the
host advances it. It must not load weights.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio.data_protocol import Kind
from studio.errors import StudioError
from studio.graph.registry import load_registry
from studio.runs.token_request import TokenRequest, request_from_json
from studio.tokens import TokenRow
from studio.training.data import Encoder, load_tokenizer
from studio.training.data_open import Opener, Say
from studio.training.data_rows import Item, Rows
from studio.training.quiet import quiet_libraries
from studio.training.token_view import SourceRow, view_rows

Answer = Iterator[tuple[Kind, Mapping[str, Any]] | None]
MOST_ROWS = 500


@dataclass(frozen=True)
class Opened:
    """Rows and tokenizer of one request."""

    request: TokenRequest
    rows: Rows
    encoder: Encoder
    folder: Path


class Session:
    """What is open; ``title`` is the name of its Train node."""

    def __init__(self, work: Path, stopped: Callable[[], bool], say: Say) -> None:
        self.title = ""
        self._opener = Opener(load_registry(), work, stopped, say)
        self._open: Opened | None = None
        self._tokenizers: dict[Path, Any] = {}
        quiet_libraries()

    # -------------------------------------------------------------- requests

    def open(self, asked: Mapping[str, Any]) -> Answer:
        """Data and tokenizer, ready to be asked about."""
        self._open = None
        request = request_from_json(asked["request"])
        self.title = request.title
        runs = Path(asked["runs"])
        rows = self._opener.rows(request, runs)
        folder = self._opener.model_folder(request, runs)
        encoder = Encoder(self._tokenizer(folder), request.max_length, request.train_on)
        self._open = Opened(request, rows, encoder, folder)
        yield "result", {
            "tokenizer": str(folder), "rows": rows.count, "max_length": request.max_length,
        }  # fmt: skip

    def rows(self, asked: Mapping[str, Any]) -> Answer:
        """Rows as tokens."""
        data = self._opened()
        first = max(1, int(asked.get("first", 1)))
        limit = min(MOST_ROWS, int(asked.get("limit", 50)))
        views = token_rows(data, data.rows.rows(first, first + limit - 1))
        yield "result", {"rows": [v.to_json() for v in views], "count": data.rows.count}

    # -------------------------------------------------------------- parts

    def _opened(self) -> Opened:
        if self._open is None:
            raise StudioError("No data is open.", hint="Open it first.", code="not_open")
        return self._open

    def _tokenizer(self, folder: Path) -> Any:
        if folder not in self._tokenizers:
            self._tokenizers[folder] = load_tokenizer(folder)
        return self._tokenizers[folder]


def token_rows(data: Opened, items: list[Item]) -> list[TokenRow]:
    """The items as tokens; one that cannot be shown says why."""
    with contextlib.suppress(StudioError):
        if all(i.row is not None for i in items):
            return _shown(data, items)
    return [row for item in items for row in _one(data, item)]


def _shown(data: Opened, items: list[Item]) -> list[TokenRow]:
    rows = [SourceRow(i.number, i.split, i.row) for i in items if i.row is not None]
    return view_rows(data.request.title, data.encoder, rows)


def _one(data: Opened, item: Item) -> list[TokenRow]:
    error = item.error
    if error is None:
        try:
            return _shown(data, [item])
        except StudioError as refused:
            error = refused
    return [
        TokenRow(
            item.number, item.source, item.line, item.split, "", (), flags=("bad_row",),
            error=error.sentence, hint=error.hint,
        )
    ]  # fmt: skip
