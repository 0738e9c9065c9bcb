"""The settings of the Evaluate node."""

from __future__ import annotations

from studio.graph.schema import Settings, setting


class EvaluateSettings(Settings):
    """How many rows are evaluated and how long an answer may be."""

    rows: int = setting(
        96,
        "Rows",
        (
            "Number of rows to evaluate, evenly spaced over the file. 0 evaluates all rows; more "
            "rows are slower and more reliable."
        ),
        unit="rows",
        ge=0,
        special={0: "all"},
    )
    max_new_tokens: int = setting(
        0,
        "Max new tokens",
        (
            "Maximum number of generated tokens per answer. 0: the length of the longest expected "
            "answer and a quarter more. A longer answer is cut there and marked."
        ),
        unit="tokens",
        ge=0,
        le=4096,
        special={0: "automatic"},
    )
    batch_size: int = setting(
        16,
        "Batch size",
        "Number of answers generated at the same time.",
        unit="rows",
        ge=1,
        le=512,
        advanced=True,
    )
