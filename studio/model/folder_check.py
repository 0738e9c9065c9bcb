"""What is wrong with a model folder, found from names, configs and the headers of weight files.

A received folder is checked before anything of it is used: while the project is edited, before an
estimate, in the Base model step, and again whenever the model is loaded. Nothing is imported or run, no
weights are read, and no torch is needed. A folder without faults may still be refused when transformers
loads it, but never the other way round: what loads properly has no faults.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from studio.errors import StudioError
from studio.model.expected_tensors import Differences, differences
from studio.model.families import FAMILIES
from studio.model.family_shape import invalid_size
from studio.model.folder_files import (
    fault_of,
    is_inside,
    json_or_empty,
    read_json,
    shown,
    what_to_do,
)
from studio.model.gguf_header import BadGguf, read_gguf_header
from studio.model.layers import TOWERS
from studio.model.supported import installed_version, supported
from studio.model.trust import asks_for_code
from studio.model.weight_files import (
    DISTRIBUTED,
    INDEX,
    SINGLE,
    BadWeights,
    Stored,
    stored_tensors,
    weight_files,
    weight_map,
)
from studio.system.file_stamp import Stamp, file_stamp

TEMPLATES = "additional_chat_templates"
_MODEL_SUFFIXES = (".json", ".safetensors", ".jinja", ".txt", ".model", ".tiktoken", ".py")
_ADAPTER = "adapter_config.json"
_AGAIN = "Download or copy the model again."
_LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
_COUNTS = (*_LAYERS, "num_attention_heads", "num_experts", "num_local_experts", "n_routed_experts")
_MOST = 100_000
_OTHER_FILES = ("transformers_weights", "configuration_files")
_EXPERT = re.compile(r"(.+\.experts)\.(\d+)\.(.+)")
_FLOATS = ("F64", "F32", "F16", "BF16")
_NAMED = 3


@dataclass(frozen=True)
class Fault:
    """Why a model folder cannot be used: a sentence, what to do, and the file it concerns."""

    sentence: str
    code: str
    hint: str
    file: str

    def error(self, title: str = "The model cannot be used") -> StudioError:
        """The fault as an error of the Base model node."""
        return StudioError(
            self.sentence,
            title=title,
            hint=self.hint,
            field="model",
            code=self.code,
            file=self.file,
        )


def refuse_faults(folder: Path) -> None:
    """Raise ``StudioError`` with the first fault of a model folder."""
    for fault in folder_faults(folder):
        raise fault.error()


def folder_faults(folder: Path) -> tuple[Fault, ...]:
    """The faults of a model folder; empty if there are none."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(e.name for e in entries)
    except OSError as error:
        sentence = f"the folder {folder} cannot be read: {error.strerror or error}."
        return (Fault(sentence, "unreadable_file", "Check its permissions.", str(folder)),)
    paths = tuple(_read_paths(folder, names))
    return _checked(folder, paths, tuple(map(_stamp, paths)))


def gguf_faults(file: Path) -> tuple[Fault, ...]:
    """The faults of a GGUF file, from its header."""
    try:
        if not file.is_file():
            what = "is not a regular file" if file.exists() else "does not exist"
            return (Fault(f"{file} {what}.", "missing_file", "Choose another file.", str(file)),)
        header = read_gguf_header(file)
    except BadGguf as error:
        return (Fault(f"{error}.", "bad_weights", "Download or copy the file again.", str(file)),)
    except OSError as error:
        sentence = f"{file.name} cannot be read: {error.strerror or error}."
        return (Fault(sentence, "unreadable_file", "Check its permissions.", str(file)),)
    if header.kind != "model":
        what = (
            "an adapter" if header.kind == "adapter" else f"a file of the type {shown(header.kind)}"
        )
        hint = "Choose the base model of the adapter, and the adapter in a Load Adapter node."
        return (
            Fault(
                f"{file.name} contains {what}, not a model.",
                "adapter_folder" if header.kind == "adapter" else "not_a_model",
                hint if header.kind == "adapter" else "Choose a GGUF file with a model.",
                str(file),
            ),
        )
    return ()


def _stamp(path: Path) -> tuple[Stamp | None, Stamp | None]:
    """What changes with a file, and with a link to it."""
    try:
        link = path.lstat()
    except OSError:
        return None, None
    try:
        own: Stamp | None = file_stamp(path)
    except (OSError, ValueError):
        own = None
    return (link.st_mtime_ns, link.st_ctime_ns, link.st_size), own


@lru_cache(maxsize=32)
def _checked(folder: Path, paths: tuple[Path, ...], stamps: tuple[Any, ...]) -> tuple[Fault, ...]:
    """The faults of the first kind of check that finds any; a later one could not trust the files.
    ``stamps`` change with the files.
    """
    del stamps
    if found := tuple(_files(folder, paths)):
        return found
    names = [p.name for p in paths if p.parent == folder]
    for check in (_adapters, _config, _weights, _model_type, _tensors):
        found = tuple(check(folder, names))
        if found:
            return found
    return ()


# ------------------------------------------------------------------ files


def _files(folder: Path, paths: Collection[Path]) -> Iterator[Fault]:
    """Links that lead out, pipes, devices, and folders with the name of a file."""
    for path in paths:
        code, words = fault_of(folder, path)
        is_folder = code == "not_a_file" and path.is_dir()
        if not code or (is_folder and path.suffix not in _MODEL_SUFFIXES):
            continue
        if code == "link_outside" and path.is_dir() and path.name != TEMPLATES:
            continue  # nothing reads such a folder
        name = shown(path.relative_to(folder).as_posix())
        yield Fault(f"{name} {words}.", code, what_to_do(code, name), str(folder))
    if names_outside := _names_outside(folder):
        file, name = names_outside
        sentence = f"{file} names {name}, which is outside the model folder."
        yield Fault(sentence, "link_outside", what_to_do("link_outside", name), str(folder))


def _read_paths(folder: Path, names: Collection[str]) -> Iterator[Path]:
    """Everything that the program or transformers may open in a model folder."""
    yield from (folder / name for name in names)
    if TEMPLATES in names and is_inside(folder, folder / TEMPLATES):
        yield from sorted((folder / TEMPLATES).glob("*"))
    if not asks_for_code(folder):
        return
    for place, folders, files in os.walk(folder):  # does not follow links
        folders[:] = [f for f in folders if not f.startswith(".")]
        if Path(place) != folder:
            yield from (Path(place, f) for f in sorted(files) if f.endswith(".py"))


_LISTS = (("config.json", "configuration_files"), ("tokenizer_config.json", "fast_tokenizer_files"))


def _names_outside(folder: Path) -> tuple[str, str] | None:
    """A file of the model that names another one outside the folder, and that name."""
    for file, key in _LISTS:
        listed = json_or_empty(folder, file).get(key)
        for name in listed if isinstance(listed, list) else ():
            if isinstance(name, str) and not is_inside(folder, folder / name):
                return file, shown(name)
    return None


# ------------------------------------------------------------------ adapters


def _adapters(folder: Path, names: Collection[str]) -> Iterator[Fault]:
    """A PEFT adapter in place of a model, or beside one, which transformers would load with it."""
    if _ADAPTER not in names:
        return
    if "config.json" in names and (SINGLE in names or INDEX in names):
        yield Fault(
            f"the folder also contains a PEFT adapter ({_ADAPTER}), which transformers would load "
            "together with the model.",
            "adapter_beside",
            f"Move {_ADAPTER} and adapter_model.safetensors to a folder of their own, or choose a "
            "model into which the adapter is merged.",
            str(folder),
        )
        return
    base = json_or_empty(folder, _ADAPTER).get("base_model_name_or_path")
    named = f", {shown(base)}" if isinstance(base, str) and base else ""
    yield Fault(
        f"the folder {folder} contains a PEFT adapter, not a model.",
        "adapter_folder",
        f"Choose the base model of the adapter{named}, and the adapter in a Load Adapter node.",
        str(folder),
    )


# ------------------------------------------------------------------ config


def _config(folder: Path, names: Collection[str]) -> Iterator[Fault]:
    if "config.json" not in names:
        yield Fault(
            f"the folder {folder} has no config.json, so it is not a model.",
            "not_a_model",
            "Choose the folder that contains config.json and the .safetensors files.",
            str(folder),
        )
        return
    file = str(folder / "config.json")
    try:
        config = read_json(folder, "config.json")
    except (OSError, ValueError) as error:
        reason = shown(str(error))
        yield Fault(f"config.json cannot be read: {reason}.", "not_a_model", _AGAIN, file)
        return
    if not isinstance(kind := config.get("model_type") or "", str):
        sentence = f"model_type in config.json is {shown(kind)}, which is not a name."
        yield Fault(sentence, "bad_config", _AGAIN, file)
        return
    if other := next((k for k in _OTHER_FILES if k in config), ""):
        yield Fault(
            f"config.json refers to other files ({other}), which is not supported.",
            "unsupported_model",
            f"Choose a folder with config.json and {SINGLE} that does not need them.",
            file,
        )
    if wrong := _wrong_number(config):
        yield Fault(
            f"{wrong[0]} in config.json is {shown(wrong[1])}, which is not possible.",
            "bad_config",
            _AGAIN,
            file,
        )


def _wrong_number(config: Mapping[str, Any]) -> tuple[str, Any] | None:
    if config.get("model_type") in FAMILIES and (wrong := invalid_size(config)):
        return wrong
    counts = _numbers(config, _COUNTS)
    return next(((k, n) for k, n in counts if not 0 <= n <= _MOST), None)


def _numbers(config: Mapping[str, Any], keys: Collection[str]) -> Iterator[tuple[str, int]]:
    """The integers under these keys, in the config and in that of its text model."""
    for part in (config, config.get("text_config")):
        if isinstance(part, dict):
            yield from ((k, part[k]) for k in keys if isinstance(part.get(k), int))


def _model_type(folder: Path, names: Collection[str]) -> Iterator[Fault]:
    """A model that is quantized, that is not a causal language model, or that is too new."""
    del names
    config, file = read_json(folder, "config.json"), str(folder / "config.json")
    if (quantization := config.get("quantization_config")) is not None:
        method = quantization.get("quant_method") if isinstance(quantization, dict) else None
        yield Fault(
            f"the model is already quantized ({shown(method or 'unknown method')}).",
            "quantized_source",
            "Choose the original model and set Quantization here.",
            file,
        )
        return
    known, kind = supported(), config.get("model_type")
    if known is None or asks_for_code(folder):
        return
    reason = ""
    if kind is None and not any(t in str(folder) for t in known.types):
        reason = "its config.json has no model_type"
    elif kind is not None and kind not in known.types:
        reason = f"transformers {installed_version('transformers')} does not know the model type {shown(kind)}"
    elif kind is not None and kind not in known.causal:
        reason = f"{shown(kind)} is not a causal language model"
    elif other := next((a for a in _architectures(config) if a in known.others), ""):
        reason = f"{other} is not a causal language model"
    if reason:
        hint = "Choose a model that transformers supports."
        if kind is not None and kind not in known.types:
            hint = f"{_written_by(config)}Update LoRA Studio, or choose another model."
        sentence = f"the model cannot be fine-tuned here: {reason}."
        yield Fault(sentence, "unsupported_model", hint, file)


def _architectures(config: Mapping[str, Any]) -> list[str]:
    found = config.get("architectures")
    return [a for a in found if isinstance(a, str)] if isinstance(found, list) else []


def _written_by(config: Mapping[str, Any]) -> str:
    version = config.get("transformers_version")
    return f"The model was saved by transformers {shown(version)}. " if version else ""


# ------------------------------------------------------------------ weights


def _weights(folder: Path, names: Collection[str]) -> Iterator[Fault]:
    """Missing, truncated or damaged weight files."""
    if other := next((n for n in names if DISTRIBUTED.fullmatch(n)), ""):
        yield Fault(
            f"the folder contains a distributed checkpoint ({other}), which transformers would load "
            "in place of the model.",
            "bad_weights",
            f"Save the model as {SINGLE}, or remove the files that are named shard-….",
            str(folder),
        )
        return
    try:
        files = weight_files(folder)
    except (OSError, ValueError) as error:
        yield Fault(f"{_index_fault(error)}.", "bad_weights", _AGAIN, str(folder / INDEX))
        return
    if not files:
        yield _no_weights(folder, names)
    for file in files:
        yield from _file_faults(file)


def _index_fault(error: Exception) -> str:
    return str(error) if isinstance(error, BadWeights) else f"{INDEX} cannot be read: {error}"


def _no_weights(folder: Path, names: Collection[str]) -> Fault:
    if any(n.endswith(".bin") for n in names):
        why, code = "contains weights only as .bin pickles, which can run code", "pickle_weights"
        hint = "Convert the model to safetensors first."
    else:
        why, code, hint = "has no weights", "no_weights", f"It needs {SINGLE}, or {INDEX}."
        if other := next((n for n in names if n.endswith((".safetensors", ".gguf"))), ""):
            why += f" that transformers loads, only {shown(other)}"
    return Fault(f"the folder {folder} {why}.", code, hint, str(folder))


def _file_faults(file: Path) -> Iterator[Fault]:
    try:
        stored_tensors(file)
    except FileNotFoundError:
        yield Fault(f"{file.name} is missing.", "bad_weights", _AGAIN, str(file))
    except BadWeights as error:
        yield Fault(f"{error}.", "bad_weights", _AGAIN, str(file))
    except OSError as error:
        sentence = f"{file.name} cannot be read: {error.strerror or error}."
        yield Fault(sentence, "unreadable_file", "Check its permissions.", str(file))


def _tensors(folder: Path, names: Collection[str]) -> Iterator[Fault]:
    """Tensors that are missing, surplus or of another shape than the config describes."""
    config, where = read_json(folder, "config.json"), str(folder)
    stored: dict[str, Stored] = {}
    for file in weight_files(folder):
        stored.update(stored_tensors(file))
    if SINGLE not in names:
        yield from _not_in_their_files(folder)
    if wrong := next((n for n, t in stored.items() if _is_wrong_dtype(n, t)), ""):
        sentence = f"{shown(wrong)} is stored as {stored[wrong].dtype}, which cannot be trained."
        hint = "Choose the original model in float32, bfloat16 or float16."
        yield Fault(sentence, "quantized_source", hint, where)
        return
    if count := _too_many_layers(config, stored):
        key, layers = count
        sentence = (
            f"config.json describes {layers:,} layers ({key}), and the weights contain only "
            f"{len(stored):,} tensors."
        )
        yield Fault(sentence, "layer_count", _AGAIN, where)
        return
    found = differences(config, stored)
    if found is not None:
        yield from _difference_faults(found, where)
    elif lost := _uneven_experts(stored):
        yield from tensor_faults(lost, (), {}, where)


def _not_in_their_files(folder: Path) -> Iterator[Fault]:
    """Tensors that the index places in a file that does not contain them."""
    listed = weight_map(folder)
    inside = {name: stored_tensors(folder / name) for name in set(listed.values())}
    lost = [n for n, file in listed.items() if n not in inside[file]]
    if lost:
        sentence = f"{INDEX} lists {_named(lost)}, which its files do not contain."
        yield Fault(sentence, "missing_tensors", _AGAIN, str(folder / INDEX))


def _is_wrong_dtype(name: str, tensor: Stored) -> bool:
    return name.endswith(".weight") and len(tensor.shape) > 1 and tensor.dtype not in _FLOATS


def _too_many_layers(config: Mapping[str, Any], stored: Collection[str]) -> tuple[str, int] | None:
    """A number of layers that is larger than the number of tensors, before any layer is built."""
    return next(((k, n) for k, n in _numbers(config, _LAYERS) if n > len(stored)), None)


def _uneven_experts(stored: Collection[str]) -> list[str]:
    """Tensors that other experts of the same layer have. transformers joins the experts of a layer, and does
    not name what is missing.
    """
    layers: dict[str, dict[str, set[str]]] = {}
    for name in stored:
        if found := _EXPERT.fullmatch(name):
            layer, number, part = found.groups()
            layers.setdefault(layer, {}).setdefault(number, set()).add(part)
    return [
        f"{layer}.{number}.{part}"
        for layer, experts in layers.items()
        for number, parts in experts.items()
        for part in sorted(set().union(*experts.values()) - parts)
    ]


def _difference_faults(found: Differences, where: str) -> Iterator[Fault]:
    there, wanted = found.layers
    if there != wanted:
        sentence = f"config.json describes {wanted} layers, and the weights contain {there}."
        yield Fault(sentence, "layer_count", _AGAIN, where)
        return
    yield from tensor_faults(found.missing, found.surplus, found.shapes, where)


def tensor_faults(
    missing: Collection[str],
    surplus: Collection[str],
    shapes: Mapping[str, tuple[Collection[int], Collection[int]]],
    where: str,
) -> Iterator[Fault]:
    """The faults of weights that do not fit a model: ``shapes`` maps a name to its stored and its
    expected shape. Tensors of vision and audio towers may be surplus."""
    if missing:
        sentence = f"{_counted(missing, 'of the model')} missing in the weights: {_named(missing)}."
        yield Fault(sentence, "missing_tensors", _AGAIN, where)
    more = [n for n in surplus if set(TOWERS).isdisjoint(n.split("."))]
    other_model = "config.json and the weights may belong to different models. " + _AGAIN
    if more:
        sentence = (
            f"{_counted(more, 'in the weights')} not part of the model that config.json describes: "
            f"{_named(more)}."
        )
        yield Fault(sentence, "surplus_tensors", other_model, where)
    for name, (stored, wanted) in list(shapes.items())[:1]:
        rest = f", and {len(shapes) - 1} more differ" if len(shapes) > 1 else ""
        sentence = (
            f"{shown(name)} has the shape {_size(stored)} in the weights, and {_size(wanted)} "
            f"according to config.json{rest}."
        )
        yield Fault(sentence, "wrong_shapes", other_model, where)


def _counted(names: Collection[str], where: str) -> str:
    return f"1 tensor {where} is" if len(names) == 1 else f"{len(names):,} tensors {where} are"


def _named(names: Collection[str]) -> str:
    first = [shown(n) for n in sorted(names)[:_NAMED]]
    rest = len(names) - len(first)
    return ", ".join(first) + (f" and {rest:,} more" if rest else "")


def _size(shape: Collection[int]) -> str:
    return " × ".join(map(str, shape)) or "of a single number"
