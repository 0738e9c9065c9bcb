"""Errors and problems that a user is meant to read.

An expected error is a ``StudioError``: a title, one sentence, a hint, and the place it belongs to.
A ``Problem`` is the same thing found before a run. Anything else that is raised is a bug and is
shown with its trace. Sentences and hints may quote what was received: both have no control characters,
and long quotes are truncated. This module must import no room of the project.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal

from studio.shown_text import sentence as shown

Severity = Literal["error", "warning", "info"]


@dataclass(frozen=True)
class Problem:
    """One thing that stands in the way of a run, placed where the user can mend it.

    ``node`` is a node id and ``field`` a setting's or port's name; ``None`` means the whole graph.
    ``code`` is a stable machine word such as ``missing_file`` (used by tests and by ``--json``).
    """

    sentence: str
    node: str | None = None
    field: str | None = None
    hint: str = ""
    code: str = "invalid"
    severity: Severity = "error"
    file: str | None = None
    line: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "sentence", shown(self.sentence))
        object.__setattr__(self, "hint", shown(self.hint))

    @property
    def blocks(self) -> bool:
        """Whether Run is refused while this problem stands."""
        return self.severity == "error"

    def to_json(self) -> dict[str, Any]:
        """The problem as plain JSON data, without empty fields."""
        return {k: v for k, v in asdict(self).items() if v not in (None, "")}


def counted(problems: Iterable[Problem]) -> str:
    """How many there are: ``2 problems``, ``1 warning`` or ``1 problem, 2 warnings``. Facts (``info``) are not
    counted."""
    severities = [p.severity for p in problems]
    counts = {"problem": severities.count("error"), "warning": severities.count("warning")}
    return ", ".join(f"{n} {word}{'s' if n > 1 else ''}" for word, n in counts.items() if n)


class StudioError(Exception):
    """An error that the user can do something about.

    ``str(error)`` is the sentence alone. A step raises it without the title of its node, and
    usually without ``node``: the engine adds both (see ``put_title``). ``choices`` are the possible values
    of ``field``, where they are known.
    """

    choices: tuple[str, ...] = ()

    def __init__(
        self,
        sentence: str,
        *,
        title: str = "Something needs your attention",
        hint: str = "",
        node: str | None = None,
        field: str | None = None,
        code: str = "error",
        file: str | None = None,
        line: int | None = None,
    ) -> None:
        self.sentence = shown(sentence)
        super().__init__(self.sentence)
        self.title = title
        self.hint = shown(hint)
        self.node = node
        self.field = field
        self.code = code
        self.file = file
        self.line = line
        self._has_title = False

    def put_title(self, title: str) -> None:
        """Put the title of the node before the sentence; a second call changes nothing."""
        if self._has_title:
            return
        self._has_title = True
        self.sentence = f"{title}: {self.sentence}"
        self.args = (self.sentence,)

    def problem(self) -> Problem:
        """The same error as a ``Problem``."""
        return Problem(
            self.sentence,
            self.node,
            self.field,
            self.hint,
            self.code,
            "error",
            self.file,
            self.line,
        )


@contextmanager
def errors_of(title: str) -> Iterator[None]:
    """Errors raised in the block begin with the title of a node. For whoever does a step's work
    outside a run; in a run, ``execute`` does it."""
    try:
        yield
    except StudioError as error:
        error.put_title(title)
        raise


class Stopped(Exception):
    """Raised inside a step when the user asked for a stop; never an error."""
