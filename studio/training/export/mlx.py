"""Writes an adapter as mlx-lm reads it: ``mlx_lm.generate --model BASE --adapter-path FOLDER``.

A LoRA gets one rank and scale 1, as in the portable form; a DoRA stays one. mlx-lm adapts the layers that are listed by
their names within a decoder layer, in the last ``num_layers`` of these, and others by their full names; layers that the
adapter does not change get an A and B without effect. Formulas and names: ``mlx_lm/tuner``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from studio.errors import StudioError
from studio.export_folder.copy_files import copy_files
from studio.export_folder.model_card import base_name
from studio.export_folder.optional import MLX
from studio.graph.context import StepContext
from studio.model.adapter_files import CONFIG, LORA_A, LORA_B, PREFIX, scale_of
from studio.model.folder_files import json_or_empty
from studio.model.layer_names import block_and_part
from studio.model.mlx_adapter import MLX_A, MLX_B, MLX_M, MLX_WEIGHTS, NAMED_ALIKE
from studio.node_settings.export import SafetensorsSettings
from studio.system.atomic import write_atomic
from studio.training.adapter.received_mlx import MAGNITUDE
from studio.training.export.portable import NotPlain, Pair, Plain, plain_form
from studio.training.model.configs import write_stop_token
from studio.training.saved.snapshot import ADAPTER
from studio.training.saved.tensor_files import read_tensors, write_tensors
from studio.training.tokens.chat import load_tokenizer
from studio.values import AdapterValue
from studio.variants.exporter import Readable, Written

_MERGE = "Merge the adapter and export the model, which mlx-lm loads as it is."


def write_mlx(
    context: StepContext, value: AdapterValue, settings: SafetensorsSettings, folder: Path
) -> Written:
    """Write config, weights and tokenizer. Raises ``StudioError`` for what mlx-lm would apply differently."""
    base = json_or_empty(Path(value.model.model.path), "config.json")
    if base.get("model_type") not in NAMED_ALIKE:
        raise _refused(
            f"mlx-lm may name the layers of the architecture {base.get('model_type')} differently",
            "Supported are Llama, Mistral, Qwen 2, 2.5 and 3, Gemma 1 to 3 (text) and Phi-3. "
            + _MERGE,
        )
    pairs, magnitudes, plain = _pairs(context, value, settings)
    pairs = _without_head(pairs, bool(base.get("tie_word_embeddings")))
    rank = max(p.a.shape[0] for p in pairs.values())
    tensors: dict[str, torch.Tensor] = {}
    for path, pair in pairs.items():
        a, b = pair.padded(rank)
        tensors[path + MLX_A], tensors[path + MLX_B] = a.T.contiguous(), b.T.contiguous()
    tensors |= {path + MLX_M: m.float().contiguous() for path, m in magnitudes.items()}
    named = base_name(value.model.model)
    copy_files(context, Path(value.path), folder, link_weights=False, weights=False)
    config = _config(named or value.model.model.path, pairs, rank, base, bool(magnitudes))
    write_atomic(folder / CONFIG, json.dumps(config, indent=2) + "\n")
    write_tensors(tensors, folder / MLX_WEIGHTS)
    write_stop_token(folder, load_tokenizer(str(folder)))
    kind = "DoRA" if magnitudes else "LoRA"
    words = f"{kind} of mlx-lm, rank {rank}, scale 1"
    if plain is not None and plain.computed:
        words += (
            f"; {len(plain.computed)} of {len(pairs)} layers were converted, which keeps "
            f"{100 * plain.kept:.2f} % of their change"
        )
    context.notice(f"The adapter was exported as a {words}.", level="info")
    if named is None:
        context.notice(
            f"{CONFIG} contains the path of the base model on this machine.",
            "Replace it with the Hub ID of the base model before you share the adapter.",
            "info",
        )
    command = f"mlx_lm.generate --model {named or 'BASE_MODEL'} --adapter-path . --prompt Hello"
    return Written(
        (("form", words), ("loads in PEFT, vLLM and llama.cpp", "no: it is for mlx-lm")),
        {"form": "mlx", "loads": {"peft": False, "vllm": False, "llama_cpp": False}},
        command,
        (Readable("mlx", title="Adapter", needs=MLX),),
    )


def _pairs(
    context: StepContext, value: AdapterValue, settings: SafetensorsSettings
) -> tuple[dict[str, Pair], dict[str, torch.Tensor], Plain | None]:
    """A and B with scale 1 by the path of the layer, and the magnitudes of a DoRA."""
    source = Path(value.path)
    trained = json.loads((source / CONFIG).read_text(encoding="utf-8"))
    stored = read_tensors(source / ADAPTER)
    if trained.get("use_dora") and all(n.endswith((LORA_A, LORA_B, MAGNITUDE)) for n in stored):
        return *_dora(trained, stored), None
    try:
        plain = plain_form(context, value, settings.max_rank)
    except NotPlain as error:
        hint = f"Raise Maximum rank. {_MERGE}" if error.rank_helps else _MERGE
        raise _refused(str(error), hint) from error
    if plain.left:
        name = next(iter(plain.left)).removeprefix(PREFIX)
        raise _refused(f"it changes {name}, which A and B cannot express", _MERGE)
    return plain.pairs, {}, plain


def _dora(
    trained: Mapping[str, Any], stored: Mapping[str, torch.Tensor]
) -> tuple[dict[str, Pair], dict[str, torch.Tensor]]:
    pairs, magnitudes = {}, {}
    for name in [n.removesuffix(LORA_A) for n in stored if n.endswith(LORA_A)]:
        a, b, path = (
            stored[name + LORA_A].float(),
            stored[name + LORA_B].float(),
            name[len(PREFIX) :],
        )
        pairs[path] = Pair(a, b * scale_of(trained, name, a.shape[0]))
        magnitudes[path] = stored[name + MAGNITUDE]
    return pairs, magnitudes


def _without_head(pairs: Mapping[str, Pair], tied: bool) -> dict[str, Pair]:
    """The pairs to write. mlx-lm computes a head that shares the matrix of the embedding with the adapted embedding:
    both have to change alike, and only the embedding is written."""
    ends = {path: pair for path, pair in pairs.items() if block_and_part(path)[0] is None}
    if not tied or not ends:
        return dict(pairs)
    embedding = [p.b @ p.a for p in ends.values() if p.embedding]
    head = [p.b @ p.a for p in ends.values() if not p.embedding]
    if len(embedding) != 1 or len(head) != 1 or not torch.allclose(embedding[0], head[0].T):
        raise _refused(
            f"it changes {' and '.join(ends)}, and embedding and head share one matrix", _MERGE
        )
    return {path: p for path, p in pairs.items() if path not in ends or p.embedding}


def _config(
    base: str, pairs: Mapping[str, Pair], rank: int, model: Mapping[str, Any], dora: bool
) -> dict[str, Any]:
    keys, first = set(), int(model["num_hidden_layers"])
    for path in pairs:
        number, part = block_and_part(path)
        keys.add(path if number is None else part)
        first = min(first, first if number is None else number)
    return {
        "model": base,
        "fine_tune_type": "dora" if dora else "lora",
        "num_layers": int(model["num_hidden_layers"]) - first,
        "lora_parameters": {"rank": rank, "scale": 1.0, "dropout": 0.0, "keys": sorted(keys)},
    }


def _refused(reason: str, hint: str) -> StudioError:
    return StudioError(
        f"the adapter cannot be written for mlx-lm: {reason}.",
        title="The adapter cannot be written for mlx-lm",
        hint=hint,
        field="format_settings.form",
        code="cannot_mlx",
    )
