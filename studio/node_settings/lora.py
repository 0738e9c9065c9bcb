"""The settings of the LoRA node."""

from __future__ import annotations

from typing import Any, Literal

from studio.graph.schema import Settings, setting


class LoraSettings(Settings):
    """Low-rank adaptation: W stays frozen, (alpha / r) · B·A is trained."""

    method: str = setting(
        "lora",
        "Method",
        "LoRA suits most jobs. rsLoRA scales better at high r; DoRA learns a little "
        "more at low r and is slower.",
        variant="adapter",
    )
    method_settings: dict[str, Any] = setting(
        {}, "Method settings", "Settings of the chosen method.", advanced=True
    )
    r: int = setting(
        16,
        "Rank (r)",
        "Width of the trained matrices. 8 to 32 is usual. Twice the rank: twice the "
        "adapter's size and memory; more capacity to learn.",
        ge=1,
        le=1024,
        log_scale=True,
    )
    alpha: int = setting(
        32,
        "Alpha",
        "Scale of the adapter: it is applied times alpha / r. r or 2·r is usual; larger "
        "learns faster and is less stable.",
        ge=1,
        le=4096,
        log_scale=True,
    )
    dropout: float = setting(
        0.0,
        "Dropout",
        "Share of the adapter's inputs dropped while training. 0 to 0.1; helps against "
        "overfitting on few rows.",
        ge=0.0,
        lt=1.0,
        step=0.01,
    )
    target_modules: str | list[str] = setting(
        "all-linear",
        "Target modules",
        "Which linear layers get an adapter. All linear learns most; "
        "q and v only is smallest. Names with commas, or re: and a regular expression for whole names. "
        "Experts of a mixture: experts.gate_up_proj, experts.down_proj.",
        widget="target_modules",
        special={
            "all-linear": "All linear layers",
            "attention": "Attention",
            "q,v": "q and v only",
        },
    )
    layers: str = setting(
        "",
        "Layer range",
        "Only these blocks of the model get an adapter, such as 8-15 or 0, 4-7; 0-30/2 is "
        "every second one. Fewer blocks: less memory, less to learn with.",
        advanced=True,
        placeholder="all",
        max_length=500,
    )
    exclude: str = setting(
        "",
        "Exclude",
        "Names of layers that get none, with commas: k_proj, model.layers.0.mlp.up_proj.",
        advanced=True,
        placeholder="none",
        max_length=5000,
    )
    rank_pattern: str = setting(
        "",
        "Ranks by layer",
        "Layers with a rank of their own: down_proj=32, q_proj=8. The first name that "
        "fits a layer counts.",
        advanced=True,
        placeholder="none",
        max_length=50_000,
    )
    alpha_pattern: str = setting(
        "",
        "Alphas by layer",
        "Layers with an alpha of their own: down_proj=64. The scale is alpha / r.",
        advanced=True,
        placeholder="none",
        max_length=50_000,
    )
    modules_to_save: str = setting(
        "",
        "Train as a whole",
        "Parts that are trained without a low-rank form and saved with the "
        "adapter: embed_tokens, lm_head. For new tokens. Hundreds of megabytes.",
        advanced=True,
        placeholder="none",
        max_length=5000,
    )
    trained_tokens: str = setting(
        "",
        "Train tokens",
        "Tokens whose embedding is trained too, alone of all: <|im_start|>, <|im_end|>. "
        "With commas; a number is a token's id. For markers that the base never learned. A few "
        "kilobytes, where the whole embedding takes hundreds of megabytes; while it trains, memory for one "
        "more copy of the embedding.",
        advanced=True,
        placeholder="none",
        max_length=5000,
    )
    bias: Literal["none", "all", "lora_only"] = setting(
        "none",
        "Bias",
        "Whether bias terms are trained too. With anything but none, the base model "
        "changes even with the adapter switched off.",
        advanced=True,
        choice_labels={"none": "None", "all": "All", "lora_only": "Adapted layers only"},
    )
