"""The state of a node in a run as text: state, time, progress, last loss. Plain data without Qt.

The state object is written by ``studio.runs.state``; attributes may be missing, so that the canvas
also draws a run of another version.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from studio.runs.progress import Progress
from studio.runs.status import NODE_LOOKS
from studio.system.number_text import duration

_EXPLAINED = {
    "changed": "Its settings, its inputs or its files differ from those of the shown run; what that run measured is "
    "not shown here. Run again, or undo the change.",
    "new": "It was added or connected after the shown run had started.",
    "skipped": "Reused: settings and inputs are those of an earlier run, so its result is used.",
    "hash": "Hash: the files are read to find out whether they have changed since an earlier run.",
    "tokenize": "Tokenize: the text of the rows is converted to the numbers that the model reads.",
    "verify": "Verify: the saved result is loaded again and compared with what it was made from.",
}
"""State or phase -> what its word means."""


_CHECKED = ("unfit", "differs", "not_proven")
"""States of an export that was written and is not proven to be the trained model."""
_EXPLAINED |= dict.fromkeys(
    _CHECKED,
    "The export was read back by its own program and compared with the trained model; the table is in Results.",
)


@dataclass(frozen=True)
class NodeStatus:
    """What the footer of a node shows. ``fraction`` is the share of the run, 0 to 1, or ``None``;
    ``explained`` is the meaning of its word, for the tooltip."""

    state: str
    left: str
    right: str = ""
    detail: str = ""
    detail_right: str = ""
    fraction: float | None = None
    message: str = ""
    explained: str = ""

    @property
    def lines(self) -> int:
        """Lines of text in the footer."""
        return 2 if self.detail or self.detail_right else 1

    @property
    def dimmed(self) -> bool:
        """Whether the node is no longer the one that was run."""
        return self.state == "changed"

    @property
    def bar(self) -> bool:
        """Whether there is a progress bar below the text."""
        return self.state == "running"

    def sentence(self) -> str:
        """All of it, for the tooltip and for screen readers."""
        parts = [self.left, self.right, self.detail, self.detail_right, self.message]
        return ", ".join(p for p in parts if p)


def status_of(
    node_state: Any,
    state: str = "",
    progress: Progress | None = None,
    place: str = "",
    resumed: str = "",
) -> NodeStatus | None:
    """The status of one ``NodeState``, or ``None`` when there is nothing to show. ``state``, ``place`` and ``resumed``
    are those of its ``NodeView``, ``progress`` that of the run if this node is running."""
    state = state or str(getattr(node_state, "state", "") or "")
    if node_state is None or state not in NODE_LOOKS:
        return None
    left = NODE_LOOKS[state].word
    if state in ("waiting", "not_run", "changed", "new"):
        return NodeStatus(state, left, explained=_EXPLAINED.get(state, ""))
    message = str(getattr(node_state, "message", "") or "")
    if state == "running":
        told = [message or (progress.doing if progress else ""), resumed]
        return _running(node_state, ", ".join(t for t in told if t), progress)
    seconds = _number(getattr(node_state, "seconds", None))
    loss = _number(getattr(node_state, "last_loss", None))
    right = f"loss {loss:.3f}" if loss is not None and state in ("done", "stopped") else ""
    if (
        state in ("done", "stopped", "failed", *_CHECKED)
        and seconds is not None
        and seconds >= 0.05
    ):
        left += f" · {duration(seconds)}"
    detail = message if state == "failed" else ", ".join(t for t in (place, resumed) if t)
    return NodeStatus(
        state,
        left,
        right,
        detail,
        "",
        None,
        "" if state == "failed" else message,
        _EXPLAINED.get(state, ""),
    )


def _running(node_state: Any, message: str, progress: Progress | None) -> NodeStatus:
    """The phase of the node; share and time left are those of the run, as everywhere."""
    loss = _number(getattr(node_state, "last_loss", None))
    phase = str(getattr(node_state, "phase", "") or "")
    return NodeStatus(
        "running",
        progress.phase if progress else NODE_LOOKS["running"].word,
        progress.percent if progress else "",
        progress.left if progress else "",
        f"loss {loss:.3f}" if loss is not None else "",
        progress.fraction if progress else None,
        message,
        _EXPLAINED.get(phase, ""),
    )


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)
