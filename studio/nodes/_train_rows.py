"""Settings of the Train node: what is learned from which rows, and how they are put together.

Why apart: the Train node has more settings than one file should hold. The classes form a chain, because
a form shows fields in order of declaration: ``RowSettings``, ``DataSettings``, ``LossSettings``,
``OptimizerSettings``, ``MeasuringSettings``, ``TrainSettings``. It must not say what the settings do to a run: see
``studio.training``.
"""

from __future__ import annotations

from typing import Any, Literal

from studio.graph.schema import Settings, setting


class RowSettings(Settings):
    """Objective, length and batches."""

    objective: str = setting(
        "sft", "Objective", "What the model learns from a row.", variant="objective", advanced=True
    )
    objective_settings: dict[str, Any] = setting(
        {}, "Objective settings", "Settings of the chosen objective.", advanced=True
    )
    epochs: float = setting(
        1.0, "Epochs", "How often every row is seen. 1 to 3 is usual; more can overfit.", group="Length",
        gt=0.0, le=1000.0, step=0.5, shown_if={"max_steps": 0},
    )  # fmt: skip
    max_steps: int = setting(
        0, "Steps", "Number of optimizer steps. 0 goes by epochs.", unit="steps", group="Length", ge=0,
        special={0: "by epochs"},
    )  # fmt: skip
    batch_size: int = setting(
        4, "Batch size", "Rows computed at once. More is faster per row and needs more memory.",
        unit="rows", group="Batch", ge=1, le=4096,
    )  # fmt: skip
    gradient_accumulation_steps: int = setting(
        1, "Accumulation", "Batches added up before each optimizer step: a larger effective batch without "
        "more memory.", unit="batches", group="Batch", ge=1, le=4096,
    )  # fmt: skip
    max_length: int = setting(
        512, "Max length", "Longer rows are cut to this many tokens. Memory grows with it.",
        unit="tokens", group="Batch", ge=8, le=1_048_576, log_scale=True,
    )  # fmt: skip
    long_text: Literal["cut", "split"] = setting(
        "cut", "Longer plain text", "What becomes of plain text that is longer than the max length. Cut: what "
        "is behind it is not trained. Split into pieces: it becomes several rows, and each of its tokens is "
        "trained once; right for continued pretraining. Conversations and prompts are always cut.",
        group="Batch", choice_labels={"cut": "Cut", "split": "Split into pieces"},
    )  # fmt: skip
    batching: Literal["padded", "padding_free", "packed"] = setting(
        "padded", "Batching", "Padded: rows are filled up to the longest of their batch. Without padding: the "
        "rows of a batch lie in one sequence, and none sees another; the same result, faster when lengths "
        "differ. Packed: short rows are collected into sequences of the pack length first, and the batch "
        "size counts those, so that optimizer steps hold more and a varying number of rows. Models that "
        "cannot keep rows apart are trained padded, and that is told.", group="Batch",
        choice_labels={"padded": "Padded", "padding_free": "Without padding", "packed": "Packed"},
    )  # fmt: skip
    group_by_length: bool = setting(
        False, "Group by length", "Rows of like length come in one batch, so that little is padded. The order "
        "is still random, but less so.", group="Batch", shown_if={"batching": "padded"},
    )  # fmt: skip
    pack_length: int = setting(
        0, "Pack length", "Tokens that one packed sequence holds at most. Memory grows with it. 0: the max "
        "length; never less than the longest row.", unit="tokens", group="Batch", ge=0, le=1_048_576,
        special={0: "max length"}, shown_if={"batching": "packed"},
    )  # fmt: skip
