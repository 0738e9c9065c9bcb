"""The Base model node: which model to start from, and in which precision."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio.errors import Problem
from studio.graph.node_type import CheckContext, Fact, NodeType
from studio.graph.ports import MODEL, output
from studio.node_settings.base_model import BaseModelSettings
from studio.system.device import auto_precision, current

if TYPE_CHECKING:
    from studio.graph.context import StepContext


def files(settings: BaseModelSettings, project_dir: Path) -> Iterable[Path]:
    """The files of a local model; a starter or hub model is identified by its name and revision."""
    from studio.model.models import local_files

    return local_files(settings.model.strip(), project_dir)


def check(settings: BaseModelSettings, context: CheckContext) -> Iterable[Problem]:
    """Whether the name can be a model, without network access."""
    from studio.model.models import quick_check

    return quick_check(settings, context)


def run(
    context: StepContext, inputs: Mapping[str, Any], settings: BaseModelSettings
) -> Mapping[str, Any]:
    """Fetch or import the model into a local folder."""
    del inputs
    context.starts_libraries()
    from studio.training.model.base_model import prepare_base_model

    return {"model": prepare_base_model(context, settings).to_json()}


def is_current(settings: BaseModelSettings, outputs: Mapping[str, Any]) -> bool:
    """Whether Auto would select this precision again: not if an earlier run was on another device."""
    device = current()
    if settings.dtype != "auto" or device.bfloat16 is None:
        return True
    chosen = dict(outputs.get("model") or {}).get("dtype")
    return bool(chosen == auto_precision(device.kind, device.bfloat16))


def facts(settings: BaseModelSettings, project_dir: Path) -> Iterable[Fact]:
    """Facts from the model's files, without loading its weights."""
    from studio.model.facts import describe, model_facts

    found = model_facts(settings.model, project_dir)
    return describe(found) if found is not None else ()


NODE = NodeType(
    id="base_model",
    title="Base model",
    version=1,
    category="Model",
    purpose="prepare",
    icon="box",
    help="The language model to fine-tune. Its weights stay unchanged when an adapter is trained.",
    stages=("prepare",),
    settings=BaseModelSettings,
    run=run,
    files=files,
    check=check,
    facts=facts,
    is_current=is_current,
    outputs=(output("model", MODEL, "Model"),),
    summary=lambda s: s.model or "no model selected",
)
