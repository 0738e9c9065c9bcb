"""The shape of a language model, from its ``config.json`` alone.

Parameters and memory are shown while settings are edited, also for models that are not downloaded.
Known architectures are computed (``family_shape``); for others the headers of the weight files are
used. Weights are not read, and unknown values are ``None``, never guessed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from studio.model.experts import joined
from studio.model.layer_names import GATE_UP, joined_name
from studio.model.layers import LinearModule, read_linear_modules, tensor_shapes, weight_files

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


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a config for the language model."""
    inner = config.get("text_config")
    return inner if isinstance(inner, Mapping) else config


def shape_of_config(config: Mapping[str, Any]) -> Shape | None:
    """The shape described by a config; ``None`` for an unknown architecture."""
    from studio.model.family_shape import family_shape

    try:
        return family_shape(config)
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None


def read_shape(folder: Path) -> Shape | None:
    """The shape of the model in a folder that has at least a ``config.json``."""
    file = folder / "config.json"
    try:
        return _read(folder, file.stat().st_mtime_ns)
    except OSError:
        return None


@lru_cache(maxsize=32)
def _read(folder: Path, stamp: int) -> Shape | None:
    del stamp
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError:
        return None
    if not isinstance(config, dict):
        return None
    return shape_of_config(config) or _from_headers(folder, config)


def _from_headers(folder: Path, config: Mapping[str, Any]) -> Shape | None:
    """The shape from the headers of the weight files and the usual keys of a config."""
    text = text_config(config)
    modules = read_linear_modules(folder)
    layers = _first(text, "num_hidden_layers", "n_layer", "num_layers")
    hidden = _first(text, "hidden_size", "n_embd", "d_model")
    heads = _first(text, "num_attention_heads", "n_head") or 1
    if not modules or not layers or not hidden:
        return None
    kv_heads = _first(text, "num_key_value_heads") or heads
    size = _first(text, "head_dim") or hidden // heads
    widest = max(max(m.width_in, m.width_out) for m in modules)
    return Shape(
        model_type=str(config.get("model_type", "")),
        layers=layers,
        hidden=hidden,
        feed_forward=_first(text, "intermediate_size", "n_inner", "ffn_dim") or widest,
        query=heads * size,
        key_value=kv_heads * size,
        heads=heads,
        kv_heads=kv_heads,
        vocabulary=_first(text, "vocab_size") or 0,
        tied=bool(config.get("tie_word_embeddings")),
        linears=tuple(joined_linears(modules)),
        total=_stored_parameters(folder),
        norm="unknown",
        exact=False,
    )


def _first(config: Mapping[str, Any], *keys: str) -> int | None:
    found = (config.get(key) for key in keys)
    return next((int(v) for v in found if isinstance(v, int)), None)


def _stored_parameters(folder: Path) -> int:
    total = 0
    for file in weight_files(folder):
        for _, shape in tensor_shapes(file):
            size = 1
            for width in shape:
                size *= width
            total += size
    return total
