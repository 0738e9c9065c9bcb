"""The tensors of a model as llama.cpp expects them: their names, shapes, order of rows, and types.

A tensor is read when it is written, so that one of them is in memory at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType

from studio.errors import StudioError
from studio.export_folder.gguf_architectures import Architecture, experts_of
from studio.export_folder.gguf_mixtures import Facts
from studio.export_folder.gguf_types import size_of, type_of
from studio.training.export.gguf_blocks import BY_LIBRARY, Blocks
from studio.training.export.gguf_config import rope_factors
from studio.training.export.gguf_experts import Experts, experts_in
from studio.training.model.weights_file import StoredWeights

Config = Mapping[str, Any]
Array = np.ndarray[Any, Any]
_UNUSED = ("rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias")
_LAYERS_OF_70B = 80
_BLOCK_ELEMENTS = 4_000_000
"""Elements that are converted at once: the intermediate arrays of the quantization need several times their size."""


@dataclass(frozen=True)
class Tensor:
    """A tensor of the file: its name, its shape with the rows first, and how it is read. ``offset`` is added.
    ``head``: it computes the logits. ``facts`` decide its type in K- and I-quants."""

    name: str
    shape: tuple[int, ...]
    read: Callable[[], torch.Tensor]
    offset: float = 0.0
    head: bool = False
    facts: Facts | None = None

    def type_for(self, quantization: str, matrix: bool = False) -> GGMLQuantizationType:
        """The type in a file of this quantization; see ``type_of``."""
        facts = self.facts or Facts(1)
        return GGMLQuantizationType[
            type_of(self.name, self.shape, quantization, facts, self.head, matrix)
        ]

    def size(self, quantization: str, matrix: bool = False) -> int:
        """The bytes of its data in a file of this quantization."""
        return size_of(self.shape, self.type_for(quantization, matrix).name)


def converted(
    tensor: Tensor,
    stored: torch.Tensor,
    kind: GGMLQuantizationType,
    tick: Callable[[], None],
    blocks: Blocks | None = None,
    importance: Array | None = None,
) -> Array:
    """The data of a tensor in this type. ``tick`` is called for every few million elements and may raise.
    ``blocks`` writes K- and I-quants, whose ``importance`` (columns) may be given."""
    rows = stored.reshape(-1, stored.shape[-1])
    size, bytes_of = gguf.GGML_QUANT_SIZES[kind]
    plain = {GGMLQuantizationType.F32: np.float32, GGMLQuantizationType.F16: np.float16}.get(kind)
    width = rows.shape[1] if plain else rows.shape[1] // size * bytes_of
    found: Array = np.empty((rows.shape[0], width), dtype=plain or np.uint8)
    step = max(1, _BLOCK_ELEMENTS // rows.shape[1])
    for start in range(0, rows.shape[0], step):
        tick()
        block = rows[start : start + step].float()
        if tensor.offset:
            block = block + tensor.offset
        values = block.contiguous().numpy()
        if blocks is not None and kind.name in BY_LIBRARY:
            found[start : start + step] = blocks.quantize(values, kind, importance)
        else:
            found[start : start + step] = gguf.quants.quantize(values, kind)
    return found.reshape(*stored.shape[:-1], width)


class Names:
    """Finds the name in GGUF of a tensor of transformers."""

    def __init__(self, found: Architecture, config: Config) -> None:
        layers = config.get("num_hidden_layers") or config["n_layer"]
        arch = next(k for k, v in gguf.MODEL_ARCH_NAMES.items() if v == found.name)
        self._map = gguf.get_tensor_name_map(arch, int(layers))
        self._arch = found.name

    def of(self, name: str) -> str:
        """The name in GGUF. Raises ``StudioError`` for a tensor that the architecture does not have."""
        # Some models are stored without the prefix of the head's class, such as GPT-2 on the Hub.
        for full in (name, f"model.{name}", f"transformer.{name}"):
            mapped = self._map.get_name(full, try_suffixes=(".weight", ".bias"))
            if mapped is not None:
                break
        if mapped is None:
            raise StudioError(
                f"the tensor {name} has no place in a GGUF file of the architecture {self._arch}.",
                title="The model cannot be written as GGUF",
                hint="Choose the format Safetensors folder.",
                code="gguf_unsupported",
                field="format",
            )
        return mapped


def permuted(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """The rows of Q or K in the order of llama.cpp: within a head, the two halves are interleaved."""
    half = weight.shape[0] // heads // 2
    parts = weight.reshape(heads, 2, half, *weight.shape[1:])
    return parts.transpose(1, 2).reshape(weight.shape)


def rows_of(found: Architecture, config: Config, name: str, weight: torch.Tensor) -> torch.Tensor:
    """The rows of a weight (or of B of an adapter) in the order that llama.cpp expects."""
    if not found.permuted:
        return weight
    layer = name.rpartition(".")[0] if name.endswith((".weight", ".bias")) else name
    heads = config["num_attention_heads"]
    if layer.endswith("k_proj"):
        heads = config.get("num_key_value_heads") or heads
    elif not layer.endswith("q_proj"):
        return weight
    return permuted(weight, heads)


def model_tensors(folder: Path, found: Architecture, config: Config) -> list[Tensor]:
    """The tensors of a stored model, in the order of its files; none is read yet."""
    stored = StoredWeights(folder)
    names = Names(found, config)
    tied = bool(config.get("tie_word_embeddings"))
    facts = _facts(found, config, tied)
    tensors = [
        Tensor(name, array.shape, lambda a=array: torch.from_numpy(a))  # type: ignore[misc]
        for name, array in rope_factors(config).items()
    ]
    experts, used = (
        experts_in(stored.entries()) if found.gates_normalized is not None else ({}, set())
    )
    for name, part in experts.items():
        if part.shape[0] != experts_of(config):
            raise StudioError(
                f"{name} has {part.shape[0]} experts, and the config of the model says {experts_of(config)}.",
                title="The model is not complete",
                hint="Download or copy the model again.",
                code="gguf_unsupported",
                field="format",
            )
        tensors.append(Tensor(name, part.shape, partial(_experts, stored, part), facts=facts))
    for entry in stored.entries():
        unused = entry.name.endswith(_UNUSED) or (tied and entry.name == "lm_head.weight")
        if unused or entry.name in used:
            continue
        shape = entry.shape
        if entry.name.endswith(found.transposed) and len(shape) == 2:
            shape = (shape[1], shape[0])
        norm = found.norm_offset if entry.name.endswith("norm.weight") else 0.0
        read = _reader(stored, entry.name, found, config)
        name = names.of(entry.name)
        if name.endswith("ffn_gate_inp_shexp.weight"):  # one row
            shape = shape[-1:]
        head = name == ("token_embd.weight" if tied else "output.weight")
        tensors.append(Tensor(name, shape, read, norm, head, facts))
    return tensors


def _facts(found: Architecture, config: Config, tied: bool) -> Facts:
    """What decides the types of K- and I-quants. llama.cpp calls Llama and Qwen 2 with 80 layers 70B models."""
    layers = int(config.get("num_hidden_layers") or config["n_layer"])
    heads = int(config.get("num_attention_heads") or config["n_head"])
    groups = heads // int(config.get("num_key_value_heads") or heads)
    large = layers == _LAYERS_OF_70B and (found.name == "qwen2" or groups > 1)
    experts = experts_of(config) if found.gates_normalized is not None else 0
    return Facts(layers, groups, tied, experts, large and found.name in ("llama", "qwen2"))


def _experts(stored: StoredWeights, part: Experts) -> torch.Tensor:
    return part.read(stored.tensor).contiguous()


def _reader(
    stored: StoredWeights, name: str, found: Architecture, config: Config
) -> Callable[[], torch.Tensor]:
    def read() -> torch.Tensor:
        weight = stored.tensor(name)
        if name.endswith(found.transposed) and weight.dim() == 2:
            weight = weight.T
        return rows_of(found, config, name, weight).contiguous()

    return read
