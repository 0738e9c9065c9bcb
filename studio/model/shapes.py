"""The shape of a language model: its linear layers, and the number of all other parameters.

``studio.model.read_shape`` finds it for a model; everything that is estimated is computed from it.
Unknown values are ``None``, never guessed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from studio.model.experts import joined
from studio.model.layer_names import GATE_UP, joined_name
from studio.model.layers import LinearModule

Norm = Literal["rms", "layer", "unknown"]


@dataclass(frozen=True)
class Linear:
    """A linear layer of the decoder.

    If ``experts`` is more than 1, that many are stacked in one weight. ``fused`` matrices with
    names of their own (gate and up) are joined in it, and PEFT multiplies the rank by that number.
    ``aliases`` are the names accepted for such a weight.
    """

    name: str
    width_in: int
    width_out: int
    bias: bool = False
    experts: int = 1
    fused: int = 1
    aliases: tuple[str, ...] = ()

    @property
    def weights(self) -> int:
        """The number of elements of the weight."""
        return self.width_in * self.width_out * self.experts

    @property
    def parameters(self) -> int:
        """The number of elements of weight and bias."""
        return self.weights + (self.width_out * self.experts if self.bias else 0)


@dataclass(frozen=True)
class Shape:
    """A decoder of ``layers`` equal layers, whose linear layers are listed individually.

    ``query`` and ``key_value`` are heads × head size. ``norms`` is the number of norms of width
    ``hidden`` per layer, ``kept_norms`` those with an input of their own; ``vectors`` are a layer's
    parameters outside ``linears`` (norms, routers). ``outside`` are the parameters outside the
    layers without embedding and head, ``outside_biases`` the biases among those of a vision tower.
    Each token passes through ``experts_active`` of the stacked experts. ``exact``: memory of
    activations is exact, not approximate.
    """

    model_type: str
    layers: int
    hidden: int
    feed_forward: int
    query: int
    key_value: int
    heads: int
    kv_heads: int
    vocabulary: int
    tied: bool
    linears: tuple[Linear, ...]
    vectors: int = 0
    outside: int = 0
    outside_biases: int = 0
    head_bias: int = 0
    norm: Norm = "rms"
    norms: int = 2
    kept_norms: int = 2
    qk_norm: bool = False
    qk_roots: int = 0
    gated: bool = True
    activation: str = "silu"
    rotary: float = 1.0
    fused_qkv: bool = False
    eager_attention: bool = False
    experts_active: int = 1
    dropout: Mapping[str, float] = field(default_factory=dict)
    exact: bool = True
    embedding_width: int = 0
    total: int = 0

    @property
    def embedding(self) -> int:
        """Parameters of the token embedding."""
        return self.vocabulary * (self.embedding_width or self.hidden)

    @property
    def head(self) -> int:
        """Parameters of the head, 0 if tied to the embedding."""
        return (0 if self.tied else self.embedding) + self.head_bias

    @property
    def parameters(self) -> int:
        """All parameters, as counted by PEFT."""
        if self.total:
            return self.total
        inner = sum(m.parameters for m in self.linears) + self.layers * self.vectors
        return self.embedding + self.head + self.outside + inner

    @property
    def linear_weights(self) -> int:
        """Elements of the decoder's linear layers: N in the formulas."""
        return sum(m.weights for m in self.linears)

    def modules(self) -> list[LinearModule]:
        """The layers by the names in model folders, as listed by ``studio.model.layers``."""
        return [
            LinearModule(name, m.width_in, m.width_out)
            for m in self.linears
            for name in (m.aliases or (m.name,))
        ]


def joined_linears(modules: Sequence[LinearModule]) -> list[Linear]:
    """The layers of a model folder as the weights that an adapter is added to: the experts of a
    block are joined in two.
    """
    weights, rows = joined(modules), dict[str, Linear]()
    for module in modules:
        name = joined_name(module.name)
        if name not in weights:
            rows[module.name] = Linear(
                module.name, module.width_in, module.width_out, aliases=(module.name,)
            )
        elif name not in rows:
            rows[name] = _joined_linear(name, weights[name])
    return list(rows.values())


def _joined_linear(name: str, members: Sequence[LinearModule]) -> Linear:
    first, parts = members[0], len({m.name.rpartition(".")[2] for m in members})
    together = first.name == name  # also joined in the file
    return Linear(
        name,
        first.width_in,
        first.width_out * parts,
        experts=first.experts if together else len(members) // parts,
        fused=2 if together and name.endswith(GATE_UP) else parts,
        aliases=tuple(m.name for m in members),
    )
