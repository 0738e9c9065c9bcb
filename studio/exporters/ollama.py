"""The Ollama exporter: a folder with a GGUF file and a Modelfile, for ``ollama create``.

An adapter is written beside its base model, or refers to one that Ollama has.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from studio.errors import Problem
from studio.export_folder.copy_files import folder_size
from studio.exporters.gguf import check_model, missing_program, options, settings_in
from studio.graph.node_type import CheckContext, Variant
from studio.node_settings.export import OllamaSettings
from studio.variants.exporter import Exportable, Exporter, Written

if TYPE_CHECKING:
    from studio.graph.context import StepContext


def write(
    context: StepContext, value: Exportable, settings: OllamaSettings, folder: Path
) -> Written:
    """Write the GGUF files and the Modelfile into ``folder``."""
    from studio.training.export.ollama import write_ollama

    return write_ollama(context, value, settings, folder)


def _size(value: Exportable, settings: OllamaSettings) -> int:
    from studio.training.export.ollama import needed_bytes

    return needed_bytes(value, settings)


def check(context: CheckContext) -> Iterable[Problem]:
    """Whether the architecture of the base model can be written, if its config is on this machine, and whether the
    program for the chosen quantization is installed. An adapter for a base that Ollama has needs none."""
    settings = settings_in(context)
    if context.input_types.get("model") == "model" or not settings.get("base"):
        yield from missing_program(context, [settings.get("quantization")], "quantization")
    yield from check_model(context)


VARIANT = Variant(
    kind="exporter",
    id="ollama",
    title="Ollama folder",
    order=30,
    help="A GGUF file and a Modelfile with the chat template, stop words and sampling parameters, for ollama create. "
    "The architectures are those of GGUF.",
    settings=OllamaSettings,
    payload=Exporter(
        ("model", "adapter"),
        write,
        lambda v: folder_size(Path(v.path)),
        lambda v: "ollama_folder",
        size_with=_size,
        check=check,
        options=options,
    ),
)
