"""Loads an adapter that was trained elsewhere, so that it can be used like one that was trained here.

Its files are copied into the run. PEFT loads it into the structure of its base, so that every tensor has to find its
place; an adapter without an effect, or with one much larger than any training gives, is reported.
"""

from __future__ import annotations

import inspect
import json
import re
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import peft
import torch
from peft import PeftModel

from studio.errors import StudioError
from studio.export_folder.copy_files import copy_files
from studio.export_folder.trained_on import read_trained_on, trained_on
from studio.graph.context import StepContext
from studio.model.adapter_check import adapter_faults, adapter_folder
from studio.model.adapter_config import (
    CHANGES_BASE,
    METHODS,
    described,
    method_of_config,
)
from studio.model.adapter_files import CONFIG, LORA_A, LORA_B, PREFIX, WEIGHTS, scale_of
from studio.model.folder_files import shown
from studio.model.mlx_adapter import is_mlx
from studio.node_settings.received_adapter import LoadAdapterSettings
from studio.system import busy_files, disk
from studio.system.atomic import write_atomic
from studio.training.adapter.convert import make_plain_ranks
from studio.training.adapter.received_gguf import convert_gguf
from studio.training.adapter.received_mlx import convert_mlx
from studio.training.fetch.hub import fetch_from_hub
from studio.training.model.out_of_memory import is_out_of_memory
from studio.training.model.skeleton import skeleton
from studio.training.model.weights_file import StoredWeights
from studio.training.saved.tensor_files import read_tensors
from studio.training.tokens.chat import load_tokenizer
from studio.values import AdapterValue, ModelValue

LARGEST_SHARE = 1.0
"""Of the norm of a layer's weight. Trained adapters stay far below; a scale that was applied twice does not."""


def load_received(
    context: StepContext, model_json: Mapping[str, Any], settings: LoadAdapterSettings
) -> AdapterValue:
    """Check, copy and describe the adapter. Raises ``StudioError`` with the reason if it cannot be used."""
    base = ModelValue.model_validate(model_json)
    name = settings.adapter.strip()
    source, revision = _found(context, name, settings.revision.strip())
    _refuse_faults(source, base)
    folder = context.folder / "adapter"
    if source.suffix.lower() == ".gguf":
        context.phase("load", "Converting the adapter from GGUF")
        source = _converted(source, base, context.folder / "converted")
    elif is_mlx(source):
        context.phase("load", "Converting the adapter of mlx-lm")
        source = _converted_mlx(context, source, base, context.folder / "converted")
    with disk.explain_errors("the adapter", folder, needed=None):
        folder.mkdir(parents=True, exist_ok=True)
        copy_files(context, source, folder, link_weights=False)
    config = _known_config(context, folder, base)
    if config["peft_type"] == "ADALORA":
        config = _with_ranks(context, folder)
    method = _method(config)
    _refuse_changed_base(config)
    _refuse_unplaced(context, base, folder)
    if config["peft_type"] == "LORA":
        _check_effect(context, base, folder, config)
    _tell_base(context, base, source)
    _complete_tokenizer(context, base, folder)
    busy_files.tidy(context.folder / "converted")
    value = AdapterValue(
        path=str(folder),
        model=described(base, config, method, folder),
        dataset=None,
        train={},
        metrics={},
        reload_difference=0.0,
        source=name,
        revision=revision,
    )
    context.artifact("adapter", folder, source=name, revision=revision)
    return value


def _converted(file: Path, base: ModelValue, folder: Path) -> Path:
    """The adapter of a GGUF file in the format of PEFT, compared with the base like any other."""
    with disk.explain_errors("the adapter", folder, needed=None):
        convert_gguf(file, Path(base.path), folder)
    _refuse_faults(folder, base)
    return folder


def _converted_mlx(context: StepContext, source: Path, base: ModelValue, folder: Path) -> Path:
    """The adapter of mlx-lm in the format of PEFT."""
    with disk.explain_errors("the adapter", folder, needed=None):
        words = convert_mlx(source, Path(base.path), folder)
    context.notice(
        f"The adapter of mlx-lm was converted to the format of PEFT: {words}.", level="info"
    )
    _refuse_faults(folder, base)
    return folder


def _refuse_faults(source: Path, base: ModelValue) -> None:
    """Raise ``StudioError`` for the first fault of the files."""
    for fault in adapter_faults(source, Path(base.path)):
        raise StudioError(
            fault.sentence,
            title="The adapter cannot be used",
            hint=fault.hint,
            field="adapter",
            code=fault.code,
            file=fault.file,
        )


def _found(context: StepContext, name: str, revision: str) -> tuple[Path, str | None]:
    if not name:
        raise StudioError("no adapter is chosen.", field="adapter", code="missing_setting")
    folder = adapter_folder(name, context.project_dir)
    if folder is not None:
        return folder, None
    return fetch_from_hub(context, name, revision)


def _known_config(context: StepContext, folder: Path, base: ModelValue) -> dict[str, Any]:
    """The config with the path of this base, and without the keys of newer versions of PEFT, which are named."""
    config: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    kind = config["peft_type"]
    cls = peft.PEFT_TYPE_TO_CONFIG_MAPPING.get(kind)
    if cls is None:
        raise _refused(
            f"its type {shown(kind)} is unknown to PEFT {peft.__version__}",
            "Update LoRA Studio, or merge the adapter with the program that trained it.",
        )
    known = {*inspect.signature(cls).parameters, "peft_type", "auto_mapping", "peft_version"}
    other = sorted(set(config) - known)
    used = [key for key in other if config[key] not in (None, False, {}, [], "")]
    if used:
        context.notice(
            f"{CONFIG} has settings that PEFT {peft.__version__} does not know: {', '.join(map(shown, used))}. They "
            "are ignored.",
            "The adapter may be of a newer version of PEFT. Compare its answers with those it had before.",
        )
    kept = {k: v for k, v in config.items() if k not in other}
    kept["base_model_name_or_path"], kept["revision"] = base.path, None
    kept["inference_mode"] = True
    write_atomic(folder / CONFIG, json.dumps(kept, indent=2) + "\n")
    return kept


def _method(config: Mapping[str, Any]) -> str:
    method = method_of_config(config)
    if not method:
        raise _refused(
            f"adapters of the type {shown(config['peft_type'])} cannot be loaded",
            f"Types that can: LORA, {', '.join(METHODS)}.",
        )
    return method


def _with_ranks(context: StepContext, folder: Path) -> dict[str, Any]:
    """Convert an AdaLoRA adapter to the LoRA that it is once its ranks are allocated, and return its config."""
    make_plain_ranks(folder)
    config: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    context.notice(
        f"The AdaLoRA adapter was converted to a LoRA with a rank for each of its {len(config['target_modules'])} "
        "layers, which has the same effect.",
        level="info",
    )
    return config


def _refuse_changed_base(config: Mapping[str, Any]) -> None:
    """Raise ``StudioError`` for an adapter that belongs to changed weights: PEFT computes them again from its
    config, other readers and a merge do not."""
    start = str(config.get("init_lora_weights")).lower()
    name = next((n for n in CHANGES_BASE if start.startswith(n)), "")
    if name:
        raise _refused(
            f"its config has init_lora_weights {shown(start)}, so it belongs to the weights of a base that {name} has "
            "changed",
            "Save it with path_initial_model_for_weight_conversion of PEFT, which makes it a LoRA on the unchanged "
            "base.",
        )


def _refuse_unplaced(context: StepContext, base: ModelValue, folder: Path) -> None:
    """Load the adapter into the structure of its base; raise ``StudioError`` if a tensor finds no place."""
    context.phase("load", "Loading the adapter")
    model = skeleton(Path(base.path))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            adapted = PeftModel.from_pretrained(
                model, str(folder), low_cpu_mem_usage=True, torch_device="cpu"
            )
        except (ValueError, RuntimeError, KeyError, NotImplementedError) as error:
            if is_out_of_memory(error):
                raise
            reason = shown((str(error).strip() or type(error).__name__).splitlines()[0])
            raise _refused(f"PEFT cannot load it on this base ({reason})", _CHOOSE) from error
    missing = [w for w in caught if "missing adapter keys" in str(w.message)]
    if missing:
        names = [n for n, p in adapted.named_parameters() if ".default" in n and p.is_meta]
        first = f", such as {names[0].removeprefix(PREFIX)}" if names else ""
        raise _refused(f"tensors for layers that it names are missing{first}", _CHOOSE)
    loaded = {_file_name(n) for n, _ in adapted.named_parameters()}
    loaded |= {_file_name(n) for n, _ in adapted.named_buffers()}
    unused = [n for n in read_tensors(folder / WEIGHTS) if _file_name(n) not in loaded]
    if unused and "lora_" in unused[0]:
        raise _refused(f"{unused[0].removeprefix(PREFIX)} has no layer in the base", _CHOOSE)


_CHOOSE = "Choose the base model that the adapter was trained on."


def _file_name(parameter: str) -> str:
    """The name of a tensor in the file and of its parameter, without what only one of them has."""
    for part in (".default", ".modules_to_save", ".base_layer"):
        parameter = parameter.replace(part, "")
    return parameter.removesuffix(".weight")


def _check_effect(
    context: StepContext, base: ModelValue, folder: Path, config: Mapping[str, Any]
) -> None:
    """Raise ``StudioError`` if no layer is changed; report an effect that is too large to be meant."""
    tensors = read_tensors(folder / WEIGHTS)
    pairs = [n.removesuffix(LORA_A) for n in tensors if n.endswith(LORA_A)]
    plain = all(".lora_" in n for n in tensors)
    if not all(bool(t.isfinite().all()) for t in tensors.values()):
        raise _refused("it has values that are not finite", "Use an earlier checkpoint of it.")
    if pairs and plain and not any(bool(tensors[p + LORA_B].any()) for p in pairs):
        raise _refused(
            "it has no effect, because all B matrices are zero", "It was saved before its training."
        )
    if not pairs:
        return
    share = _largest_share(base, config, tensors, pairs)
    if share > LARGEST_SHARE:
        context.notice(
            f"The change by the adapter is up to {share:.1f} times as large as the weights it is added to, which is "
            "much more than a training gives.",
            "Check that lora_alpha in its config is the value of the training and was not applied twice.",
        )


def _largest_share(
    base: ModelValue,
    config: Mapping[str, Any],
    tensors: Mapping[str, torch.Tensor],
    pairs: list[str],
) -> float:
    """The largest of ‖s·B·A‖ / ‖W‖ over the layers whose weight is stored under their name."""
    stored = StoredWeights(Path(base.path))
    names = {e.name for e in stored.entries()}
    largest = 0.0
    for pair in pairs:
        path = pair.removeprefix(PREFIX)
        weight = next(
            (n for n in (f"{path}.weight", f"{path.partition('.')[2]}.weight") if n in names), None
        )
        a, b = tensors[pair + LORA_A].float(), tensors[pair + LORA_B].float()
        if weight is None or a.dim() != 2:
            continue
        # ‖B·A‖² is the sum over BᵀB and AAᵀ, without the matrix of the layer's size.
        norm = float(((b.T @ b) * (a @ a.T)).sum().clamp(min=0).sqrt())
        size = float(stored.tensor(weight).float().norm())
        largest = max(
            largest, abs(scale_of(config, pair, a.shape[0])) * norm / size if size else 0.0
        )
    stored.close()
    return largest


def _tell_base(context: StepContext, base: ModelValue, source: Path) -> None:
    """Say so if the adapter names another base, another revision or other weights than the connected ones, or none.
    A path says nothing about a Hub ID."""
    known, own = read_trained_on(source), trained_on(base)
    if known is not None:
        if known.weights != own.weights:
            context.notice(
                f"The adapter was trained on {shown(known.shown())}, and {shown(own.shown())} is connected. The layers "
                "fit, but with other weights its effect may be another one.",
                "Choose that model and revision. A copy in another precision has other weights, too.",
            )
        return
    config = json.loads((source / CONFIG).read_text(encoding="utf-8"))
    named, revision = config.get("base_model_name_or_path"), config.get("revision")
    if not isinstance(named, str) or not named:
        context.notice(
            f"The adapter does not name the model that it was trained on. Its layers fit {shown(base.source)}.",
            "With other weights than those of its training, its effect may be another one.",
        )
        return
    ours = {base.source, base.path, *([base.base.source] if base.base else [])}
    ends = {Path(n).name.lower() for n in ours}
    if Path(named.replace("\\", "/")).name.lower() not in ends:
        context.notice(
            f"The adapter was trained on {shown(named)}, and {shown(base.source)} is connected. The layers fit, "
            "but with other weights its effect may be another one.",
            "Choose that model, unless the connected one is a copy of it.",
        )
    elif isinstance(revision, str) and base.revision and not _same_revision(revision, base):
        context.notice(
            f"The adapter was trained on revision {shown(revision)} of {shown(named)}, and {shown(base.revision)} is "
            "connected.",
            "Enter that revision in the Base model node.",
        )


def _same_revision(revision: str, base: ModelValue) -> bool:
    """Whether a commit is that of the base; the names of branches say nothing about it."""
    is_commit = re.fullmatch(r"[0-9a-f]{7,40}", revision) is not None
    return not is_commit or str(base.revision).startswith(revision)


def _complete_tokenizer(context: StepContext, base: ModelValue, folder: Path) -> None:
    """Use the tokenizer of the base if the adapter has none."""
    if (folder / "tokenizer.json").is_file() or (folder / "tokenizer.model").is_file():
        load_tokenizer(str(folder))  # a damaged one is an error here, with its file
        return
    for pattern in ("tokenizer*", "special_tokens_map.json", "*.jinja", "vocab.json", "merges.txt"):
        for file in sorted(Path(base.path).glob(pattern)):
            if not (folder / file.name).exists():
                shutil.copyfile(file, folder / file.name)
    context.notice("The adapter has no tokenizer; that of the base model is used.", level="info")


def _refused(reason: str, hint: str) -> StudioError:
    return StudioError(
        f"the adapter cannot be used: {reason}.",
        title="The adapter cannot be used",
        hint=hint,
        field="adapter",
        code="bad_adapter",
    )
