"""The safetensors exporter: a folder that transformers, PEFT, vLLM and most tools load.

A model consists of weights, config, generation config, tokenizer and chat template; an adapter of
weights, config, tokenizer, chat template and end tokens, with a reference to its base.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from studio.export_folder.copy_files import copy_files, folder_size
from studio.graph.node_type import Variant
from studio.graph.schema import Settings, setting
from studio.values import FULL_FINE_TUNING, AdapterValue
from studio.variants.exporter import Exportable, Exporter, Written

if TYPE_CHECKING:
    from studio.graph.context import StepContext


class SafetensorsSettings(Settings):
    """The form in which an adapter is written; a model is always written as it is."""

    form: Literal["portable", "as_trained"] = setting(
        "portable",
        "Adapter form",
        "Portable is a plain LoRA of one rank with scale 1, which PEFT, vLLM and llama.cpp load with the same "
        "effect. As trained keeps the adapter's own method, ranks and scales: only PEFT loads all of them, and "
        "other programs may apply another scale without an error. Models are not affected.",
        choice_labels={"portable": "Portable", "as_trained": "As trained"},
    )
    max_rank: int = setting(
        64,
        "Maximum rank",
        "What is not a LoRA (DoRA, OFT, fully trained modules, trained tokens, ...) is converted by a singular "
        "value decomposition to at most this rank; the share of the change that is kept is shown. Typical: 32 to "
        "256. A higher rank keeps more and makes a larger file. The rank of a LoRA is not lowered.",
        ge=1,
        le=512,
        advanced=True,
        shown_if={"form": "portable"},
    )


def write(context: StepContext, value: Exportable, settings: Any, folder: Path) -> Written | None:
    """Write the files of the model or adapter into ``folder``."""
    if not isinstance(value, AdapterValue):
        in_run = folder.is_relative_to(context.folder)
        copy_files(context, Path(value.path), folder, link_weights=in_run)
        return None
    from studio.training.export.adapter import write_adapter

    return write_adapter(context, value, settings, folder)


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
        ("model", "adapter"), write, lambda v: folder_size(Path(v.path)), _kind, links=True
    ),
)
