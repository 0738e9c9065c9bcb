"""Settings of the Train node for full fine-tuning, and what must fit together there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import field_validator

from studio.errors import Problem
from studio.graph.node_type import CheckContext
from studio.graph.ports import MODEL
from studio.graph.schema import setting
from studio.nodes._train_measuring import MeasuringSettings
from studio.whole import chosen_layers

USUAL_RATE = 1e-4


class WholeSettings(MeasuringSettings):
    """What is trained when a model is wired in without a LoRA node."""

    trained_layers: str = setting(
        "all", "Trained layers", "For full fine-tuning (a Base model wired straight into Train): “all”, "
        "“last 4”, or numbers from 0 such as 0-11,20. The others stay frozen: less memory, less change.",
        group="Full fine-tuning", advanced=True, min_length=1, max_length=200,
    )  # fmt: skip
    train_embeddings: bool = setting(
        True, "Train embeddings", "For full fine-tuning: whether the embedding and the head are trained too. "
        "Off saves much memory with large vocabularies.", group="Full fine-tuning", advanced=True,
    )  # fmt: skip

    @field_validator("trained_layers")
    @classmethod
    def _readable(cls, words: str) -> str:
        try:
            chosen_layers(words, 1)
        except ValueError as error:
            raise ValueError(
                f"Trained layers cannot be read at “{error}”. Write “all”, “last 4”, or numbers "
                "such as 0-11,20."
            ) from error
        return words


def is_whole(context: CheckContext) -> bool:
    """Whether a model without a LoRA node is wired in."""
    return context.input_types.get("model") == MODEL.id


def check_whole(settings: Any, context: CheckContext) -> Iterable[Problem]:
    """Full fine-tuning gives a model and no adapter, cannot be quantized, and wants small steps."""
    whole = is_whole(context)
    wrong, right = ("adapter", "Tuned model") if whole else ("model", "Adapter")
    if "model" in context.inputs and wrong in context.used_outputs:
        what = "the model itself is trained, so there is no adapter" if whole else (
            "an adapter is trained, so there is no tuned model"
        )  # fmt: skip
        yield context.problem(
            f"{what}.", wrong, code="no_such_result",
            hint=f"Take the wire from “{right}” instead"
            + (", or put a LoRA node before Train." if whole else ", or add a Merge node."),
        )  # fmt: skip
    if not whole:
        return
    base = next((s for t, s in context.upstream.values() if t == "base_model" and s), None)
    if getattr(base, "quantization", "none") != "none":
        yield context.problem(
            "a quantized model cannot be trained as a whole.", "model", code="whole_quantized",
            hint="Set Quantization to None in the Base model node, or put a LoRA node between.",
        )  # fmt: skip
    if settings.learning_rate > USUAL_RATE:
        yield context.problem(
            f"a learning rate of {settings.learning_rate:g} is high for full fine-tuning and may wipe "
            "out what the model knows.", "learning_rate", severity="warning", code="high_rate",
            hint="1e-5 to 5e-5 is usual.",
        )  # fmt: skip
