"""The settings of the Load Adapter node."""

from __future__ import annotations

from studio.graph.schema import Settings, setting


class LoadAdapterSettings(Settings):
    """Where the adapter comes from."""

    adapter: str = setting(
        "",
        "Adapter",
        "A folder with adapter_config.json and adapter_model.safetensors, as PEFT, Unsloth, LLaMA-Factory and "
        "Axolotl write them; one with adapters.safetensors, as mlx-lm writes it; a GGUF file with a LoRA adapter, as "
        "llama.cpp writes it; or a Hub ID such as owner/name.",
        widget="adapter",
        placeholder="no adapter selected",
    )
    revision: str = setting(
        "",
        "Revision",
        "Branch, tag or commit of an adapter on the Hub. Leave empty to use the latest version.",
        placeholder="latest",
        group="Hub",
        advanced=True,
    )
