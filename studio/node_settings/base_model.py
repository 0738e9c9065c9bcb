"""The settings of the Base model node."""

from __future__ import annotations

from typing import Literal

from studio.graph.schema import Settings, setting


class BaseModelSettings(Settings):
    """Where the model comes from and how it is loaded."""

    model: str = setting(
        "starter:smollm2-135m",
        "Model",
        "starter:smollm2-135m, a local folder, a .gguf file, or a hub id such as Qwen/Qwen3-0.6B.",
        widget="model",
    )
    revision: str = setting(
        "",
        "Revision",
        "Branch, tag or commit of a hub model. Empty takes the newest and pins it to its commit.",
        placeholder="newest",
        advanced=True,
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = setting(
        "auto",
        "Precision",
        "Auto takes bfloat16 where the hardware computes it well, else float32. "
        "float32 needs twice the memory of bfloat16 and is exact.",
        choice_labels={
            "auto": "Auto",
            "float32": "float32 (exact)",
            "bfloat16": "bfloat16",
            "float16": "float16",
        },
    )
    quantization: Literal["none", "nf4", "fp4", "int8"] = setting(
        "none",
        "Quantization",
        "Keep the frozen weights in 4 bits (NF4, QLoRA) or 8 bits to save memory; "
        "training gets a little slower. NF4 keeps more of the model's quality than FP4.",
        choice_labels={"none": "None", "nf4": "4-bit NF4", "fp4": "4-bit FP4", "int8": "8-bit"},
    )
    double_quant: bool = setting(
        True,
        "Double quantization",
        "Quantize the scales of the 4-bit weights too: saves 0.4 bits per weight "
        "(about 0.35 GB of a 7 B model) at no loss that was ever measured.",
        advanced=True,
        shown_if={"quantization": ("nf4", "fp4")},
    )
    attention: Literal["auto", "sdpa", "eager", "flash_attention_2"] = setting(
        "auto",
        "Attention",
        "How attention is computed. Auto takes what the model's code prefers, nearly "
        "always SDPA. Eager is plain and slow, for comparison. FlashAttention 2 needs an NVIDIA GPU, the "
        "flash-attn package and bfloat16 or float16.",
        advanced=True,
        choice_labels={
            "auto": "Auto",
            "sdpa": "SDPA",
            "eager": "Eager",
            "flash_attention_2": "FlashAttention 2",
        },
    )
    look_for_updates: bool = setting(
        False,
        "Look for updates",
        "Ask the hub for a newer version of the model at each run. Off: a model that "
        "is on this machine is used as it is, without any network.",
        advanced=True,
    )
