"""The state of a node in a run as text: state, time, progress, last loss. Plain data without Qt.

The state object is written by ``studio.runs.state``; attributes may be missing, so that the canvas
also draws a run of another version.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from studio.runs.progress import Progress
from studio.system.number_text import duration

ICONS = {
    "waiting": "circle-dashed",
    "running": "loader",
    "done": "circle-check",
    "skipped": "skip-forward",
    "failed": "circle-x",
    "stopped": "circle-stop",
}
ROLES = {
    "waiting": "text_muted",
    "running": "accent",
    "done": "success",
    "skipped": "text_muted",
    "failed": "danger",
    "stopped": "warning",
}
_WORDS = {
    "waiting": "Waiting",
    "running": "Running",
    "done": "Done",
    "skipped": "Reused",
    "failed": "Failed",
    "stopped": "Stopped",
}
_EXPLAINED = {
    "skipped": "Reused: settings and inputs are those of an earlier run, so its result is used.",
    "hash": "Hash: the files are read to find out whether they have changed since an earlier run.",
    "tokenize": "Tokenize: the text of the rows is converted to the numbers that the model reads.",
    "verify": "Verify: the saved result is loaded again and compared with what it was made from.",
}
"""State or phase -> what its word means."""


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
    def bar(self) -> bool:
        """Whether there is a progress bar below the text."""
        return self.state == "running"

    def sentence(self) -> str:
        """All of it, for the tooltip and for screen readers."""
        parts = [self.left, self.right, self.detail, self.detail_right, self.message]
        return ", ".join(p for p in parts if p)


def status_of(
    node_state: Any, ended: bool = False, progress: Progress | None = None
) -> NodeStatus | None:
    """The status of one ``NodeState``, or ``None`` when there is nothing to show. Nodes that are
    still waiting when the run has ``ended`` were not run. ``progress`` is that of the run if this node is
    running."""
    state = str(getattr(node_state, "state", "") or "")
    if node_state is None or state not in _WORDS:
        return None
    message = str(getattr(node_state, "message", "") or "")
    if state == "waiting" and ended:
        return NodeStatus(state, "Not run")
    if state == "running":
        return _running(node_state, message, progress)
    seconds = _number(getattr(node_state, "seconds", None))
    loss = _number(getattr(node_state, "last_loss", None))
    right = f"loss {loss:.3f}" if loss is not None and state in ("done", "stopped") else ""
    left = _WORDS[state]
    if state in ("done", "stopped", "failed") and seconds is not None and seconds >= 0.05:
        left += f" · {duration(seconds)}"
    detail = message if state == "failed" else ""
    return NodeStatus(
        state,
        left,
        right,
        detail,
        "",
        None,
        message if not detail else "",
        _EXPLAINED.get(state, ""),
    )


def _running(node_state: Any, message: str, progress: Progress | None) -> NodeStatus:
    """The phase of the node; share and time left are those of the run, as everywhere."""
    loss = _number(getattr(node_state, "last_loss", None))
    phase = str(getattr(node_state, "phase", "") or "")
    return NodeStatus(
        "running",
        progress.phase if progress else _WORDS["running"],
        progress.percent if progress else "",
        progress.left if progress else "",
        f"loss {loss:.3f}" if loss is not None else "",
        progress.fraction if progress else None,
        message or (progress.doing if progress else ""),
        _EXPLAINED.get(phase, ""),
    )


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)
