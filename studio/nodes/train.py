"""The Train node: supervised fine-tuning of an adapter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from studio.errors import Problem
from studio.graph.node_type import CheckContext, NodeType
from studio.graph.ports import ADAPTED_MODEL, ADAPTER, DATASET, input_, output
from studio.graph.schema import Settings, setting

if TYPE_CHECKING:
    from studio.runs.context import StepContext


class TrainSettings(Settings):
    """How long, how fast and on what the adapter is trained."""

    objective: str = setting(
        "sft", "Objective", "What the model learns from a row.", variant="objective", advanced=True
    )
    objective_settings: dict[str, Any] = setting(
        {}, "Objective settings", "Settings of the chosen objective.", advanced=True
    )
    epochs: float = setting(
        1.0, "Epochs", "How often every row is seen. 1 to 3 is usual; more can overfit.", group="Length",
        gt=0.0, le=1000.0, step=0.5, shown_if={"max_steps": 0},
    )  # fmt: skip
    max_steps: int = setting(
        0, "Steps", "Number of optimizer steps. 0 goes by epochs.", unit="steps", group="Length", ge=0,
        special={0: "by epochs"},
    )  # fmt: skip
    batch_size: int = setting(
        4, "Batch size", "Rows computed at once. More is faster per row and needs more memory.",
        unit="rows", group="Batch", ge=1, le=4096,
    )  # fmt: skip
    gradient_accumulation_steps: int = setting(
        1, "Accumulation", "Batches added up before each optimizer step: a larger effective batch without "
        "more memory.", unit="batches", group="Batch", ge=1, le=4096,
    )  # fmt: skip
    max_length: int = setting(
        512, "Max length", "Longer rows are cut to this many tokens. Memory grows with it.",
        unit="tokens", group="Batch", ge=8, le=1_048_576, log_scale=True,
    )  # fmt: skip
    train_on: Literal["answers", "all"] = setting(
        "answers", "Train on", "Answers only: the model learns to answer. Everything: it also learns to "
        "write the questions.", group="Batch", choice_labels={"answers": "Answers only", "all": "Everything"},
    )  # fmt: skip
    learning_rate: float = setting(
        2e-4, "Learning rate", "Size of each step. 1e-4 to 5e-4 is usual for LoRA. Too high: the loss jumps; "
        "too low: it hardly moves.", group="Optimizer", gt=0.0, le=1.0, log_scale=True,
    )  # fmt: skip
    lr_scheduler: Literal["linear", "cosine", "constant"] = setting(
        "cosine", "Schedule", "How the learning rate falls over the run.", group="Optimizer",
        choice_labels={"linear": "Linear", "cosine": "Cosine", "constant": "Constant"},
    )  # fmt: skip
    warmup_ratio: float = setting(
        0.03, "Warm-up", "Share of the steps in which the learning rate rises from 0.", group="Optimizer",
        ge=0.0, le=1.0, step=0.01,
    )  # fmt: skip
    optimizer: Literal["adamw", "adamw_8bit", "sgd"] = setting(
        "adamw", "Optimizer", "AdamW suits nearly always; the 8-bit one needs less memory.", group="Optimizer",
        advanced=True, choice_labels={"adamw": "AdamW", "adamw_8bit": "AdamW 8-bit", "sgd": "SGD"},
    )  # fmt: skip
    weight_decay: float = setting(
        0.0, "Weight decay", "Pulls the adapter towards zero. 0 to 0.1.", group="Optimizer", ge=0.0, le=1.0,
        step=0.01, advanced=True,
    )  # fmt: skip
    max_grad_norm: float = setting(
        1.0, "Gradient clipping", "Longer gradients are cut to this norm. 0 switches it off.",
        group="Optimizer", ge=0.0, le=1000.0, special={0.0: "off"}, advanced=True,
    )  # fmt: skip
    eval_steps: int = setting(
        0, "Evaluate every", "Measure the validation loss every so many steps. 0: ten times a run.",
        unit="steps", group="Cadence", ge=0, special={0: "ten times a run"},
    )  # fmt: skip
    save_steps: int = setting(
        0, "Checkpoint every", "Write a checkpoint to resume from every so many steps. 0: ten times a run.",
        unit="steps", group="Cadence", ge=0, special={0: "ten times a run"},
    )  # fmt: skip
    keep_checkpoints: int = setting(
        2, "Keep", "How many of the newest checkpoints are kept.", unit="checkpoints", group="Cadence", ge=1,
        le=1000, advanced=True,
    )  # fmt: skip
    gradient_checkpointing: bool = setting(
        False, "Gradient checkpointing", "Computes activations twice instead of keeping them: much less memory, "
        "about a third slower.", group="Memory",
    )  # fmt: skip
    seed: int = setting(
        0,
        "Seed",
        "The same seed on the same machine gives the same run.",
        group="Repeatability",
        ge=0,
        le=2**31 - 1,
    )


def check(settings: TrainSettings, context: CheckContext) -> Iterable[Problem]:
    """Settings that contradict each other or what is wired."""
    data = next((s for t, s in context.upstream.values() if t == "dataset" and s), None)
    if settings.eval_steps and data is not None and not getattr(data, "validation_fraction", 1):
        yield context.problem(
            "the validation loss is to be measured, but the Dataset node keeps no rows for it.",
            "eval_steps", hint="Raise the validation share of the Dataset node.",
            code="no_validation_rows", severity="warning",
        )  # fmt: skip
    if settings.max_steps and settings.save_steps > settings.max_steps:
        yield context.problem(
            f"a checkpoint every {settings.save_steps} steps is never written in "
            f"{settings.max_steps} steps.",
            "save_steps", hint="Lower it, or set 0 for ten times a run.",
            code="cadence_beyond_end", severity="warning",
        )  # fmt: skip


def run(
    context: StepContext, inputs: Mapping[str, Any], settings: TrainSettings
) -> Mapping[str, Any]:
    """Train, verify the adapter on a fresh base, and write it down."""
    from studio.training.train import train_adapter

    return {"adapter": train_adapter(context, inputs, settings).to_json()}


def _summary(settings: TrainSettings) -> str:
    """Short: the canvas draws it large when it is zoomed out."""
    count, unit = (settings.max_steps, "step") if settings.max_steps else (settings.epochs, "epoch")
    rate = f"{settings.learning_rate:.2g}"
    if settings.learning_rate < 1e-3:  # 2e-4, as the inspector writes it
        rate = f"{settings.learning_rate:.1e}".replace(".0e", "e").replace("e-0", "e-")
    return f"{count:g} {unit}{'' if count == 1 else 's'} · lr {rate}"


NODE = NodeType(
    id="train", title="Train", version=1, category="Training", icon="play",
    help="Supervised fine-tuning: the adapter learns to write the answers of your rows.",
    settings=TrainSettings, run=run, check=check,
    inputs=(
        input_("dataset", DATASET, "Dataset"),
        input_("model", ADAPTED_MODEL, "Model with LoRA"),
    ),
    outputs=(output("adapter", ADAPTER, "Adapter"),),
    summary=_summary,
)  # fmt: skip
