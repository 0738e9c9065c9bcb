"""The settings of the Merge node."""

from __future__ import annotations

from typing import Literal

from studio.graph.schema import Settings, setting


class MergeSettings(Settings):
    """How the merged model is written."""

    dtype: Literal["base", "float32", "bfloat16", "float16"] = setting(
        "base",
        "Precision",
        "Base keeps the precision in which the base model is stored, so that the merged model is as "
        "large. bfloat16 and float16 round the merged weights; the difference is measured and "
        "reported. float32 keeps them as trained.",
        choice_labels={
            "base": "Same as the base model",
            "float32": "float32",
            "bfloat16": "bfloat16",
            "float16": "float16",
        },
    )
