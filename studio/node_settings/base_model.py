"""The settings of the Base model node."""

from __future__ import annotations

from typing import Literal

from studio.graph.schema import Settings, setting


class BaseModelSettings(Settings):
    """Where the model comes from and how it is loaded."""

    model: str = setting(
        "starter:smollm2-135m",
        "Model",
        "starter:smollm2-135m, a local folder, a .gguf file, or a Hub ID such as Qwen/Qwen3-0.6B.",
        widget="model",
    )
    revision: str = setting(
        "",
        "Revision",
        (
            "Branch, tag or commit of a model on the Hub. Leave empty to use the latest version; "
            "the run records its commit."
        ),
        placeholder="latest",
        group="Hub",
        advanced=True,
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = setting(
        "auto",
        "Precision",
        "Auto uses bfloat16 where the hardware computes in it, float16 with loss scaling on older GPUs, and "
        "float32 on other CPUs. float32 needs twice the memory of the others. A CPU that does not compute in bfloat16 "
        "keeps frozen weights in it and computes in float32.",
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
        "Load the frozen weights in 4-bit (NF4, as in QLoRA) or 8-bit precision to save memory. "
        "Training becomes slightly slower. NF4 preserves quality better than FP4.",
        choice_labels={"none": "None", "nf4": "4-bit NF4", "fp4": "4-bit FP4", "int8": "8-bit"},
    )
    double_quant: bool = setting(
        True,
        "Double quantization",
        "Also quantize the quantization constants of the 4-bit weights. Saves about 0.4 bits per "
        "weight (0.35 GB for a 7B model) with no measurable loss of quality.",
        advanced=True,
        shown_if={"quantization": ("nf4", "fp4")},
    )
    attention: Literal["auto", "sdpa", "eager", "flash_attention_2"] = setting(
        "auto",
        "Attention",
        "The attention implementation. Auto uses the model's default, usually SDPA. Eager is slow "
        "and useful for comparison. FlashAttention 2 requires an NVIDIA GPU, the flash-attn "
        "package, and bfloat16 or float16.",
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
        "Check for updates",
        "Check the Hub for a newer version of the model at each run. If off, a model that is "
        "already on this machine is used without network access.",
        group="Hub",
        advanced=True,
    )
