"""The LoRA node: what is trained on top of the frozen model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from studio.errors import Problem
from studio.graph.node_type import CheckContext, NodeType
from studio.graph.ports import ADAPTED_MODEL, MODEL, input_, output
from studio.graph.schema import Settings, setting

if TYPE_CHECKING:
    from studio.runs.context import StepContext


class LoraSettings(Settings):
    """Low-rank adaptation: W stays frozen, (alpha / r) · B·A is trained."""

    method: str = setting(
        "lora", "Method", "LoRA suits most jobs. rsLoRA scales better at high r; DoRA learns a little "
        "more at low r and is slower.", variant="adapter",
    )  # fmt: skip
    method_settings: dict[str, Any] = setting(
        {}, "Method settings", "Settings of the chosen method.", advanced=True
    )
    r: int = setting(
        16, "Rank (r)", "Width of the trained matrices. 8 to 32 is usual. Twice the rank: twice the "
        "adapter's size and memory; more capacity to learn.", ge=1, le=1024, log_scale=True,
    )  # fmt: skip
    alpha: int = setting(
        32, "Alpha", "Scale of the adapter: it is applied times alpha / r. r or 2·r is usual; larger "
        "learns faster and is less stable.", ge=1, le=4096, log_scale=True,
    )  # fmt: skip
    dropout: float = setting(
        0.0, "Dropout", "Share of the adapter's inputs dropped while training. 0 to 0.1; helps against "
        "overfitting on few rows.", ge=0.0, lt=1.0, step=0.01,
    )  # fmt: skip
    target_modules: str | list[str] = setting(
        "all-linear", "Target modules", "Which linear layers get an adapter. All linear learns most; "
        "q and v only is smallest. Names with commas, or re: and a regular expression for whole names. "
        "Experts of a mixture: experts.gate_up_proj, experts.down_proj.",
        widget="target_modules",
        special={"all-linear": "All linear layers", "attention": "Attention", "q,v": "q and v only"},
    )  # fmt: skip
    layers: str = setting(
        "", "Layer range", "Only these blocks of the model get an adapter, such as 8-15 or 0, 4-7; 0-30/2 is "
        "every second one. Fewer blocks: less memory, less to learn with.", advanced=True,
        placeholder="all", max_length=500,
    )  # fmt: skip
    exclude: str = setting(
        "", "Exclude", "Names of layers that get none, with commas: k_proj, model.layers.0.mlp.up_proj.",
        advanced=True, placeholder="none", max_length=5000,
    )  # fmt: skip
    rank_pattern: str = setting(
        "", "Ranks by layer", "Layers with a rank of their own: down_proj=32, q_proj=8. The first name that "
        "fits a layer counts.", advanced=True, placeholder="none", max_length=50_000,
    )  # fmt: skip
    alpha_pattern: str = setting(
        "", "Alphas by layer", "Layers with an alpha of their own: down_proj=64. The scale is alpha / r.",
        advanced=True, placeholder="none", max_length=50_000,
    )  # fmt: skip
    modules_to_save: str = setting(
        "", "Train as a whole", "Parts that are trained without a low-rank form and saved with the "
        "adapter: embed_tokens, lm_head. For new tokens. Hundreds of megabytes.", advanced=True,
        placeholder="none", max_length=5000,
    )  # fmt: skip
    trained_tokens: str = setting(
        "", "Train tokens", "Tokens whose embedding is trained too, alone of all: <|im_start|>, <|im_end|>. "
        "With commas; a number is a token's id. For markers that the base never learned. A few "
        "kilobytes, where the whole embedding takes hundreds of megabytes; while it trains, memory for one "
        "more copy of the embedding.", advanced=True, placeholder="none", max_length=5000,
    )  # fmt: skip
    bias: Literal["none", "all", "lora_only"] = setting(
        "none", "Bias", "Whether bias terms are trained too. With anything but none, the base model "
        "changes even with the adapter switched off.", advanced=True,
        choice_labels={"none": "None", "all": "All", "lora_only": "Adapted layers only"},
    )  # fmt: skip


def check(settings: LoraSettings, context: CheckContext) -> Iterable[Problem]:
    """Target modules against the real layers of the wired model, where they can be read, and the
    method against the model's quantization."""
    from studio.adapters._configure import check_method
    from studio.models import check_targets

    return [*check_targets(settings, context), *check_method(settings, context)]


def run(
    context: StepContext, inputs: Mapping[str, Any], settings: LoraSettings
) -> Mapping[str, Any]:
    """Match the target modules and describe the adapter; nothing is loaded."""
    from studio.adapters._configure import describe

    return {"model": describe(context, inputs["model"], settings).to_json()}


def summary(settings: LoraSettings) -> str:
    """The method (by id or title), with rank and alpha where it has use for them."""
    from studio.graph.registry import load_registry

    methods = load_registry().choices("adapter")
    used = next(
        (m.payload.uses for m in methods if settings.method in (m.id, m.title)), {"r", "alpha"}
    )
    rank = [f"r {settings.r}"] * ("r" in used) + [f"alpha {settings.alpha}"] * ("alpha" in used)
    return " · ".join([settings.method, *rank])


NODE = NodeType(
    id="lora", title="LoRA", version=2, category="Model", icon="layers",
    help="Low-rank adapters on chosen layers of the model; only they are trained.",
    settings=LoraSettings, run=run, check=check,
    inputs=(input_("model", MODEL, "Model"),),
    outputs=(output("model", ADAPTED_MODEL, "Model with LoRA"),),
    summary=summary,
)  # fmt: skip
