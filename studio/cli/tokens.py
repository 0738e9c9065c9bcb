"""``tokens``: rows as the model sees them, token by token.

The data host prepares data and tokenizer as a run does (``studio.training.data_host.host``); this
module prints the rows as they arrive, without torch.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from studio.cli.data_host import DataHost, opened, requested, tell_failure
from studio.cli.terminal import draw
from studio.cli.token_text import Paint, legend, paint_for, row_text
from studio.errors import StudioError
from studio.preview.tokens import TokenRow, row_from_json
from studio.runs.token_request import TokenRequest
from studio.shown_text import line
from studio.system.number_text import quantity

FEWEST_LINES = 3
ROWS_AT_ONCE = 64
Show = Callable[[TokenRow, Mapping[str, Any]], bool]


def tokens(options: argparse.Namespace) -> int:
    """Print rows as tokens; 2 if the project or the arguments are invalid, 1 if it fails."""
    request = requested(options)
    if request is None:
        return 2
    try:
        with DataHost() as host:
            return _show(host, request, options)
    except StudioError as error:
        return tell_failure(error)


def _show(host: DataHost, request: TokenRequest, options: argparse.Namespace) -> int:
    begin = opened(host, request, options)
    first, count = options.row or 1, begin["rows"]
    if first > count:
        print(
            f"Row {first} does not exist: the data has {quantity(count, 'row')}.", file=sys.stderr
        )
        return 2
    screen = shutil.get_terminal_size()
    open_end = options.row is None and options.limit is None and not options.json
    limit = options.limit or (1 if options.row else count)
    if open_end:
        limit = max(1, screen.lines // FEWEST_LINES)
    show: Show = _as_json if options.json else _Page(screen if open_end else None)
    failed = False
    last = min(count, first + limit - 1)
    if options.suspicious:
        rows = _suspicious(host, options.row or 1, limit)
    else:
        rows = _rows(host, first, last)
    for row in rows:
        if row.error:
            failed = True
            print(line(f"{row.source}:{row.line}: {row.error} {row.hint}"), file=sys.stderr)
        elif not show(row, begin):
            break
    return 1 if failed else 0


def _rows(host: DataHost, first: int, last: int) -> Iterator[TokenRow]:
    for start in range(first, last + 1, ROWS_AT_ONCE):
        limit = min(ROWS_AT_ONCE, last - start + 1)
        for row in host.ask("rows", first=start, limit=limit)["rows"]:
            yield row_from_json(row)


def _suspicious(host: DataHost, first: int, limit: int) -> Iterator[TokenRow]:
    """Up to ``limit`` rows with findings, starting at ``first``."""
    number = first - 1
    for _ in range(limit):
        number = int(host.ask("next_suspicious", after=number)["number"])
        if not number:
            return
        yield from _rows(host, number, number)


def _as_json(row: TokenRow, begin: Mapping[str, Any]) -> bool:
    """One object per row; truncated tokens are only counted."""
    kept = row.kept
    shown: dict[str, Any] = {
        "row": row.number,
        "source": row.source,
        "line": row.line,
        "split": row.split,
        "part": row.part,
        "parts": row.parts,
        "input_ids": [t.id for t in kept],
        "labels": [t.label for t in kept],
        "tokens": [t.text for t in kept],
        "cut": row.count("cut"),
        "left_out": row.left_out,
        "tokenizer": begin["tokenizer"],
    }
    if row.weighted:
        shown["weights"] = [t.weight if t.state == "trained" else 0.0 for t in kept]
    if row.flags:
        shown["flags"] = row.flags
    print(json.dumps(shown))
    return True


class _Page:
    """Prints rows until the screen is full, or all of them without a terminal."""

    def __init__(self, screen: os.terminal_size | None) -> None:
        self._screen = screen
        self._left = math.inf if screen is None else float(screen.lines - 2)
        self._shown = 0
        colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        self._paint = paint_for(colours, sys.stdout.encoding)

    def __call__(self, row: TokenRow, begin: Mapping[str, Any]) -> bool:
        """Print a row; returns whether to print another one."""
        needed = self._height(row, begin)
        if self._shown and needed > self._left:
            print(
                f"\n{quantity(begin['rows'], 'row')} in total; --row N shows one row, --limit K the first "
                "K rows."
            )
            return False
        if not self._shown:
            draw(legend(self._paint, begin["max_length"]) + "\n")
        draw(f"\n{row_text(row, begin['rows'], self._paint)}\n")
        sys.stdout.flush()
        self._shown += 1
        self._left -= needed
        return True

    def _height(self, row: TokenRow, begin: Mapping[str, Any]) -> int:
        if self._screen is None:
            return 0
        text = row_text(row, begin["rows"], Paint(colours=False, letters=self._paint.letters))
        width = max(1, self._screen.columns)
        return 1 + sum(max(1, math.ceil(len(line) / width)) for line in text.split("\n"))
