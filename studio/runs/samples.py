"""The answers that a model generated during training, as a grid: prompts by steps.

Plain Python with a bounded size, so that a long run does not fill the memory of the window. It does
not know how the answers are generated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from studio.runs.series import number

MOST_PROMPTS = 128
MOST_STEPS = 200


@dataclass(frozen=True)
class Sample:
    """One answer. ``expected`` is the right one, where the prompt came from a row; ``cut``: it was
    truncated at the maximum length."""

    text: str
    tokens: int = 0
    seconds: float = 0.0
    expected: str = ""
    cut: bool = False


@dataclass
class SampleGrid:
    """``prompts`` in the order in which they came, ``steps`` rising, ``cells`` by both."""

    prompts: list[str] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    cells: dict[tuple[str, int], Sample] = field(default_factory=dict)

    def add(self, data: Mapping[str, Any]) -> None:
        """Add the fields of a ``Sample`` event; a repeated one replaces the earlier one."""
        prompt, step = str(data.get("prompt", "")), _whole(data.get("step"))
        if prompt not in self.prompts:
            if len(self.prompts) >= MOST_PROMPTS:
                return
            self.prompts.append(prompt)
        if step not in self.steps:
            self.steps = sorted([*self.steps, step])
            self._thin()
        self.cells[prompt, step] = Sample(
            str(data.get("text", "")),
            _whole(data.get("tokens")),
            number(data.get("seconds")),
            str(data.get("expected") or ""),
            bool(data.get("cut")),
        )

    def at(self, prompt: str, step: int) -> Sample | None:
        """The answer to a prompt after a step, if there is one."""
        return self.cells.get((prompt, step))

    def cut_after(self, step: float) -> None:
        """Drop the answers after a step: they are not part of the resumed run."""
        self.steps = [s for s in self.steps if s <= step]
        self.cells = {key: cell for key, cell in self.cells.items() if key[1] <= step}

    def _thin(self) -> None:
        """Beyond the bound drop every second step, except the first and the newest."""
        if len(self.steps) <= MOST_STEPS:
            return
        kept = {*self.steps[::2], self.steps[-1]}
        self.steps = sorted(kept)
        self.cells = {key: cell for key, cell in self.cells.items() if key[1] in kept}


def _whole(value: Any) -> int:
    figure = number(value)
    return int(figure) if math.isfinite(figure) else 0
