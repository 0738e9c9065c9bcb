"""The architectures that can be written as GGUF, and what llama.cpp cannot express of their configs.

llama.cpp implements each architecture with some constants of its own. A config that differs from them would
load without an error and compute something else, so it is refused. The facts are those of llama.cpp's loaders
(``src/models``) and of its converters (``conversion``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Config = Mapping[str, Any]
_SILU = ("silu", "swish")
_GELU = ("gelu_new", "gelu_pytorch_tanh", "gelu_fast")


@dataclass(frozen=True)
class Architecture:
    """How one architecture is written. ``name`` is its name in GGUF. ``permuted``: llama.cpp rotates neighbouring
    elements of Q and K, transformers those half a head apart. ``norm_offset`` is added to the weights of norms,
    ``transposed`` are the ends of the names of weights that are stored as (in, out). ``ropes`` are the supported
    kinds of RoPE scaling, ``activations`` the activation that llama.cpp computes. ``needs_tied``: its head always
    shares the matrix of the embedding. ``swa_period``: every layer of this number has full attention;
    ``swa_layers``: the file says which. ``ignores_window``: llama.cpp has no sliding window there. ``layer_norm``: it
    has layer norms instead of RMS norms. ``part_rotated``: RoPE may rotate a part of each head. ``scales`` are keys of
    the config and the keys of GGUF, after the name of the architecture, that state them. ``gates_normalized``: whether
    the gates of the chosen experts of a mixture add up to 1; ``None`` if it is no mixture.
    """

    name: str
    permuted: bool = False
    norm_offset: float = 0.0
    transposed: tuple[str, ...] = ()
    ropes: tuple[str, ...] = ("default", "linear", "yarn")
    activations: tuple[str, ...] = _SILU
    needs_tied: bool = False
    swa_period: int = 0
    swa_layers: bool = False
    ignores_window: bool = False
    layer_norm: bool = False
    part_rotated: bool = False
    scales: tuple[tuple[str, str], ...] = ()
    gates_normalized: bool | None = None


_PLAIN = ("default",)
_GRANITE = (
    ("attention_multiplier", "attention.scale"),
    ("embedding_multiplier", "embedding_scale"),
    ("residual_multiplier", "residual_scale"),
    ("logits_scaling", "logit_scale"),
)
_LOGITS = (("logit_scale", "logit_scale"),)


ARCHITECTURES: dict[str, Architecture] = {
    "llama": Architecture("llama", permuted=True, ropes=("default", "linear", "yarn", "llama3")),
    "mistral": Architecture("llama", permuted=True, ignores_window=True),
    "qwen2": Architecture("qwen2", ignores_window=True),
    "qwen3": Architecture("qwen3", ignores_window=True),
    "gemma": Architecture(
        "gemma", norm_offset=1.0, ropes=("default",), activations=_GELU, needs_tied=True
    ),
    "gemma2": Architecture(
        "gemma2",
        norm_offset=1.0,
        ropes=("default",),
        activations=_GELU,
        needs_tied=True,
        swa_period=2,
    ),
    "gemma3_text": Architecture(
        "gemma3",
        norm_offset=1.0,
        ropes=("default", "linear"),
        activations=_GELU,
        needs_tied=True,
        swa_period=6,
    ),
    "phi3": Architecture(
        "phi3", ropes=("default", "longrope", "su"), ignores_window=True, part_rotated=True
    ),
    "phi": Architecture(
        "phi2", ropes=_PLAIN, activations=_GELU, layer_norm=True, part_rotated=True
    ),
    "gpt2": Architecture(
        "gpt2",
        transposed=("c_attn.weight", "c_proj.weight", "c_fc.weight"),
        ropes=("default",),
        activations=_GELU,
        layer_norm=True,
    ),
    "smollm3": Architecture("smollm3", permuted=True),
    "olmo2": Architecture("olmo2", ropes=_PLAIN),
    "olmo3": Architecture("olmo2", ropes=_PLAIN, swa_layers=True),
    "granite": Architecture("granite", permuted=True, ropes=_PLAIN, scales=_GRANITE),
    "starcoder2": Architecture(
        "starcoder2", ropes=_PLAIN, activations=_GELU, ignores_window=True, layer_norm=True
    ),
    "stablelm": Architecture("stablelm", ropes=_PLAIN, layer_norm=True, part_rotated=True),
    "cohere": Architecture(
        "command-r", ropes=_PLAIN, needs_tied=True, layer_norm=True, scales=_LOGITS
    ),
    "cohere2": Architecture(
        "cohere2", ropes=_PLAIN, needs_tied=True, swa_period=4, layer_norm=True, scales=_LOGITS
    ),
    "glm4": Architecture("glm4", ropes=_PLAIN, part_rotated=True),
    "seed_oss": Architecture("seed_oss", ropes=_PLAIN),
    "exaone4": Architecture("exaone4", ropes=_PLAIN),
    "ernie4_5": Architecture("ernie4_5", ropes=_PLAIN),
    "hunyuan_v1_dense": Architecture("hunyuan-dense", ropes=_PLAIN),
    "arcee": Architecture("arcee", permuted=True, ropes=_PLAIN, activations=("relu2",)),
    "nemotron": Architecture(
        "nemotron",
        norm_offset=1.0,
        ropes=_PLAIN,
        activations=("relu2",),
        layer_norm=True,
        part_rotated=True,
    ),
    "mixtral": Architecture("llama", permuted=True, ignores_window=True, gates_normalized=True),
    "qwen2_moe": Architecture("qwen2moe", ignores_window=True, gates_normalized=False),
    "qwen3_moe": Architecture("qwen3moe", ignores_window=True, gates_normalized=True),
    "olmoe": Architecture("olmoe", ropes=_PLAIN, gates_normalized=False),
    "granitemoe": Architecture(
        "granitemoe", permuted=True, ropes=_PLAIN, scales=_GRANITE, gates_normalized=True
    ),
}
"""The value of ``model_type`` in config.json -> how it is written."""
_LARGE_GEMMA = {"gemma2": 46, "gemma3_text": 62}
"""The number of layers by which llama.cpp recognizes the 27B models, whose attention has another scale."""


def refusal(config: Config) -> str:
    """Why a model with this config cannot be written as GGUF, without a full stop; empty if it can."""
    kind = str(config.get("model_type", ""))
    found = ARCHITECTURES.get(kind)
    if found is None:
        return f"the architecture {kind or 'of this model'} is not supported in GGUF files"
    if config.get("quantization_config"):
        return "its weights are stored quantized"
    for check in (_rope, _activation, _heads, _windows, _gemma, _gpt2, _others, _mixture):
        reason = check(kind, found, config)
        if reason:
            return reason
    return ""


def window_note(config: Config) -> str:
    """What llama.cpp computes differently in long texts, without a full stop; empty if nothing."""
    found = ARCHITECTURES[str(config["model_type"])]
    window, context = config.get("sliding_window"), config.get("max_position_embeddings")
    used = config.get("use_sliding_window", True)
    if not (found.ignores_window and used and window and context and window < context):
        return ""
    return (
        f"llama.cpp has no sliding window for this architecture, so it reads texts of more than {window:,} "
        "tokens differently"
    )


def ropes_of(config: Config) -> dict[str, dict[str, Any]]:
    """The parameters of RoPE by kind of layer (``full_attention``, ``sliding_attention``), from configs of
    transformers 4 and 5."""
    given = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if "full_attention" in given or "sliding_attention" in given:
        return {name: dict(part or {}) for name, part in given.items()}
    full = dict(given)
    full.setdefault("rope_type", full.get("type", "default"))
    if config.get("rope_theta") is not None:
        full.setdefault("rope_theta", config["rope_theta"])
    local = config.get("rope_local_base_freq")
    return {
        "full_attention": full,
        **({"sliding_attention": {"rope_type": "default", "rope_theta": local}} if local else {}),
    }


def head_size(config: Config) -> int:
    """The width of one attention head."""
    return int(
        config.get("head_dim") or config["hidden_size"] // int(config["num_attention_heads"])
    )


def _rope(kind: str, found: Architecture, config: Config) -> str:
    del kind
    for part in ropes_of(config).values():
        name = str(part.get("rope_type") or "default")
        if name not in found.ropes:
            return f"llama.cpp has no RoPE scaling of the type {name} for {found.name}"
        if name == "yarn" and (part.get("mscale") or part.get("truncate") is False):
            return "llama.cpp has no setting for this form of the RoPE scaling yarn"
    share = config.get("partial_rotary_factor") or ropes_of(config).get("full_attention", {}).get(
        "partial_rotary_factor"
    )
    if share not in (None, 1, 1.0) and not found.part_rotated:
        return f"llama.cpp rotates whole heads in {found.name}"
    return ""


def _activation(kind: str, found: Architecture, config: Config) -> str:
    del kind
    names = ("hidden_activation", "hidden_act", "activation_function")
    act = next((config[n] for n in names if config.get(n)), None)
    # Gemma's first config says gelu, and transformers computes its approximation.
    if act is None or act in found.activations or (found.name == "gemma" and act == "gelu"):
        return ""
    return f"llama.cpp computes another activation than {act} in {found.name}"


def _heads(kind: str, found: Architecture, config: Config) -> str:
    del kind
    if found.needs_tied and config.get("tie_word_embeddings") is False:
        return (
            f"llama.cpp has no separate head for {found.name}, and the head of this model no longer shares the "
            "matrix of the embedding"
        )
    return ""


def _windows(kind: str, found: Architecture, config: Config) -> str:
    del kind
    kinds = config.get("layer_types")
    if not kinds:
        return ""
    if found.swa_layers:
        return ""
    if not found.swa_period:
        if "sliding_attention" in kinds and "full_attention" in kinds:
            return f"llama.cpp has no sliding window in some layers of {found.name}"
        return ""
    period = found.swa_period
    expected = ["sliding_attention"] * (period - 1) + ["full_attention"]
    if any(k != expected[i % period] for i, k in enumerate(kinds)):
        return f"llama.cpp expects full attention in every {period}th layer of {found.name}"
    return ""


def _gemma(kind: str, found: Architecture, config: Config) -> str:
    if not kind.startswith("gemma"):
        return ""
    if config.get("use_bidirectional_attention"):
        return "llama.cpp computes causal attention in this architecture"
    if kind == "gemma3_text" and (
        config.get("attn_logit_softcapping") or config.get("final_logit_softcapping")
    ):
        return f"llama.cpp has no softcapping in {found.name}"
    scale = config.get("query_pre_attn_scalar")
    if kind not in _LARGE_GEMMA or scale is None or "hidden_size" not in config:
        return ""
    width = config.get("head_dim", 256)
    if config.get("num_hidden_layers") == _LARGE_GEMMA[kind]:
        width = config["hidden_size"] / config["num_attention_heads"]
    if scale != width:
        return f"llama.cpp scales the attention of {found.name} by {width:g} instead of {scale:g}"
    return ""


def _gpt2(kind: str, found: Architecture, config: Config) -> str:
    del found
    if kind != "gpt2":
        return ""
    if config.get("scale_attn_by_inverse_layer_idx") or config.get("scale_attn_weights") is False:
        return "llama.cpp has no other scale of the attention in gpt2"
    return ""


def _others(kind: str, found: Architecture, config: Config) -> str:
    """Settings of single architectures that llama.cpp has as constants or not at all."""
    unlike = {
        "stablelm": ("qk_layernorm",),
        "phi": ("qk_layernorm",),
        "olmoe": ("clip_qkv",),
        "ernie4_5": ("use_bias",),
        "cohere": ("attention_bias", "use_qk_norm"),
        "cohere2": ("attention_bias",),
    }
    for name in unlike.get(kind, ()):
        if config.get(name):
            return f"llama.cpp has no {name} in {found.name}"
    if kind == "cohere" and int(config.get("num_hidden_layers", 0)) >= 64:
        return f"llama.cpp expects norms of queries and keys in {found.name} of 64 layers"
    if kind == "olmoe" and config.get("num_key_value_heads") != config.get("num_attention_heads"):
        return f"llama.cpp has no grouped queries in {found.name}"
    if kind == "exaone4" and int(config.get("num_hidden_layers", 0)) == 64:
        return f"llama.cpp has another sliding window in {found.name} of 64 layers"
    if kind == "smollm3" and config.get("no_rope_layers"):
        used = [bool(v) for v in config["no_rope_layers"]]
        if used != [(i + 1) % 4 != 0 for i in range(len(used))]:
            return f"llama.cpp leaves RoPE out in every 4th layer of {found.name}"
    return ""


def experts_of(config: Config) -> int:
    """The number of experts of a layer; 0 if it is no mixture."""
    return int(config.get("num_local_experts") or config.get("num_experts") or 0)


def _mixture(kind: str, found: Architecture, config: Config) -> str:
    del kind
    if found.gates_normalized is None:
        return ""
    normalized = config.get("norm_topk_prob")
    if normalized is not None and bool(normalized) != found.gates_normalized:
        what = "normalizes" if found.gates_normalized else "does not normalize"
        return f"llama.cpp {what} the gates of the experts of {found.name}"
    dense = config.get("mlp_only_layers") or config.get("decoder_sparse_step", 1) != 1
    return f"llama.cpp has experts in every layer of {found.name}" if dense else ""
