"""What a training reports when its loss or gradient is not finite.

The rows of the step are the best clue, so they are described by file, line and their first words.
Which setting is the cause is not decided here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset

from studio.errors import StudioError
from studio.graph.context import StepContext

SHOWN_ROWS = 16
_NAMED_ROWS = 4
_EXCERPT_TOKENS = 60
_EXCERPT_LETTERS = 160


def diverged(
    context: StepContext,
    step: int,
    what: str,
    value: float,
    rows: Sequence[dict[str, Any]],
    kept: int | None,
) -> StudioError:
    """Emit ``NonFinite`` and return the error to raise; ``kept`` is the step of the last checkpoint."""
    context.emit("NonFinite", step=step, what=what, value=value, rows=list(rows), kept=kept)
    begin = {
        "loss": f"the loss of step {step} is not finite ({value})",
        "gradient": f"the gradient of step {step} is not finite ({value})",
        "weights": f"a trained weight is not finite after step {step}",
    }[what]
    last = f"The last checkpoint (step {kept}) was saved before." if kept else ""
    first = rows[0] if rows else {}
    return StudioError(
        f"{begin}{_named(rows)}.",
        title="The training diverged",
        hint="Check these rows, lower the learning rate, increase the warmup, or train in float32 "
        f"or bfloat16. {last}".strip(),
        field="learning_rate",
        code="loss_not_finite",
        file=first.get("file"),
        line=first.get("line"),
    )


def _named(rows: Sequence[dict[str, Any]]) -> str:
    if not rows:
        return ""
    names = [f"line {r['line']} of {Path(str(r['file'])).name}" for r in rows[:_NAMED_ROWS]]
    more = f" and {len(rows) - _NAMED_ROWS} more" if len(rows) > _NAMED_ROWS else ""
    return (
        f"; its rows are {', '.join(names)}{more}" if len(rows) > 1 else f"; its row is {names[0]}"
    )


def row_places(rows: Dataset, tokenizer: Any, numbers: Sequence[int]) -> list[dict[str, Any]]:
    """The position and beginning of rows: ``file``, ``line``, ``text``."""
    picked = rows[list(numbers[:SHOWN_ROWS])]
    return [
        {"file": file, "line": line, "text": _excerpt(tokenizer, ids)}
        for file, line, ids in zip(
            picked["source"], picked["line"], picked["input_ids"], strict=True
        )
    ]


def _excerpt(tokenizer: Any, ids: list[int]) -> str:
    text = str(tokenizer.decode(ids[:_EXCERPT_TOKENS]))
    cut = len(ids) > _EXCERPT_TOKENS or len(text) > _EXCERPT_LETTERS
    return text[:_EXCERPT_LETTERS] + ("…" if cut else "")
