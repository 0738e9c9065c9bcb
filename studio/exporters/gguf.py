"""The GGUF exporter: files that llama.cpp, Ollama and LM Studio load.

A model becomes one file for each chosen quantization, with tokenizer and chat template; an adapter becomes a
file that llama.cpp applies to its base model in GGUF.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from pydantic import field_validator

from studio.errors import Problem
from studio.export_folder.copy_files import folder_size
from studio.export_folder.gguf_architectures import refusal
from studio.graph.node_type import CheckContext, Variant
from studio.graph.schema import Settings, setting
from studio.model.folder_files import json_or_empty
from studio.model.models import local_folder
from studio.shown_text import short
from studio.values import AdapterValue
from studio.variants.exporter import Exportable, Exporter, Written

if TYPE_CHECKING:
    from studio.graph.context import StepContext

Quantization = Literal["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"]


class GgufSettings(Settings):
    """The quantizations of a model, and the rank of an adapter."""

    quantizations: list[Quantization] = setting(
        ["Q8_0"],
        "Quantizations",
        "One file is written for each: F32, F16, BF16, Q8_0, Q5_1, Q5_0, Q4_1 or Q4_0. Q8_0 takes 8.5 bits per "
        "weight and stays close to the model; Q4_0 takes 4.5 bits and loses the most. Adapters are not quantized: "
        "they are written in those of F32, F16 and BF16 that are chosen, else in F32.",
        max_length=8,
    )
    max_rank: int = setting(
        64,
        "Maximum rank",
        "Of an adapter. What is not a LoRA (DoRA, OFT, ...) is converted by a singular value decomposition to at "
        "most this rank; the share of the change that is kept is shown. Typical: 32 to 256. Models are not affected.",
        ge=1,
        le=512,
        advanced=True,
    )

    @field_validator("quantizations", mode="before")
    @classmethod
    def _known_once(cls, chosen: Any) -> Any:
        if not isinstance(chosen, list):
            return chosen
        names = list(dict.fromkeys(str(name).upper() for name in chosen))
        known = get_args(Quantization)
        other = next((n for n in names if n not in known), None)
        if other is not None:
            raise ValueError(f"the quantization {short(other)} is not one of {', '.join(known)}.")
        if not names:
            raise ValueError("choose at least one quantization.")
        return names


def write(context: StepContext, value: Exportable, settings: Any, folder: Path) -> Written:
    """Write the files into ``folder``."""
    from studio.training.export.gguf import write_gguf

    return write_gguf(context, value, settings, folder)


def _size(value: Exportable, settings: Any) -> int:
    from studio.training.export.gguf import needed_bytes

    return needed_bytes(value, settings)


def check(context: CheckContext) -> Iterable[Problem]:
    """Whether the architecture of the base model can be written, if its config is on this machine."""
    for kind, settings in context.upstream.values():
        folder = None
        if kind == "base_model" and settings is not None:
            folder = local_folder(getattr(settings, "model", ""), context.project_dir)
        config = json_or_empty(folder, "config.json") if folder else {}
        reason = refusal(config) if config else ""
        if reason:
            yield context.problem(
                f"the model cannot be written as GGUF: {reason}.",
                "format",
                hint="Choose the format Safetensors folder.",
                code="gguf_unsupported",
            )


def _kind(value: Exportable) -> str:
    return "adapter_gguf" if isinstance(value, AdapterValue) else "gguf"


VARIANT = Variant(
    kind="exporter",
    id="gguf",
    title="GGUF",
    order=20,
    help="Files for llama.cpp, Ollama, LM Studio and other programs that run models without Python. Supported "
    "are Llama (also SmolLM2), Mistral, Qwen 2, 2.5 and 3, Gemma 1 to 3 (text), Phi-3 and GPT-2.",
    settings=GgufSettings,
    payload=Exporter(
        ("model", "adapter"),
        write,
        lambda v: folder_size(Path(v.path)),
        _kind,
        size_with=_size,
        check=check,
    ),
)
