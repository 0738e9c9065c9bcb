"""The safetensors exporter: a folder that transformers, PEFT, vLLM and most tools load.

A model consists of weights, config, generation config, tokenizer and chat template; an adapter of
weights, config, tokenizer, chat template and end tokens, with a reference to its base.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from studio.export_folder.copy_files import copy_files, folder_size, weights_size
from studio.graph.node_type import Variant
from studio.node_settings.export import SafetensorsSettings
from studio.values import FULL_FINE_TUNING, AdapterValue
from studio.variants.exporter import Exportable, Exporter, Readable, Written

if TYPE_CHECKING:
    from studio.graph.context import StepContext


def write(
    context: StepContext, value: Exportable, settings: SafetensorsSettings, folder: Path
) -> Written:
    """Write the files of the model or adapter into ``folder``."""
    if not isinstance(value, AdapterValue):
        in_run = folder.is_relative_to(context.folder)
        copy_files(context, Path(value.path), folder, link_weights=in_run)
        return Written(readable=(Readable("transformers", title="Model"),))
    from studio.training.export.adapter import write_adapter

    return write_adapter(context, value, settings, folder)


def _size(value: Exportable, settings: SafetensorsSettings) -> int:
    if not isinstance(value, AdapterValue):
        return folder_size(Path(value.path))
    from studio.training.export.adapter import needed_bytes

    return needed_bytes(value, settings)


def _linked(value: Exportable, settings: SafetensorsSettings) -> int:
    if isinstance(value, AdapterValue) and settings.form == "portable":
        return 0
    return weights_size(Path(value.path))


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
    settings=SafetensorsSettings,
    payload=Exporter(
        ("model", "adapter"),
        write,
        lambda v: folder_size(Path(v.path)),
        _kind,
        size_with=_size,
        linked=_linked,
    ),
)
