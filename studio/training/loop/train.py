"""The Train step from start to end: data, model, training, saving, verification.

Functions are in the order of the work; the optimizer steps are in ``training_loop``. Only one model
is in memory at a time.
"""

from __future__ import annotations

import gc
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import set_seed

from studio.errors import StudioError
from studio.graph.context import StepContext
from studio.graph.project import with_earlier_defaults
from studio.model.folder_check import refuse_faults
from studio.runs.cadence import cadence_of, length_of
from studio.system import busy_files
from studio.training.adapter.continued import continuing, identity_of_start
from studio.training.adapter.full_fine_tuning import full_fine_tuning_of, tuned_model
from studio.training.adapter.insight import InsightMeter
from studio.training.adapter.trainable import trainable_of
from studio.training.adapter.tuning import Tuning
from studio.training.adapter.verify import Expected, expect
from studio.training.batch.batches import Batches, RowOrder
from studio.training.batch.batching import BatchPlan, plan_batches
from studio.training.loop.evaluation import evaluator_of
from studio.training.loop.metrics import Metrics
from studio.training.loop.nonfinite import row_places
from studio.training.loop.repeatable import deterministic_kernels
from studio.training.loop.samples import sampler_of
from studio.training.loop.saver import Saver
from studio.training.loop.sft import total_weight
from studio.training.loop.state import TrainingState
from studio.training.loop.training_loop import TrainingLoop, in_rows
from studio.training.model.load import free_memory, pick_device
from studio.training.model.out_of_memory import explain_out_of_memory, what_to_change
from studio.training.model.quiet import quiet_libraries
from studio.training.saved.checkpoint import Checkpoint, choose, remove_torn
from studio.training.saved.snapshot import content_problem, load_adapter, read_method, read_metrics
from studio.training.tokens.chat import answer_start
from studio.training.tokens.chat_choice import tell_choice, with_template
from studio.training.tokens.encoder import Tokenized, load_tokenizer, tokenize_dataset
from studio.training.tokens.limits import (
    max_length_for,
    pad_id_of,
    refuse_unknown_tokens,
    tell_unquantized,
)
from studio.values import AdaptedModelValue, AdapterValue, DatasetValue, ModelValue
from studio.variants.lora_method import TrainingFacts
from studio.variants.objective import Objective

if TYPE_CHECKING:
    from studio.node_settings.train import TrainSettings

_PREPARING_ROWS = 64
"""Rows for initializing a method before the training: enough for its directions, and fast."""

_ADDED_LATER = {"rank_pattern", "alpha_pattern", "modules_to_save", "trained_tokens"}
"""Omitted while empty, so that checkpoints from before these settings existed can be resumed."""

_CADENCE = {
    "keep_checkpoints",
    "save_steps",
    "eval_steps",
    "eval_by",
    "eval_share",
    "eval_at_start",
    "early_stopping",
    "min_delta",
    "keep",
    "sample_prompts",
    "sample_rows",
    "sample_max_tokens",
    "sample_temperature",
}
"""Settings that do not affect the result of a step."""


def train_adapter(
    context: StepContext, inputs: Mapping[str, Any], settings: TrainSettings
) -> AdapterValue:
    """Train the adapter described by ``inputs``, a new one or one that is trained further, verify the saved files,
    and return its description."""
    dataset = DatasetValue.model_validate(inputs["dataset"])
    if inputs["model"]["kind"] == "adapter":
        adapted = continuing(context, AdapterValue.model_validate(inputs["model"]))
    else:
        adapted = AdaptedModelValue.model_validate(inputs["model"])
    return _trained_from(context, dataset, adapted, settings)


def train_model(
    context: StepContext, inputs: Mapping[str, Any], settings: TrainSettings
) -> ModelValue:
    """Fully fine-tune the model described by ``inputs``, verify the saved files, and return its description."""
    dataset = DatasetValue.model_validate(inputs["dataset"])
    adapted = full_fine_tuning_of(context, ModelValue.model_validate(inputs["model"]), settings)
    return tuned_model(context, _trained_from(context, dataset, adapted, settings))


def _trained_from(
    context: StepContext, dataset: DatasetValue, adapted: AdaptedModelValue, settings: TrainSettings
) -> AdapterValue:
    quiet_libraries()
    if context.threads:
        torch.set_num_threads(context.threads)
    trainable = trainable_of(adapted)
    refuse_faults(Path(adapted.model.path))
    own = load_tokenizer(adapted.model.path)
    tokenizer = with_template(own, settings.model_dump())
    tell_choice(context, own, tokenizer, settings.model_dump())
    _tell_other_template(context, adapted, tokenizer)
    tokens = tokenize_dataset(
        context,
        dataset,
        tokenizer,
        train_on=settings.train_on,
        folder=context.folder / "tokens",
        end_token=settings.end_token,
        bos=settings.bos,
        long_text=settings.long_text,
        max_length=max_length_for(context, adapted.model, settings.max_length),
    )
    folder = context.folder / trainable.folder
    _settle_garbage()
    hint = what_to_change(settings, adapted, 1)
    with explain_out_of_memory("training", hint, "gradient_checkpointing"):
        with deterministic_kernels(settings.repeatable, pick_device()):
            expected, metrics = _train(
                context, adapted, dataset, tokens, tokenizer, settings, folder
            )
        del tokens
        free_memory()
        difference = trainable.verify(context, adapted, folder, expected)
        free_memory()  # of the model that was verified
    busy_files.tidy(context.folder / "tokens")
    shown = _shown(metrics)
    context.artifact(trainable.kind, folder, reload_difference=difference, **shown)
    return AdapterValue(
        path=str(folder),
        model=adapted,
        dataset=dataset,
        train=settings.model_dump(mode="json"),
        metrics=shown,
        reload_difference=difference,
    )


def _tell_other_template(context: StepContext, adapted: AdaptedModelValue, tokenizer: Any) -> None:
    """Say so if the adapter that is trained further was saved with another chat template."""
    before = adapted.continues
    if before is None or (before.dataset is not None and before.dataset.shape == "text"):
        return
    if not any((Path(before.path) / n).is_file() for n in ("tokenizer.json", "tokenizer.model")):
        return
    earlier = load_tokenizer(before.path).chat_template
    if earlier and earlier != tokenizer.chat_template:
        context.notice(
            "The adapter was saved with another chat template than that of this training.",
            "Choose the same chat template in Train, unless the model should learn another one.",
        )


def _train(
    context: StepContext,
    adapted: AdaptedModelValue,
    dataset: DatasetValue,
    tokens: Tokenized,
    tokenizer: Any,
    settings: TrainSettings,
    folder: Path,
) -> tuple[Expected, Metrics]:
    """Train and save the result; the model is freed when this returns."""
    set_seed(settings.seed)
    trainable = trainable_of(adapted)
    base = trainable.load(context, adapted.model)
    refuse_unknown_tokens(context, base, tokens, tokenizer)
    tell_unquantized(context, base, adapted.model)
    identity = identity_of(adapted, dataset, settings)
    resumed = _resumable(context, identity)
    plan = plan_batches(
        context,
        base,
        tokens.train,
        settings,
        pad_id_of(base, tokenizer),
        adapted.method,
        adapted.model.dtype,
    )
    facts = replace(
        _facts(context, plan, settings),
        adapted=adapted,
        answer_start=tuple(
            tokenizer(answer_start(tokenizer), add_special_tokens=False)["input_ids"]
        ),
    )
    tuning = trainable.build(context, base, adapted, facts, resumed.path if resumed else None)
    if resumed is not None:
        load_adapter(resumed.path, tuning.model)
        tuning.restore(*read_method(resumed.path))
    metrics = _trained(
        context, tuning, dataset, tokens, tokenizer, plan, settings, identity, resumed
    )
    context.phase("save", trainable.title)
    trainable.write(context, tuning, tokenizer, folder)
    return expect(tuning.model, tokens.train), metrics


def _facts(context: StepContext, plan: BatchPlan, settings: TrainSettings) -> TrainingFacts:
    """What the LoRA method may use of this training; its batches, always padded, start from the
    beginning for each reader.
    """
    length = length_of(settings, plan.units)
    rows = min(settings.batch_size * length.steps, len(plan.rows), _PREPARING_ROWS)
    order = RowOrder(len(plan.rows), settings.seed)
    batches = Batches(plan.rows, order, 0, rows, settings.batch_size, plan.pad_id)
    objective = _objective(context, settings)

    def loss(model: Any, batch: Mapping[str, Any]) -> torch.Tensor:
        moved = {name: value.to(model.device) for name, value in batch.items()}
        return objective.summed_loss(model, moved, "full") / total_weight(moved).clamp(min=1e-6)

    return TrainingFacts(length.steps, batches, loss, context.check)


def _trained(
    context: StepContext,
    tuning: Tuning,
    dataset: DatasetValue,
    tokens: Tokenized,
    tokenizer: Any,
    plan: BatchPlan,
    settings: TrainSettings,
    identity: str,
    resumed: Checkpoint | None,
) -> Metrics:
    """Run the remaining optimizer steps, and choose the weights to keep."""
    length = length_of(settings, plan.units)
    cadence = cadence_of(settings, in_rows(length, plan), len(tokens.validation or ()))
    state = TrainingState.at(tuning, _objective(context, settings), resumed)
    saver = Saver(context, settings, state, identity, resumed)
    loop = TrainingLoop(context, settings, plan, length, cadence, state, saver)
    if resumed:
        context.emit("TrainResumed", step=resumed.step)
    if not loop.finished or not loop.up_to_date:
        context.phase("train", "Training")
        insight = InsightMeter(tuning.model, tuning.start)
        loop.insight = insight if insight.possible else None
        pad_id = plan.pad_id
        loop.evaluate = evaluator_of(context, state, settings, cadence, tokens, pad_id)
        loop.sample = sampler_of(context, state, settings, dataset, tokenizer, pad_id)
        loop.row_places = lambda numbers: row_places(tokens.train, tokenizer, numbers)
        loop.run(resumed)
    elif state.step < length.steps:
        loop.report_early_stop()
    saver.choose_weights()
    return state.metrics


def identity_of(adapted: AdaptedModelValue, dataset: DatasetValue, settings: TrainSettings) -> str:
    """The identity of a training for its checkpoints: everything that affects the numbers, and nothing else."""
    model = adapted.model_dump(
        mode="json",
        exclude={"model": {"path", "base", "merged_from", "stored_dtype"}, "continues": True},
    )
    if adapted.continues is not None:
        model["continues"] = identity_of_start(adapted.continues)
    model = {k: v for k, v in model.items() if k not in _ADDED_LATER or v}
    full = settings.model_dump(mode="json")
    # A default that has changed since must not separate earlier checkpoints from their training.
    usual = {**type(settings)().model_dump(mode="json"), **with_earlier_defaults("train", {})}
    chosen = {name: value for name, value in full.items() if value != usual[name]}
    train = {k: v for k, v in chosen.items() if k not in _CADENCE}
    content = json.dumps([model, dataset.sha256, train], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _resumable(context: StepContext, identity: str) -> Checkpoint | None:
    """The newest usable checkpoint; notices name those that were skipped, and from where the training
    continues."""
    remove_torn(context.checkpoints)
    found, skipped = choose(context.checkpoints, identity, _content_problem)
    then = f"continues after step {found.step}" if found else "starts from the beginning"
    for reason in skipped:
        context.notice(f"A checkpoint cannot be used: {reason}.", f"The training {then}.")
    return found


def _content_problem(folder: Path) -> str:
    return content_problem(folder) or Metrics.problem(read_metrics(folder))


def _objective(context: StepContext, settings: TrainSettings) -> Objective:
    try:
        return context.variant("objective", settings.objective).payload
    except KeyError:
        raise StudioError(
            f"there is no objective called “{settings.objective}”.",
            field="objective",
            code="unknown_variant",
        ) from None


def _shown(metrics: Metrics) -> dict[str, float]:
    """The metrics of the result."""
    named = {
        "loss": metrics.last_loss,
        "eval_loss": metrics.last_eval_loss,
        "best_eval_loss": metrics.best_eval_loss,
        "tokens": float(metrics.tokens),
        "best_step": metrics.best_eval_step if metrics.best_eval_step >= 0 else math.nan,
        "kept_step": metrics.kept_step if metrics.kept_step >= 0 else math.nan,
        "train_seconds": round(metrics.seconds, 2),
    }
    return {name: value for name, value in named.items() if math.isfinite(value)}


def _settle_garbage() -> None:
    """Exclude the half a million objects of the libraries from later garbage collections (0.4 s each)."""
    gc.collect()
    gc.freeze()
