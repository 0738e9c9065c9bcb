"""The settings of the LoRA node."""

from __future__ import annotations

from typing import Any, Literal

from studio.graph.schema import Settings, setting


class LoraSettings(Settings):
    """Low-rank adaptation: W stays frozen, (alpha / r) · B·A is trained."""

    method: str = setting(
        "lora",
        "Method",
        "LoRA suits most jobs. rsLoRA scales better at a high rank; DoRA learns a little more at a low "
        "rank and is slower. With a tuned learning rate nine variants were within 1-2 % of plain LoRA "
        "(arXiv:2602.04998), each at another rate.",
        variant="adapter",
    )
    method_settings: dict[str, Any] = setting(
        {}, "Method settings", "Settings of the chosen method.", advanced=True
    )
    r: int = setting(
        16,
        "Rank (r)",
        "Width of the trained matrices. 8 to 32 is usual. Twice the rank doubles the adapter's size and "
        "its memory, and lets it learn more.",
        ge=1,
        le=1024,
        log_scale=True,
    )
    alpha: int = setting(
        32,
        "Alpha",
        "Scale of the adapter, which is multiplied by alpha / r. r or 2·r is usual; a larger alpha "
        "learns faster and is less stable.",
        ge=1,
        le=4096,
        log_scale=True,
    )
    dropout: float = setting(
        0.0,
        "Dropout",
        "Probability of dropping an input of the adapter during training. 0 to 0.1; reduces overfitting "
        "on few rows.",
        ge=0.0,
        lt=1.0,
        step=0.01,
    )
    target_modules: str | list[str] = setting(
        "all-linear",
        "Target modules",
        "The linear layers that get an adapter. All linear layers learn most; q and v only is smallest. "
        "Also names separated by commas, or re: and a regular expression for whole names. Experts of a "
        "mixture: experts.gate_up_proj, experts.down_proj.",
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
        "The layers of the model that get an adapter: 8-15, or 0, 4-7, or last 4; 0-30/2 is every second "
        "one. Fewer layers need less memory and learn less.",
        advanced=True,
        placeholder="all",
        max_length=500,
    )
    exclude: str = setting(
        "",
        "Exclude",
        "Names of layers without an adapter, separated by commas: k_proj, model.layers.0.mlp.up_proj.",
        advanced=True,
        placeholder="none",
        max_length=5000,
    )
    rank_pattern: str = setting(
        "",
        "Ranks by layer",
        "Layers with a rank of their own: down_proj=32, q_proj=8. The first name that matches a layer "
        "counts.",
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
        "Modules to save",
        "Modules that are fully trained and saved with the adapter: embed_tokens, lm_head. For new "
        "tokens. Adds hundreds of megabytes.",
        advanced=True,
        placeholder="none",
        max_length=5000,
    )
    trained_tokens: str = setting(
        "",
        "Train tokens",
        "Tokens whose embedding is trained too: <|im_start|>, <|im_end|>. Separated by commas; a number "
        "is a token's id. For markers that the base model never learned. A few kilobytes instead of the "
        "hundreds of megabytes of the whole embedding; training needs memory for one more copy of it.",
        advanced=True,
        placeholder="none",
        max_length=5000,
    )
    bias: Literal["none", "all", "lora_only"] = setting(
        "none",
        "Bias",
        "Whether bias terms are trained too. With anything but None, the base model changes even with "
        "the adapter disabled.",
        advanced=True,
        choice_labels={"none": "None", "all": "All", "lora_only": "Adapted layers only"},
    )
