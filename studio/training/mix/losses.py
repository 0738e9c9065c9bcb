"""The loss of several combinations on the same rows, computed by plain PEFT from files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from peft import PeftModel

from studio.errors import StudioError
from studio.graph.context import StepContext
from studio.node_settings.adapter_mix import AdapterMixSettings
from studio.system import busy_files
from studio.training.batch.batches import pad_rows, row_lengths
from studio.training.export.portable import Plain, write_plain
from studio.training.loop.evaluation import evenly_spaced, validation_loss
from studio.training.mix.combine import combined
from studio.training.model.load import free_memory, load_base
from studio.training.model.out_of_memory import explain_out_of_memory
from studio.training.tokens.as_trained import settings_as_trained, tokenized_as_trained
from studio.training.tokens.limits import pad_id_of
from studio.values import AdapterValue, DatasetValue, MixedLoss

_TRIAL = "trial"


def losses(
    context: StepContext,
    dataset: DatasetValue,
    value: AdapterValue,
    plains: Sequence[Plain],
    points: Sequence[tuple[float, ...]],
    settings: AdapterMixSettings,
) -> tuple[list[MixedLoss], int]:
    """Mean loss per label token for each of ``points``, and the number of rows. ``value`` gives base, tokenizer and the
    settings by which rows become tokens."""
    train = settings_as_trained(value.train)
    folder = context.folder / "tokens"
    tokenizer, tokens = tokenized_as_trained(
        context, dataset, train, value.path, value.model.model, folder
    )
    rows = tokens.validation
    if rows is None:
        rows = tokens.train
        context.notice(
            "The connected dataset has no validation rows: the loss is computed on its training rows. If the adapters "
            "were trained on them, the lowest loss shows memorization.",
            "Set a validation split in the Dataset node, or connect other rows.",
        )
    lengths = row_lengths(rows)
    numbers = sorted(evenly_spaced(len(rows), settings.rows or len(rows)), key=lambda i: lengths[i])
    try:
        objective = context.variant("objective", train.objective).payload
    except KeyError:
        raise StudioError(
            f"there is no objective called “{train.objective}”, by which the adapters were trained.",
            hint="Install the extension that it comes from.",
            code="unknown_variant",
        ) from None
    with explain_out_of_memory("evaluation", "Lower the batch size.", "batch_size"):
        model = load_base(context, value.model.model, "Loading the base model")
        pad_id = pad_id_of(model, tokenizer)
        context.phase("evaluate", "Computing the loss for each weight")
        total = len(points) * len(numbers)
        found = []
        for place, weights in enumerate(points):

            def tick(done: int, _: int, before: int = place * len(numbers)) -> None:
                context.progress("evaluate", before + done, total, "rows")

            adapted = _applied(context, model, value, combined(plains, weights, settings), place)
            first = pad_rows(rows, numbers[:1], pad_id)
            head = objective.choose_head(
                adapted, {n: t.to(adapted.device) for n, t in first.items()}
            )
            loss = validation_loss(
                adapted, rows, numbers, objective, head, settings.batch_size, pad_id, tick
            )
            found.append(MixedLoss(weights=list(weights), loss=loss))
            if adapted is not model:
                model = adapted.unload()
        del model, adapted
        free_memory()
    del rows, tokens
    busy_files.tidy(folder)
    return found, len(numbers)


def _applied(
    context: StepContext, model: Any, value: AdapterValue, plain: Plain, place: int
) -> Any:
    """The model with this combination; the model itself if it changes nothing."""
    if not plain.pairs:
        return model
    folder = context.folder / f"{_TRIAL}-{place}"
    folder.mkdir()
    write_plain(context, plain, value, folder, value.model.model.path)
    adapted = PeftModel.from_pretrained(model, str(folder))
    busy_files.tidy(folder)
    return adapted
