"""The hyper-parameters of a model as GGUF keys, and the factors of its RoPE as tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import gguf
import numpy as np

from studio.export_folder.gguf_architectures import Architecture, experts_of, head_size, ropes_of

Config = Mapping[str, Any]
Array = np.ndarray[Any, Any]


def add_hyperparameters(writer: gguf.GGUFWriter, found: Architecture, config: Config) -> None:
    """Add the keys that llama.cpp reads for this architecture."""
    if found.name == "gpt2":
        _add_gpt2(writer, config)
        return
    heads = config["num_attention_heads"]
    size = head_size(config)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads") or heads)
    if found.layer_norm:
        names = ("layer_norm_eps", "norm_epsilon", "norm_eps")
        writer.add_layer_norm_eps(next(config[n] for n in names if n in config))
    else:
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    if found.name != "phi3":  # it has no keys for a head of another width
        writer.add_key_length(size)
        writer.add_value_length(size)
    writer.add_rope_dimension_count(_rotated(config))
    _add_rope(writer, config)
    if found.swa_period:
        writer.add_sliding_window(config["sliding_window"])
    if found.name == "phi3":  # 0 distinguishes Phi-4 from the others
        writer.add_sliding_window(config.get("sliding_window") or 0)
    if found.swa_layers and config.get("sliding_window"):
        writer.add_sliding_window(config["sliding_window"])
        writer.add_sliding_window_pattern([k == "sliding_attention" for k in config["layer_types"]])
    for name, key in found.scales:
        if config.get(name) is not None:
            writer.add_float32(f"{found.name}.{key}", config[name])
    if found.gates_normalized is not None:
        _add_experts(writer, config)
    if found.name == "stablelm":
        writer.add_parallel_residual(bool(config.get("use_parallel_residual")))
    if found.name == "gemma2":
        writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
        writer.add_final_logit_softcapping(config["final_logit_softcapping"])


def _add_experts(writer: gguf.GGUFWriter, config: Config) -> None:
    writer.add_expert_count(experts_of(config))
    writer.add_expert_used_count(config["num_experts_per_tok"])
    if config.get("moe_intermediate_size"):
        writer.add_expert_feed_forward_length(config["moe_intermediate_size"])
    if config.get("shared_expert_intermediate_size"):
        writer.add_expert_shared_feed_forward_length(config["shared_expert_intermediate_size"])


def _add_gpt2(writer: gguf.GGUFWriter, config: Config) -> None:
    writer.add_context_length(config["n_positions"])
    writer.add_embedding_length(config["n_embd"])
    writer.add_block_count(config["n_layer"])
    writer.add_feed_forward_length(config.get("n_inner") or 4 * config["n_embd"])
    writer.add_head_count(config["n_head"])
    writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    writer.add_vocab_size(config["vocab_size"])


def _rotated(config: Config) -> int:
    """How many elements of a head RoPE rotates."""
    full = ropes_of(config)["full_attention"]
    share = full.get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1.0
    return int(head_size(config) * share)


def _add_rope(writer: gguf.GGUFWriter, config: Config) -> None:
    ropes = ropes_of(config)
    full = ropes["full_attention"]
    kind = full.get("rope_type") or "default"
    writer.add_rope_freq_base(full.get("rope_theta") or 10_000.0)
    if ropes.get("sliding_attention"):
        writer.add_rope_freq_base_swa(ropes["sliding_attention"]["rope_theta"])
    if kind == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(full["factor"])
    elif kind == "yarn":
        _add_yarn(writer, full, config)
    elif kind in ("longrope", "su"):
        context, original = config["max_position_embeddings"], _original(full, config)
        writer.add_rope_scaling_type(gguf.RopeScalingType.LONGROPE)
        writer.add_rope_scaling_orig_ctx_len(original)
        scale = context / original
        usual = math.sqrt(1 + math.log(scale) / math.log(original)) if scale > 1 else 1.0
        writer.add_rope_scaling_attn_factors(full.get("attention_factor") or usual)


def _add_yarn(writer: gguf.GGUFWriter, full: Config, config: Config) -> None:
    factor = full["factor"]
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(factor)
    writer.add_rope_scaling_orig_ctx_len(_original(full, config))
    if full.get("beta_fast") is not None:
        writer.add_rope_scaling_yarn_beta_fast(full["beta_fast"])
    if full.get("beta_slow") is not None:
        writer.add_rope_scaling_yarn_beta_slow(full["beta_slow"])
    if full.get("attention_factor"):  # llama.cpp multiplies it by the usual factor of yarn
        usual = 0.1 * math.log(factor) + 1.0
        writer.add_rope_scaling_attn_factors(full["attention_factor"] / usual)


def _original(full: Config, config: Config) -> int:
    """The context before RoPE was scaled."""
    return int(
        full.get("original_max_position_embeddings")
        or config.get("original_max_position_embeddings")
        or config["max_position_embeddings"]
    )


def rope_factors(config: Config) -> dict[str, Array]:
    """The tensors by which llama.cpp divides the frequencies of RoPE; none for most models."""
    if config["model_type"] == "gpt2":
        return {}
    full = ropes_of(config)["full_attention"]
    kind = full.get("rope_type")
    if kind in ("longrope", "su"):
        return {
            "rope_factors_long.weight": np.array(full["long_factor"], dtype=np.float32),
            "rope_factors_short.weight": np.array(full["short_factor"], dtype=np.float32),
        }
    if kind == "llama3":
        return {"rope_freqs.weight": _llama3_factors(full, _rotated(config), config)}
    return {}


def _llama3_factors(full: Config, size: int, config: Config) -> Array:
    """Llama 3.1 divides low frequencies by ``factor`` and interpolates between low and high ones."""
    frequencies = 1.0 / full["rope_theta"] ** (np.arange(0, size, 2, dtype=np.float64) / size)
    low, high, factor = full["low_freq_factor"], full["high_freq_factor"], full["factor"]
    turns = _original(full, config) * frequencies / (2 * math.pi)
    smooth = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return (1.0 / ((1.0 - smooth) / factor + smooth)).astype(np.float32)
