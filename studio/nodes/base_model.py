"""The Base model node: which model to start from, and in which precision."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from studio.errors import Problem
from studio.graph.node_type import CheckContext, Fact, NodeType
from studio.graph.ports import MODEL, output
from studio.graph.schema import Settings, setting

if TYPE_CHECKING:
    from studio.runs.context import StepContext


class BaseModelSettings(Settings):
    """Where the model comes from and how it is loaded."""

    model: str = setting(
        "starter:smollm2-135m", "Model", "starter:smollm2-135m, a local folder, a .gguf file, or a hub id "
        "such as Qwen/Qwen3-0.6B.", widget="model",
    )  # fmt: skip
    revision: str = setting(
        "", "Revision", "Branch, tag or commit of a hub model. Empty takes the newest and pins it to its commit.",
        placeholder="newest", advanced=True,
    )  # fmt: skip
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = setting(
        "auto", "Precision", "Auto takes bfloat16 where the hardware computes it well, else float32. "
        "float32 needs twice the memory of bfloat16 and is exact.",
        choice_labels={"auto": "Auto", "float32": "float32 (exact)", "bfloat16": "bfloat16", "float16": "float16"},
    )  # fmt: skip
    quantization: Literal["none", "nf4", "fp4", "int8"] = setting(
        "none", "Quantization", "Keep the frozen weights in 4 bits (NF4, QLoRA) or 8 bits to save memory; "
        "training gets a little slower. NF4 keeps more of the model's quality than FP4.",
        choice_labels={"none": "None", "nf4": "4-bit NF4", "fp4": "4-bit FP4", "int8": "8-bit"},
    )  # fmt: skip
    double_quant: bool = setting(
        True, "Double quantization", "Quantize the scales of the 4-bit weights too: saves 0.4 bits per weight "
        "(about 0.35 GB of a 7 B model) at no loss that was ever measured.", advanced=True,
        shown_if={"quantization": ("nf4", "fp4")},
    )  # fmt: skip
    attention: Literal["auto", "sdpa", "eager", "flash_attention_2"] = setting(
        "auto", "Attention", "How attention is computed. Auto takes what the model's code prefers, nearly "
        "always SDPA. Eager is plain and slow, for comparison. FlashAttention 2 needs an NVIDIA GPU, the "
        "flash-attn package and bfloat16 or float16.", advanced=True,
        choice_labels={"auto": "Auto", "sdpa": "SDPA", "eager": "Eager", "flash_attention_2": "FlashAttention 2"},
    )  # fmt: skip
    look_for_updates: bool = setting(
        False, "Look for updates", "Ask the hub for a newer version of the model at each run. Off: a model that "
        "is on this machine is used as it is, without any network.", advanced=True,
    )  # fmt: skip


def files(settings: BaseModelSettings, project_dir: Path) -> Iterable[Path]:
    """The files of a local model; a starter or hub model is identified by its name and revision."""
    from studio.models import local_files

    return local_files(settings.model.strip(), project_dir)


def check(settings: BaseModelSettings, context: CheckContext) -> Iterable[Problem]:
    """Whether the name can be a model at all, without any network."""
    from studio.models import quick_check

    return quick_check(settings, context)


def run(
    context: StepContext, inputs: Mapping[str, Any], settings: BaseModelSettings
) -> Mapping[str, Any]:
    """Fetch or import the model into a local folder."""
    del inputs
    from studio.training.model.base_model import prepare_base_model

    return {"model": prepare_base_model(context, settings).to_json()}


def facts(settings: BaseModelSettings, project_dir: Path) -> Iterable[Fact]:
    """What the model's files tell without loading them."""
    from studio.facts import model_facts, told

    found = model_facts(settings.model, project_dir)
    return told(found) if found is not None else ()


NODE = NodeType(
    id="base_model", title="Base model", version=1, category="Model", icon="box",
    help="The language model that is fine-tuned. It stays unchanged; the adapter learns the difference.",
    settings=BaseModelSettings, run=run, files=files, check=check, facts=facts,
    outputs=(output("model", MODEL, "Model"),),
    summary=lambda s: s.model or "no model chosen",
)  # fmt: skip
