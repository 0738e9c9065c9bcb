"""The settings of the Merge node."""

from __future__ import annotations

from typing import Literal

from studio.graph.schema import Settings, setting


class MergeSettings(Settings):
    """How the merged model is written."""

    dtype: Literal["base", "float32", "bfloat16", "float16"] = setting(
        "base",
        "Precision",
        "Base keeps the precision the model was trained in. bfloat16 halves a float32 "
        "model's size and rounds the merge; the difference is measured and shown.",
        choice_labels={
            "base": "Same as the base",
            "float32": "float32",
            "bfloat16": "bfloat16",
            "float16": "float16",
        },
    )
