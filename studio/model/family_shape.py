"""From the config of a known architecture to its linear layers and all other parameters.

``tests/studio/estimate/test_counts.py`` verifies each entry of ``families`` against transformers'
own classes. Architectures with unequal layers are counted on the meta device by a dry run.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from studio.model.families import FAMILIES, Config, Family
from studio.model.shapes import Linear, Shape

_OLD_KEYS = {
    "n_embd": "hidden_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_inner": "intermediate_size",
    "n_positions": "max_position_embeddings",
    "ffn_dim": "intermediate_size",
}
_SIZES = {
    *("vocab_size", "hidden_size", "intermediate_size", "max_position_embeddings"),
    *("num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim"),
    *("num_local_experts", "num_experts", "num_experts_per_tok", "moe_intermediate_size"),
}
_MOST_LAYERS, _LARGEST = 10_000, 2**31
EXPERT_NAMES = {
    "mixtral": (("w1", "w3"), ("w2",)),
    "qwen3_moe": (("gate_proj", "up_proj"), ("down_proj",)),
}


def family_shape(config: Config) -> Shape | None:
    """The shape of a known architecture; ``None`` for other ones, and for unequal layers."""
    model_type = str(config.get("model_type", ""))
    if model_type == "gemma3":
        inner = {"model_type": "gemma3_text", **(config.get("text_config") or {})}
        text = _shape(inner, FAMILIES["gemma3_text"], prefix="model.language_model.layers")
        seen, biases = _vision_tower(config.get("vision_config") or {}, text.hidden)
        return replace(text, outside=text.outside + seen, outside_biases=biases)
    family = FAMILIES.get(model_type)
    if family is None or _uneven(config):
        return None
    return _shape(config, family)


def _uneven(config: Config) -> bool:
    """Whether layers differ, or have widths that the table does not cover."""
    return bool(
        config.get("mlp_only_layers")
        or config.get("decoder_sparse_step", 1) != 1
        or config.get("word_embed_proj_dim", config.get("hidden_size")) != config.get("hidden_size")
        or config.get("do_layer_norm_before", True) is not True
        or config.get("qk_layernorm")
    )


def invalid_size(config: Config) -> tuple[str, Any] | None:
    """A key of the config of a known architecture whose value cannot be a size, and that value."""
    for key, value in config.items():
        name = _OLD_KEYS.get(key, key)
        limit = _MOST_LAYERS if name == "num_hidden_layers" else _LARGEST
        if name in _SIZES and value is not None and not _is_size(value, limit):
            return key, value
    return None


def _is_size(value: Any, limit: int) -> bool:
    return type(value) is int and 0 < value <= limit


def filled(config: Config) -> dict[str, Any]:
    """The config with current key names and the defaults of its class. Raises ``ValueError`` for a
    value that cannot be a size."""
    if wrong := invalid_size(config):
        raise ValueError(f"{wrong[0]} cannot be {wrong[1]!r}")
    family = FAMILIES[str(config["model_type"])]
    read = {k: v for k, v in config.items() if v is not None and k not in family.unread}
    given = {_OLD_KEYS.get(k, k): v for k, v in read.items()}
    if config.get("model_type") != "gpt2" and "n_positions" in config:
        given.pop("max_position_embeddings", None)
    full = {**family.defaults, **given}
    full.setdefault("intermediate_size", 4 * full["hidden_size"])
    return full


def _shape(config: Config, family: Family, *, prefix: str | None = None) -> Shape:
    c = filled(config)
    hidden, layers, heads = c["hidden_size"], c["num_hidden_layers"], c["num_attention_heads"]
    kv_heads = (family.grouped and c.get("num_key_value_heads")) or heads
    size = c.get("head_dim") or hidden // heads
    query, key_value = heads * size, kv_heads * size
    one = _attention(c, family, query, key_value) + _feed_forward(c, family)
    place = prefix or family.prefix
    linears = tuple(_placed(m, f"{place}.{n}.") for n in range(layers) for m in one)
    norm_size = hidden * (2 if family.norm_bias else 1)
    norms = len(family.norms)
    qk = {"head": 2 * size, "full": query + key_value}.get(family.qk_norm, 0)
    router = hidden * _experts(c) if _experts(c) > 1 else 0
    tied = bool(c.get("tie_word_embeddings", family.tied))
    return Shape(
        model_type=str(c["model_type"]),
        layers=layers,
        hidden=hidden,
        feed_forward=c.get("moe_intermediate_size", c["intermediate_size"]),
        query=query,
        key_value=key_value,
        heads=heads,
        kv_heads=kv_heads,
        vocabulary=c["vocab_size"],
        tied=tied,
        linears=linears,
        vectors=norms * norm_size + qk + router,
        outside=norm_size + family.positions(c) * hidden,
        head_bias=c["vocab_size"] if family.head_bias else 0,
        norm="layer" if family.norm_bias else "rms",
        norms=norms,
        qk_norm=bool(qk),
        qk_roots={"head": heads + kv_heads, "full": 2}.get(family.qk_norm, 0),
        kept_norms=1 if family.parallel(c) else norms,
        gated=len(family.mlp) == 3 or "gate_up_proj" in family.mlp,
        activation=_activation(c, family),
        rotary=family.rotary(c),
        fused_qkv=family.fused_qkv,
        eager_attention=family.eager,
        experts_active=c.get("num_experts_per_tok", 1) if _experts(c) > 1 else 1,
        dropout={k: float(c.get(v) or 0.0) for k, v in family.dropout.items()},
    )


def _activation(c: Config, family: Family) -> str:
    said = c.get("hidden_act") or c.get("activation_function") or c.get("hidden_activation")
    return str(said) if said else family.activation


def _placed(m: Linear, prefix: str) -> Linear:
    aliases = tuple(prefix + name for name in m.aliases)
    return Linear(prefix + m.name, m.width_in, m.width_out, m.bias, m.experts, m.fused, aliases)


def _attention(c: Config, family: Family, query: int, key_value: int) -> list[Linear]:
    hidden, biased, out = c["hidden_size"], family.qkv_bias(c), family.out_bias(c)
    place, names = family.attention, family.names
    widths = [query, key_value, key_value]
    if len(names) == 2:
        widths = [query + 2 * key_value]
    inner = [Linear(f"{place}.{n}", hidden, w, biased) for n, w in zip(names, widths, strict=False)]
    return [*inner, Linear(f"{place}.{names[-1]}", query, hidden, out)]


def _experts(c: Config) -> int:
    return int(c.get("num_local_experts") or c.get("num_experts") or 1)


def _feed_forward(c: Config, family: Family) -> list[Linear]:
    hidden, inner, biased = c["hidden_size"], c["intermediate_size"], family.mlp_bias(c)
    if _experts(c) > 1:
        return _expert_weights(c)
    *first, last = family.mlp
    wide = 2 * inner if first == ["gate_up_proj"] else inner
    place = family.mlp_place
    return [
        *(Linear(place + n, hidden, wide, biased) for n in first),
        Linear(place + last, inner, hidden, biased),
    ]


def _expert_weights(c: Config) -> list[Linear]:
    """Stacked experts: gate and up in one weight, down in another (transformers 5)."""
    hidden, inner = c["hidden_size"], c.get("moe_intermediate_size", c["intermediate_size"])
    up, down = EXPERT_NAMES[str(c["model_type"])]
    place, count = "mlp.experts", _experts(c)
    return [
        Linear(
            f"{place}.gate_up_proj",
            hidden,
            2 * inner,
            False,
            count,
            len(up),
            tuple(f"{place}.{n}" for n in up),
        ),
        Linear(
            f"{place}.down_proj",
            inner,
            hidden,
            False,
            count,
            1,
            tuple(f"{place}.{n}" for n in down),
        ),
    ]


def _vision_tower(vision: Config, text_hidden: int) -> tuple[int, int]:
    """Parameters of Gemma 3's SigLIP tower with its projector, and how many of them are biases;
    text does not pass through them.
    """
    h, inner = vision.get("hidden_size", 768), vision.get("intermediate_size", 3072)
    layers, patch = vision.get("num_hidden_layers", 12), vision.get("patch_size", 16)
    places = (vision.get("image_size", 224) // patch) ** 2
    pooled = vision.get("vision_use_head", True)
    weights = (3 * patch * patch + places) * h + layers * (4 * h * h + 2 * h * inner + 2 * h) + h
    weights += (4 * h * h + 2 * h * inner + 2 * h) if pooled else 0
    biases = 2 * h + layers * (7 * h + inner) + (6 * h + inner if pooled else 0)
    return int(weights + biases + h * text_hidden + h), int(biases)
