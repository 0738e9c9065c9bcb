"""The safetensors exporter: a folder that transformers, PEFT, vLLM and most tools load.

A model consists of weights, config, generation config, tokenizer and chat template; an adapter of
weights, config, tokenizer and chat template, with a reference to its base.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from studio.exporters.copy_files import copy_files, folder_size
from studio.exporters.model_card import base_name
from studio.graph.node_type import Variant
from studio.graph.schema import NoSettings
from studio.system.atomic import write_atomic
from studio.values import FULL_FINE_TUNING, AdapterValue
from studio.variants.exporter import Exportable, Exporter

if TYPE_CHECKING:
    from studio.graph.context import StepContext

_ADAPTER_CONFIG = "adapter_config.json"


def write(context: StepContext, value: Exportable, settings: NoSettings, folder: Path) -> None:
    """Copy the files of the model or adapter into ``folder``."""
    del settings
    in_run = folder.is_relative_to(context.folder)
    copy_files(context, Path(value.path), folder, link_weights=in_run)
    if isinstance(value, AdapterValue):
        _name_base(folder / _ADAPTER_CONFIG, value)
        if base_name(value.model.model) is None:
            context.notice(
                f"{_ADAPTER_CONFIG} contains the path of the base model on this machine.",
                "Replace it with the Hub ID of the base model before you share the adapter.",
                "info",
            )


def _name_base(path: Path, value: AdapterValue) -> None:
    """Refer to the base by its hub id, if it has one, so that it is found on other machines."""
    config = json.loads(path.read_text(encoding="utf-8"))
    base = value.model.model
    config["base_model_name_or_path"] = base_name(base) or base.path
    if base_name(base) is None:
        config["revision"] = None
    # PEFT reads it in the encoding of the locale: only ASCII is the same in all of them.
    write_atomic(path, json.dumps(config, indent=2) + "\n")


def _kind(value: Exportable) -> str:
    if isinstance(value, AdapterValue):
        return "adapter"
    if not value.merged_from:
        return "base_model"
    last = value.merged_from[-1]["adapter"]["model"]["method"]
    return "tuned_model" if last == FULL_FINE_TUNING else "merged_model"


VARIANT = Variant(
    kind="exporter",
    id="safetensors",
    title="Safetensors folder",
    order=10,
    help="Weights, tokenizer, chat template and model card in one folder, as transformers and PEFT "
    "load them.",
    payload=Exporter(("model", "adapter"), write, lambda v: folder_size(Path(v.path)), _kind),
)
