"""The payload of an ``adapter`` variant: a LoRA method.

Most methods consist of a PEFT config. The hooks are for methods that need the training's data or
length, change an optimizer step, or have state besides the weights. Every hook is optional, and
torch and peft are imported only when one is called.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from studio.model.layers import LinearModule
from studio.node_settings.lora import LoraSettings
from studio.values import AdaptedModelValue

QUANTIZED = ("nf4", "int8")
SHARED = frozenset({"r", "alpha", "dropout", "bias", "patterns", "tokens"})
"""Settings of the LoRA node that a method can make use of; ``patterns`` are ranks and alphas by layer,
``tokens`` those whose embedding is trained."""

_FIELDS: Mapping[str, tuple[str, ...]] = {
    "r": ("r",),
    "alpha": ("alpha",),
    "dropout": ("dropout",),
    "bias": ("bias",),
    "patterns": ("rank_pattern", "alpha_pattern"),
    "tokens": ("trained_tokens",),
}
"""The fields of the LoRA node that belong to each shared setting."""

LearningRates = tuple[float, float, float]
"""The lowest useful learning rate, the usual one for a model of 7 B parameters, and the highest."""

State = tuple[dict[str, Any], dict[str, Any]]
"""The state of a method besides the weights: tensors by name, and JSON values."""


@dataclass(frozen=True)
class TrainingFacts:
    """What a method may use of the training that it is prepared for.

    ``steps`` is the number of optimizer steps. ``batches`` are the first ones of the training and
    can be iterated repeatedly; their tensors are (batch, seq). ``loss(model, batch)`` is the mean
    over the batch's label tokens. ``check`` raises when a stop was requested. ``adapted`` is what is
    trained, ``answer_start`` the tokens that the training's chat template writes before an answer.
    """

    steps: int
    batches: Iterable[Mapping[str, Any]]
    loss: Callable[[Any, Mapping[str, Any]], Any]
    check: Callable[[], None] = lambda: None
    adapted: AdaptedModelValue | None = None
    answer_start: tuple[int, ...] = ()


@dataclass(frozen=True)
class Hooks:
    """What a method does besides its config.

    Before the training: ``fit(config, facts)`` adjusts the config, ``prepare(base, config, facts)``
    gets the base model, ``initialise(model, config, facts)`` the model with the adapter. The last
    two are not called when a run resumes: the checkpoint contains their results.

    During the training: ``rate(value, name)`` multiplies the learning rate of the parameter of that
    name, ``freeze(name)`` excludes it from training, ``penalty(model)`` is added to the loss of
    each optimizer step, ``before_step(model, step)`` may change the gradients, ``after_step(model,
    step)`` runs before they are set to zero. ``state`` and ``restore`` save and load what a
    checkpoint needs besides weights.

    After the training: ``save(folder, model)`` may rewrite the saved adapter, so that other
    programs can load it.
    """

    fit: Callable[[Any, TrainingFacts], None] | None = None
    prepare: Callable[[Any, Any, TrainingFacts], None] | None = None
    initialise: Callable[[Any, Any, TrainingFacts], None] | None = None
    rate: Callable[[AdaptedModelValue, str], float] | None = None
    freeze: Callable[[str], bool] | None = None
    penalty: Callable[[Any], Any] | None = None
    before_step: Callable[[Any, int], None] | None = None
    after_step: Callable[[Any, int], None] | None = None
    state: Callable[[Any], State] | None = None
    restore: Callable[[Any, dict[str, Any], dict[str, Any]], None] | None = None
    save: Callable[[Path, Any], None] | None = None


Fits = Callable[[Any, Any, Sequence[LinearModule]], Iterable[tuple[str, str]]]


@dataclass(frozen=True)
class LoraMethod:
    """A LoRA method; ``build(value)`` makes the PEFT config.

    ``quantized`` and ``dtypes`` name the bases that the method was verified with; others are
    refused before training. ``only_quantized``: the method needs a quantized base. ``cannot_merge``
    is the reason why its adapters cannot be merged; ``merge_in_memory``: they need the base's real
    weights when they are loaded, so they cannot be merged layer by layer. ``uses`` are the shared
    settings that apply to it. ``starts_from_base``: it is initialized with a part of the base's
    weights, so that it is saved as a plain LoRA of twice the rank. ``own_layers``: it selects its
    layers itself. ``experts``: it supports the experts of a mixture, whose weights are joined in
    one tensor; ``ends``: it supports embedding and head; ``transposed``: it supports layers with
    weights stored as (in, out), as in GPT-2. ``saved_as`` names the form that ``hooks.save`` gives
    the adapter; ``reorders_sums``: this form adds in another order, which half precision rounds
    differently. ``research``: it is listed under “Research methods”, because there is little
    evidence beyond its own paper. ``learning_rates``: lowest, usual and highest; ``None`` if
    unknown. ``cannot_continue`` is the reason why another training cannot start from its adapters.
    ``fits(node, own, layers)`` gets the LoRA node's settings, the method's settings and
    the chosen layers, and yields pairs of field and sentence for conflicts.
    """

    build: Callable[[AdaptedModelValue], Any]
    quantized: tuple[str, ...] = QUANTIZED
    dtypes: tuple[str, ...] = ("float32", "bfloat16", "float16")
    cannot_merge: str = ""
    cannot_continue: str = ""
    paper: str = ""
    uses: frozenset[str] = SHARED
    starts_from_base: bool = False
    only_quantized: bool = False
    merge_in_memory: bool = False
    own_layers: bool = False
    experts: bool = False
    ends: bool = False
    transposed: bool = True
    why_not_quantized: str = ""
    saved_as: str = ""
    reorders_sums: bool = False
    research: bool = False
    learning_rates: LearningRates | None = None
    fits: Fits | None = None
    hooks: Hooks = field(default_factory=Hooks)

    def trains_on(self, quantization: str) -> bool:
        """Whether the method supports a base with this quantization; both 4-bit types are equivalent."""
        return ("nf4" if quantization == "fp4" else quantization) in self.quantized

    @property
    def unused_fields(self) -> tuple[str, ...]:
        """The LoRA node's fields that the method does not use."""
        unused = [f for use, fields in _FIELDS.items() if use not in self.uses for f in fields]
        if "alpha" not in self.uses and "alpha_pattern" not in unused:
            unused.append("alpha_pattern")
        return tuple(unused)

    @property
    def only_begins(self) -> bool:
        """Whether the method is a start or a schedule of its training, so that what it leaves is a LoRA, which
        another training goes on with as with any LoRA."""
        hooks = self.hooks
        return bool(self.starts_from_base or hooks.prepare or hooks.initialise or hooks.save)

    @property
    def mergeable(self) -> bool:
        """Whether the method's adapters can be merged into the base's weights."""
        return not self.cannot_merge


def settings_after(lora: LoraSettings, method: LoraMethod) -> LoraSettings:
    """The LoRA node's settings for what a training with ``method`` leaves, which another one goes on with."""
    if not method.only_begins:
        return lora
    twice = 2 if method.starts_from_base else 1
    ranks = re.sub(r"=\s*(\d+)", lambda found: f"={twice * int(found[1])}", lora.rank_pattern)
    changes = {"r": twice * lora.r, "alpha": twice * lora.alpha, "rank_pattern": ranks}
    return lora.model_copy(update={"method": "lora", "method_settings": {}, **changes})


def rate_text(rate: float) -> str:
    """A learning rate in the usual notation: 2e-4, 0.1."""
    if rate >= 0.1:
        return f"{rate:g}"
    return f"{rate:.2e}".replace(".00e", "e").replace("0e-", "e-").replace("e-0", "e-")


_QUANTIZATIONS = {"nf4": "4 bits (NF4)", "fp4": "4 bits (FP4)", "int8": "8 bits"}


def quantization_error(title: str, method: LoraMethod, quantization: str) -> str:
    """Why the method does not support a base with this quantization; empty if it does."""
    if quantization == "none":
        return f"{title} needs a quantized base." if method.only_quantized else ""
    if method.trains_on(quantization):
        return ""
    why = f": {method.why_not_quantized}" if method.why_not_quantized else ""
    named = _QUANTIZATIONS.get(quantization, quantization)
    return f"{title} does not train on a base that is quantized to {named}{why}."


def own_settings(value: AdaptedModelValue, model: type[Any]) -> Any:
    """The method's own settings, including defaults."""
    return model.model_validate(value.method_settings)


def lora_config(value: AdaptedModelValue, **more: Any) -> Any:
    """A ``peft.LoraConfig`` with the settings that all variants of LoRA share."""
    return peft_config(
        "LoraConfig",
        value,
        r=value.r,
        lora_alpha=value.alpha,
        lora_dropout=value.dropout,
        bias=value.bias,
        rank_pattern=dict(value.rank_pattern),
        alpha_pattern=dict(value.alpha_pattern),
        trainable_token_indices=list(value.trained_tokens) or None,
        **more,
    )


def peft_config(name: str, value: AdaptedModelValue, **more: Any) -> Any:
    """The PEFT config called ``name`` for the chosen layers, including the fully trained modules."""
    import peft

    return getattr(peft, name)(
        target_modules=list(value.target_modules),
        task_type="CAUSAL_LM",
        modules_to_save=list(value.modules_to_save) or None,
        **more,
    )


def divides(size: int, layers: Sequence[LinearModule], side: str = "both") -> list[LinearModule]:
    """The layers whose widths (``in``, ``out`` or ``both``) are not multiples of ``size``."""
    return [
        m
        for m in layers
        if (side != "out" and m.width_in % size) or (side != "in" and m.width_out % size)
    ]


def misfit(
    name: str, size: int, layers: Sequence[LinearModule], side: str = "both"
) -> Iterable[tuple[str, str]]:
    """A sentence for the setting ``name`` if ``size`` does not divide the widths of a layer."""
    for layer in divides(size, layers, side)[:1]:
        yield (
            name,
            (
                f"{size} does not divide the widths of {layer.name} "
                f"({layer.width_in} in, {layer.width_out} out)."
            ),
        )


def too_many(name: str, count: int, layers: Sequence[LinearModule]) -> Iterable[tuple[str, str]]:
    """A sentence for the setting ``name`` if a layer has fewer than ``count`` entries."""
    small = [m for m in layers if m.width_in * m.width_out < count]
    for layer in small[:1]:
        entries = layer.width_in * layer.width_out
        yield name, f"{count} is more than the {entries} entries of {layer.name}."
