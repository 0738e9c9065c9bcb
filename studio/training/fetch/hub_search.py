"""Searches the Hub for models by name. Run as a program: ``hub_search WORDS MOST``.

Prints one JSON line with the models, or with the error.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

_FIELDS = ["safetensors", "gated", "downloads", "tags", "config", "library_name", "pipeline_tag"]
_BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2}


def search(words: str, most: int) -> int:
    """Print what the Hub finds."""
    from huggingface_hub import HfApi
    from huggingface_hub import errors as hub

    # The client may use any HTTP library, so errors are recognized by their class.
    broken = (hub.OfflineModeIsEnabled, hub.HfHubHTTPError, *hub.HfHubHTTPError.__bases__, OSError)
    try:
        found = list(
            HfApi().list_models(
                search=words,
                pipeline_tag="text-generation",
                sort="downloads",
                limit=most,
                expand=_FIELDS,
            )
        )
    except broken as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        print(json.dumps({"error": lines[0]}), flush=True)
        return 1
    print(json.dumps({"models": [_described(model) for model in found]}), flush=True)
    return 0


def _described(model: Any) -> dict[str, Any]:
    """A model as the fields of ``studio.model.hub_search.HubModel``."""
    weights = model.safetensors
    config: Mapping[str, Any] = model.config or {}
    tags = model.tags or []
    names = config.get("architectures") or [config.get("model_type")]
    stored = dict(weights.parameters) if weights is not None else {}
    licences = [tag.removeprefix("license:") for tag in tags if tag.startswith("license:")]
    template = (config.get("tokenizer_config") or {}).get("chat_template")
    return {
        "id": model.id,
        "parameters": weights.total if weights is not None else None,
        "licence": licences[0] if licences else None,
        "chat_template": bool(template) if config.get("tokenizer_config") else None,
        "architecture": str(names[0]) if names[0] else None,
        "bytes_to_download": sum(n * _BYTES.get(kind, 1) for kind, n in stored.items()) or None,
        "gated": bool(model.gated),
        "downloads": model.downloads or 0,
        "fault": _fault(model, config, tags),
    }


def _fault(model: Any, config: Mapping[str, Any], tags: list[str]) -> str:
    """Why the model cannot be a base; empty if nothing is known against it."""
    if model.safetensors is None:
        return "It has no weights in safetensors format."
    method = (config.get("quantization_config") or {}).get("quant_method")
    if method and method != "bitsandbytes":
        return f"Its weights are quantized ({method}); choose the original model."
    return ""


if __name__ == "__main__":
    sys.exit(search(sys.argv[1], int(sys.argv[2])))
