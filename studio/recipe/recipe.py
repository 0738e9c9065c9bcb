"""The recipe: values for a training proposed from model, data and machine, each with its reason.

Why: a beginner does not know which learning rate suits 300 rows on a small model, and an expert wants to
see why a value is proposed. Rules of thumb, simple enough to be said in one sentence. It must not import
torch, read a file or change anything: ``recipe_facts`` collects, the window or the terminal applies.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from studio.graph.registry import load_registry
from studio.recipe.fit import RecipeFacts, best_fit
from studio.variants.lora_method import rate_text

FEWEST_STEPS = 60
MOST_EPOCHS = 10
SMALL_ROWS = 2000
_LARGEST_MICRO = 16
_CPU_MICRO = 8


@dataclass(frozen=True)
class Proposal:
    """A value for one setting of one node, and why."""

    node: str
    field: str
    value: Any
    reason: str


def propose(facts: RecipeFacts) -> list[Proposal]:
    """Every value that the facts support, in the order in which they are decided."""
    found: list[Proposal] = []
    for rule in (_data, _model, _batch, _length, _rate, _adapter, _measuring):
        found += rule(facts)
    return found


# ------------------------------------------------------------------ how many rows at once


def rows_per_step(rows: int) -> int:
    """Rows of an optimizer step: more rows, calmer steps, and still enough of them."""
    limits = ((300, 4), (2_000, 8), (10_000, 16), (100_000, 32))
    return next((size for limit, size in limits if rows < limit), 64)


def epochs_for(rows: int) -> int:
    """How often all rows are seen: few rows more often, so that there are steps enough to learn."""
    usual = 3 if rows < 5_000 else 2 if rows < 50_000 else 1
    return max(
        usual, min(MOST_EPOCHS, math.ceil(FEWEST_STEPS * rows_per_step(rows) / max(1, rows)))
    )


def steps_for(rows: int) -> int:
    """Optimizer steps of the proposed length."""
    return max(1, math.ceil(epochs_for(rows) * rows / rows_per_step(rows)))


def _data(facts: RecipeFacts) -> Iterator[Proposal]:
    if facts.dataset and facts.rows and facts.rows >= 50 and facts.validation_rows == 0:
        yield Proposal(
            facts.dataset,
            "validation_fraction",
            0.1,
            "Without validation rows nobody sees when the training begins to learn by heart.",
        )
    if facts.cut_texts:
        yield Proposal(
            facts.train,
            "long_text",
            "split",
            f"{facts.cut_texts} texts are longer than {facts.max_length} tokens; in pieces they are trained "
            "to the end.",
        )
    if facts.cut > facts.cut_texts and facts.longest:
        limit = min(facts.context or facts.longest, 4096)
        wanted = min(limit, 64 * math.ceil(facts.longest / 64))
        if wanted > facts.max_length:
            yield Proposal(
                facts.train,
                "max_length",
                wanted,
                f"{facts.cut - facts.cut_texts} rows are longer than {facts.max_length} tokens, and what is cut off is "
                "often the end of the answer.",
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
            f"In 16 bits the model does not leave enough of {room} for training; in 4 bits it takes "
            "less than a third (QLoRA, Dettmers et al. 2023).",
        )
    if checkpointing:
        yield Proposal(
            facts.train,
            "gradient_checkpointing",
            True,
            f"One row of {facts.max_length} tokens would not fit in {room} otherwise; it costs about a "
            "third more time.",
        )
    if facts.full_fine_tuning and facts.gpu:
        yield Proposal(
            facts.train,
            "optimizer",
            "paged_adamw_8bit",
            "When all weights are trained, the optimizer keeps 8 bytes for each; in 8 bits it keeps 2.",
        )


def _batch(facts: RecipeFacts) -> Iterator[Proposal]:
    if not facts.rows or facts.batching == "packed":
        return
    wanted = rows_per_step(facts.rows)
    most = _LARGEST_MICRO if facts.gpu else _CPU_MICRO
    why = "more at once is hardly faster on a processor" if not facts.gpu else "it fits"
    if facts.memory_gb and facts.parameters:
        fitting = best_fit(facts)[0]
        if fitting < min(most, wanted):
            most, why = fitting, f"more rows of {facts.max_length} tokens may not fit in memory"
    micro = min(wanted, most)
    yield Proposal(facts.train, "batch_size", micro, f"{_rows(micro)} at once: {why}.")
    yield Proposal(
        facts.train,
        "gradient_accumulation_steps",
        wanted // micro,
        f"Each step then learns from {wanted} rows, which suits {facts.rows} rows: fewer make it "
        "restless, more leave too few steps.",
    )


# ------------------------------------------------------------------ how long and how fast


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"


def _length(facts: RecipeFacts) -> Iterator[Proposal]:
    if not facts.rows:
        return
    epochs = epochs_for(facts.rows)
    if epochs > 3:
        reason = f"{facts.rows} rows are few: seen {epochs} times they give {steps_for(facts.rows)} steps."
    elif epochs > 1:
        reason = "Two or three times is usual for fine-tuning; after that a model begins to learn by heart."
    else:
        reason = f"{facts.rows} rows are many: once is enough."
    yield Proposal(facts.train, "max_steps", 0, "The length goes by epochs.")
    yield Proposal(facts.train, "epochs", float(epochs), reason)


def rate_for(parameters: int | None) -> float:
    """A LoRA learning rate by model size: small models bear larger steps."""
    limits = ((5e8, 5e-4), (2e9, 3e-4), (1.5e10, 2e-4))
    return next((rate for limit, rate in limits if (parameters or 7e9) < limit), 1e-4)


LIKE_LORA = {"lora", "rslora", "dora", "pissa", "olora", "eva", "lora_plus", "lora_fa"}
"""Methods for which rank, alpha and dropout mean what they mean for LoRA."""
_USUAL_PARAMETERS = 7_000_000_000  # the size that methods declare their usual rate for
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
            f"For {size}: a tenth of LoRA's, because every weight moves (Schulman et al. 2025).",
        )
    elif variant is not None and rates is not None:
        low, usual, high = rates
        by_size = rate_for(facts.parameters) / rate_for(_USUAL_PARAMETERS)
        yield Proposal(
            facts.train,
            "learning_rate",
            _round(min(high, max(low, usual * by_size))),
            f"Usual for {variant.title} on {size}: its useful range is {rate_text(low)} to "
            f"{rate_text(high)}, and the larger the model, the lower.",
        )
    yield Proposal(
        facts.train,
        "lr_scheduler",
        "cosine",
        "Large steps first and small ones at the end; no other schedule is better in general.",
    )
    if facts.rows:
        short = steps_for(facts.rows) < 300
        yield Proposal(
            facts.train,
            "warmup_ratio",
            0.1 if short else 0.03,
            "A short run needs a tenth of its steps until the optimizer knows the gradients' size."
            if short
            else "In a long run 3 % of the steps are enough to begin gently.",
        )


def _round(value: float) -> float:
    return float(f"{value:.2g}")


def rank_for(rows: int) -> int:
    """Width of the adapter: more rows hold more that can be learned."""
    return next((r for limit, r in ((500, 8), (10_000, 16), (100_000, 32)) if rows < limit), 64)


def _adapter(facts: RecipeFacts) -> Iterator[Proposal]:
    if not facts.lora or not facts.rows or facts.method not in LIKE_LORA:
        return
    r = rank_for(facts.rows)
    yield Proposal(
        facts.lora,
        "r",
        r,
        f"{facts.rows} rows hold what rank {r} can learn; a higher one costs memory and invites learning "
        "by heart.",
    )
    alpha = round(2 * math.sqrt(r)) if facts.method == "rslora" else 2 * r
    yield Proposal(
        facts.lora,
        "alpha",
        alpha,
        "The adapter's scale stays 2, whatever the rank; the learning rate above goes with that.",
    )
    few = facts.rows < SMALL_ROWS
    yield Proposal(
        facts.lora,
        "dropout",
        0.05 if few else 0.0,
        "With few rows a little dropout keeps the adapter from learning them by heart."
        if few
        else "With many rows dropout only slows the training.",
    )


def _measuring(facts: RecipeFacts) -> Iterator[Proposal]:
    if not facts.rows or not facts.validation_rows:
        return
    yield Proposal(
        facts.train, "eval_by", "run", "So that evaluations spread over the run, however long."
    )
    yield Proposal(
        facts.train, "eval_share", 0.1, "Ten evaluations show where the validation loss turns."
    )
    again = epochs_for(facts.rows) > 1
    yield Proposal(
        facts.train,
        "keep",
        "best" if again else "last",
        "Rows are seen several times: the best evaluation may come before the last step."
        if again
        else "Rows are seen once: the last step has learned most.",
    )
    yield Proposal(
        facts.train,
        "early_stopping",
        3 if again else 0,
        "Three evaluations without a fall mean that it learns by heart."
        if again
        else "There is nothing to learn by heart in a single pass.",
    )
