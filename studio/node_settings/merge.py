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
    base_weights: Literal["original", "dequantized"] = setting(
        "original",
        "Base weights",
        "For an adapter that was trained on a quantized base (QLoRA). Original merges into the unquantized weights of "
        "the base model, which are more accurate but are not those that the adapter was trained with. Dequantized "
        "merges into the quantized weights, so that the merged model computes what was trained. The difference from "
        "the quantized model is measured and reported for both.",
        choice_labels={"original": "Original", "dequantized": "Dequantized"},
        advanced=True,
    )
    max_shard_size: float = setting(
        2.0,
        "Maximum file size",
        "The weights are divided into files of at most this size, with an index. A tensor that is larger gets a file "
        "of its own. Typical: 2 to 5 GB; the Hub accepts files of up to 50 GB.",
        unit="GB",
        ge=0.1,
        le=50.0,
        advanced=True,
    )
