"""Known decoder architectures: from a config to the linear layers and every other parameter.

Why a table and not the meta device: it takes microseconds and no torch. Each entry is held to the
counts of transformers' own classes by ``tests/studio/estimate/test_counts.py``. A config leaves out
what equals its class's default, so the defaults that matter stand here too. An architecture whose
layers differ from one another is left to the meta device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from studio.estimate.shapes import Linear, Shape

Config = Mapping[str, Any]
_QKVO = ("q_proj", "k_proj", "v_proj", "o_proj")


def _bias(key: str) -> Callable[[Config], bool]:
    """Whether a key of the config switches a bias on."""
    return lambda c: bool(c.get(key))


_attention_bias = _bias("attention_bias")


def _always(config: Config) -> bool:
    del config
    return True


def _never(config: Config) -> bool:
    del config
    return False


@dataclass(frozen=True)
class Family:
    """How an architecture differs from Llama. ``defaults`` are those of its config class."""

    defaults: Mapping[str, Any] = field(default_factory=dict)
    prefix: str = "model.layers"
    attention: str = "self_attn"
    names: tuple[str, ...] = _QKVO
    qkv_bias: Callable[[Config], bool] = _never
    out_bias: Callable[[Config], bool] = _never
    mlp_bias: Callable[[Config], bool] = _never
    mlp: tuple[str, ...] = ("gate_proj", "up_proj", "down_proj")
    mlp_place: str = "mlp."
    norm_bias: bool = False
    norms: Callable[[Config], int] = lambda c: 2
    qk_norm: str = ""  # "head": one vector per head size; "full": one per width
    fused_qkv: bool = False
    positions: Callable[[Config], int] = lambda c: 0
    head_bias: bool = False
    activation: str = "silu"
    tied: bool = False
    eager: bool = False
    grouped: bool = True
    parallel: Callable[[Config], bool] = _never
    rotary: Callable[[Config], float] = lambda c: 1.0
    dropout: Mapping[str, str] = field(default_factory=dict)


_GEMMA3 = {
    "vocab_size": 262208, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
    "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
}  # fmt: skip
_LLAMA = {
    "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
    "num_attention_heads": 32,
}  # fmt: skip
_QWEN = {**_LLAMA, "vocab_size": 151936, "intermediate_size": 22016, "num_key_value_heads": 32}

FAMILIES: dict[str, Family] = {
    "llama": Family(_LLAMA, qkv_bias=_attention_bias, out_bias=_attention_bias, mlp_bias=_bias("mlp_bias")),
    "granite": Family(_LLAMA, qkv_bias=_attention_bias, out_bias=_attention_bias, mlp_bias=_bias("mlp_bias")),
    "smollm3": Family(
        {"vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 11008,
         "num_hidden_layers": 36, "num_attention_heads": 16, "num_key_value_heads": 4},
        qkv_bias=_attention_bias, out_bias=_attention_bias, mlp_bias=_bias("mlp_bias"), tied=True,
    ),
    "mistral": Family({**_LLAMA, "intermediate_size": 14336, "num_key_value_heads": 8}),
    "qwen2": Family(_QWEN, qkv_bias=_always),
    "qwen3": Family({**_QWEN, "head_dim": 128}, qkv_bias=_attention_bias, out_bias=_attention_bias, qk_norm="head"),
    "olmo2": Family(
        {**_LLAMA, "vocab_size": 50304}, qkv_bias=_attention_bias, out_bias=_attention_bias, qk_norm="full",
    ),
    "gemma": Family(
        {"vocab_size": 256000, "hidden_size": 3072, "intermediate_size": 24576,
         "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 16,
         "head_dim": 256},
        qkv_bias=_attention_bias, out_bias=_attention_bias, activation="gelu", tied=True,
    ),
    "gemma2": Family(
        {**_GEMMA3, "vocab_size": 256000}, qkv_bias=_attention_bias, out_bias=_attention_bias, norms=lambda c: 4,
        activation="gelu", tied=True, eager=True,
    ),
    "gemma3_text": Family(
        _GEMMA3, qkv_bias=_attention_bias, out_bias=_attention_bias, norms=lambda c: 4,
        qk_norm="head", activation="gelu", tied=True
    ),
    "phi3": Family(
        {**_LLAMA, "vocab_size": 32064, "hidden_size": 3072, "intermediate_size": 8192},
        names=("qkv_proj", "o_proj"), mlp=("gate_up_proj", "down_proj"), fused_qkv=True,
    ),
    "phi": Family(
        {"vocab_size": 51200, "hidden_size": 2048, "intermediate_size": 8192,
         "num_hidden_layers": 24, "num_attention_heads": 32},
        names=("q_proj", "k_proj", "v_proj", "dense"), qkv_bias=_always, out_bias=_always,
        mlp_bias=_always, mlp=("fc1", "fc2"), norm_bias=True, norms=lambda c: 1, head_bias=True,
        activation="gelu_new", rotary=lambda c: 0.5,
        dropout={"residual": "resid_pdrop", "attention": "attention_dropout"},
    ),
    "starcoder2": Family(
        {"vocab_size": 49152, "hidden_size": 3072, "intermediate_size": 12288,
         "num_hidden_layers": 30, "num_attention_heads": 24, "num_key_value_heads": 2,
         "use_bias": True},
        qkv_bias=_bias("use_bias"), out_bias=_bias("use_bias"),
        mlp_bias=_bias("use_bias"), mlp=("c_fc", "c_proj"), norm_bias=True,
        activation="gelu", tied=True,
        dropout={"residual": "residual_dropout", "attention": "attention_dropout",
                 "embedding": "embedding_dropout"},
    ),
    "gpt2": Family(
        {"vocab_size": 50257, "hidden_size": 768, "num_hidden_layers": 12,
         "num_attention_heads": 12, "max_position_embeddings": 1024, "resid_pdrop": 0.1,
         "embd_pdrop": 0.1, "attn_pdrop": 0.1},
        prefix="transformer.h", attention="attn", names=("c_attn", "c_proj"), qkv_bias=_always,
        out_bias=_always, mlp_bias=_always, mlp=("c_fc", "c_proj"), norm_bias=True, fused_qkv=True,
        positions=lambda c: int(c["max_position_embeddings"]), activation="gelu_new", tied=True,
        rotary=lambda c: 0.0,
        grouped=False,
        dropout={"residual": "resid_pdrop", "attention": "attn_pdrop", "embedding": "embd_pdrop"},
    ),
    "gpt_neox": Family(
        {"vocab_size": 50432, "hidden_size": 6144, "intermediate_size": 24576,
         "num_hidden_layers": 44, "num_attention_heads": 64, "attention_bias": True},
        prefix="gpt_neox.layers", attention="attention", names=("query_key_value", "dense"),
        qkv_bias=_attention_bias, out_bias=_attention_bias, mlp_bias=_always, mlp=("dense_h_to_4h", "dense_4h_to_h"),
        norm_bias=True, fused_qkv=True, activation="gelu", grouped=False,
        parallel=lambda c: bool(c.get("use_parallel_residual", True)),
        rotary=lambda c: float(c.get("rotary_pct", 0.25)),
        dropout={"residual": "hidden_dropout", "attention": "attention_dropout"},
    ),
    "opt": Family(
        {"vocab_size": 50272, "hidden_size": 768, "num_hidden_layers": 12,
         "num_attention_heads": 12, "intermediate_size": 3072, "max_position_embeddings": 2048,
         "enable_bias": True, "dropout": 0.1},
        prefix="model.decoder.layers", names=("q_proj", "k_proj", "v_proj", "out_proj"),
        qkv_bias=_bias("enable_bias"), out_bias=_bias("enable_bias"),
        mlp_bias=_bias("enable_bias"), mlp=("fc1", "fc2"), mlp_place="", norm_bias=True,
        grouped=False,
        positions=lambda c: int(c["max_position_embeddings"]) + 2, activation="relu", tied=True,
        rotary=lambda c: 0.0,
        dropout={"residual": "dropout", "attention": "attention_dropout", "embedding": "dropout"},
    ),
    "mixtral": Family(
        {**_LLAMA, "intermediate_size": 14336, "num_key_value_heads": 8, "num_local_experts": 8,
         "num_experts_per_tok": 2},
    ),
    "qwen3_moe": Family(
        {"vocab_size": 151936, "hidden_size": 2048, "num_hidden_layers": 24,
         "num_attention_heads": 32, "num_key_value_heads": 4, "moe_intermediate_size": 768,
         "intermediate_size": 6144, "num_experts": 128, "num_experts_per_tok": 8,
         "decoder_sparse_step": 1, "mlp_only_layers": ()},
        qkv_bias=_attention_bias, out_bias=_attention_bias, qk_norm="head",
    ),
}  # fmt: skip
_OLD_KEYS = {
    "n_embd": "hidden_size", "n_layer": "num_hidden_layers", "n_head": "num_attention_heads",
    "n_inner": "intermediate_size", "n_positions": "max_position_embeddings",
    "ffn_dim": "intermediate_size",
}  # fmt: skip
_EXPERT_NAMES = {
    "mixtral": (("w1", "w3"), ("w2",)),
    "qwen3_moe": (("gate_proj", "up_proj"), ("down_proj",)),
}


def family_shape(config: Config) -> Shape | None:
    """The shape of a known architecture; ``None`` for another one, or for unequal layers."""
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
    """Layers that differ, or widths that the table does not describe."""
    return bool(
        config.get("mlp_only_layers")
        or config.get("decoder_sparse_step", 1) != 1
        or config.get("word_embed_proj_dim", config.get("hidden_size")) != config.get("hidden_size")
        or config.get("do_layer_norm_before", True) is not True
        or config.get("qk_layernorm")
    )


def _filled(config: Config) -> dict[str, Any]:
    """The config with today's key names and the defaults of its class."""
    given = {_OLD_KEYS.get(k, k): v for k, v in config.items() if v is not None}
    if config.get("model_type") != "gpt2" and "n_positions" in config:
        given.pop("max_position_embeddings", None)
    full = {**FAMILIES[str(config["model_type"])].defaults, **given}
    full.setdefault("intermediate_size", 4 * full["hidden_size"])
    return full


def _shape(config: Config, family: Family, *, prefix: str | None = None) -> Shape:
    c = _filled(config)
    hidden, layers, heads = c["hidden_size"], c["num_hidden_layers"], c["num_attention_heads"]
    kv_heads = (family.grouped and c.get("num_key_value_heads")) or heads
    size = c.get("head_dim") or hidden // heads
    query, key_value = heads * size, kv_heads * size
    one = _attention(c, family, query, key_value) + _feed_forward(c, family)
    place = prefix or family.prefix
    linears = tuple(_placed(m, f"{place}.{n}.") for n in range(layers) for m in one)
    norm_size = hidden * (2 if family.norm_bias else 1)
    norms = family.norms(c)
    qk = {"head": 2 * size, "full": query + key_value}.get(family.qk_norm, 0)
    router = hidden * _experts(c) if _experts(c) > 1 else 0
    tied = bool(c.get("tie_word_embeddings", family.tied))
    return Shape(
        model_type=str(c["model_type"]), layers=layers, hidden=hidden,
        feed_forward=c.get("moe_intermediate_size", c["intermediate_size"]), query=query,
        key_value=key_value, heads=heads, kv_heads=kv_heads, vocabulary=c["vocab_size"], tied=tied,
        linears=linears, vectors=norms * norm_size + qk + router,
        outside=norm_size + family.positions(c) * hidden,
        head_bias=c["vocab_size"] if family.head_bias else 0,
        norm="layer" if family.norm_bias else "rms", norms=norms, qk_norm=bool(qk),
        qk_roots={"head": heads + kv_heads, "full": 2}.get(family.qk_norm, 0),
        kept_norms=1 if family.parallel(c) else norms,
        gated=len(family.mlp) == 3 or "gate_up_proj" in family.mlp, activation=_activation(c, family),
        rotary=family.rotary(c), fused_qkv=family.fused_qkv, eager_attention=family.eager,
        experts_active=c.get("num_experts_per_tok", 1) if _experts(c) > 1 else 1,
        dropout={k: float(c.get(v) or 0.0) for k, v in family.dropout.items()},
    )  # fmt: skip


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
    up, down = _EXPERT_NAMES[str(c["model_type"])]
    place, count = "mlp.experts", _experts(c)
    return [
        Linear(f"{place}.gate_up_proj", hidden, 2 * inner, False, count, len(up),
               tuple(f"{place}.{n}" for n in up)),
        Linear(f"{place}.down_proj", inner, hidden, False, count, 1,
               tuple(f"{place}.{n}" for n in down)),
    ]  # fmt: skip


def _vision_tower(vision: Config, text_hidden: int) -> tuple[int, int]:
    """Parameters of Gemma 3's SigLIP tower with its projector, and those of them that are biases;
    rows of text never reach them."""
    h, inner = vision.get("hidden_size", 768), vision.get("intermediate_size", 3072)
    layers, patch = vision.get("num_hidden_layers", 12), vision.get("patch_size", 16)
    places = (vision.get("image_size", 224) // patch) ** 2
    pooled = vision.get("vision_use_head", True)
    weights = (3 * patch * patch + places) * h + layers * (4 * h * h + 2 * h * inner + 2 * h) + h
    weights += (4 * h * h + 2 * h * inner + 2 * h) if pooled else 0
    biases = 2 * h + layers * (7 * h + inner) + (6 * h + inner if pooled else 0)
    return int(weights + biases + h * text_hidden + h), int(biases)
