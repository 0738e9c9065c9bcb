"""How many parameters a LoRA method trains, counted as PEFT counts them.

It uses formulas (``formulas.py``), so that the number updates with each edit. Without a formula the
helper process counts on the meta device; until then the number is unknown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from studio.estimate.formulas import FORMULAS
from studio.estimate.kept import KEPT, NOTHING, Kept, Settings
from studio.estimate.optimizers import PAGED_FROM
from studio.model.layer_names import taker
from studio.model.layers import LinearModule
from studio.model.shapes import Linear, Shape


@dataclass(frozen=True)
class Target:
    """A linear layer that gets an adapter, the adapter's rank there, and what its method keeps."""

    linear: Linear
    rank: int
    kept: Kept = NOTHING


@dataclass(frozen=True)
class Counted:
    """The trained parameters: ``adapter`` parameters beside the model, ``biases`` and other ``own``
    ones of the model, ``copies`` of its layers and rows of its embedding; ``tokens`` is the number
    of those rows. ``adapter`` is ``None`` where no formula is known. Nothing below ``first_layer``
    has a gradient. ``head``: numbers of the trained head (of the embedding, where they are one)."""

    targets: tuple[Target, ...]
    adapter: int | None
    own: int = 0
    copies: int = 0
    tokens: int = 0
    first_layer: int = 0
    head: int = 0

    @property
    def small(self) -> int:
        """Trained parameters in tensors below ``PAGED_FROM`` numbers: of LoRA's A and B, and, for other
        methods, all of an adapter that has less in a layer. Vectors of the model are neglected."""
        if any(t.kept.factors is not None for t in self.targets):
            each = (self.adapter or 0) // len(self.targets)
            return (self.adapter or 0) if each < PAGED_FROM else 0
        widths = (
            (t.rank, w) for t in self.targets for w in (t.linear.width_in, t.linear.width_out)
        )
        found = sum(r * w for r, w in widths if r * w < PAGED_FROM)
        return min(found, self.adapter or 0)

    @property
    def trainable(self) -> int | None:
        """All trained parameters."""
        return None if self.adapter is None else self.adapter + self.own + self.copies

    def total(self, shape: Shape) -> int | None:
        """All parameters of the model with its adapter, as PEFT prints them."""
        return None if self.adapter is None else shape.parameters + self.adapter + self.copies


def matched(
    shape: Shape, names: Sequence[str], rank_of: Callable[[str], int]
) -> tuple[Target, ...]:
    """The linear layers that PEFT adapts for these target names, with their ranks."""
    taken = taker(names)
    return tuple(
        Target(m, rank_of(m.name))
        for m in shape.linears
        if taken(m.name) or any(taken(own) for own in m.aliases)
    )


def rank_for(r: int, pattern: Mapping[str, int] | None) -> Callable[[str], int]:
    """The rank of a layer: the first pattern that its name ends with, else ``r``."""
    compiled = [(re.compile(rf"(.*\.)?({p})$"), int(v)) for p, v in (pattern or {}).items()]
    return lambda name: next((v for p, v in compiled if p.match(name)), r)


def count(
    shape: Shape,
    method: str,
    targets: tuple[Target, ...],
    *,
    bias: str = "none",
    settings: Settings | None = None,
    saved: Sequence[str] = (),
    tokens: int = 0,
    ends: Sequence[LinearModule] = (),
    ranks: Callable[[str], int] = lambda name: 0,
) -> Counted:
    """The parameters that ``method`` trains on ``targets``, on the embeddings of ``tokens``, and at the
    ``ends`` of the model with these ``ranks``."""
    formula = FORMULAS.get(method)
    adapter = None
    if formula is not None:
        outer = [Target(Linear(m.name, m.width_in, m.width_out), ranks(m.name)) for m in ends]
        adapter = sum(formula(t.linear, t.rank, settings or {}) for t in (*targets, *outer))
    keeps = KEPT.get(method)
    if keeps is not None:
        targets = tuple(replace(t, kept=keeps(t.linear, t.rank, settings or {})) for t in targets)
    copies = _copies(shape, saved) + tokens * (shape.embedding // max(1, shape.vocabulary))
    return Counted(targets, adapter, _biases(shape, targets, bias), copies, tokens)


def _biases(shape: Shape, targets: Sequence[Target], bias: str) -> int:
    """Biases of the model that are trained with the adapter."""
    if bias == "lora_only":
        return sum(t.linear.parameters - t.linear.weights for t in targets)
    if bias != "all":
        return 0
    inner = sum(m.parameters - m.weights for m in shape.linears)
    norms = shape.hidden * (shape.layers * shape.norms + 1) if shape.norm == "layer" else 0
    return inner + norms + shape.head_bias + shape.outside_biases


def _copies(shape: Shape, saved: Sequence[str]) -> int:
    """Fully trained layers, which PEFT copies (``modules_to_save``): embedding and head."""
    heads = sum(n.rpartition(".")[2] in ("lm_head", "embed_out") for n in saved)
    others = len(saved) - heads
    return others * shape.embedding + heads * (shape.vocabulary * shape.hidden + shape.head_bias)
