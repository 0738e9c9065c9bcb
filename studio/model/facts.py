"""Facts about a model that is not loaded: size, depth, context, licence.

They are shown on the node within milliseconds. They come from config.json, the tokenizer's config,
the README's front matter and the headers of the weight files. No torch, no weights, no network.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from studio.graph.node_type import Fact
from studio.model.folder_files import json_or_empty, read_text, shown
from studio.model.gguf_header import BadGguf, read_gguf_header
from studio.model.known_models import KnownModel, known_model
from studio.model.models import kind_of, local_folder, starter_of
from studio.model.weight_files import tensor_shapes, weight_files
from studio.system.file_stamp import Stamp, file_stamp
from studio.system.number_text import counted

GB = 1e9
_LICENCE = re.compile(r"^license:[ \t]*([\w.+-]+)[ \t]*$", re.MULTILINE)
_NAMES: dict[str, tuple[str, ...]] = {
    "layers": ("num_hidden_layers", "n_layer", "num_layers", "n_layers"),
    "hidden": ("hidden_size", "n_embd", "d_model", "dim"),
    "context": ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"),
    "vocabulary": ("vocab_size",),
}


@dataclass(frozen=True)
class ModelFacts:
    """Facts of one model; ``None`` if unknown. Sizes in bytes."""

    architecture: str | None = None
    parameters: int | None = None
    layers: int | None = None
    hidden: int | None = None
    context: int | None = None
    vocabulary: int | None = None
    chat_template: bool | None = None
    licence: str | None = None
    bytes_on_disk: int | None = None
    own_code: bool = False


def model_facts(model: str, project_dir: Path) -> ModelFacts | None:
    """The facts of a local model, a starter or a known model of the Hub, otherwise ``None``."""
    folder = local_folder(model.strip(), project_dir)
    starter = starter_of(model.strip())
    found = folder_facts(folder) if folder is not None else None
    if starter is None:
        if found is not None:
            return found
        if kind_of(model.strip(), project_dir) == "gguf":
            return gguf_facts(project_dir / Path(model.strip()).expanduser())
        known = known_model(model)
        return known_facts(known) if known is not None else None
    if found is None:
        return ModelFacts(**starter.facts, licence=starter.licence, chat_template=True)
    return ModelFacts(**{**vars(found), "licence": starter.licence})


def known_facts(known: KnownModel) -> ModelFacts:
    """The facts of a model that is not on this machine, from its shape."""
    found = _of_config(known.config)
    return replace(found, chat_template=True, licence=known.licence)


def gguf_facts(file: Path) -> ModelFacts | None:
    """The facts of a GGUF file, from its header; ``None`` if it cannot be read."""
    try:
        header, size = read_gguf_header(file), file.stat().st_size
    except (OSError, BadGguf):
        return None
    return ModelFacts(
        architecture=header.architecture,
        parameters=header.parameters,
        context=header.context,
        chat_template=header.chat_template,
        licence=header.licence,
        bytes_on_disk=size,
    )


def folder_facts(folder: Path) -> ModelFacts | None:
    """The facts of a model folder, or ``None`` if it has no readable config."""
    config = folder / "config.json"
    try:
        return _facts(folder, file_stamp(config), file_stamp(folder))
    except OSError:
        return None


@lru_cache(maxsize=64)
def _facts(folder: Path, stamp: Stamp, folder_stamp: Stamp) -> ModelFacts | None:
    del stamp, folder_stamp  # part of the cache key, so that a changed folder is read again
    config = json_or_empty(folder, "config.json")
    if not config:
        return None
    parameters, size = _weights(folder)
    return replace(
        _of_config(config, parameters),
        chat_template=_has_template(folder),
        licence=licence_in(folder),
        bytes_on_disk=size,
        own_code="auto_map" in config,
    )


def _of_config(config: Mapping[str, Any], parameters: int | None = None) -> ModelFacts:
    """Architecture and sizes; the number of parameters from the shape, unless it is given."""
    text = config.get("text_config")
    inner: Mapping[str, Any] = {**config, **text} if isinstance(text, dict) else config
    numbers = {name: _number(inner, keys) for name, keys in _NAMES.items()}
    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and names else config.get("model_type")
    return ModelFacts(
        architecture=shown(name) if name else None,
        parameters=parameters or _by_shape(config),
        layers=numbers["layers"],
        hidden=numbers["hidden"],
        context=numbers["context"],
        vocabulary=numbers["vocabulary"],
    )


def licence_in(folder: Path) -> str | None:
    """The licence in the front matter of a folder's README."""
    try:
        text = read_text(folder, "README.md")[:4000]
    except (OSError, ValueError):
        return None
    found = _LICENCE.search(text.split("\n---", 1)[0]) if text.startswith("---") else None
    return found.group(1) if found else None


def _number(config: Mapping[str, Any], names: Iterable[str]) -> int | None:
    found = (config.get(name) for name in names)
    return next((v for v in found if type(v) is int and v > 0), None)


def _weights(folder: Path) -> tuple[int | None, int | None]:
    """Parameters and bytes of the files that transformers loads."""
    try:
        files = weight_files(folder)
        count = sum(math.prod(shape) for f in files for _, shape in tensor_shapes(f))
        return (count, sum(f.stat().st_size for f in files)) if files else (None, None)
    except (OSError, ValueError):
        return None, None


def _by_shape(config: Mapping[str, Any]) -> int | None:
    """The number of parameters of a known architecture, without its weights."""
    from studio.model.read_shape import shape_of_config

    shape = shape_of_config(config)
    return shape.parameters if shape is not None else None


def _has_template(folder: Path) -> bool:
    if (folder / "chat_template.jinja").is_file() or (folder / "chat_template.json").is_file():
        return True
    return bool(json_or_empty(folder, "tokenizer_config.json").get("chat_template"))


# ------------------------------------------------------------------ as text


def describe(facts: ModelFacts) -> list[Fact]:
    """The facts as labels and values, the most important first."""
    size = counted(facts.parameters) if facts.parameters is not None else None
    rows = [
        ("Parameters", size, size),
        ("Layers", _plain(facts.layers), f"{facts.layers} layers"),
        ("Hidden size", _plain(facts.hidden), ""),
        ("Context", f"{facts.context:,} tokens" if facts.context else None, ""),
        ("Vocabulary", f"{facts.vocabulary:,} tokens" if facts.vocabulary else None, ""),
        ("Chat template", {True: "yes", False: "none", None: None}[facts.chat_template], ""),
        ("License", facts.licence or "not stated", ""),
        ("On disk", sized(facts.bytes_on_disk), ""),
        ("Architecture", facts.architecture, ""),
    ]
    return [Fact(label, value, short or "") for label, value, short in rows if value]


def sized(size: int | None) -> str | None:
    """Bytes as MB or GB."""
    if size is None:
        return None
    return f"{size / GB:.1f} GB" if size >= GB else f"{max(1, round(size / 1e6))} MB"


def _plain(number: int | None) -> str | None:
    return f"{number:,}" if number else None
