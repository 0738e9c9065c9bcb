"""The status of a run and of its nodes: the one place that decides what node, header, banner, list and terminal say.

``view_of`` makes a ``RunView`` from the events of a run (``RunState``), whether its host is alive, and the
fingerprints of its steps and of the current graph. Everything here is a pure function: the same facts give the
same words everywhere. It must not import Qt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from studio.export_folder.parity import worst
from studio.runs.outcome import place_words, resumed_words, sorted_artifacts
from studio.runs.state import NodeState, RunState


@dataclass(frozen=True)
class Look:
    """How a status is shown: a word, a glyph for texts, an icon, and the role of its colour in the theme.
    ``happened`` follows the name of a run. ``short`` is a shorter word, where the name stands beside it."""

    word: str
    glyph: str
    icon: str
    role: str
    happened: str = ""
    short: str = ""


RUN_LOOKS = {
    "preparing": Look("Preparing…", "○", "loader", "accent", "is being prepared"),
    "running": Look("Running", "▶", "loader", "accent", "is running"),
    "stopping": Look("Stopping…", "■", "circle-stop", "accent", "is stopping"),
    "completed": Look("Completed", "✓", "circle-check", "success", "is completed"),
    "stopped": Look("Stopped", "■", "circle-stop", "warning", "was stopped"),
    "unfit": Look(
        "Completed, export failed",
        "✕",
        "circle-x",
        "danger",
        "is completed, but an export failed the check",
        "Export failed",
    ),
    "suspended": Look("Suspended", "‖", "circle-stop", "warning", "was suspended"),
    "failed": Look("Failed", "✕", "circle-x", "danger", "failed"),
    "interrupted": Look("Interrupted", "!", "triangle-alert", "warning", "was interrupted"),
}
NODE_LOOKS = {
    "waiting": Look("Waiting", "○", "circle-dashed", "text_muted"),
    "not_run": Look("Not run", "○", "circle-slash", "text_muted"),
    "running": Look("Running", "▶", "loader", "accent"),
    "done": Look("Done", "✓", "circle-check", "success"),
    "skipped": Look("Reused", "✓", "skip-forward", "text_muted"),
    "failed": Look("Failed", "✕", "circle-x", "danger"),
    "stopped": Look("Stopped", "■", "circle-stop", "warning"),
    "unfit": Look("Failed the check", "✕", "circle-alert", "danger"),
    "differs": Look("Written, differs", "!", "triangle-alert", "warning"),
    "not_proven": Look("Written, not proven", "?", "circle-question-mark", "warning"),
    "changed": Look("Changed since this run", "≠", "history", "text_muted"),
    "new": Look("Not part of this run", "+", "plus", "text_muted"),
}
ACTIVE = ("preparing", "running", "stopping")
_CHECKED = {"red": "unfit", "amber": "differs", "not_proven": "not_proven"}
"""Verdict on an export -> the state of its node."""
_RESUMABLE = ("stopped", "suspended", "interrupted", "failed")
_FAILS_AGAIN = ("changed_since_plan", "other_version", "damaged_plan", "newer_plan")
"""Codes of failures that repeat when the run is resumed."""


@dataclass(frozen=True)
class Remains:
    """What an ended run can continue from: whether a step that did not finish has a checkpoint, the number of
    finished steps, and the code of its failure."""

    checkpoint: bool = False
    finished: int = 0
    failure: str = ""

    def offered(self, status: str) -> bool:
        """Whether to offer Resume for a run of this status."""
        some = self.checkpoint or self.finished > 0
        return some and status in _RESUMABLE and self.failure not in _FAILS_AGAIN

    def sentence(self) -> str:
        """What Resume does."""
        if self.checkpoint:
            return "It can be resumed from its last checkpoint."
        return "It can be resumed: finished steps are reused."


@dataclass(frozen=True)
class NodeView:
    """A node of the current graph in the shown run: a key of ``NODE_LOOKS``, and its numbers if they are those of
    its present settings. ``place`` says at which step or in
    which phase it was stopped, or why its export is not proven, ``resumed`` after which step its training was
    resumed."""

    state: str
    numbers: NodeState = field(default_factory=NodeState)
    place: str = ""
    resumed: str = ""


@dataclass(frozen=True)
class RunView:
    """A run as it is shown: ``status`` is a key of ``RUN_LOOKS``. ``own`` tells whether it is a run of the open
    project; only then there are ``nodes``. ``results`` counts what it has made, without what was only prepared.
    ``resumed`` says after which step it was resumed, ``verdict`` what the checks of its exports found."""

    status: str
    name: str
    own: bool = True
    nodes: Mapping[str, NodeView] = field(default_factory=dict)
    results: int = 0
    resumed: str = ""
    verdict: str = ""

    @property
    def look(self) -> Look:
        """How its status is shown."""
        return look_of(checked_status(self.status, self.verdict))

    @property
    def active(self) -> bool:
        """Whether it is still in progress."""
        return self.status in ACTIVE

    @property
    def changed(self) -> tuple[str, ...]:
        """The nodes that have changed since the run."""
        return tuple(n for n, view in self.nodes.items() if view.state in ("changed", "new"))

    def words(self) -> str:
        """``✓ Completed``: glyph and word, so that colour is never the only sign."""
        return f"{self.look.glyph} {self.look.word}"

    def sentence(self) -> str:
        """``Toys was stopped.``"""
        return f"{self.name} {self.look.happened}."

    def of_project(self) -> str:
        """Which project or graph it belongs to, if that is not the present one; else empty."""
        if not self.own:
            return f"another one ({self.name})"
        count = len(self.changed)
        return (
            f"changed since this run ({count} {'node' if count == 1 else 'nodes'})" if count else ""
        )


def look_of(status: str) -> Look:
    """How a status of a run is shown; one of another version gets its own name."""
    return RUN_LOOKS.get(status) or Look(status.capitalize(), "○", "info", "text_muted", status)


def checked_status(status: str, verdict: str) -> str:
    """The key of ``RUN_LOOKS`` of a status, given what the checks of the run's exports found."""
    return "unfit" if status == "completed" and verdict == "red" else status


def status_words(status: str, short: bool = False) -> str:
    """Glyph and word of a status."""
    look = look_of(status)
    return f"{look.glyph} {(short and look.short) or look.word}"


def run_status(reported: str, alive: bool, stopping: bool = False) -> str:
    """The status of a run. ``reported`` follows from its events alone: a run whose host died still says that it is
    running there."""
    if reported not in ("preparing", "running"):
        return reported
    if not alive:
        return "interrupted"
    return "stopping" if stopping else reported


def view_of(
    state: RunState,
    status: str,
    *,
    name: str,
    own: bool = True,
    ran: Mapping[str, str] | None = None,
    now: Mapping[str, str | None] | None = None,
) -> RunView:
    """The view of a run whose status ``run_status`` gave. ``ran`` maps its nodes to the fingerprints of its steps,
    ``now`` those of the current graph to theirs (``None`` while a node cannot be run). Without either, no
    node counts as changed."""
    nodes: dict[str, NodeView] = {}
    if own:
        present = list(now) if now is not None else list(state.nodes)
        nodes = {node: _node(state, status, node, ran, now) for node in present}
    results, resumed = len(sorted_artifacts(state.artifacts)[0]), resumed_words(state)
    verdict = worst([str(c.get("verdict")) for c in state.checks])
    return RunView(status, state.name or name, own, nodes, results, resumed, verdict)


def _node(
    state: RunState,
    status: str,
    node: str,
    ran: Mapping[str, str] | None,
    now: Mapping[str, str | None] | None,
) -> NodeView:
    found = state.nodes.get(node)
    if ran is not None and now is not None and now.get(node) != ran.get(node):
        return NodeView("changed" if node in ran else "new")
    if found is None:
        return NodeView("waiting" if status in ACTIVE else "not_run")
    shown = found.state
    if status not in ACTIVE:
        shown = {"waiting": "not_run", "running": "stopped"}.get(shown, shown)
    elif status == "preparing":
        shown = "waiting"
    place = place_words(state, node) if shown == "stopped" else ""
    checks = [c for c in state.checks if c["node"] == node]
    verdict = worst([str(c.get("verdict")) for c in checks])
    if shown in ("done", "skipped") and verdict in _CHECKED:
        shown = _CHECKED[verdict]
        place = next(str(c.get("cause") or "") for c in checks if c.get("verdict") == verdict)
    return NodeView(shown, found, place, resumed_words(state, node))
