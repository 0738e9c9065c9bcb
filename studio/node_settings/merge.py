"""The settings of the Merge node."""

from __future__ import annotations

from typing import Literal

from studio.graph.schema import Settings, setting


class MergeSettings(Settings):
    """How the merged model is written."""

    dtype: Literal["base", "float32", "bfloat16", "float16"] = setting(
        "base",
        "Precision",
        "Base keeps the precision the model was trained in. bfloat16 halves the size of a float32 "
        "model and rounds the merged weights; the difference is measured and reported.",
        choice_labels={
            "base": "Same as the base model",
            "float32": "float32",
            "bfloat16": "bfloat16",
            "float16": "float16",
        },
    )
