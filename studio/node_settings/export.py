"""The settings of the Export node."""

from __future__ import annotations

from typing import Any

from studio.graph.schema import Settings, setting


class ExportSettings(Settings):
    """What is written and where."""

    format: str = setting(
        "safetensors",
        "Format",
        "Safetensors is what transformers, PEFT, vLLM and most tools load.",
        variant="exporter",
    )
    format_settings: dict[str, Any] = setting(
        {}, "Format settings", "Settings of the chosen format.", advanced=True
    )
    folder: str = setting(
        "",
        "Folder",
        "Where to write. Empty: inside the run's own folder. A relative path starts from the "
        "project's folder.",
        widget="folder",
        placeholder="in the run's folder",
    )
