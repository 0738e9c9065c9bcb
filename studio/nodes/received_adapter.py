"""The Load Adapter node: an adapter that was trained elsewhere, or in another project."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio.errors import Problem
from studio.graph.node_type import CheckContext, Fact, NodeType
from studio.graph.ports import ADAPTER, MODEL, input_, output
from studio.node_settings.base_model import BaseModelSettings
from studio.node_settings.received_adapter import LoadAdapterSettings

if TYPE_CHECKING:
    from studio.graph.context import StepContext


def files(settings: LoadAdapterSettings, project_dir: Path) -> Iterable[Path]:
    """The files of a local adapter; one on the Hub is identified by its name and revision."""
    from studio.model.adapter_check import adapter_folder
    from studio.model.adapter_files import CONFIG, WEIGHTS

    folder = adapter_folder(settings.adapter.strip(), project_dir)
    if folder is not None and folder.is_file():
        yield folder
    elif folder is not None and settings.adapter.strip():
        yield from (p for p in (folder / CONFIG, folder / WEIGHTS) if p.is_file())


def check(settings: LoadAdapterSettings, context: CheckContext) -> Iterable[Problem]:
    """Whether the folder holds an adapter that belongs to the connected base model, from its headers."""
    from studio.model.adapter_check import adapter_faults, adapter_folder
    from studio.model.models import local_folder

    name = settings.adapter.strip()
    if not name:
        yield context.problem(
            "no adapter is chosen.",
            "adapter",
            code="missing_setting",
            hint="Choose the folder of an adapter, or enter a Hub ID.",
        )
        return
    folder = adapter_folder(name, context.project_dir)
    if folder is None:
        return
    bases = (s for _, s in context.upstream.values() if isinstance(s, BaseModelSettings))
    base = next(bases, None)
    model = local_folder(base.model, context.project_dir) if base is not None else None
    for fault in adapter_faults(folder, model):
        yield context.problem(
            fault.sentence, "adapter", hint=fault.hint, code=fault.code, file=fault.file
        )


def facts(settings: LoadAdapterSettings, project_dir: Path) -> Iterable[Fact]:
    """What the adapter says about itself."""
    from studio.model.adapter_facts import adapter_facts

    return adapter_facts(settings.adapter, project_dir)


def run(
    context: StepContext, inputs: Mapping[str, Any], settings: LoadAdapterSettings
) -> Mapping[str, Any]:
    """Copy the adapter into the run and load it on its base."""
    context.starts_libraries()
    from studio.training.adapter.received import load_received

    return {"adapter": load_received(context, inputs["model"], settings).to_json()}


NODE = NodeType(
    id="load_adapter",
    title="Load Adapter",
    version=1,
    category="Model",
    purpose="prepare",
    icon="folder-open",
    help="An adapter from a folder, a GGUF file or the Hub, as PEFT, Unsloth, LLaMA-Factory, Axolotl and llama.cpp "
    "write them. It is used like one that was trained here: train it further, merge, resize, evaluate or export it.",
    stages=("prepare",),
    settings=LoadAdapterSettings,
    run=run,
    files=files,
    check=check,
    facts=facts,
    inputs=(input_("model", MODEL, "Base model", "The model that the adapter was trained on."),),
    outputs=(output("adapter", ADAPTER, "Adapter"),),
    summary=lambda s: Path(s.adapter).name or "no adapter selected",
)
