"""Known decoder architectures: how each differs from Llama.

A table takes microseconds and needs no torch, unlike the meta device. A config omits values that
equal its class's defaults, so the relevant defaults are included. What follows from an entry is
computed in ``family_shape``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Config = Mapping[str, Any]
_QKVO = ("q_proj", "k_proj", "v_proj", "o_proj")
_NORMS = ("input_layernorm", "post_attention_layernorm")
_SANDWICH = (*_NORMS, "pre_feedforward_layernorm", "post_feedforward_layernorm")


def _bias(key: str) -> Callable[[Config], bool]:
    """Whether a key of the config enables a bias."""
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
    norms: tuple[str, ...] = _NORMS
    final_norm: str = "model.norm"
    embedding: str = "model.embed_tokens"
    head: str = "lm_head"
    qk_norm: str = ""  # "head": a vector of the head size; "full": a vector of the full width
    fused_qkv: bool = False
    positions: Callable[[Config], int] = lambda c: 0
    position_name: str = ""
    unread: tuple[str, ...] = ()  # keys of other families that its config class ignores
    head_bias: bool = False
    activation: str = "silu"
    tied: bool = False
    eager: bool = False
    grouped: bool = True
    parallel: Callable[[Config], bool] = _never
    rotary: Callable[[Config], float] = lambda c: 1.0
    dropout: Mapping[str, str] = field(default_factory=dict)


_GEMMA3 = {
    "vocab_size": 262208,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
}
_LLAMA = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
}
_QWEN = {**_LLAMA, "vocab_size": 151936, "intermediate_size": 22016, "num_key_value_heads": 32}

FAMILIES: dict[str, Family] = {
    "llama": Family(
        _LLAMA, qkv_bias=_attention_bias, out_bias=_attention_bias, mlp_bias=_bias("mlp_bias")
    ),
    "granite": Family(
        _LLAMA, qkv_bias=_attention_bias, out_bias=_attention_bias, mlp_bias=_bias("mlp_bias")
    ),
    "smollm3": Family(
        {
            "vocab_size": 128256,
            "hidden_size": 2048,
            "intermediate_size": 11008,
            "num_hidden_layers": 36,
            "num_attention_heads": 16,
            "num_key_value_heads": 4,
        },
        qkv_bias=_attention_bias,
        out_bias=_attention_bias,
        mlp_bias=_bias("mlp_bias"),
        tied=True,
    ),
    "mistral": Family({**_LLAMA, "intermediate_size": 14336, "num_key_value_heads": 8}),
    "qwen2": Family(_QWEN, qkv_bias=_always),
    "qwen3": Family(
        {**_QWEN, "head_dim": 128},
        qkv_bias=_attention_bias,
        out_bias=_attention_bias,
        qk_norm="head",
    ),
    "olmo2": Family(
        {**_LLAMA, "vocab_size": 50304},
        qkv_bias=_attention_bias,
        out_bias=_attention_bias,
        qk_norm="full",
        norms=("post_attention_layernorm", "post_feedforward_layernorm"),
    ),
    "gemma": Family(
        {
            "vocab_size": 256000,
            "hidden_size": 3072,
            "intermediate_size": 24576,
            "num_hidden_layers": 28,
            "num_attention_heads": 16,
            "num_key_value_heads": 16,
            "head_dim": 256,
        },
        qkv_bias=_attention_bias,
        out_bias=_attention_bias,
        activation="gelu",
        tied=True,
    ),
    "gemma2": Family(
        {**_GEMMA3, "vocab_size": 256000},
        qkv_bias=_attention_bias,
        out_bias=_attention_bias,
        norms=_SANDWICH,
        activation="gelu",
        tied=True,
        eager=True,
    ),
    "gemma3_text": Family(
        _GEMMA3,
        qkv_bias=_attention_bias,
        out_bias=_attention_bias,
        norms=_SANDWICH,
        qk_norm="head",
        activation="gelu",
        tied=True,
    ),
    "phi3": Family(
        {**_LLAMA, "vocab_size": 32064, "hidden_size": 3072, "intermediate_size": 8192},
        names=("qkv_proj", "o_proj"),
        mlp=("gate_up_proj", "down_proj"),
        fused_qkv=True,
    ),
    "phi": Family(
        {
            "vocab_size": 51200,
            "hidden_size": 2048,
            "intermediate_size": 8192,
            "num_hidden_layers": 24,
            "num_attention_heads": 32,
        },
        names=("q_proj", "k_proj", "v_proj", "dense"),
        qkv_bias=_always,
        out_bias=_always,
        mlp_bias=_always,
        mlp=("fc1", "fc2"),
        norm_bias=True,
        norms=("input_layernorm",),
        final_norm="model.final_layernorm",
        head_bias=True,
        activation="gelu_new",
        rotary=lambda c: 0.5,
        dropout={"residual": "resid_pdrop", "attention": "attention_dropout"},
    ),
    "starcoder2": Family(
        {
            "vocab_size": 49152,
            "hidden_size": 3072,
            "intermediate_size": 12288,
            "num_hidden_layers": 30,
            "num_attention_heads": 24,
            "num_key_value_heads": 2,
            "use_bias": True,
        },
        qkv_bias=_bias("use_bias"),
        out_bias=_bias("use_bias"),
        mlp_bias=_bias("use_bias"),
        mlp=("c_fc", "c_proj"),
        norm_bias=True,
        activation="gelu",
        tied=True,
        dropout={
            "residual": "residual_dropout",
            "attention": "attention_dropout",
            "embedding": "embedding_dropout",
        },
    ),
    "gpt2": Family(
        {
            "vocab_size": 50257,
            "hidden_size": 768,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "max_position_embeddings": 1024,
            "resid_pdrop": 0.1,
            "embd_pdrop": 0.1,
            "attn_pdrop": 0.1,
        },
        prefix="transformer.h",
        attention="attn",
        names=("c_attn", "c_proj"),
        qkv_bias=_always,
        out_bias=_always,
        mlp_bias=_always,
        mlp=("c_fc", "c_proj"),
        norm_bias=True,
        fused_qkv=True,
        norms=("ln_1", "ln_2"),
        final_norm="transformer.ln_f",
        embedding="transformer.wte",
        positions=lambda c: int(c["max_position_embeddings"]),
        position_name="transformer.wpe",
        unread=("intermediate_size",),
        activation="gelu_new",
        tied=True,
        rotary=lambda c: 0.0,
        grouped=False,
        dropout={"residual": "resid_pdrop", "attention": "attn_pdrop", "embedding": "embd_pdrop"},
    ),
    "gpt_neox": Family(
        {
            "vocab_size": 50432,
            "hidden_size": 6144,
            "intermediate_size": 24576,
            "num_hidden_layers": 44,
            "num_attention_heads": 64,
            "attention_bias": True,
        },
        prefix="gpt_neox.layers",
        final_norm="gpt_neox.final_layer_norm",
        embedding="gpt_neox.embed_in",
        head="embed_out",
        attention="attention",
        names=("query_key_value", "dense"),
        qkv_bias=_attention_bias,
        out_bias=_attention_bias,
        mlp_bias=_always,
        mlp=("dense_h_to_4h", "dense_4h_to_h"),
        norm_bias=True,
        fused_qkv=True,
        activation="gelu",
        grouped=False,
        parallel=lambda c: bool(c.get("use_parallel_residual", True)),
        rotary=lambda c: float(c.get("rotary_pct", 0.25)),
        dropout={"residual": "hidden_dropout", "attention": "attention_dropout"},
    ),
    "opt": Family(
        {
            "vocab_size": 50272,
            "hidden_size": 768,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "intermediate_size": 3072,
            "max_position_embeddings": 2048,
            "enable_bias": True,
            "dropout": 0.1,
        },
        prefix="model.decoder.layers",
        names=("q_proj", "k_proj", "v_proj", "out_proj"),
        qkv_bias=_bias("enable_bias"),
        out_bias=_bias("enable_bias"),
        mlp_bias=_bias("enable_bias"),
        mlp=("fc1", "fc2"),
        mlp_place="",
        norm_bias=True,
        grouped=False,
        norms=("self_attn_layer_norm", "final_layer_norm"),
        final_norm="model.decoder.final_layer_norm",
        embedding="model.decoder.embed_tokens",
        positions=lambda c: int(c["max_position_embeddings"]) + 2,
        position_name="model.decoder.embed_positions",
        unread=("intermediate_size",),
        activation="relu",
        tied=True,
        rotary=lambda c: 0.0,
        dropout={"residual": "dropout", "attention": "attention_dropout", "embedding": "dropout"},
    ),
    "mixtral": Family(
        {
            **_LLAMA,
            "intermediate_size": 14336,
            "num_key_value_heads": 8,
            "num_local_experts": 8,
            "num_experts_per_tok": 2,
        },
    ),
    "qwen3_moe": Family(
        {
            "vocab_size": 151936,
            "hidden_size": 2048,
            "num_hidden_layers": 24,
            "num_attention_heads": 32,
            "num_key_value_heads": 4,
            "moe_intermediate_size": 768,
            "intermediate_size": 6144,
            "num_experts": 128,
            "num_experts_per_tok": 8,
            "decoder_sparse_step": 1,
            "mlp_only_layers": (),
        },
        qkv_bias=_attention_bias,
        out_bias=_attention_bias,
        qk_norm="head",
    ),
}
