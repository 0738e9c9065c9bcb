"""``tokens``: rows of a project's data as the model will see them.

A process of its own prepares data and tokenizer as a run would (``studio.training.token_host``);
this one checks the project and shows what comes. With ``--json`` standard output carries rows and
nothing else: problems go to standard error there too.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from studio.cli.overrides import with_changes
from studio.cli.token_process import TokenProcess
from studio.cli.token_text import Paint, legend, paint_for, row_text
from studio.errors import StudioError
from studio.graph.project import load_project
from studio.graph.registry import load_registry
from studio.runs.token_request import TokenRequest, token_request
from studio.tokens import TokenRow, row_from_json

BAD_ARGUMENTS = ("no_such_row",)
FEWEST_LINES = 3


def tokens(options: argparse.Namespace) -> int:
    """Show rows as tokens; 2 when the project or the arguments do not allow it, 1 when it fails."""
    try:
        request = _request(options)
        if request is None:
            return 2
        with tempfile.TemporaryDirectory(prefix="lora-studio-") as work:
            return _show(request, options, Path(work))
    except StudioError as error:
        print(f"{error.sentence} {error.hint}".strip(), file=sys.stderr)
        return 2


def _request(options: argparse.Namespace) -> TokenRequest | None:
    """What to ask for; Problems have been told when it is ``None``."""
    from studio.cli.commands import describe

    for name in ("row", "limit"):
        if (value := getattr(options, name)) is not None and value < 1:
            raise StudioError(f"--{name} {value}: it must be at least 1.", code="bad_argument")
    registry = load_registry()
    for sentence in registry.failures:
        print(sentence, file=sys.stderr)
    graph = with_changes(load_project(options.file), options.changes, registry)
    project_dir = options.file.resolve().parent
    request, problems = token_request(graph, registry, project_dir, options.node)
    for problem in problems:
        print(describe(problem, options.file), file=sys.stderr)
    return request


def _show(request: TokenRequest, options: argparse.Namespace, work: Path) -> int:
    from studio.cli.commands import runs_dir

    screen = shutil.get_terminal_size()
    open_end = options.row is None and options.limit is None and not options.json
    limit = options.limit or (1 if options.row else None)
    asked = {
        "request": request.to_json(), "first": options.row or 1, "work": str(work),
        "runs": str(runs_dir(options).resolve()),
        "limit": max(1, screen.lines // FEWEST_LINES) if open_end else limit,
    }  # fmt: skip
    show = _as_json if options.json else _Page(screen if open_end else None)
    begin: Mapping[str, Any] = {}
    with TokenProcess(asked) as process:
        for message in process.messages():
            if "begin" in message:
                begin = message["begin"]
            elif "row" in message and not show(row_from_json(message["row"]), begin):
                return 0
            elif "error" in message:
                return _tell_error(message["error"])
    return process.code


def _tell_error(problem: Mapping[str, Any]) -> int:
    where = f"{problem['file']}:{problem['line']}: " if problem.get("line") else ""
    print(f"{where}{problem['sentence']} {problem.get('hint', '')}".strip(), file=sys.stderr)
    return 2 if problem.get("code") in BAD_ARGUMENTS else 1


def _as_json(row: TokenRow, begin: Mapping[str, Any]) -> bool:
    """One object a row; what was cut off is only counted."""
    kept = row.kept
    print(json.dumps({
        "row": row.number, "source": row.source, "line": row.line, "split": row.split,
        "part": row.part, "parts": row.parts, "input_ids": [t.id for t in kept],
        "labels": [t.label for t in kept], "tokens": [t.text for t in kept],
        "cut": row.count("cut"), "left_out": row.left_out, "tokenizer": begin["tokenizer"],
    }))  # fmt: skip
    return True


class _Page:
    """Prints rows until the screen is full; without a screen, all of them."""

    def __init__(self, screen: os.terminal_size | None) -> None:
        self._screen = screen
        self._left = math.inf if screen is None else float(screen.lines - 2)
        self._shown = 0
        colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        self._paint = paint_for(colours, sys.stdout.encoding)

    def __call__(self, row: TokenRow, begin: Mapping[str, Any]) -> bool:
        """Show a row; whether another one is wanted."""
        needed = self._height(row, begin)
        if self._shown and needed > self._left:
            print(
                f"\n{begin['rows']} rows in all; --row N shows one of them, --limit K the first K."
            )
            return False
        if not self._shown:
            print(legend(self._paint, begin["max_length"]))
        print(f"\n{row_text(row, begin['rows'], self._paint)}", flush=True)
        self._shown += 1
        self._left -= needed
        return True

    def _height(self, row: TokenRow, begin: Mapping[str, Any]) -> int:
        if self._screen is None:
            return 0
        text = row_text(row, begin["rows"], Paint(colours=False, letters=self._paint.letters))
        width = max(1, self._screen.columns)
        return 1 + sum(max(1, math.ceil(len(line) / width)) for line in text.split("\n"))
