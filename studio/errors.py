"""Errors and problems that a user is meant to read.

An expected error is a ``StudioError``: a title, one sentence, a hint, and the place it belongs to.
A ``Problem`` is the same thing found before a run. Anything else that is raised is a bug and is
shown with its trace. This module must not import anything of the project.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["error", "warning"]


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

    @property
    def blocks(self) -> bool:
        """Whether Run is refused while this problem stands."""
        return self.severity == "error"

    def to_json(self) -> dict[str, Any]:
        """The problem as plain JSON data, without empty fields."""
        return {k: v for k, v in asdict(self).items() if v not in (None, "")}


class StudioError(Exception):
    """An error that the user can do something about.

    ``str(error)`` is the sentence alone. ``node`` is filled in by the engine when it is unknown
    at the place of the error.
    """

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
        super().__init__(sentence)
        self.sentence = sentence
        self.title = title
        self.hint = hint
        self.node = node
        self.field = field
        self.code = code
        self.file = file
        self.line = line

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


class Stopped(Exception):
    """Raised inside a step when the user asked for a stop; never an error."""
