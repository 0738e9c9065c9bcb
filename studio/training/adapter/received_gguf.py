"""An adapter from a GGUF file as a LoRA of PEFT: what llama.cpp's converter and the GGUF export do, backwards.

llama.cpp scales B·A of a layer by alpha / rank, whatever its rank. Of the architecture Llama, the rows of Q and K are
in another order there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gguf
import torch
from transformers.pytorch_utils import Conv1D

from studio.errors import StudioError
from studio.export_folder.gguf_architectures import ARCHITECTURES, Architecture
from studio.model.adapter_files import (
    CONFIG,
    EMBEDDING_A,
    EMBEDDING_B,
    LORA_A,
    LORA_B,
    PREFIX,
    WEIGHTS,
)
from studio.model.folder_files import json_or_empty, shown
from studio.system.atomic import write_atomic
from studio.training.model.skeleton import skeleton
from studio.training.saved.tensor_files import write_tensors

_HUB = "https://huggingface.co/"
_CHOOSE = "Choose the base model that the adapter was trained on."


def convert_gguf(file: Path, base: Path, folder: Path) -> None:
    """Write the adapter in ``file`` into ``folder`` in the format of PEFT, in float32, with the names of ``base``.

    Raises ``StudioError`` if it is another kind of file, or belongs to another architecture or to other layers.
    """
    reader = gguf.GGUFReader(file)
    kind, form = _text(reader, gguf.Keys.General.TYPE), _text(reader, gguf.Keys.Adapter.TYPE)
    if kind != gguf.GGUFType.ADAPTER or form != "lora":
        what = (
            f"an adapter of the type {shown(form)}"
            if kind == gguf.GGUFType.ADAPTER
            else "no adapter"
        )
        raise _refused(
            f"{file.name} contains {what}", "Choose a GGUF file with a LoRA adapter.", file
        )
    config = json_or_empty(base, "config.json")
    found = ARCHITECTURES.get(str(config.get("model_type")))
    named = _text(reader, gguf.Keys.General.ARCHITECTURE)
    if found is None or found.name != named:
        own = found.name if found is not None else str(config.get("model_type"))
        raise _refused(
            f"it is for the architecture {shown(named)}, and the base model has {shown(own)}",
            _CHOOSE,
            file,
        )
    model = skeleton(base)
    modules = _modules(model, found, config)
    pairs = dict(_pairs(reader, modules, file))
    if not pairs:
        raise _refused(
            f"{file.name} contains no pair of A and B", "Download or copy it again.", file
        )
    alpha = _number(reader, gguf.Keys.Adapter.LORA_ALPHA)
    tensors, ranks = {}, {}
    for name, (a, b) in pairs.items():
        embedding = isinstance(model.get_submodule(name), torch.nn.Embedding)
        a = a.T if embedding else a  # rows by token in GGUF
        b = _rows(found, config, name, b)
        ranks[name] = len(a)
        ends = (EMBEDDING_A, EMBEDDING_B) if embedding else (LORA_A, LORA_B)
        for end, part in zip(ends, (a, b), strict=True):
            tensors[f"{PREFIX}{name}{end}"] = part.contiguous()
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(tensors, folder / WEIGHTS)
    text = json.dumps(_config(ranks, alpha, model, _base_name(reader)), indent=2)
    write_atomic(folder / CONFIG, text + "\n")


def _config(ranks: Mapping[str, int], alpha: float, model: Any, base: str) -> dict[str, Any]:
    """The config of a LoRA with these ranks. Without an alpha, llama.cpp does not scale."""
    rank = max(ranks.values())
    given = alpha or float(rank)
    others = {name: r for name, r in ranks.items() if r != rank}
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": int(given) if given.is_integer() else given,
        "target_modules": sorted(ranks),
        "rank_pattern": others,
        "alpha_pattern": {} if alpha else dict(others),
        "fan_in_fan_out": any(isinstance(model.get_submodule(n), Conv1D) for n in ranks),
        "inference_mode": True,
    }


def _modules(model: Any, found: Architecture, config: Mapping[str, Any]) -> dict[str, str]:
    """Name of a weight in GGUF -> name of the layer in the base."""
    layers = config.get("num_hidden_layers") or config["n_layer"]
    arch = next(k for k, v in gguf.MODEL_ARCH_NAMES.items() if v == found.name)
    names = gguf.get_tensor_name_map(arch, int(layers))
    modules = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Embedding | Conv1D):
            mapped = names.get_name(f"{name}.weight", try_suffixes=(".weight",))
            if mapped is not None:
                modules[mapped] = name
    return modules


def _pairs(
    reader: gguf.GGUFReader, modules: Mapping[str, str], file: Path
) -> Iterator[tuple[str, tuple[torch.Tensor, torch.Tensor]]]:
    """A and B of each layer as stored, by the name of the layer in the base."""
    stored = {t.name: t for t in reader.tensors}
    for name in stored:
        stem, _, end = name.rpartition(".")
        other = f"{stem}.lora_b" if end == "lora_a" else f"{stem}.lora_a"
        if end not in ("lora_a", "lora_b") or other not in stored:
            reason = "has no pair" if end in ("lora_a", "lora_b") else "is no part of a LoRA"
            raise _refused(f"{shown(name)} {reason}", "Download or copy the file again.", file)
        if end == "lora_b":
            continue
        if stem not in modules:
            raise _refused(f"it changes {shown(stem)}, which the base does not have", _CHOOSE, file)
        yield modules[stem], (_tensor(stored[name]), _tensor(stored[other]))


def _tensor(stored: gguf.ReaderTensor) -> torch.Tensor:
    data = gguf.quants.dequantize(stored.data, stored.tensor_type)
    return torch.from_numpy(data.copy()).float()


def _rows(
    found: Architecture, config: Mapping[str, Any], name: str, b: torch.Tensor
) -> torch.Tensor:
    """B with its rows in the order of transformers."""
    end = name.rpartition(".")[2]
    if not found.permuted or end not in ("q_proj", "k_proj"):
        return b
    heads = config["num_attention_heads"]
    if end == "k_proj":
        heads = config.get("num_key_value_heads") or heads
    if b.shape[0] % (2 * heads):
        return b  # of another width, which is refused with the layer's name
    half = b.shape[0] // heads // 2
    return b.reshape(heads, half, 2, b.shape[1]).transpose(1, 2).reshape(b.shape)


def _base_name(reader: gguf.GGUFReader) -> str:
    """The Hub ID of the base that the file names, or its name; empty if it names none."""
    url = _text(reader, gguf.Keys.General.BASE_MODEL_REPO_URL.format(id=0))
    return url.removeprefix(_HUB) or _text(reader, gguf.Keys.General.BASE_MODEL_NAME.format(id=0))


def _text(reader: gguf.GGUFReader, key: str) -> str:
    field = reader.get_field(key)
    found = field.contents() if field is not None else ""
    return found if isinstance(found, str) else ""


def _number(reader: gguf.GGUFReader, key: str) -> float:
    field = reader.get_field(key)
    found = field.contents() if field is not None else 0.0
    return float(found) if isinstance(found, int | float) else 0.0


def _refused(reason: str, hint: str, file: Path) -> StudioError:
    return StudioError(
        f"the adapter cannot be used: {reason}.",
        title="The adapter cannot be used",
        hint=hint,
        field="adapter",
        code="bad_adapter" if hint != _CHOOSE else "other_base",
        file=str(file),
    )
