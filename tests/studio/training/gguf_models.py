"""Tiny random models of each architecture that can be written as GGUF.

Every weight is noise, also those of norms and biases: with the ones and zeros of a new model, a forgotten
offset or bias would not be noticed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.studio.training.adapters import SHAPE
from tests.tiny import CHAT_TEMPLATE, SPECIAL_TOKENS, VOCABULARY, make_tiny_tokenizer

_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
_YARN = {
    "rope_type": "yarn",
    "rope_theta": 10_000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 64,
}
_GEMMA = {**SHAPE, "head_dim": 16, "hidden_activation": "gelu_pytorch_tanh"}
_PHI3 = {**SHAPE, "num_hidden_layers": 2, "sliding_window": None}
_GRANITE = {
    "embedding_multiplier": 3.0,
    "logits_scaling": 2.0,
    "residual_multiplier": 0.5,
    "attention_multiplier": 0.2,
}
_MIXTURE = {**SHAPE, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", {**SHAPE, "tie_word_embeddings": True}),
    "llama with biases": (
        "LlamaConfig",
        {**SHAPE, "attention_bias": True, "mlp_bias": True, "head_dim": 16},
    ),
    "llama 3.1": ("LlamaConfig", {**SHAPE, "rope_parameters": _LLAMA3}),
    "llama linear": (
        "LlamaConfig",
        {
            **SHAPE,
            "rope_parameters": {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 4.0},
        },
    ),
    "mistral": ("MistralConfig", {**SHAPE, "sliding_window": None}),
    "qwen2": ("Qwen2Config", {**SHAPE, "tie_word_embeddings": True}),
    "qwen2 yarn": ("Qwen2Config", {**SHAPE, "rope_parameters": _YARN}),
    "qwen2 yarn with a factor": (
        "Qwen2Config",
        {**SHAPE, "rope_parameters": {**_YARN, "attention_factor": 1.3}},
    ),
    "qwen3": ("Qwen3Config", {**SHAPE, "head_dim": 16}),
    "gemma": ("GemmaConfig", _GEMMA),
    "gemma2": (
        "Gemma2Config",
        {
            **_GEMMA,
            "query_pre_attn_scalar": 16,
            "sliding_window": 8,
            "num_hidden_layers": 4,
            "attn_logit_softcapping": 5.0,
            "final_logit_softcapping": 2.0,
        },
    ),
    "gemma3": (
        "Gemma3TextConfig",
        {**_GEMMA, "query_pre_attn_scalar": 16, "sliding_window": 8, "num_hidden_layers": 7},
    ),
    "phi3": ("Phi3Config", _PHI3),
    "phi3 longrope": (
        "Phi3Config",
        {
            **_PHI3,
            "original_max_position_embeddings": 64,
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 10_000.0,
                "original_max_position_embeddings": 64,
                "short_factor": [1.0, 1.1, 1.2, 1.3],
                "long_factor": [1.0, 2.0, 3.0, 4.0],
            },
        },
    ),
    "gpt2": (
        "GPT2Config",
        {
            "vocab_size": VOCABULARY,
            "n_positions": 256,
            "n_embd": 32,
            "n_layer": 2,
            "n_head": 4,
            "bos_token_id": 1,
            "eos_token_id": 2,
        },
    ),
    "smollm3": ("SmolLM3Config", {**SHAPE, "num_hidden_layers": 4, "pad_token_id": 0}),
    "olmo2": ("Olmo2Config", SHAPE),
    "olmo3": ("Olmo3Config", {**SHAPE, "num_hidden_layers": 4, "sliding_window": 8}),
    "granite": ("GraniteConfig", {**SHAPE, **_GRANITE}),
    "starcoder2": ("Starcoder2Config", {**SHAPE, "sliding_window": None}),
    "stablelm": ("StableLmConfig", {**SHAPE, "head_dim": None, "use_qkv_bias": True}),
    "stablelm in parallel": ("StableLmConfig", {**SHAPE, "use_parallel_residual": True}),
    "cohere": ("CohereConfig", {**SHAPE, "logit_scale": 0.5}),
    "cohere2": ("Cohere2Config", {**SHAPE, "num_hidden_layers": 4, "sliding_window": 8}),
    "glm4": ("Glm4Config", {**SHAPE, "head_dim": 16, "pad_token_id": 0}),
    "seed_oss": ("SeedOssConfig", {**SHAPE, "head_dim": 16}),
    "exaone4": (
        "Exaone4Config",
        {**SHAPE, "sliding_window": None, "layer_types": ["full_attention"] * 2},
    ),
    "ernie4_5": ("Ernie4_5Config", {**SHAPE, "head_dim": 16}),
    "hunyuan": ("HunYuanDenseV1Config", {**SHAPE, "head_dim": 16}),
    "arcee": ("ArceeConfig", SHAPE),
    "nemotron": ("NemotronConfig", {**SHAPE, "head_dim": 8}),
    "phi": ("PhiConfig", {**SHAPE, "tie_word_embeddings": False}),
    "mixtral": ("MixtralConfig", {**SHAPE, "num_local_experts": 4}),
    "qwen2 mixture": ("Qwen2MoeConfig", {**_MIXTURE, "shared_expert_intermediate_size": 32}),
    "qwen3 mixture": ("Qwen3MoeConfig", {**_MIXTURE, "head_dim": 16, "norm_topk_prob": True}),
    "olmoe": (
        "OlmoeConfig",
        {**SHAPE, "num_experts": 4, "num_experts_per_tok": 2, "num_key_value_heads": 4},
    ),
    "granite mixture": ("GraniteMoeConfig", {**SHAPE, **_GRANITE, "num_local_experts": 4}),
}
"""Name -> config class of transformers and its values."""
MIXTURES = ("mixtral", "qwen2 mixture", "qwen3 mixture", "olmoe", "granite mixture")
"""Those of them with experts."""


MERGES = (("a", "b"), ("b", "c"), ("Ġ", "ab"))
"""The order decides whether “abc” is “ab” and “c”, or “a” and “bc”."""


def make_bpe_tokenizer(pre_tokenizer: Any = None, **options: Any) -> Any:
    """A byte-level BPE tokenizer with these merges; by default with the pre-tokenizer of GPT-2."""
    return make_tiny_tokenizer(MERGES, pre_tokenizer, **options)


def make_sentencepiece_tokenizer() -> Any:
    """A tokenizer as transformers converts it from SentencePiece: merges of characters, and bytes for what is not
    in the vocabulary."""
    from tokenizers import Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    tokens = ["<unk>", *SPECIAL_TOKENS, *(f"<0x{byte:02X}>" for byte in range(200))]
    tokens += ["▁", *"abcdefghijklmnopqrstuvwxyz", "ab", "bc", "▁ab"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    merges = [("a", "b"), ("b", "c"), ("▁", "ab")]
    core = Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", byte_fallback=True)
    )
    core.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback()])
    core.add_special_tokens(list(SPECIAL_TOKENS))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token="<unk>",
        pad_token="<|endoftext|>",
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def noisy_model(
    family: str, seed: int, noise: float = 0.05, dtype: Any = None, **changes: Any
) -> Any:
    """A tiny model of a family in ``dtype`` (float32 by default) with noise on every parameter; the random numbers go
    on behind it, so call it inside ``torch.random.fork_rng``."""
    import torch
    import transformers

    name, values = FAMILIES[family]
    config = getattr(transformers, name)(**{"vocab_size": VOCABULARY, **values, **changes})
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype or torch.float32)
    for parameter in model.parameters():
        parameter.data += noise * torch.randn_like(parameter)
    return model


_LARGE = ("norm", "ln_", "q_proj", "k_proj", "qkv_proj", "c_attn")
"""Parameters with more noise: attention that is nearly uniform would hide a wrong position."""


def save_noisy(folder: Path, config_name: str, values: dict[str, Any]) -> Path:
    """A model of this config whose every parameter is random, with the tokenizer above."""
    import torch
    import transformers

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = getattr(transformers, config_name)(**values)
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        for name, parameter in model.named_parameters():
            large = name.endswith("bias") or any(part in name for part in _LARGE)
            parameter.data += (0.2 if large else 0.1) * torch.randn_like(parameter)
    model.save_pretrained(folder)
    make_bpe_tokenizer().save_pretrained(str(folder))
    return folder
