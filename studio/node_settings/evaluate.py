"""The settings of the Evaluate node."""

from __future__ import annotations

from studio.graph.schema import Settings, setting


class EvaluateSettings(Settings):
    """How many rows are asked and how long an answer may be."""

    rows: int = setting(
        96,
        "Rows",
        "How many rows are asked, spread evenly over the file. 0 asks all; more is slower and surer.",
        unit="rows",
        ge=0,
        special={0: "all"},
    )
    max_new_tokens: int = setting(
        16, "Answer length", "Longest answer that is generated.", unit="tokens", ge=1, le=4096
    )
    batch_size: int = setting(
        16, "Batch size", "Rows generated at once.", unit="rows", ge=1, le=512, advanced=True
    )
