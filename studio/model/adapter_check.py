"""Checks an adapter folder against its base model, from config and headers, without torch.

PEFT loads an adapter of another base with a warning at most: tensors that it does not find are left at their
initial values, which have no effect. So layers, widths and the vocabulary are compared by name and shape.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from studio.model.adapter_files import (
    CONFIG,
    EMBEDDING_A,
    EMBEDDING_B,
    LORA_A,
    LORA_B,
    PREFIX,
    WEIGHTS,
)
from studio.model.folder_check import Fault, gguf_faults
from studio.model.folder_files import json_or_empty, read_json, shown
from studio.model.layer_names import LAYER, from_number
from studio.model.layers import LinearModule, read_linear_modules
from studio.model.mlx_adapter import (
    MLX_WEIGHTS,
    as_peft,
    config_fault,
    is_mlx,
    tensor_fault,
)
from studio.model.models import classify
from studio.model.weight_files import BadWeights, tensor_shapes

_PICKLE = "adapter_model.bin"
_AGAIN = "Download or copy the adapter again."

Shape = tuple[int, ...]


def adapter_folder(adapter: str, project_dir: Path) -> Path | None:
    """The folder or GGUF file that a setting names; ``None`` for a Hub ID. An adapter beside the project takes
    precedence."""
    folder = project_dir / Path(adapter).expanduser()
    hub = classify(adapter) == "hub" and not (folder / CONFIG).is_file()
    return None if hub else folder


def adapter_faults(folder: Path, base: Path | None) -> Iterator[Fault]:
    """The faults of an adapter folder; with ``base``, a model folder, also why it does not belong to it."""
    if folder.suffix.lower() == ".gguf" and not folder.is_dir():
        yield from _gguf_faults(folder)
        return
    if not folder.is_dir():
        yield Fault(
            f"the folder {folder} does not exist.",
            "missing_file",
            "Choose another folder.",
            str(folder),
        )
        return
    names = {p.name for p in folder.iterdir()}
    if CONFIG not in names:
        yield _not_an_adapter(folder, names)
        return
    try:
        config = read_json(folder, CONFIG)
    except (OSError, ValueError) as error:
        sentence = f"{CONFIG} cannot be read: {shown(str(error))}."
        yield Fault(sentence, "bad_adapter", _AGAIN, str(folder / CONFIG))
        return
    if not isinstance(config.get("peft_type"), str) and not is_mlx(folder):
        sentence = f"{CONFIG} has no peft_type, so the method of the adapter is unknown."
        yield Fault(sentence, "bad_adapter", _AGAIN, str(folder / CONFIG))
        return
    if is_mlx(folder):
        yield from _mlx_faults(folder, config, base)
        return
    if WEIGHTS not in names:
        yield _no_weights(folder, names)
        return
    try:
        shapes = dict(tensor_shapes(folder / WEIGHTS))
    except (OSError, BadWeights) as error:
        yield Fault(f"{shown(str(error))}.", "bad_weights", _AGAIN, str(folder / WEIGHTS))
        return
    if not shapes:
        yield Fault(f"{WEIGHTS} has no tensors.", "bad_adapter", _AGAIN, str(folder / WEIGHTS))
    elif base is not None:
        yield from _other_base(folder, config, shapes, base)


def _gguf_faults(file: Path) -> Iterator[Fault]:
    """The faults of a GGUF file, from its header. Its layers are compared when it is converted."""
    found = gguf_faults(file)
    if not found:
        yield Fault(
            f"{file.name} contains a model, not an adapter.",
            "model_folder",
            "Choose it in a Base model node.",
            str(file),
        )
    yield from (f for f in found if f.code != "adapter_folder")


def _mlx_faults(folder: Path, config: Mapping[str, Any], base: Path | None) -> Iterator[Fault]:
    """The faults of an adapter of mlx-lm, which is converted when it is loaded."""
    where = str(folder / MLX_WEIGHTS)
    try:
        shapes = dict(tensor_shapes(folder / MLX_WEIGHTS))
    except (OSError, BadWeights) as error:
        yield Fault(f"{shown(str(error))}.", "bad_weights", _AGAIN, where)
        return
    reason = config_fault(config) or tensor_fault(shapes)
    if reason:
        sentence = f"the adapter of mlx-lm cannot be used: {shown(reason)}."
        yield Fault(sentence, "bad_adapter", "Fuse it with mlx_lm.fuse, and use the model.", where)
    elif base is not None:
        named = {"peft_type": "LORA", "base_model_name_or_path": config.get("model")}
        yield from _other_base(folder, named, as_peft(shapes), base)


def _not_an_adapter(folder: Path, names: set[str]) -> Fault:
    if "config.json" in names:
        return Fault(
            f"the folder {folder} contains a model, not an adapter.",
            "model_folder",
            "Choose it in a Base model node.",
            str(folder),
        )
    files = sorted(n for n in names if n.lower().endswith(".gguf"))
    if files:
        return Fault(
            f"the folder {folder} contains GGUF files and no {CONFIG}.",
            "not_an_adapter",
            f"Enter the file itself, such as {shown(files[0])}.",
            str(folder),
        )
    return Fault(
        f"the folder {folder} has no {CONFIG}, so it is not a PEFT adapter.",
        "not_an_adapter",
        f"Choose the folder that contains {CONFIG} and {WEIGHTS}.",
        str(folder),
    )


def _no_weights(folder: Path, names: set[str]) -> Fault:
    if _PICKLE in names:
        return Fault(
            f"the folder {folder} contains the adapter only as {_PICKLE}, a pickle, which can run code.",
            "pickle_weights",
            "Save the adapter as safetensors first.",
            str(folder),
        )
    return Fault(f"the folder {folder} has no {WEIGHTS}.", "no_weights", _AGAIN, str(folder))


def _other_base(
    folder: Path, config: Mapping[str, Any], shapes: Mapping[str, Shape], base: Path
) -> Iterator[Fault]:
    """Why the adapter does not belong to this base: the first reason of those that are found."""
    named = config.get("base_model_name_or_path")
    hint = "Choose the base model that the adapter was trained on"
    hint += f": {shown(named)}." if isinstance(named, str) and named else "."
    where = str(folder / WEIGHTS)
    if not any(n.startswith(PREFIX) for n in shapes):
        name = shown(next(iter(shapes)))
        sentence = f"the tensors, such as {name}, are not named as PEFT names them ({PREFIX}…)."
        yield Fault(sentence, "bad_adapter", "Convert the adapter to the format of PEFT.", where)
        return
    reason = (
        _layer_count(shapes, base) or _vocabulary(shapes, base) or _layers(config, shapes, base)
    )
    if reason:
        yield Fault(
            f"the adapter does not belong to this base model: {reason}.", "other_base", hint, where
        )


def _layer_count(shapes: Mapping[str, Shape], base: Path) -> str:
    found = [int(m[1]) for n in shapes if (m := LAYER.search(n))]
    modules = read_linear_modules(base) or []
    there = [int(m[1]) for layer in modules if (m := LAYER.search(f".{layer.name}"))]
    if found and there and max(found) > max(there):
        return f"it changes {max(found) + 1} layers, and the base has {max(there) + 1}"
    return ""


def _vocabulary(shapes: Mapping[str, Shape], base: Path) -> str:
    size = json_or_empty(base, "config.json").get("vocab_size")
    for name, shape in shapes.items():
        whole = name.endswith((".embed_tokens.weight", ".lm_head.weight", ".wte.weight"))
        rows = shape[0] if whole else shape[1] if name.endswith(EMBEDDING_A) else None
        if isinstance(size, int) and rows is not None and rows != size:
            return (
                f"{_plain(name)} has {rows:,} tokens, and the vocabulary of the base has {size:,}"
            )
    return ""


def _layers(config: Mapping[str, Any], shapes: Mapping[str, Shape], base: Path) -> str:
    """A pair of A and B that has no layer in the base, or another width."""
    modules = {from_number(m.name): m for m in read_linear_modules(base) or []}
    if not modules or config["peft_type"] != "LORA":
        return ""  # PEFT compares the tensors of other methods when it loads them
    for name, shape in shapes.items():
        if not name.endswith((LORA_A, LORA_B)) or len(shape) != 2:
            continue
        path = name.removesuffix(LORA_A).removesuffix(LORA_B)
        other = path + (LORA_B if name.endswith(LORA_A) else LORA_A)
        if other not in shapes:
            return f"{_plain(name)} has no {other.rpartition('.lora_')[2][0]}"
        module = _module(modules, path.removeprefix(PREFIX))
        if module is None:
            continue  # an end of the model, or experts that are joined in the file
        reason = _width(name, shape, module)
        if reason:
            return reason
    return _unknown_layer(shapes, modules)


def _module(modules: Mapping[str, LinearModule], path: str) -> LinearModule | None:
    return modules.get(from_number(path))


def _width(name: str, shape: Shape, module: LinearModule) -> str:
    is_a = name.endswith(LORA_A)
    found, there = (shape[1], module.width_in) if is_a else (shape[0], module.width_out)
    if found == there:
        return ""
    side = "inputs" if is_a else "outputs"
    return f"{_plain(name)} is for {found:,} {side}, and the layer of the base has {there:,}"


def _unknown_layer(shapes: Mapping[str, Shape], modules: Mapping[str, LinearModule]) -> str:
    """A layer with a number that the base has not, although it has others of the same number."""
    kinds = {name.rpartition(".")[2] for name in modules}
    for name in shapes:
        path = name.partition(".lora_")[0].removeprefix(PREFIX)
        if name.endswith(LORA_A) and LAYER.search(path) and path.rpartition(".")[2] not in kinds:
            return f"it changes {path}, which the base does not have"
    return ""


def _plain(name: str) -> str:
    for end in (LORA_A, LORA_B, EMBEDDING_A, EMBEDDING_B, ".weight"):
        name = name.removesuffix(end)
    return name.removeprefix(PREFIX)
