"""Custom templates of rows, rendered by a helper process that can be ended at any moment.

Why: a template comes from a project file, and a file may come from a stranger. The sandbox keeps it
away from the system, the helper's watchdog and memory limit bound its time and size. The helper is
started at the first row and kept; it ends with this process. It must not know columns or roles.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

from studio.chat_templates.process import PLAIN, HelperEnded

SECONDS_A_ROW = 2.0
LARGEST_TEXT = 1_000_000
PATIENCE_S = 20.0
"""The CPU time that slow rows of one template may take in all."""
_RESTART_S = 0.2
_STUCK_AT_MOST = 3
_REMEMBERED = 64
_patience_s: ContextVar[float] = ContextVar("patience_s", default=SECONDS_A_ROW)


class TemplateFailed(Exception):
    """A template that did not render: ``at`` says which one, ``missing`` names a column that the
    row lacks, ``slow`` says that it was ended."""

    def __init__(self, at: int, why: str = "", missing: str = "", slow: bool = False) -> None:
        super().__init__(why)
        self.at, self.why, self.missing, self.slow = at, why, missing, slow


class _Helper:
    """The process, and what was found to take too long."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stuck: OrderedDict[tuple[str, ...], dict[str, float]] = OrderedDict()
        self._wasted: dict[tuple[str, ...], float] = defaultdict(float)

    def ask(self, sources: tuple[str, ...], row: Mapping[str, Any], seconds: float) -> Any:
        """The helper's reply, or ``None`` when it took too long and was ended."""
        given = json.dumps(row, default=str)
        with self._lock:
            known = {g: s for g, s in self._stuck.get(sources, {}).items() if s >= seconds}
            if given in known or len(known) >= _STUCK_AT_MOST:
                return None  # neither a form nor a file of bad rows waits for it again and again
            if self._wasted[sources] > PATIENCE_S:
                return {"at": 0, "error": "takes too long or exits too often"}
            rest = json.dumps({"sources": sources, "seconds": seconds, "largest": LARGEST_TEXT})
            try:
                reply = PLAIN.exchange(f'{{"row": {given}, {rest[1:]}')
                self._wasted[sources] += reply["spent"]
                return reply
            except HelperEnded as error:
                if not error.slow:
                    self._wasted[sources] += _RESTART_S
                    return {"at": 0, "error": error.why}
                self._remember(sources, given, seconds)
                return None

    def _remember(self, sources: tuple[str, ...], given: str, seconds: float) -> None:
        self._stuck.setdefault(sources, {})[given] = seconds
        while len(self._stuck) > _REMEMBERED:
            self._stuck.popitem(last=False)


_helper = _Helper()


@contextlib.contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Within it a row may take only so long: for looks that somebody waits for."""
    before = _patience_s.set(seconds)
    try:
        yield
    finally:
        _patience_s.reset(before)


def is_hasty() -> bool:
    """Whether a row has less time than in a run, so that a slow one proves nothing yet."""
    return _patience_s.get() < SECONDS_A_ROW


def render(
    sources: Sequence[str],
    row: Mapping[str, Any],
    seconds: float | None = None,
) -> list[str]:
    """The templates with the row's columns as names, and the whole row as ``row``.

    Raises ``TemplateFailed``, also when the row takes longer than ``seconds`` (else than
    ``patience``).
    """
    seconds = _patience_s.get() if seconds is None else seconds
    reply = _helper.ask(tuple(sources), row, seconds)
    if reply is None:
        raise TemplateFailed(0, f"was stopped after {seconds:g} seconds", slow=True)
    if "texts" in reply:
        return list(reply["texts"])
    raise TemplateFailed(reply["at"], reply.get("error", ""), reply.get("missing", ""))


def mistake_in(source: str) -> str:
    """What is wrong with the writing of a template, with its line; empty when nothing is."""
    from jinja2 import TemplateSyntaxError, nodes
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment()
    others = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)
    try:
        for node in environment.parse(source).find_all((nodes.Filter, nodes.Test, *others)):
            if isinstance(node, others):
                return f"includes another file in line {node.lineno}, which is not supported"
            known = environment.filters if isinstance(node, nodes.Filter) else environment.tests
            if node.name not in known:
                kind = "filter" if isinstance(node, nodes.Filter) else "test"
                return f"has an error in line {node.lineno}: there is no {kind} “{node.name}”"
    except TemplateSyntaxError as error:
        return f"has a syntax error in line {error.lineno}: {error.message}"
    except RecursionError:
        return "is nested too deeply"
    except ValueError as error:  # a number with too many digits
        return f"cannot be read: {error}"
    return ""
