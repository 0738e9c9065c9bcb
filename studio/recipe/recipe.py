"""The recipe: training settings proposed from model, data and machine, each with a reason.

Beginners do not know which learning rate suits 300 rows on a small model, and experts want to see
why a value is proposed. The rules of thumb are simple enough for one sentence each. No torch, no
files: ``recipe_facts`` collects the facts, window or terminal apply the proposals.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from studio.graph.registry import load_registry
from studio.recipe.fit import RecipeFacts, best_fit
from studio.system.number_text import quantity
from studio.variants.lora_method import rate_text

FEWEST_STEPS = 60
MOST_EPOCHS = 10
_SPARE_LENGTH = 1.25  # an estimated length may be too short
SMALL_ROWS = 2000
_LARGEST_MICRO = 16
_CPU_MICRO = 8
FULL_FINE_TUNING_OPTIMIZER = "paged_adamw_8bit"
"""On a GPU, whose memory a float32 state would take up."""


@dataclass(frozen=True)
class Proposal:
    """A value for one setting of one node, with the reason."""

    node: str
    field: str
    value: Any
    reason: str


def propose(facts: RecipeFacts) -> list[Proposal]:
    """All values that the facts support, in the order of the decisions."""
    found: list[Proposal] = []
    for rule in (_data, _model, _batch, _length, _rate, _adapter, _measuring):
        found += rule(facts)
    return found


# ------------------------------------------------------------------ how many rows at once


def rows_per_step(rows: int) -> int:
    """Rows per optimizer step: more rows reduce noise, but enough steps must remain."""
    limits = ((300, 4), (2_000, 8), (10_000, 16), (100_000, 32))
    return next((size for limit, size in limits if rows < limit), 64)


def epochs_for(rows: int) -> int:
    """The number of epochs: more for few rows, so that there are enough steps."""
    usual = 3 if rows < 5_000 else 2 if rows < 50_000 else 1
    return max(
        usual, min(MOST_EPOCHS, math.ceil(FEWEST_STEPS * rows_per_step(rows) / max(1, rows)))
    )


def steps_for(rows: int) -> int:
    """Optimizer steps of the proposed length."""
    return max(1, math.ceil(epochs_for(rows) * rows / rows_per_step(rows)))


def _data(facts: RecipeFacts) -> Iterator[Proposal]:
    rows = facts.rows if facts.source_rows is None else facts.source_rows
    if facts.dataset and rows and rows >= 50 and facts.validation_rows == 0:
        yield Proposal(
            facts.dataset,
            "validation_fraction",
            0.1,
            "Without validation rows, overfitting cannot be detected.",
        )
    if facts.cut_texts:
        yield Proposal(
            facts.train,
            "long_text",
            "split",
            f"{facts.cut_texts} texts are longer than {facts.max_length} tokens; split into "
            "several rows, they are trained on completely.",
        )
    if not facts.counted and facts.longest and facts.longest > facts.max_length:
        wanted = 64 * math.ceil(_SPARE_LENGTH * facts.longest / 64)
        wanted = min(facts.context or wanted, 4096, wanted)
        if wanted > facts.max_length:
            yield Proposal(
                facts.train,
                "max_length",
                wanted,
                f"The longest row has about {facts.longest} tokens, estimated from its characters; the truncated "
                "part often contains the end of the answer.",
            )
    elif facts.cut > facts.cut_texts and facts.longest:
        limit = min(facts.context or facts.longest, 4096)
        wanted = min(limit, 64 * math.ceil(facts.longest / 64))
        if wanted > facts.max_length:
            yield Proposal(
                facts.train,
                "max_length",
                wanted,
                f"{_rows_are(facts.cut - facts.cut_texts)} longer than {facts.max_length} tokens, "
                "and the truncated part often contains the end of the answer.",
            )


# ------------------------------------------------------------------ what fits, how many at once


def _model(facts: RecipeFacts) -> Iterator[Proposal]:
    if not facts.memory_gb or not facts.parameters:
        return
    _, quantized, checkpointing = best_fit(facts)
    room = f"{facts.memory_gb:.0f} GB"
    if quantized and facts.quantization == "none" and facts.base:
        yield Proposal(
            facts.base,
            "quantization",
            "nf4",
            f"In 16 bits the model does not leave enough of {room} for training; in 4 bits it "
            "needs less than a third of the memory (QLoRA, Dettmers et al. 2023).",
        )
    if checkpointing:
        yield Proposal(
            facts.train,
            "gradient_checkpointing",
            True,
            f"Otherwise a row of {facts.max_length} tokens does not fit into {room}. Training "
            "takes about a third longer.",
        )
    if facts.full_fine_tuning and facts.gpu:
        yield Proposal(
            facts.train,
            "optimizer",
            FULL_FINE_TUNING_OPTIMIZER,
            "In full fine-tuning, the optimizer keeps 8 bytes per parameter; in 8 bits it keeps 2.",
        )


def _batch(facts: RecipeFacts) -> Iterator[Proposal]:
    if not facts.rows or facts.batching == "packed":
        return
    wanted = rows_per_step(facts.rows)
    most = _LARGEST_MICRO if facts.gpu else _CPU_MICRO
    why = "larger batches are hardly faster on a CPU" if not facts.gpu else "it fits"
    if facts.memory_gb and facts.parameters:
        fitting = best_fit(facts)[0]
        if fitting < min(most, wanted):
            most, why = fitting, f"more rows of {facts.max_length} tokens may not fit in memory"
    micro = min(wanted, most)
    yield Proposal(facts.train, "batch_size", micro, f"{quantity(micro, 'row')} per batch: {why}.")
    yield Proposal(
        facts.train,
        "gradient_accumulation_steps",
        wanted // micro,
        f"The effective batch size is then {wanted}, which suits {quantity(facts.rows, 'row')}: "
        "smaller ones give noisy gradients, larger ones leave too few steps.",
    )


# ------------------------------------------------------------------ how long and how fast


def _rows_are(count: int) -> str:
    return f"{quantity(count, 'row')} {'is' if count == 1 else 'are'}"


def _length(facts: RecipeFacts) -> Iterator[Proposal]:
    if not facts.rows:
        return
    epochs = epochs_for(facts.rows)
    if epochs > 3:
        reason = (
            f"{_rows_are(facts.rows)} few: {epochs} epochs give "
            f"{quantity(steps_for(facts.rows), 'step')}."
        )
    elif epochs > 1:
        reason = (
            "Two or three epochs are typical for fine-tuning; with more, the model starts to "
            "overfit."
        )
    else:
        reason = f"{_rows_are(facts.rows)} many: one epoch is enough."
    yield Proposal(facts.train, "max_steps", 0, "The length is determined by the number of epochs.")
    yield Proposal(facts.train, "epochs", float(epochs), reason)


def rate_for(parameters: int | None) -> float:
    """A LoRA learning rate by model size: small models tolerate higher ones."""
    limits = ((5e8, 5e-4), (2e9, 3e-4), (1.5e10, 2e-4))
    return next((rate for limit, rate in limits if (parameters or 7e9) < limit), 1e-4)


LIKE_LORA = {"lora", "rslora", "dora", "pissa", "olora", "eva", "lora_plus", "lora_fa"}
"""Methods for which rank, alpha and dropout have the same meaning as for LoRA."""
_USUAL_PARAMETERS = 7_000_000_000  # the model size of the usual rates that methods declare
_FULL_FINE_TUNING_FACTOR = 0.1


def _rate(facts: RecipeFacts) -> Iterator[Proposal]:
    size = (
        f"{facts.parameters / 1e9:.2g} B parameters"
        if facts.parameters
        else "a model of unknown size"
    )
    variant = load_registry().variant("adapter", facts.method)
    rates = getattr(variant.payload, "learning_rates", None) if variant else None
    if facts.full_fine_tuning:
        yield Proposal(
            facts.train,
            "learning_rate",
            _round(rate_for(facts.parameters) * _FULL_FINE_TUNING_FACTOR),
            f"For {size}: a tenth of the learning rate of LoRA, because all weights are trained "
            "(Schulman et al. 2025).",
        )
    elif variant is not None and rates is not None:
        low, usual, high = rates
        by_size = rate_for(facts.parameters) / rate_for(_USUAL_PARAMETERS)
        yield Proposal(
            facts.train,
            "learning_rate",
            _round(min(high, max(low, usual * by_size))),
            f"Typical for {variant.title} with {size}. The useful range is {rate_text(low)} "
            f"to {rate_text(high)}; larger models need lower learning rates.",
        )
    yield Proposal(
        facts.train,
        "lr_scheduler",
        "cosine",
        "Large steps at first and small ones at the end; no other scheduler is better in general.",
    )
    if facts.rows:
        short = steps_for(facts.rows) < 300
        yield Proposal(
            facts.train,
            "warmup_ratio",
            0.1 if short else 0.03,
            (
                "In a short run, the optimizer needs a tenth of the steps to estimate the magnitude "
                "of the gradients."
            )
            if short
            else "In a long run, 3 % of the steps are enough for the warmup.",
        )


def _round(value: float) -> float:
    return float(f"{value:.2g}")


def rank_for(rows: int) -> int:
    """The rank of the adapter: more rows contain more to learn."""
    return next((r for limit, r in ((500, 8), (10_000, 16), (100_000, 32)) if rows < limit), 64)


def _adapter(facts: RecipeFacts) -> Iterator[Proposal]:
    if not facts.lora or not facts.rows or facts.method not in LIKE_LORA:
        return
    r = rank_for(facts.rows)
    yield Proposal(
        facts.lora,
        "r",
        r,
        f"Rank {r} has enough capacity for {quantity(facts.rows, 'row')}; a higher rank needs more "
        "memory and overfits sooner.",
    )
    alpha = round(2 * math.sqrt(r)) if facts.method == "rslora" else 2 * r
    yield Proposal(
        facts.lora,
        "alpha",
        alpha,
        "The scaling of the adapter stays 2 for any rank; the recommended learning rate "
        "assumes it.",
    )
    few = facts.rows < SMALL_ROWS
    yield Proposal(
        facts.lora,
        "dropout",
        0.05 if few else 0.0,
        "With few rows, a little dropout reduces overfitting."
        if few
        else "With many rows, dropout only slows down training.",
    )


def _measuring(facts: RecipeFacts) -> Iterator[Proposal]:
    if not facts.rows or not facts.validation_rows:
        return
    yield Proposal(
        facts.train, "eval_by", "run", "Distributes the evaluations evenly over the run."
    )
    yield Proposal(
        facts.train,
        "eval_share",
        0.1,
        "Ten evaluations show where the validation loss starts to rise.",
    )
    again = epochs_for(facts.rows) > 1
    yield Proposal(
        facts.train,
        "keep",
        "best" if again else "last",
        ("Rows are trained on several times, so the best evaluation may come before the last step.")
        if again
        else "Rows are trained on once, so the last step is the best.",
    )
    yield Proposal(
        facts.train,
        "early_stopping",
        3 if again else 0,
        "Three evaluations without improvement indicate overfitting."
        if again
        else "A single epoch is unlikely to overfit.",
    )
