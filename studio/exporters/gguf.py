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
from studio.graph.node_type import CheckContext, Variant
from studio.model.folder_files import json_or_empty
from studio.model.models import local_folder
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
    """Whether the architecture of the base model can be written, if its config is on this machine, and whether the
    files can be read back."""
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
    if not llama_cpp.is_installed():
        yield context.problem(
            "the GGUF files will not be proven, because llama.cpp for Python is not installed.",
            "format",
            hint=f"{llama_cpp.missing_words()}",
            code="no_llama_cpp",
            severity="warning",
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
