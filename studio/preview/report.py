"""The data report over all rows, as shown by window and terminal.

Plain data with an exact conversion to JSON and back, created by ``studio.training.report.make``. No
tokenizing and no torch here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from studio.graph.edits import set_setting
from studio.graph.graph import Graph

Severity = Literal["error", "warning", "info"]

KINDS: dict[str, str] = {
    "nothing_trained": "Nothing would be trained",
    "broken_file": "Files that cannot be read completely",
    "bad_row": "Rows that cannot be read",
    "refused_row": "Rows that cannot be trained on",
    "zero_trained": "Rows without trained tokens",
    "empty_answer": "Empty answers",
    "one_token_answer": "One-token answers",
    "cut_answer": "Truncated answers",
    "cut_text": "Truncated texts",
    "lost_results": "Results of tools that the chat template omits",
    "lost_thoughts": "Thoughts that the chat template omits",
    "lost_tools": "Tools that the chat template omits",
    "lost_system": "System messages that the chat template omits",
    "lost_calls": "Tool calls that the chat template omits",
    "lost_names": "Names that the chat template omits",
    "lost_kwargs": "Template arguments that are not read",
    "other_prompt": "Answers that begin differently from the generation prompt",
    "missing_end": "Answers without an end token",
    "double_bos": "Two start tokens",
    "unused_column": "Columns that are not used",
    "rendered_chat": "Conversations rendered as text",
    "control_tokens": "Control tokens in the text",
    "written_end": "Answers that already end with an end token",
    "role_error": "Roles out of order",
    "encoding": "Damaged characters",
    "duplicate": "Duplicates",
    "near_duplicate": "Near-duplicates",
    "leak": "Validation rows that are also training rows",
    "near_leak": "Validation rows similar to training rows",
    "cut_row": "Rows longer than the max length",
    "split_text": "Texts split into pieces",
    "empty_thoughts": "Empty thoughts added by the chat template",
    "repeated_answer": "Repeated answers",
}
"""Code of a finding -> its title. The flags of a row use the same codes."""

OMITTED = tuple(code for code in KINDS if code.startswith("lost_"))
"""The codes of what the chat template omits."""

SUSPICIOUS = (
    "broken_file",
    "bad_row",
    "refused_row",
    "zero_trained",
    "empty_answer",
    "cut_answer",
    "cut_text",
    "lost_results",
    "lost_thoughts",
    "lost_tools",
    "lost_system",
    "lost_calls",
    "lost_names",
    "lost_kwargs",
    "other_prompt",
    "missing_end",
    "double_bos",
    "rendered_chat",
    "control_tokens",
    "role_error",
    "encoding",
    "duplicate",
)
"""The flags of a single row; ``duplicate`` applies from its second occurrence on. An answer of one token
is usual in a classification."""


@dataclass(frozen=True)
class Place:
    """A row: its number in the data, its line in the file, and a short text.

    ``other`` is the number of a related row (a duplicate's first occurrence), or 0.
    """

    number: int
    source: str
    line: int
    note: str = ""
    other: int = 0


@dataclass(frozen=True)
class Change:
    """One setting of one node, as changed by a fix."""

    node: str
    setting: str
    value: Any


@dataclass(frozen=True)
class Fix:
    """A fix without side effects: the text of its button, and the settings it changes."""

    id: str
    title: str
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class Finding:
    """One kind of finding. ``rows`` are the first few of ``count``."""

    code: str
    severity: Severity
    sentence: str
    count: int
    rows: tuple[Place, ...] = ()
    fix: Fix | None = None

    @property
    def title(self) -> str:
        """The title of this kind of finding."""
        return KINDS.get(self.code, self.code)


@dataclass(frozen=True)
class Histogram:
    """Rows by length in tokens: ``counts[i]`` rows have from ``edges[i]`` up to ``edges[i + 1]``
    tokens, exclusive.

    ``cut`` rows are longer than ``max_length``; ``end_lost`` of them lose the end of an answer.
    ``divided`` more are longer texts that are divided into pieces. ``lengths`` are all occurring
    lengths, rounded up to multiples of ``grain``, and ``rows`` the number of rows of each.
    """

    edges: tuple[int, ...] = ()
    counts: tuple[int, ...] = ()
    max_length: int = 0
    cut: int = 0
    end_lost: int = 0
    longest: int = 0
    divided: int = 0
    lengths: tuple[int, ...] = ()
    rows: tuple[int, ...] = ()
    grain: int = 1

    def longer_than(self, length: int) -> int:
        """The number of rows with more tokens; exact for a multiple of ``grain``."""
        return sum(n for found, n in zip(self.lengths, self.rows, strict=True) if found > length)


@dataclass(frozen=True)
class Share:
    """A writing system, with its share of all letters (0 to 1)."""

    name: str
    share: float


@dataclass(frozen=True)
class Repeat:
    """An answer that occurs in ``count`` rows, the first of them row ``number``."""

    text: str
    count: int
    number: int


@dataclass(frozen=True)
class DataReport:
    """The findings and counts of ``done`` of ``rows`` rows; final when both are equal.

    ``left_out`` rows are excluded by the Dataset node from training and validation. ``train_pieces``
    are the sequences that training makes of ``train_rows``: long texts are split. ``tokens`` are
    those of all rows before truncation; ``tokens_per_epoch`` are the model's input tokens per
    epoch, of which ``trained_tokens`` are trained. ``key`` identifies data and settings
    (``studio.preview.report_cache``).
    """

    rows: int
    done: int
    max_length: int
    train_on: str
    key: str = ""
    bad_rows: int = 0
    left_out: int = 0
    train_rows: int = 0
    train_pieces: int = 0
    validation_rows: int = 0
    tokens: int = 0
    tokens_per_epoch: int = 0
    trained_tokens: int = 0
    histogram: Histogram = field(default_factory=Histogram)
    scripts: tuple[Share, ...] = ()
    answers: tuple[Repeat, ...] = ()
    longest: tuple[Place, ...] = ()
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every row has been read."""
        return self.done >= self.rows

    @property
    def trained_share(self) -> float:
        """The share of input tokens that are trained, from 0 to 1."""
        return self.trained_tokens / self.tokens_per_epoch if self.tokens_per_epoch else 0.0

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that block a run."""
        return tuple(f for f in self.findings if f.severity == "error")

    def fixes(self) -> tuple[Fix, ...]:
        """All available fixes, each once."""
        found = {f.fix.id: f.fix for f in self.findings if f.fix is not None}
        return tuple(found.values())

    def fix(self, fix_id: str) -> Fix | None:
        """The fix with this id."""
        return next((f for f in self.fixes() if f.id == fix_id), None)

    def to_json(self) -> dict[str, Any]:
        """The report as JSON data; ``report_from_json`` is the inverse."""
        return asdict(self)


def apply_fix(graph: Graph, fix: Fix) -> Graph:
    """The graph with the fix's settings."""
    for change in fix.changes:
        graph = set_setting(graph, change.node, change.setting, change.value)
    return graph


def report_from_json(data: Mapping[str, Any]) -> DataReport:
    """The report from JSON data."""
    rest = {k: v for k, v in data.items() if k not in _PARTS and k != "histogram"}
    histogram = dict(data["histogram"])
    for name in ("edges", "counts", "lengths", "rows"):
        histogram[name] = tuple(histogram.get(name, ()))
    return DataReport(
        **{**rest, "notes": tuple(data["notes"])},
        histogram=Histogram(**histogram),
        scripts=tuple(Share(**s) for s in data["scripts"]),
        answers=tuple(Repeat(**a) for a in data["answers"]),
        longest=tuple(Place(**p) for p in data["longest"]),
        findings=tuple(finding_from_json(f) for f in data["findings"]),
    )


_PARTS = ("scripts", "answers", "longest", "findings")


def finding_from_json(data: Mapping[str, Any]) -> Finding:
    """The finding from JSON data."""
    fix = data["fix"]
    if fix is not None:
        fix = Fix(fix["id"], fix["title"], tuple(Change(**c) for c in fix["changes"]))
    rows = tuple(Place(**p) for p in data["rows"])
    return Finding(**{**data, "rows": rows, "fix": fix})
