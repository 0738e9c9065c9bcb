"""The settings of the Export node."""

from __future__ import annotations

from typing import Any

from studio.graph.schema import Settings, setting


class ExportSettings(Settings):
    """What is written and where."""

    format: str = setting(
        "safetensors",
        "Format",
        "Safetensors is the format that transformers, PEFT, vLLM and most other tools load. GGUF is for llama.cpp, "
        "Ollama and LM Studio.",
        variant="exporter",
    )
    format_settings: dict[str, Any] = setting(
        {}, "Format settings", "Settings of the selected format.", advanced=True
    )
    folder: str = setting(
        "",
        "Folder",
        "Output folder. Leave empty to write into the run folder. Relative paths start at the "
        "project folder.",
        widget="folder",
        placeholder="in the run folder",
    )
