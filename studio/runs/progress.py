"""The progress of a run: its stages, what it is doing, its share of the work, and the time left.

Every place that shows progress (nodes, the line above the curves, the status bar, the terminal) calls
``progress_of`` and shows its texts, so that all of them say the same. It reads a ``RunState`` and the
given time only.

The time left is that of the whole run. It is the measured time of a training that is under way, and
otherwise that of the same phase in an earlier run (event ``Forecast``). A phase that was never timed, or
that takes longer than before, has an unknown time, and the text says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from studio.runs.state import NodeState, RunState, is_in_training
from studio.system.number_text import duration, time_left

UNKNOWN = "time left unknown"
STAGES = {
    "start": "prepare",
    "hash": "prepare",
    "read": "prepare",
    "download": "prepare",
    "import": "prepare",
    "mix": "prepare",
    "split": "prepare",
    "tokenize": "prepare",
    "prepare": "prepare",
    "load": "load",
    "train": "train",
    "save": "save",
    "verify": "verify",
    "merge": "merge",
    "resize": "resize",
    "combine": "combine",
    "generate": "evaluate",
    "export": "export",
}
"""Phase of a step -> the stage of the run that it belongs to."""

_BEFORE, _AFTER = 0.1, 0.1
"""The share of a Train node before and after its training, while nothing was timed."""
_TRAINING_WEIGHT = 20.0
"""The share of a training, relative to other nodes, while nothing was timed."""


@dataclass(frozen=True)
class Progress:
    """The progress of a run that is running.

    ``node`` and ``title`` name the running node, and are empty before the first. ``phase`` is what it
    does with its count (``Train 3/6``), ``doing`` a sentence about it. ``fraction`` is the share of the
    whole run. ``left_s`` is the time left of the whole run as far as it is known, ``None`` if it is
    unknown; ``at_least`` says that parts of it are unknown. ``stages`` are those of the whole run,
    ``stage`` the index of the current one.
    """

    node: str
    title: str
    phase: str
    doing: str
    fraction: float
    left_s: float | None
    at_least: bool
    stages: tuple[str, ...]
    stage: int

    @property
    def percent(self) -> str:
        """``42 %``, of the whole run; 100 % only after the end."""
        return f"{min(99, math.floor(self.fraction * 100 + 1e-9))} %"

    @property
    def left(self) -> str:
        """The time left of the whole run as text."""
        if self.left_s is None:
            return UNKNOWN
        if self.at_least:
            return f"over {duration(round(self.left_s))} left"
        return time_left(self.left_s)

    @property
    def where(self) -> str:
        """The node and what it does: ``Base model: Reading the tokenizer``, ``Train 3/6``."""
        if self.phase.startswith("Train "):
            return self.phase if self.title == "Train" else f"{self.title}: {self.phase}"
        count = self.phase.partition(" ")[2]
        doing = f"{self.doing} {count}".rstrip() if self.doing else self.phase
        return f"{self.title}: {doing}" if self.title else doing

    @property
    def trail(self) -> str:
        """The stages of the run: ``prepare ✓ ▸ load ✓ ▸ train 3/6 ▸ save``."""
        count = self.phase.rpartition(" ")[2]
        now = f" {count}" if "/" in count else "…"
        words = [
            f"{name} ✓" if i < self.stage else name + (now if i == self.stage else "")
            for i, name in enumerate(self.stages)
        ]
        return " ▸ ".join(words)

    def sentence(self) -> str:
        """All of it in one line."""
        return " · ".join((self.where, self.percent, self.left))


STARTING = Progress("", "", "Starting", "Starting the run process", 0.0, None, True, (), 0)


def progress_of(state: RunState, now: float, status: str = "") -> Progress | None:
    """The progress of a run at a Unix time; ``None`` unless it is being prepared or running. ``status`` is that
    of its ``RunView``: the events of a resumed run do not know that it is being prepared again."""
    if "preparing" in (status, state.status):
        return STARTING
    if state.status != "running":
        return None
    node = state.nodes.get(state.current or "")
    left, at_least = _left(state, now)
    stages, stage = _stages(state)
    return Progress(
        state.current or "",
        node.title if node else "",
        phase_words(state, state.current) if node else "Starting",
        _doing(state, node),
        _fraction(state, now),
        left,
        at_least,
        stages,
        stage,
    )


def phase_words(state: RunState, name: str | None) -> str:
    """The phase of a node with its count: ``Train 3/6``, ``Load 61/272``, ``Starting``."""
    node = state.nodes.get(name or "")
    if node is None or not node.phase:
        return "Starting"
    if is_in_training(state, name):
        done, total = steps_of(state, name)
        if total:
            return f"Train {done:,.0f}/{total:,.0f}"
        return f"Train {done:,.0f}" if done else "Train"
    word = node.phase[:1].upper() + node.phase[1:]
    return f"{word} {_count(node)}".rstrip()


def steps_of(state: RunState, name: str | None) -> tuple[float, float]:
    """The completed and the planned steps of a training; 0 if unknown."""
    series, node = state.metrics.get(name or ""), state.nodes.get(name or "")
    done, total = 0.0, 0.0
    if node is not None and node.unit == "steps":
        done, total = node.done or 0.0, node.total or 0.0
    if series is not None and series.step:
        done, total = series.step[-1], series.steps or total
    return done, total


def _count(node: NodeState) -> str:
    if not node.total:
        return ""
    done, total = node.done or 0.0, node.total
    if node.unit in ("bytes", "MB"):
        scale = 1e6 if node.unit == "bytes" else 1.0
        return f"{done / scale:,.0f}/{total / scale:,.0f} MB" if total >= 10 * scale else ""
    return f"{done:,.0f}/{total:,.0f}"


def _doing(state: RunState, node: NodeState | None) -> str:
    if node is None:
        begun = any(n.state != "waiting" for n in state.nodes.values())
        return "Starting the next step" if begun else "Looking for results of earlier runs"
    return node.phase_title or ("" if node.phase else "Starting the step")


# ------------------------------------------------------------ stages


def _stages(state: RunState) -> tuple[tuple[str, ...], int]:
    """The stages of the nodes that run, neighbours of the same name as one, and the current one."""
    found: list[str] = []
    current = 0
    for name, node in state.nodes.items():
        if not _runs(state, name):
            continue
        own = node.stages or (node.title.lower(),)
        for place, stage in enumerate(own):
            if not found or found[-1] != stage:
                found.append(stage)
            if name == state.current and place == _place(state, name, own):
                current = len(found) - 1
        if node.state in ("done", "skipped"):
            current = max(current, len(found) - 1)
    return tuple(found), current


def _place(state: RunState, name: str, own: tuple[str, ...]) -> int:
    """The current stage of a node among its own; it never goes back."""
    node, place = state.nodes[name], 0
    for phase, _ in node.phases:
        stage = STAGES.get(phase, "")
        if stage in own[place:]:
            place = own.index(stage, place)
    return place


def _runs(state: RunState, name: str) -> bool:
    """Whether a node is run; the others are reused."""
    return state.forecast is None or name in state.forecast or name == state.current


# ------------------------------------------------------------ time left


def _left(state: RunState, now: float) -> tuple[float | None, bool]:
    """The known part of the remaining time, and whether parts are unknown."""
    if state.forecast is None and state.current is None:
        return None, True
    known, complete, training_ahead = 0.0, True, False
    for name, node in state.nodes.items():
        if node.state not in ("waiting", "running") or not _runs(state, name):
            continue
        rest, all_known = _node_left(state, name, now)
        known, complete = known + rest, complete and all_known
        training_ahead = training_ahead or _training_unknown(state, name)
    if complete:
        return known, False
    # Without the time of the training, which is most of a run, the rest says nothing.
    return (None if training_ahead or known < 1 else known), True


def _training_unknown(state: RunState, name: str) -> bool:
    """Whether a training lies ahead, or has just begun, whose time is unknown."""
    node = state.nodes[name]
    if "train" not in node.stages or _measured(state, name, 0.0) is not None:
        return False
    if any(phase == "train" for phase, _ in node.phases) and not is_in_training(state, name):
        return False
    usual = dict((state.forecast or {}).get(name) or ())
    return usual.get("train") is None


def _node_left(state: RunState, name: str, now: float) -> tuple[float, bool]:
    """The known part of the remaining time of one node, and whether it is all of it."""
    node = state.nodes[name]
    before = (state.forecast or {}).get(name)
    if node.state == "waiting":
        if before is None:
            return 0.0, False
        return sum(s or 0.0 for _, s in before), all(s is not None for _, s in before)
    place, is_there = _forecast_place(node, before or [])
    rest = (before or [])[place + 1 :]
    known, complete = sum(s or 0.0 for _, s in rest), all(s is not None for _, s in rest)
    measured = _measured(state, name, now)
    if measured is not None:
        return known + measured, complete and before is not None
    if not node.phases and before is not None:
        return max(0.0, known - max(0.0, now - (node.started or now))), complete
    usual = before[place][1] if before and place >= 0 else None
    if usual is None or not is_there:
        return known, False
    current = usual - max(0.0, now - node.phases[-1][1])
    return known + max(0.0, current), complete and current > 0


def _measured(state: RunState, name: str, now: float) -> float | None:
    """The remaining time of the training that this run has measured."""
    node = state.nodes[name]
    if node.eta_s is None or not is_in_training(state, name):
        return None
    return max(0.0, node.eta_s - max(0.0, now - node.eta_at))


def _forecast_place(node: NodeState, before: list[tuple[str, float | None]]) -> tuple[int, bool]:
    """The place that a node has reached among the phases of an earlier run, -1 before the first, and whether the
    current phase is that one, and not one after it that the earlier run did not have."""
    place, is_there = -1, False
    for phase, _ in node.phases:
        ahead = [i for i in range(place + 1, len(before)) if before[i][0] == phase]
        place, is_there = (ahead[0], True) if ahead else (place, False)
    return place, is_there


# ------------------------------------------------------------ the share of the run


def _fraction(state: RunState, now: float) -> float:
    """The share of the run that is completed. It is that of the earlier times if all are known, and
    does not go back."""
    nodes = [name for name in state.nodes if _runs(state, name)]
    forecast = state.forecast or {}
    timed = {
        name: sum(s or 0.0 for _, s in phases)
        for name in nodes
        if (phases := forecast.get(name)) and all(s is not None for _, s in phases)
    }
    all_timed = len(timed) == len(nodes) and sum(timed.values()) > 0
    done, total = 0.0, 0.0
    for name in nodes:
        node = state.nodes[name]
        weight = timed[name] if all_timed else _weight(node)
        total += weight
        if node.state in ("done", "skipped"):
            done += weight
        elif node.state == "running":
            share = _timed_share(state, name, now) if all_timed else _counted_share(state, name)
            done += weight * share
    return min(1.0, done / total) if total else 0.0


def _weight(node: NodeState) -> float:
    return _TRAINING_WEIGHT if "train" in node.stages else 1.0


def _timed_share(state: RunState, name: str, now: float) -> float:
    node, before = state.nodes[name], (state.forecast or {}).get(name) or []
    total = sum(s or 0.0 for _, s in before)
    place, is_there = _forecast_place(node, before)
    if not total or place < 0 or not node.phases:
        return 0.0
    passed = sum(s or 0.0 for _, s in before[:place])
    phase, since = node.phases[-1]
    usual = before[place][1] or 0.0
    if not is_there:
        return (passed + usual) / total
    if phase == "train":
        step, steps = steps_of(state, name)
        return (passed + usual * (min(1.0, step / steps) if steps else 0.0)) / total
    return (passed + min(usual, max(0.0, now - since))) / total


def _counted_share(state: RunState, name: str) -> float:
    """By counts alone: a training by its steps; otherwise each count takes half of what is left."""
    node = state.nodes[name]
    parts = node.parts
    if not parts:
        return 0.0
    if "train" not in parts:
        end = _BEFORE if "train" in node.stages else 1.0
        return end * _halved(node, len(parts))
    start = _BEFORE if node.stages[:1] not in ((), ("train",)) else 0.0
    end = 1.0 - _AFTER if "train" in node.stages[:-1] else 1.0
    after = sum(part != "train" for part in parts[parts.index("train") :])
    if after:
        return end + (1.0 - end) * _halved(node, after)
    step, steps = steps_of(state, name)
    start = start if "train" in node.stages else 0.0
    return start + (end - start) * (min(1.0, step / steps) if steps else 0.0)


def _halved(node: NodeState, parts: int) -> float:
    return 1.0 - 0.5 ** (parts - 1) + 0.5**parts * node.counted
