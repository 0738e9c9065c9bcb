"""Finds the shape of a model, from its ``config.json`` alone if its architecture is known.

Parameters and memory are shown while settings are edited, also for models that are not downloaded.
Known architectures are computed (``family_shape``); for others the headers of the weight files are
used. Weights are not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from studio.model.family_shape import family_shape
from studio.model.folder_files import read_json
from studio.model.layers import read_linear_modules
from studio.model.shapes import Shape, joined_linears
from studio.model.weight_files import tensor_shapes, weight_files
from studio.system.file_stamp import Stamp, file_stamp


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a config for the language model."""
    inner = config.get("text_config")
    return inner if isinstance(inner, Mapping) else config


def shape_of_config(config: Mapping[str, Any]) -> Shape | None:
    """The shape described by a config; ``None`` for an unknown architecture."""
    try:
        return family_shape(config)
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError):
        return None


def read_shape(folder: Path) -> Shape | None:
    """The shape of the model in a folder that has at least a ``config.json``."""
    file = folder / "config.json"
    try:
        return _read(folder, file_stamp(file))
    except OSError:
        return None


@lru_cache(maxsize=32)
def _read(folder: Path, stamp: Stamp) -> Shape | None:
    del stamp
    try:
        config = read_json(folder, "config.json")
    except (OSError, ValueError):
        return None
    return shape_of_config(config) or _from_headers(folder, config)


def _from_headers(folder: Path, config: Mapping[str, Any]) -> Shape | None:
    """The shape from the headers of the weight files and the usual keys of a config."""
    text = text_config(config)
    modules = read_linear_modules(folder)
    layers = _first(text, "num_hidden_layers", "n_layer", "num_layers")
    hidden = _first(text, "hidden_size", "n_embd", "d_model")
    heads = _first(text, "num_attention_heads", "n_head") or 1
    if not modules or not layers or not hidden or not 0 < layers <= len(modules):
        return None
    kv_heads = _first(text, "num_key_value_heads") or heads
    size = _first(text, "head_dim") or hidden // heads
    widest = max(max(m.width_in, m.width_out) for m in modules)
    return Shape(
        model_type=str(config.get("model_type", "")),
        layers=layers,
        hidden=hidden,
        feed_forward=_first(text, "intermediate_size", "n_inner", "ffn_dim") or widest,
        query=heads * size,
        key_value=kv_heads * size,
        heads=heads,
        kv_heads=kv_heads,
        vocabulary=_first(text, "vocab_size") or 0,
        tied=bool(config.get("tie_word_embeddings")),
        linears=tuple(joined_linears(modules)),
        total=_stored_parameters(folder),
        norm="unknown",
        exact=False,
    )


def _first(config: Mapping[str, Any], *keys: str) -> int | None:
    found = (config.get(key) for key in keys)
    return next((int(v) for v in found if isinstance(v, int)), None)


def _stored_parameters(folder: Path) -> int:
    total = 0
    for file in weight_files(folder):
        for _, shape in tensor_shapes(file):
            size = 1
            for width in shape:
                size *= width
            total += size
    return total
