"""The data host for terminal commands: opens the data of a project, sends requests, and shows their
progress and errors on standard error.

A terminal shows progress on one line; other outputs only list the long phases.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from studio.cli.commands import describe, runs_dir
from studio.cli.overrides import with_changes
from studio.cli.terminal import draw
from studio.errors import StudioError
from studio.graph.project import load_project
from studio.graph.registry import load_registry
from studio.preview.client import DataClient
from studio.runs.token_request import TokenRequest, token_request
from studio.shown_text import MOST_IN_QUOTES, line
from studio.system.number_text import time_left

LONG = ("download", "import")


class DataHost:
    """A data host that lives as long as one command."""

    def __init__(self) -> None:
        self._client = DataClient()
        self._line = ""

    def __enter__(self) -> DataHost:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._erase()
        self._client.close()

    def ask(
        self,
        what: str,
        partial: Callable[[Mapping[str, Any]], None] = lambda data: None,
        **more: Any,
    ) -> Mapping[str, Any]:
        """The result of a request; raises ``StudioError`` if it fails."""
        for reply in self._client.replies(what, **more):
            if reply.kind == "progress":
                self._progress(reply.data)
            elif reply.kind == "notice":
                self._say(str(reply.data["sentence"]))
            elif reply.kind == "partial":
                partial(reply.data)
            elif reply.kind == "result":
                self._erase()
                return reply.data
            else:
                self._erase()
                raise _error(reply.data)
        raise AssertionError("a request ends with its last reply")

    def _progress(self, progress: Mapping[str, Any]) -> None:
        title = progress.get("title")
        if not sys.stderr.isatty():
            if title and progress.get("phase") in LONG and title != self._line:
                self._say(f"{title} ...")
                self._line = str(title)
            return
        self._erase()
        self._line = f"{title}{_share(progress)} ..." if title else ""
        self._line = line(self._line, MOST_IN_QUOTES)
        print(self._line, end="", file=sys.stderr, flush=True)

    def _say(self, sentence: str) -> None:
        self._erase()
        print(line(sentence), file=sys.stderr, flush=True)

    def _erase(self) -> None:
        if self._line and sys.stderr.isatty():
            draw("\r" + " " * len(self._line) + "\r", error=True)
            sys.stderr.flush()
            self._line = ""


def _share(progress: Mapping[str, Any]) -> str:
    done, total, eta = progress.get("done"), progress.get("total"), progress.get("eta_s")
    if not total or done is None:
        return ""
    left = f", {time_left(eta)}" if eta else ""
    return f" {100 * min(1.0, done / total):.0f} %{left}"


def _error(problem: Mapping[str, Any]) -> StudioError:
    return StudioError(
        str(problem.get("sentence", "The request was cancelled.")),
        hint=problem.get("hint", ""),
        code=problem.get("code", "error"),
        file=problem.get("file"),
        line=problem.get("line"),
    )


def requested(options: argparse.Namespace) -> TokenRequest | None:
    """The token request; ``None`` after printing why the project or the arguments do not allow
    one."""
    try:
        return _requested(options)
    except StudioError as error:
        print(f"{error.sentence} {error.hint}".strip(), file=sys.stderr)
        return None


def _requested(options: argparse.Namespace) -> TokenRequest | None:
    for name in ("row", "limit"):
        if (value := getattr(options, name, None)) is not None and value < 1:
            raise StudioError(f"--{name} {value}: must be at least 1.", code="bad_argument")
    registry = load_registry()
    for sentence in registry.failures:
        print(sentence, file=sys.stderr)
    graph = with_changes(load_project(options.file), options.changes, registry)
    project_dir = options.file.resolve().parent
    request, problems = token_request(graph, registry, project_dir, options.node)
    for problem in problems:
        print(describe(problem, options.file), file=sys.stderr)
    return request


def opened(host: DataHost, request: TokenRequest, options: argparse.Namespace) -> Mapping[str, Any]:
    """Open the data in the data host; returns its description of them."""
    return host.ask("open", request=request.to_json(), runs=str(runs_dir(options).resolve()))


def tell_failure(error: StudioError) -> int:
    """Print why the data could not be read; returns the exit code."""
    where = f"{error.file}:{error.line}: " if error.line else ""
    print(line(f"{where}{error.sentence} {error.hint}".strip()), file=sys.stderr)
    return 1
