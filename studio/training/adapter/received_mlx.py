"""An adapter of mlx-lm as a LoRA or DoRA of PEFT: A and B are transposed, and the scale becomes alpha."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers.pytorch_utils import Conv1D

from studio.errors import StudioError
from studio.model.adapter_files import (
    CONFIG,
    EMBEDDING_A,
    EMBEDDING_B,
    LORA_A,
    LORA_B,
    PREFIX,
    WEIGHTS,
)
from studio.model.folder_files import shown
from studio.model.layer_names import from_number
from studio.model.mlx_adapter import MLX_A, MLX_B, MLX_M, MLX_WEIGHTS, mlx_config
from studio.system.atomic import write_atomic
from studio.training.model.skeleton import skeleton
from studio.training.saved.tensor_files import read_tensors, write_tensors

MAGNITUDE = ".lora_magnitude_vector"
_BESIDE = ("tokenizer*", "special_tokens_map.json", "*.jinja", "lora-studio.json")


def convert_mlx(folder: Path, base: Path, target: Path) -> str:
    """Write the adapter of mlx-lm in ``folder`` into ``target`` in the format of PEFT, with the names of ``base``, and
    return what was converted, in words. Raises ``StudioError`` for layers that the base does not have."""
    config, model = mlx_config(folder), skeleton(base)
    scale = float(config["lora_parameters"]["scale"])
    stored = read_tensors(folder / MLX_WEIGHTS)
    dora = any(name.endswith(MLX_M) for name in stored)
    names = _layers(model)
    tensors: dict[str, torch.Tensor] = {}
    ranks: dict[str, int] = {}
    for name in sorted(n.removesuffix(MLX_A) for n in stored if n.endswith(MLX_A)):
        layer = names.get(from_number(name))
        if layer is None:
            raise _refused(f"it changes {shown(name)}, which the base does not have", folder)
        a, b = stored[name + MLX_A], stored[name + MLX_B]
        magnitude = stored.get(name + MLX_M)
        for path, end, part in _parts(model, layer, a, b, magnitude, folder):
            tensors[f"{PREFIX}{path}{end}"] = part.contiguous()
            ranks[path] = a.shape[1]
    target.mkdir(parents=True, exist_ok=True)
    write_tensors(tensors, target / WEIGHTS)
    made = _config(config, ranks, scale, dora, model)
    write_atomic(target / CONFIG, json.dumps(made, indent=2) + "\n")
    for pattern in _BESIDE:
        for file in sorted(folder.glob(pattern)):
            shutil.copyfile(file, target / file.name)
    return f"{len(ranks)} layers of rank {max(ranks.values())} with scale {scale:g}"


def _layers(model: Any) -> dict[str, str]:
    """The name of a layer from its number on -> its path: before it, mlx-lm and transformers may differ."""
    kinds = (torch.nn.Linear, torch.nn.Embedding, Conv1D)
    return {from_number(n): n for n, m in model.named_modules() if isinstance(m, kinds)}


def _parts(
    model: Any,
    layer: str,
    a: torch.Tensor,
    b: torch.Tensor,
    magnitude: torch.Tensor | None,
    folder: Path,
) -> Iterator[tuple[str, str, torch.Tensor]]:
    """Path, end of the name, and tensor of what PEFT stores for ``a`` (in, rank) and ``b`` (rank, out)."""
    if not isinstance(model.get_submodule(layer), torch.nn.Embedding):
        yield layer, LORA_A, a.T
        yield layer, LORA_B, b.T
        if magnitude is not None:
            yield layer, MAGNITUDE, magnitude
        return
    if magnitude is not None:
        raise _refused(f"DoRA of the embedding {shown(layer)} cannot be converted", folder)
    yield layer, EMBEDDING_A, a.T
    yield layer, EMBEDDING_B, b.T
    if getattr(model.config, "tie_word_embeddings", False):
        # mlx-lm computes the head with the adapted embedding, PEFT with the unchanged one.
        head = model.get_output_embeddings()
        path = next(n for n, m in model.named_modules() if m is head)
        yield path, LORA_A, b
        yield path, LORA_B, a


def _config(
    trained: Mapping[str, Any], ranks: Mapping[str, int], scale: float, dora: bool, model: Any
) -> dict[str, Any]:
    rank = max(ranks.values())
    others = {name: r for name, r in ranks.items() if r != rank}

    def alpha(r: int) -> float:
        return int(scale * r) if float(scale * r).is_integer() else scale * r

    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(trained.get("model") or ""),
        "r": rank,
        "lora_alpha": alpha(rank),
        "lora_dropout": float(trained["lora_parameters"].get("dropout") or 0.0),
        "target_modules": sorted(ranks),
        "rank_pattern": others,
        "alpha_pattern": {name: alpha(r) for name, r in others.items()},
        "use_dora": dora,
        "fan_in_fan_out": any(isinstance(model.get_submodule(n), Conv1D) for n in ranks),
        "inference_mode": True,
    }


def _refused(reason: str, folder: Path) -> StudioError:
    return StudioError(
        f"the adapter cannot be used: {reason}.",
        title="The adapter cannot be used",
        hint="Choose the base model that the adapter was trained on.",
        field="adapter",
        code="other_base",
        file=str(folder / MLX_WEIGHTS),
    )
