"""The settings of the Resize node."""

from __future__ import annotations

from typing import Literal

from studio.graph.schema import Settings, setting


class ResizeSettings(Settings):
    """The new size of the adapter."""

    by: Literal["energy", "rank"] = setting(
        "energy",
        "Reduce by",
        "Energy keeps as many singular directions per layer as its change needs. Rank gives all "
        "layers the same rank.",
        choice_labels={"energy": "Energy kept", "rank": "Rank"},
    )
    energy: float = setting(
        0.95,
        "Energy",
        "Fraction of each layer's squared singular values to keep. Typical values are 0.9 to "
        "0.99. Lower values give a smaller adapter that differs more from the trained one.",
        gt=0.0,
        le=1.0,
        step=0.01,
        shown_if={"by": "energy"},
    )
    r: int = setting(
        8,
        "Rank (r)",
        "New rank of every layer. Layers with a lower rank keep theirs.",
        ge=1,
        le=1024,
        log_scale=True,
        shown_if={"by": "rank"},
    )
