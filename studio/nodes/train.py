"""The Train node: supervised fine-tuning of an adapter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from studio.data_report_cache import kept_problems
from studio.errors import Problem
from studio.graph.node_type import CheckContext, NodeType
from studio.graph.ports import ADAPTED_MODEL, ADAPTER, DATASET, MODEL, input_, output
from studio.graph.schema import setting
from studio.nodes._train_data import check_data
from studio.nodes._train_whole import WholeSettings, check_whole
from studio.nodes.dataset import keeps_validation

if TYPE_CHECKING:
    from studio.runs.context import StepContext


class TrainSettings(WholeSettings):
    """How long, how fast and on what the adapter, or the whole model, is trained."""

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
    """Settings that contradict each other or what is wired; data that train nothing."""
    yield from check_whole(settings, context)
    yield from kept_problems(settings, context)
    yield from check_data(settings, context)
    data = [s for t, s in context.upstream.values() if t == "dataset" and s]
    if data and not any(keeps_validation(s) for s in data):
        yield from _without_validation(settings, context)
    if settings.max_steps and settings.save_steps > settings.max_steps:
        yield context.problem(
            f"a checkpoint every {settings.save_steps} steps is never written in "
            f"{settings.max_steps} steps.",
            "save_steps", hint="Lower it, or set 0 for ten times a run.",
            code="cadence_beyond_end", severity="warning",
        )  # fmt: skip


_NEED_VALIDATION = (
    ("eval_steps", 0, "the validation loss is to be measured"),
    ("early_stopping", 0, "early stopping waits for the validation loss"),
    ("keep", "last", "the best evaluation is to be kept"),
    ("sample_rows", 0, "validation rows are to be asked"),
)


def _without_validation(settings: TrainSettings, context: CheckContext) -> Iterable[Problem]:
    for name, unused, what in _NEED_VALIDATION:
        if getattr(settings, name) != unused:
            yield context.problem(
                f"{what}, but the Dataset node keeps no rows for it.", name,
                hint="Choose validation rows in the Dataset node.", code="no_validation_rows",
                severity="warning",
            )  # fmt: skip


def run(
    context: StepContext, inputs: Mapping[str, Any], settings: TrainSettings
) -> Mapping[str, Any]:
    """Train, verify what was written on a fresh load, and describe it."""
    from studio.training.loop.train import train_adapter, train_whole

    if inputs["model"]["kind"] == "model":
        return {"adapter": None, "model": train_whole(context, inputs, settings).to_json()}
    return {"adapter": train_adapter(context, inputs, settings).to_json(), "model": None}


def _summary(settings: TrainSettings) -> str:
    """Short: the canvas draws it large when it is zoomed out."""
    count, unit = (settings.max_steps, "step") if settings.max_steps else (settings.epochs, "epoch")
    rate = f"{settings.learning_rate:.2g}"
    if settings.learning_rate < 1e-3:  # 2e-4, as the inspector writes it
        rate = f"{settings.learning_rate:.1e}".replace(".0e", "e").replace("e-0", "e-")
    return f"{count:g} {unit}{'' if count == 1 else 's'} · lr {rate}"


NODE = NodeType(
    id="train", title="Train", version=2, category="Training", icon="play",
    help="Supervised fine-tuning: the adapter learns to write the answers of your rows.",
    settings=TrainSettings, run=run, check=check,
    inputs=(
        input_("dataset", DATASET, "Dataset"),
        input_(
            "model", (ADAPTED_MODEL, MODEL), "Model",
            "A model with LoRA trains an adapter. A model by itself is trained as a whole.",
        ),
    ),
    outputs=(
        output("adapter", ADAPTER, "Adapter", "What was trained on a model with LoRA."),
        output("model", MODEL, "Tuned model", "The model itself, after full fine-tuning."),
    ),
    summary=_summary,
)  # fmt: skip
