"""The settings of the LoRA node."""

from __future__ import annotations

from typing import Any, Literal

from studio.graph.schema import Settings, setting


class LoraSettings(Settings):
    """Low-rank adaptation: W stays frozen, (alpha / r) · B·A is trained."""

    method: str = setting(
        "lora",
        "Method",
        "LoRA is a good default. rsLoRA scales better at high ranks; DoRA can learn slightly more "
        "at low ranks and is slower. With a tuned learning rate, nine variants were within 1-2 % of "
        "plain LoRA (arXiv:2602.04998), each at a different learning rate.",
        variant="adapter",
    )
    method_settings: dict[str, Any] = setting(
        {}, "Method settings", "Settings of the selected method.", advanced=True
    )
    r: int = setting(
        16,
        "Rank (r)",
        "Rank of the trained matrices. Typical values are 8 to 32. A higher rank gives the "
        "adapter more capacity; its size and memory grow in proportion.",
        ge=1,
        le=1024,
        log_scale=True,
    )
    alpha: int = setting(
        32,
        "Alpha",
        "Scaling of the adapter: its output is multiplied by alpha / r. Typical values are r or "
        "2·r. Larger values learn faster and are less stable.",
        ge=1,
        le=4096,
        log_scale=True,
    )
    dropout: float = setting(
        0.0,
        "Dropout",
        "Dropout probability on the adapter's inputs during training. Typical values are 0 to "
        "0.1. Reduces overfitting on small datasets.",
        ge=0.0,
        lt=1.0,
        step=0.01,
    )
    target_modules: str | list[str] = setting(
        "all-linear",
        "Target modules",
        "Linear layers that receive an adapter. All linear layers give the most capacity; q and v "
        "only is the smallest choice. Enter module names separated by commas, or “re:” and a "
        "regular expression that matches full module names. For the experts of a "
        "mixture-of-experts model: experts.gate_up_proj, experts.down_proj. LoRA and rsLoRA also "
        "support the embedding and the output head: embed_tokens, lm_head.",
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
        "Blocks of the model that receive an adapter, such as 8-15; 0, 4-7; or last 4. 0-30/2 selects "
        "every second block. Fewer blocks need less memory and have less capacity.",
        group="Layers",
        advanced=True,
        placeholder="all",
        max_length=500,
    )
    exclude: str = setting(
        "",
        "Exclude",
        (
            "Module names that receive no adapter, separated by commas: k_proj, "
            "model.layers.0.mlp.up_proj."
        ),
        group="Layers",
        advanced=True,
        placeholder="none",
        max_length=5000,
    )
    rank_pattern: str = setting(
        "",
        "Rank pattern",
        "Ranks for individual modules, overriding Rank: down_proj=32, q_proj=8. The first "
        "matching name applies.",
        group="Layers",
        advanced=True,
        placeholder="none",
        max_length=50_000,
    )
    alpha_pattern: str = setting(
        "",
        "Alpha pattern",
        "Alphas for individual modules, overriding Alpha: down_proj=64. The scaling is alpha / r.",
        group="Layers",
        advanced=True,
        placeholder="none",
        max_length=50_000,
    )
    modules_to_save: str = setting(
        "",
        "Fully trained modules",
        "Modules that are trained in full and saved with the adapter, such as embed_tokens and "
        "lm_head. Used for new tokens. Adds hundreds of megabytes.",
        group="Also trained",
        advanced=True,
        placeholder="none",
        max_length=5000,
    )
    trained_tokens: str = setting(
        "",
        "Trainable tokens",
        "Tokens whose embeddings are trained along with the adapter, while all other embeddings "
        "stay frozen: <|im_start|>, <|im_end|>. Separate them with commas; a number is a token "
        "ID. Useful for special tokens that the base model has not learned. Adds a few kilobytes "
        "to the adapter, instead of hundreds of megabytes for the full embedding; training needs "
        "memory for one more copy of the embedding.",
        group="Also trained",
        advanced=True,
        placeholder="none",
        max_length=5000,
    )
    bias: Literal["none", "all", "lora_only"] = setting(
        "none",
        "Bias",
        "Which bias terms are trained. With any choice except None, the model's output changes "
        "even when the adapter is disabled.",
        group="Also trained",
        advanced=True,
        choice_labels={"none": "None", "all": "All", "lora_only": "Adapted layers only"},
    )
