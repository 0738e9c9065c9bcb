"""A tiny Llama as files, written without torch, and changes to such files.

Checks of received model folders read configs and headers only, so their tests need no libraries.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Shapes = dict[str, tuple[int, ...]]
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 264,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
    "transformers_version": "5.23.0",
}


def shapes(layers: int = 2) -> Shapes:
    """The tensors of the model that ``CONFIG`` describes."""
    found: Shapes = {"model.embed_tokens.weight": (264, 32), "model.norm.weight": (32,)}
    for n in range(layers):
        place = f"model.layers.{n}."
        for name, shape in (
            ("self_attn.q_proj", (32, 32)),
            ("self_attn.k_proj", (16, 32)),
            ("self_attn.v_proj", (16, 32)),
            ("self_attn.o_proj", (32, 32)),
            ("mlp.gate_proj", (64, 32)),
            ("mlp.up_proj", (64, 32)),
            ("mlp.down_proj", (32, 64)),
            ("input_layernorm", (32,)),
            ("post_attention_layernorm", (32,)),
        ):
            found[f"{place}{name}.weight"] = shape
    return found


def write_model(folder: Path, tensors: Mapping[str, tuple[int, ...]] | None = None) -> Path:
    """Config and weights; other ``tensors`` than those of ``CONFIG`` do not fit it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=2), encoding="utf-8")
    write_weights(folder / "model.safetensors", shapes() if tensors is None else tensors)
    return folder


def write_weights(path: Path, tensors: Mapping[str, tuple[int, ...]]) -> None:
    """A safetensors file of float32 zeros."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in tensors.items():
        begin, end = end, end + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [begin, end]}
    write_header(path, header, bytes(end))


def write_header(path: Path, header: Any, data: bytes) -> None:
    """A safetensors file with any header."""
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def read_header(path: Path) -> tuple[dict[str, Any], bytes]:
    """Header and data of a safetensors file."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def drop_tensor(path: Path, name: str) -> None:
    """Remove one tensor and its data from a safetensors file."""
    header, data = read_header(path)
    begin, end = header.pop(name)["data_offsets"]
    for key, entry in header.items():
        if key != "__metadata__" and entry["data_offsets"][0] >= end:
            entry["data_offsets"] = [n - (end - begin) for n in entry["data_offsets"]]
    write_header(path, header, data[:begin] + data[end:])


def change_config(folder: Path, **values: Any) -> None:
    """Change keys of ``config.json``; ``None`` removes one."""
    file = folder / "config.json"
    config = {**json.loads(file.read_text(encoding="utf-8")), **values}
    file.write_text(
        json.dumps({k: v for k, v in config.items() if v is not None}, indent=2), encoding="utf-8"
    )


def write_shards(folder: Path) -> Path:
    """The same model in two files with an index."""
    write_model(folder)
    names = list(shapes())
    parts = {
        "model-00001-of-00002.safetensors": names[:9],
        "model-00002-of-00002.safetensors": names[9:],
    }
    for file, some in parts.items():
        write_weights(folder / file, {n: shapes()[n] for n in some})
    (folder / "model.safetensors").unlink()
    listed = {name: file for file, some in parts.items() for name in some}
    index = {"metadata": {"total_size": 0}, "weight_map": listed}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


def write_adapter(folder: Path, base: str = "someone/base") -> None:
    """The two files of a PEFT adapter."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"peft_type": "LORA", "base_model_name_or_path": base, "r": 4}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    write_weights(
        folder / "adapter_model.safetensors", {"base_model.model.x.lora_A.weight": (4, 32)}
    )
