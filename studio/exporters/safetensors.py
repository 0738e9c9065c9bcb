"""The safetensors exporter: a folder that transformers, PEFT, vLLM and most tools load.

A model consists of weights (as they are, or in FP8), config, generation config, tokenizer and chat template; an adapter
of weights, config, tokenizer, chat template and end tokens, with a reference to its base.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from studio.errors import Problem
from studio.export_folder import optional
from studio.export_folder.copy_files import copy_files, folder_size, weights_size
from studio.graph.node_type import CheckContext, Variant
from studio.model.folder_files import json_or_empty
from studio.model.models import local_folder
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
        if settings.model_quantization == "fp8":
            from studio.training.export.fp8 import write_fp8

            return write_fp8(context, value, folder)
        in_run = any(folder.is_relative_to(p) for p in (context.folder, context.checkpoints))
        copy_files(context, Path(value.path), folder, link_weights=in_run)
        return Written(readable=(Readable("transformers", title="Model"),))
    if settings.form == "mlx":
        from studio.training.export.mlx import write_mlx

        return write_mlx(context, value, settings, folder)
    from studio.training.export.adapter import write_adapter

    return write_adapter(context, value, settings, folder)


def _size(value: Exportable, settings: SafetensorsSettings) -> int:
    if isinstance(value, AdapterValue):
        from studio.training.export.adapter import needed_bytes

        return needed_bytes(value, settings)
    size = folder_size(Path(value.path))
    if not _quantizes(value, settings):
        return size
    from studio.training.export.fp8 import plan_fp8

    plan = plan_fp8(Path(value.path))
    weights = sum(p.stat().st_size for p in Path(value.path).glob("*.safetensors"))
    return size - weights + plan.size


def _linked(value: Exportable, settings: SafetensorsSettings) -> int:
    if _quantizes(value, settings):
        return 0
    if isinstance(value, AdapterValue) and settings.form != "as_trained":
        return 0
    return weights_size(Path(value.path))


def _quantizes(value: Exportable, settings: SafetensorsSettings) -> bool:
    return not isinstance(value, AdapterValue) and settings.model_quantization != "none"


def check(context: CheckContext) -> Iterable[Problem]:
    """Whether a model in FP8 can be written, if the config of its base is on this machine, and whether what is written
    can be read back."""
    _, own = context.project.get(context.node, ("", None))
    chosen = getattr(own, "format_settings", {})
    if chosen.get("form") == "mlx" and context.input_types.get("model") == "adapter":
        yield from _without_mlx(context)
    if (
        chosen.get("model_quantization", "none") == "none"
        or context.input_types.get("model") != "model"
    ):
        return
    for kind, settings in context.upstream.values():
        if kind != "base_model" or settings is None:
            continue
        folder = local_folder(getattr(settings, "model", ""), context.project_dir)
        family = json_or_empty(folder, "config.json").get("model_type") if folder else None
        if family == "gpt2":
            yield context.problem(
                "the model cannot be written in FP8: GPT-2 stores its layers as (in, out), which the programs that "
                "read FP8 do not quantize.",
                "format_settings.model_quantization",
                hint="Set Quantization to None.",
                code="cannot_quantize",
            )
    if not optional.is_installed(optional.CT):
        yield context.problem(
            "the model in FP8 will not be proven, because compressed-tensors is not installed.",
            "format_settings.model_quantization",
            hint=optional.missing_words(optional.CT),
            code="no_compressed_tensors",
            severity="warning",
        )


def _without_mlx(context: CheckContext) -> Iterable[Problem]:
    if not optional.is_installed(optional.MLX):
        yield context.problem(
            "the adapter for mlx-lm will not be proven, because mlx-lm is not installed.",
            "format_settings.form",
            hint=optional.missing_words(optional.MLX),
            code="no_mlx",
            severity="warning",
        )


def kind(value: Exportable) -> str:
    """The kind of the resulting artifact."""
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
        kind,
        size_with=_size,
        check=check,
        linked=_linked,
    ),
)
