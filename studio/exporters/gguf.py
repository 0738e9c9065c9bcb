"""The GGUF exporter: files that llama.cpp, Ollama and LM Studio load.

A model becomes one file for each chosen quantization, with tokenizer and chat template; an adapter becomes a
file that llama.cpp applies to its base model in GGUF.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from studio.errors import Problem
from studio.export_folder import llama_cpp
from studio.export_folder.copy_files import folder_size
from studio.export_folder.gguf_architectures import refusal
from studio.export_folder.gguf_mixtures import TYPES
from studio.export_folder.gguf_pre_tokenizers import stored_tokenizer_refusal
from studio.export_folder.gguf_quantizer import find_quantizer, how_to_get
from studio.graph.node_type import CheckContext, Variant
from studio.model.folder_files import json_or_empty
from studio.model.models import local_folder, starter_of
from studio.node_settings.export import GgufSettings
from studio.values import AdapterValue
from studio.variants.exporter import Exportable, Exporter, Written

if TYPE_CHECKING:
    from studio.graph.context import StepContext


def write(context: StepContext, value: Exportable, settings: GgufSettings, folder: Path) -> Written:
    """Write the files into ``folder``."""
    from studio.training.export.gguf import write_gguf

    return write_gguf(context, value, settings, folder)


def _size(value: Exportable, settings: GgufSettings) -> int:
    from studio.training.export.gguf import needed_bytes

    return needed_bytes(value, settings)


def check(context: CheckContext) -> Iterable[Problem]:
    """Whether architecture and tokenizer of the base model can be written, if its files are on this machine, and
    whether the program for the chosen quantizations is installed and the files can be read back."""
    yield from _missing_program(context)
    for kind, settings in context.upstream.values():
        if kind != "base_model" or settings is None:
            continue
        model = getattr(settings, "model", "")
        folder = local_folder(model, context.project_dir)
        config = json_or_empty(folder, "config.json") if folder else {}
        reason = refusal(config) if config else ""
        if reason:
            yield context.problem(
                f"the model cannot be written as GGUF: {reason}.",
                "format",
                hint="Choose the format Safetensors folder.",
                code="gguf_unsupported",
            )
        elif folder and starter_of(model) is None:
            reason = stored_tokenizer_refusal(folder)
            if reason:
                yield context.problem(
                    f"the tokenizer of the model cannot be written as GGUF: {reason}.",
                    "format",
                    hint="Choose the format Safetensors folder.",
                    code="gguf_tokenizer",
                )
    if not llama_cpp.is_installed():
        yield context.problem(
            "the GGUF files will not be proven, because llama.cpp for Python is not installed.",
            "format",
            hint=f"{llama_cpp.missing_words()}",
            code="no_llama_cpp",
            severity="warning",
        )


def _missing_program(context: CheckContext) -> Iterable[Problem]:
    _, own = context.project.get(context.node, ("", None))
    given = getattr(own, "format_settings", {}).get("quantizations") or []
    named = given if isinstance(given, list) else []
    chosen = [str(q).upper() for q in named if str(q).upper() in TYPES]
    if chosen and context.input_types.get("model") == "model" and find_quantizer() is None:
        yield context.problem(
            f"{', '.join(chosen)} need llama-quantize, which is not installed.",
            "format_settings.quantizations",
            hint=how_to_get(),
            code="no_quantizer",
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
