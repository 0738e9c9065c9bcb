"""Settings of the Train node: how rows become text, and which of it is trained.

It must not say what the settings do to a row: see ``studio.training.masks`` and ``docs/masks.md``.
"""

from __future__ import annotations

from typing import Literal

from studio.graph.schema import setting
from studio.nodes._train_rows import RowSettings


class DataSettings(RowSettings):
    """What is trained."""

    train_on: Literal["answers", "last_answer", "weights", "all"] = setting(
        "answers", "Train on", "Answers only: the model learns to answer. Last answer only: earlier ones are "
        "context. Weights in the data: each message counts as much as its “weight” says. Everything: it also "
        "learns to write the questions.", group="Data",
        choice_labels={
            "answers": "Answers only", "last_answer": "Last answer only", "weights": "Weights in the data",
            "all": "Everything",
        },
    )  # fmt: skip
