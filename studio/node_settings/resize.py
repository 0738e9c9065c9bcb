"""The settings of the Resize node."""

from __future__ import annotations

from typing import Literal

from studio.graph.schema import Settings, setting


class ResizeSettings(Settings):
    """How small the adapter may become."""

    by: Literal["energy", "rank"] = setting(
        "energy",
        "Shrink by",
        "Energy: every layer keeps as many directions as its change needs. Rank: the "
        "same rank for all.",
        choice_labels={"energy": "Energy kept", "rank": "Rank"},
    )
    energy: float = setting(
        0.95,
        "Energy",
        "Share of each layer's change (its squared singular values) that is kept. 0.9 to "
        "0.99 is usual; less is smaller and further from what was trained.",
        gt=0.0,
        le=1.0,
        step=0.01,
        shown_if={"by": "energy"},
    )
    r: int = setting(
        8,
        "Rank (r)",
        "The new rank of every layer; layers that had less keep theirs.",
        ge=1,
        le=1024,
        log_scale=True,
        shown_if={"by": "rank"},
    )
