"""Configs of real models, as their publishers give them, and their published parameter counts."""

from __future__ import annotations

from typing import Any

Config = dict[str, Any]


def _config(
    model_type: str,
    hidden: int,
    inner: int,
    layers: int,
    heads: int,
    kv: int,
    vocabulary: int,
    **more: Any,
) -> Config:
    return {
        "model_type": model_type,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "vocab_size": vocabulary,
        "tie_word_embeddings": False,
        **more,
    }


_GEMMA3_EYE = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "image_size": 896,
    "patch_size": 14,
    "vision_use_head": False,
}
ARCHITECTURES: dict[str, tuple[Config, int]] = {
    "Llama-3-8B": (_config("llama", 4096, 14336, 32, 32, 8, 128256), 8_030_261_248),
    "Llama-3.2-3B": (
        _config("llama", 3072, 8192, 28, 24, 8, 128256, head_dim=128, tie_word_embeddings=True),
        3_212_749_824,
    ),
    "Llama-3.2-1B": (
        _config("llama", 2048, 8192, 16, 32, 8, 128256, head_dim=64, tie_word_embeddings=True),
        1_235_814_400,
    ),
    "TinyLlama-1.1B": (_config("llama", 2048, 5632, 22, 32, 4, 32000), 1_100_048_384),
    "SmolLM2-135M": (
        _config("llama", 576, 1536, 30, 9, 3, 49152, tie_word_embeddings=True),
        134_515_008,
    ),
    "Mistral-7B": (_config("mistral", 4096, 14336, 32, 32, 8, 32000), 7_241_732_096),
    "Qwen2.5-7B": (_config("qwen2", 3584, 18944, 28, 28, 4, 152064), 7_615_616_512),
    "Qwen3-0.6B": (
        _config("qwen3", 1024, 3072, 28, 16, 8, 151936, head_dim=128, tie_word_embeddings=True),
        596_049_920,
    ),
    "Qwen3-8B": (_config("qwen3", 4096, 12288, 36, 32, 8, 151936, head_dim=128), 8_190_735_360),
    "Qwen3-30B-A3B": (
        _config(
            "qwen3_moe",
            2048,
            6144,
            48,
            32,
            4,
            151936,
            head_dim=128,
            num_experts=128,
            moe_intermediate_size=768,
            num_experts_per_tok=8,
        ),
        30_532_122_624,
    ),
    "Mixtral-8x7B": (
        _config(
            "mixtral", 4096, 14336, 32, 32, 8, 32000, num_local_experts=8, num_experts_per_tok=2
        ),
        46_702_792_704,
    ),
    "Gemma-2-2B": (
        _config("gemma2", 2304, 9216, 26, 8, 4, 256000, head_dim=256, tie_word_embeddings=True),
        2_614_341_888,
    ),
    "Gemma-3-1B": (
        _config(
            "gemma3_text", 1152, 6912, 26, 4, 1, 262144, head_dim=256, tie_word_embeddings=True
        ),
        999_885_952,
    ),
    "Gemma-3-4B": (
        {
            "model_type": "gemma3",
            "vision_config": _GEMMA3_EYE,
            "text_config": {
                "model_type": "gemma3_text",
                "hidden_size": 2560,
                "intermediate_size": 10240,
                "num_hidden_layers": 34,
                "num_attention_heads": 8,
                "num_key_value_heads": 4,
            },
        },
        4_300_079_472,
    ),
    "Phi-3-mini": (_config("phi3", 3072, 8192, 32, 32, 32, 32064, pad_token_id=0), 3_821_079_552),
    "Phi-4": (_config("phi3", 5120, 17920, 40, 40, 10, 100352, pad_token_id=0), 14_659_507_200),
    "Phi-2": (_config("phi", 2560, 10240, 32, 32, 32, 51200), 2_779_683_840),
    "GPT-2": (
        {
            "model_type": "gpt2",
            "vocab_size": 50257,
            "n_embd": 768,
            "n_layer": 12,
            "n_head": 12,
            "n_positions": 1024,
        },
        124_439_808,
    ),
    "OPT-1.3B": (
        {
            "model_type": "opt",
            "hidden_size": 2048,
            "ffn_dim": 8192,
            "num_hidden_layers": 24,
            "num_attention_heads": 32,
            "vocab_size": 50272,
            "max_position_embeddings": 2048,
            "word_embed_proj_dim": 2048,
        },
        1_315_758_080,
    ),
    "Pythia-1.4B": (_config("gpt_neox", 2048, 8192, 24, 16, 16, 50304), 1_414_647_808),
    "StarCoder2-3B": (
        _config(
            "starcoder2",
            3072,
            12288,
            30,
            24,
            2,
            49152,
            tie_word_embeddings=True,
            bos_token_id=0,
            eos_token_id=0,
        ),
        3_030_371_328,
    ),
}


def meta_model(config: Config, layers: int | None = None, dtype: Any = None) -> Any:
    """The model that transformers builds from a config, without memory."""
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    made = CONFIG_MAPPING[config["model_type"]](
        **{k: v for k, v in config.items() if k != "model_type"}
    )
    if layers:
        made.get_text_config().num_hidden_layers = layers
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(made, dtype=dtype or torch.bfloat16)


def shortened(config: Config, layers: int) -> Config:
    """The config with fewer layers."""
    if "text_config" in config:
        return {**config, "text_config": shortened(config["text_config"], layers)}
    key = "n_layer" if "n_layer" in config else "num_hidden_layers"
    return {**config, key: layers}
