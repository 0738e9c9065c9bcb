"""The GGUF exporter: files that llama.cpp, Ollama and LM Studio load.

A model becomes one file for each chosen quantization, with tokenizer and chat template; an adapter becomes a
file that llama.cpp applies to its base model in GGUF.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio.errors import Problem, StudioError
from studio.export_folder import llama_cpp, lm_studio
from studio.export_folder.copy_files import folder_size
from studio.export_folder.ggml_library import find_library, how_to_get
from studio.export_folder.gguf_architectures import refusal
from studio.export_folder.gguf_mixtures import TYPES
from studio.export_folder.gguf_names import model_part
from studio.export_folder.gguf_pre_tokenizers import stored_tokenizer_refusal
from studio.export_folder.gguf_quantizations import options as quantizations
from studio.graph.node_type import CheckContext, Option, Variant
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
    if context.input_types.get("model") == "model":
        yield from missing_program(context, *_chosen(context))
    elif settings_in(context).get("layout") == "lm_studio":
        yield context.problem(
            "LM Studio has no place for adapters.",
            "format_settings.layout",
            hint="Merge the adapter, or choose the layout Files in one folder.",
            code="lm_studio_adapter",
        )
    yield from check_model(context)


def check_model(context: CheckContext) -> Iterable[Problem]:
    """The same without the program for the quantizations."""
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


def place(settings: GgufSettings, project: str, chosen: Path | None) -> Path | None:
    """The folder in LM Studio's layout, if it was chosen. Raises ``StudioError`` without a folder for models."""
    if settings.layout != "lm_studio":
        return None
    models = chosen or lm_studio.models_folder()
    if models is None:
        sentence, hint = lm_studio.MISSING
        raise StudioError(sentence, hint=hint, code="no_lm_studio", field="folder")
    return lm_studio.model_folder(models, settings.publisher, model_part(project))


def settings_in(context: CheckContext) -> dict[str, Any]:
    """The settings of the format, as they are stored."""
    _, own = context.project.get(context.node, ("", None))
    found: dict[str, Any] = getattr(own, "format_settings", {})
    return found


def _chosen(context: CheckContext) -> tuple[list[str], str]:
    given = settings_in(context).get("quantizations") or []
    return given if isinstance(given, list) else [], "quantizations"


def missing_program(context: CheckContext, named: list[Any], field: str) -> Iterable[Problem]:
    """Whether the program that writes these quantizations is missing."""
    chosen = [str(q).upper() for q in named if str(q).upper() in TYPES]
    if chosen and find_library() is None:
        need = "need" if len(chosen) > 1 else "needs"
        yield context.problem(
            f"{', '.join(chosen)} {need} llama.cpp, which is not installed.",
            f"format_settings.{field}",
            hint=how_to_get(),
            code="no_quantizer",
        )


def options(context: CheckContext, name: str) -> Sequence[Option]:
    """The quantizations, with the sizes of the files of the connected model."""
    from studio.estimate.job import shape_of_model

    if name not in ("quantizations", "quantization"):
        return ()
    bases = [s for kind, s in context.upstream.values() if kind == "base_model" and s is not None]
    model = str(getattr(bases[-1], "model", "")) if bases else ""
    is_model = context.input_types.get("model") == "model"
    shape = shape_of_model(model, context.project_dir) if model and is_model else None
    return quantizations(shape)


def _kind(value: Exportable) -> str:
    return "adapter_gguf" if isinstance(value, AdapterValue) else "gguf"


VARIANT = Variant(
    kind="exporter",
    id="gguf",
    title="GGUF",
    order=20,
    help="Files for llama.cpp, Ollama, LM Studio and other programs that run models without Python. Supported "
    "are the architectures that people train most (Llama, Mistral, Mixtral, Qwen, Gemma, Phi, SmolLM, Granite, OLMo "
    "and others); another one is a problem before the run.",
    settings=GgufSettings,
    payload=Exporter(
        ("model", "adapter"),
        write,
        lambda v: folder_size(Path(v.path)),
        _kind,
        size_with=_size,
        check=check,
        options=options,
        place=place,
    ),
)
