"""The texts of the target dialog: ranks and parameters of rows, and their sums."""

from __future__ import annotations

from collections.abc import Sequence

from studio.model.shapes import Linear
from ui.inspector.editors.target_state import TargetState

_NONE = "–"


def row_words(state: TargetState, rows: Sequence[Linear]) -> tuple[str, str, str, set[str]]:
    """Rank, alpha and trained parameters of rows that get an adapter; ``rank`` and ``alpha`` where any
    of them has its own."""
    if not rows:
        return _NONE, _NONE, _NONE, set()
    counted = [state.parameters(r) for r in rows]
    known = [c for c in counted if c is not None]
    trained = f"{sum(known):,}" if len(known) == len(counted) else _NONE
    given = {"rank": state.ranks, "alpha": state.alphas}
    own = {name for name, numbers in given.items() if any(r.name in numbers for r in rows)}
    ranks, alphas = {state.rank_of(r) for r in rows}, {state.alpha_of(r) for r in rows}
    return _one(ranks), _one(alphas), trained, own


def _one(numbers: set[int]) -> str:
    """The common value of the rows; ``None`` if the node has no such setting."""
    if len(numbers) > 1:
        return "several"
    (number,) = numbers
    return f"{number:,}" if number else _NONE


def count_words(state: TargetState, rows: Sequence[Linear]) -> str:
    """How many layers get an adapter, and how many parameters are trained in all."""
    words = f"{len(rows):,} of {len(state.rows):,} layers"
    counted = [state.parameters(r) for r in rows]
    known = [c for c in counted if c is not None]
    if len(known) < len(counted):
        return (
            f"{words}. The number of trainable parameters of this method is known once the adapter "
            "is built."
        )
    full = state.fully_trained_parameters()
    if full:
        return (
            f"{words}; {sum(known):,} trainable parameters in adapters, {full:,} in fully trained "
            "modules."
        )
    return f"{words}; {sum(known):,} trainable parameters." if known else f"{words}."
