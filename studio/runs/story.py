"""The events of a run that its log shows."""

from __future__ import annotations

from collections import deque

from studio.events import Event

MOST_EVENTS = 20_000
METRIC_EVERY_S = 5.0
_NEVER = ("Progress", "Memory")


class Story(deque[Event]):
    """The last ``MOST_EVENTS`` events that a log shows: of the training steps one every
    ``METRIC_EVERY_S`` seconds, all evaluations, and no readings of memory or progress."""

    def __init__(self) -> None:
        super().__init__(maxlen=MOST_EVENTS)
        self._step_at: dict[str, float] = {}

    def add(self, event: Event) -> bool:
        """Add an event if it is shown, and return whether it is."""
        if event.name in _NEVER:
            return False
        is_step = event.name == "Metric" and event.data.get("eval_loss") is None
        if is_step and not (
            event.data.get("loss") is not None and self.is_due(event.time, event.node)
        ):
            return False
        self.append(event)
        return True

    def is_due(self, when: float, node: str | None) -> bool:
        """Whether a training step at this time is shown; then the next one follows after
        ``METRIC_EVERY_S``."""
        last = self._step_at.get(node or "")
        if last is not None and abs(when - last) < METRIC_EVERY_S:
            return False
        self._step_at[node or ""] = when
        return True
