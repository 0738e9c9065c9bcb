"""The marks on the curves: checkpoints, resumes, recoveries, the best evaluation, the end.

Read from a ``RunState``, with a tooltip for each mark. No Qt here; ``plot`` draws.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from studio.runs.outcome import best_of, early_words
from studio.runs.state import RunState
from ui.monitor import words


@dataclass(frozen=True)
class Marks:
    """Steps by kind. ``best`` is step and validation loss; ``tips`` are steps with their sentences."""

    checkpoints: tuple[float, ...] = ()
    resumes: tuple[float, ...] = ()
    recoveries: tuple[float, ...] = ()
    ended_early: float | None = None
    best: tuple[float, float] | None = None
    tips: tuple[tuple[float, str], ...] = ()

    def tip_at(self, x: float, reach: float) -> str:
        """The tooltip of the marks within ``reach`` of a step, or an empty text."""
        near = [(abs(step - x), tip) for step, tip in self.tips if abs(step - x) <= reach]
        if not near:
            return ""
        nearest = min(distance for distance, _ in near)
        return "\n".join(dict.fromkeys(tip for distance, tip in near if distance == nearest))


NO_MARKS = Marks()


def marks_of(state: RunState, node: str | None) -> Marks:
    """Every mark of one training."""
    saved = [c for c in state.checkpoints if c["node"] == node and c.get("reason") != "best"]
    resumed = [r for r in state.resumes if r["node"] == node]
    recovered = [r for r in state.recoveries if r["node"] == node]
    ended = state.early_stops.get(node or "")
    best = best_of(state, node)
    tips = [(s, f"Checkpoint of step {s:,.0f}") for s in _steps(saved)]
    tips += [(s, f"Resumed after step {s:,.0f}") for s in _steps(resumed)]
    tips += [(float(r["step"]), recovery_words(r)) for r in recovered if _known(r.get("step"))]
    end = float(ended["step"]) if ended is not None and _known(ended.get("step")) else None
    if ended is not None and end is not None:
        tips.append((end, early_words(ended)))
    if best is not None:
        tips.append((best[0], f"Best evaluation: {best_words(best)}"))
    return Marks(
        tuple(_steps(saved)),
        tuple(_steps(resumed)),
        tuple(_steps(recovered)),
        end,
        best,
        tuple(tips),
    )


def best_words(best: tuple[float, float]) -> str:
    """``0.2769 at 40``: loss and step of the best evaluation."""
    return f"{words.number_text(best[1])} at {best[0]:,.0f}"


def recovery_words(record: Mapping[str, Any]) -> str:
    """The change made after running out of memory."""
    also = " and gradient checkpointing" if record.get("checkpointing") else ""
    return (
        f"Out of memory in step {record.get('step')}: training continues with batch size "
        f"{record.get('batch_size')}, {record.get('accumulation')} accumulation steps{also}; each "
        "optimizer step uses the same rows"
    )


def _known(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _steps(records: Iterable[Mapping[str, Any]]) -> list[float]:
    return [float(r["step"]) for r in records if _known(r.get("step"))]
