"""aLoRA (Greenewald et al., 2025, arXiv:2504.12397): the adapter is active from an invocation
sequence onwards.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from studio.errors import StudioError
from studio.graph.node_type import Variant
from studio.graph.schema import Settings, setting
from studio.values import AdaptedModelValue
from studio.variants.lora_method import (
    Hooks,
    LoraMethod,
    TrainingFacts,
    lora_config,
    own_settings,
)


class AloraSettings(Settings):
    """The invocation sequence."""

    invocation: str = setting(
        "",
        "Invocation",
        "The adapter is active from the last occurrence of this text. Leave empty "
        "to use the text that the chat template writes before an answer. Rows "
        "without the text are not affected by the adapter.",
        placeholder="start of the answer",
        max_length=500,
    )


def _build(value: AdaptedModelValue) -> Any:
    text = own_settings(value, AloraSettings).invocation
    return lora_config(value, alora_invocation_tokens=_tokens(Path(value.model.path), text))


def _tokens(folder: Path, text: str) -> list[int]:
    """The token ids of the invocation."""
    from studio.training.tokens.chat import answer_start, load_tokenizer

    tokenizer = load_tokenizer(str(folder))
    text = text or answer_start(tokenizer)
    ids = list(tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []
    if not ids:
        raise StudioError(
            "aLoRA needs the text that precedes an answer, and the model has no chat "
            "template that defines it.",
            title="No invocation",
            hint="Enter the text that precedes an answer in Invocation.",
            field="method_settings.invocation",
            code="no_invocation",
        )
    return ids


def _fit(config: Any, facts: TrainingFacts) -> None:
    """Use the start of an answer of the training's chat template, which may be another than the model's,
    or have other template arguments."""
    given = facts.adapted and own_settings(facts.adapted, AloraSettings).invocation
    if facts.answer_start and not given:
        config.alora_invocation_tokens = list(facts.answer_start)


VARIANT = Variant(
    kind="adapter",
    id="alora",
    title="aLoRA",
    order=130,
    settings=AloraSettings,
    help="LoRA that is active only after an invocation text, so that the cached "
    "keys and values of the text before it can be reused. When to use it: "
    "several adapters on one long context. It cannot be merged. Greenewald et "
    "al. 2025, arXiv:2504.12397.",
    payload=LoraMethod(
        _build,
        # 3e-4 in PEFT's example.
        learning_rates=(2e-5, 3e-4, 2e-3),
        paper="arXiv:2504.12397",
        cannot_merge="they are active in a part of the text only, which merged weights cannot "
        "express",
        hooks=Hooks(fit=_fit),
    ),
)
