"""Model folders with random damage, for fuzz tests: the same seed gives the same folders.

Each mutation is one function that changes a folder in place and may be the start of a longer list; a
test applies one to three of them. A file outside the folder holds ``SECRET``, which must never appear
in any output.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.missing_here import unix_socket
from tests.model_files import drop_tensor, read_header, write_adapter, write_header

SECRET = "the-content-of-a-private-file"
Mutation = Callable[[Path, Path, random.Random], None]
FILES = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "README.md",
    "additional_chat_templates",
    "modeling_own.py",
)
_TEXTS = ("", "x", "\x1b[31mred\x07", "\ud800", "../" * 5, "x" * 5000, "someone/kernel", "float99")
_NUMBERS = (0, -1, 1, 3, 10**9, 10**30, 0.5, -1e308, float("nan"), float("inf"))
_ODD: tuple[Any, ...] = (None, True, *_NUMBERS, *_TEXTS, [], [1, "a", None], {}, {"a": {"b": []}})
_KEYS = (
    *("auto_map", "quantization_config", "text_config", "attn_implementation"),
    *("_attn_implementation", "experts_implementation", "transformers_weights", "rope_parameters"),
    *("configuration_files", "layer_types", "dtype", "torch_dtype", "tie_word_embeddings"),
    *("head_dim", "attention_bias", "per_layer_config", "fusion_config", "base_model_tp_plan"),
    *("id2label", "pruned_heads"),
)
_TYPES = ("gpt2", "vit", "t5", "mamba", "mixtral", "qwen3", "gemma3", "opt", "llama4", "unheard-of")


def private_file(place: Path) -> Path:
    """The file that does not belong to any model."""
    path = place / "private" / "tokenizer.4.0.0.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"secret": SECRET, "license": SECRET}), encoding="utf-8")
    return path


def mutate(folder: Path, place: Path, seed: int) -> str:
    """Damage a model folder; returns the names of the mutations."""
    rng = random.Random(seed)
    chosen = rng.sample(MUTATIONS, rng.choice((1, 1, 1, 2, 3)))
    for mutation in chosen:
        # An earlier mutation may have left nothing that this one can read.
        with suppress(ValueError, RecursionError, OSError, LookupError, TypeError, struct.error):
            mutation(folder, place, rng)
    return ", ".join(m.__name__ for m in chosen)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _changed_config(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError:
        config = {}
    if isinstance(config, dict):
        change(config)
        _remove(path)
        path.write_text(json.dumps(config), encoding="utf-8")


# ------------------------------------------------------------------ config


def config_value(folder: Path, place: Path, rng: random.Random) -> None:
    def change(config: dict[str, Any]) -> None:
        config[rng.choice(sorted(config) or ["x"])] = rng.choice(_ODD)

    _changed_config(folder, change)


def config_key(folder: Path, place: Path, rng: random.Random) -> None:
    _changed_config(folder, lambda config: config.update({rng.choice(_KEYS): rng.choice(_ODD)}))


def config_without(folder: Path, place: Path, rng: random.Random) -> None:
    _changed_config(folder, lambda config: config.pop(rng.choice(sorted(config) or ["x"]), None))


def config_type(folder: Path, place: Path, rng: random.Random) -> None:
    _changed_config(folder, lambda config: config.update(model_type=rng.choice(_TYPES)))


def config_number(folder: Path, place: Path, rng: random.Random) -> None:
    def change(config: dict[str, Any]) -> None:
        numbers = sorted(k for k, v in config.items() if type(v) is int) or ["num_hidden_layers"]
        config[rng.choice(numbers)] = rng.choice((0, 1, 2, 3, 5, 7, 64, 4096, 10**6, 2**31, 2**63))

    _changed_config(folder, change)


def bytes_of_a_text(folder: Path, place: Path, rng: random.Random) -> None:
    """Flip, cut or repeat bytes of a JSON file."""
    texts = [p for n in FILES if (p := folder / n).is_file() and p.suffix in (".json", ".jinja")]
    if not texts:
        return
    path = rng.choice(texts)
    data = bytearray(path.read_bytes())[: 2**20]
    for _ in range(rng.choice((1, 1, 5))):
        if data:
            data[rng.randrange(len(data))] = rng.randrange(256)
    cut = rng.choice((len(data), len(data), len(data) // 2, 0))
    _remove(path)
    path.write_bytes(bytes(data[:cut]) * rng.choice((1, 1, 2)))


def deep_json(folder: Path, place: Path, rng: random.Random) -> None:
    path = folder / rng.choice(FILES[:7])
    _remove(path)
    path.write_text(
        rng.choice(("[" * 200_000, '{"a":' * 100_000, "null", "[]", '""', "7")), encoding="utf-8"
    )


# ------------------------------------------------------------------ weights


def _weights(folder: Path, rng: random.Random) -> Path | None:
    found = sorted(p for p in folder.glob("*.safetensors") if p.is_file() and p.stat().st_size > 16)
    return rng.choice(found) if found else None


def tensor_lost(folder: Path, place: Path, rng: random.Random) -> None:
    if (path := _weights(folder, rng)) is not None:
        names = [n for n in read_header(path)[0] if n != "__metadata__"]
        drop_tensor(path, rng.choice(names))


def tensor_renamed(folder: Path, place: Path, rng: random.Random) -> None:
    if (path := _weights(folder, rng)) is not None:
        header, data = read_header(path)
        name = rng.choice([n for n in header if n != "__metadata__"])
        odd = rng.choice(("x.weight", "", "\x1b[2J", name + ".0", "lm_head.weight", "v_head.bias"))
        header[odd] = header.pop(name)
        write_header(path, header, data)


def tensor_entry(folder: Path, place: Path, rng: random.Random) -> None:
    if (path := _weights(folder, rng)) is not None:
        header, data = read_header(path)
        name = rng.choice(list(header))
        if rng.random() < 0.3:
            header[name] = rng.choice(_ODD)
        elif isinstance(header[name], dict):
            key = rng.choice(("dtype", "shape", "data_offsets"))
            values = (*_ODD, [2**62, 4], [4, 2**62], [0, 0], "BF16", "I8", "F8_E4M3")
            header[name][key] = rng.choice(values)
        write_header(path, header, data)


def bytes_of_weights(folder: Path, place: Path, rng: random.Random) -> None:
    """Flip bytes of the header, cut the file, or append to it."""
    if (path := _weights(folder, rng)) is not None:
        data = bytearray(path.read_bytes())
        kind = rng.choice(("flip", "cut", "append", "start"))
        if kind == "flip":
            for _ in range(3):
                data[rng.randrange(min(len(data), 3000))] ^= 1 << rng.randrange(8)
        elif kind == "cut":
            del data[rng.choice((0, 5, 8, 100, len(data) - 1, rng.randrange(len(data)))) :]
        elif kind == "append":
            data += bytes(rng.choice((1, 8, 5000)))
        else:
            data[:8] = rng.randrange(2**64).to_bytes(8, "little")
        path.write_bytes(bytes(data))


def index_added(folder: Path, place: Path, rng: random.Random) -> None:
    """An index in place of the single file, with odd names."""
    single = folder / "model.safetensors"
    if not single.is_file():
        return
    single.rename(folder / "model-00001-of-00001.safetensors")
    names = [n for n in read_header(folder / "model-00001-of-00001.safetensors")[0] if n[0] != "_"]
    listed: Any = dict.fromkeys(names, "model-00001-of-00001.safetensors")
    odd = ("../x.safetensors", "/dev/zero", "gone.safetensors", 3, None, "x.bin", "", "config.json")
    for _ in range(rng.choice((0, 1, 2))):
        listed[rng.choice([*names, "new"])] = rng.choice(odd)
    if rng.random() < 0.2:
        listed = rng.choice(_ODD)
    _remove(folder / "model.safetensors.index.json")
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": listed}), encoding="utf-8"
    )


# ------------------------------------------------------------------ links and odd files


def link(folder: Path, place: Path, rng: random.Random) -> None:
    path = folder / rng.choice(FILES)
    _remove(path)
    outside = private_file(place)
    targets = (outside, os.path.relpath(outside, folder), "/dev/zero", "gone", path.name, "..", "/")
    path.symlink_to(rng.choice(targets))


def pipe(folder: Path, place: Path, rng: random.Random) -> None:
    path = folder / rng.choice(FILES)
    _remove(path)
    os.mkfifo(path)


def folder_for_file(folder: Path, place: Path, rng: random.Random) -> None:
    path = folder / rng.choice(FILES)
    _remove(path)
    path.mkdir()


def socket_for_file(folder: Path, place: Path, rng: random.Random) -> None:
    path = folder / rng.choice(FILES)
    _remove(path)
    with unix_socket() as listening:
        here = os.open(".", os.O_RDONLY)
        try:
            os.chdir(folder)  # the path of a socket is limited to 108 bytes
            listening.bind(path.name)
        finally:
            os.chdir(here)
            os.close(here)


def file_lost(folder: Path, place: Path, rng: random.Random) -> None:
    _remove(folder / rng.choice(FILES[:7]))


def strange_file(folder: Path, place: Path, rng: random.Random) -> None:
    """Files that do not belong to a model, some with names that no terminal should show."""
    names = (
        b"shard-00000-model-00001-of-00001.safetensors",
        b"pytorch_model.bin",
        b"\xff\xfe.json",
        b"a\x1b[31m\nb.txt",
        b"adapter_model.safetensors",
        b"model.gguf",
        b"x" * 200 + b".json",
        b"chat_template.json",
        b"added_tokens.json",
    )
    path = os.path.join(os.fsencode(folder), rng.choice(names))
    with open(path, "wb") as file:
        file.write(rng.choice((b"", b"{}", b"\x00" * 100, b"GGUF")))


def adapter(folder: Path, place: Path, rng: random.Random) -> None:
    if rng.random() < 0.3:
        _remove(folder / "config.json")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        _remove(folder / name)
    write_adapter(folder, rng.choice(("someone/base", str(place), "\x1b[31m", "../x")))


def names_outside(folder: Path, place: Path, rng: random.Random) -> None:
    """Configs that name files elsewhere."""
    outside = os.path.relpath(private_file(place), folder)
    if rng.random() < 0.5:
        key = rng.choice(("configuration_files", "transformers_weights", "_name_or_path"))
        _changed_config(folder, lambda config: config.update({key: [outside]}))
        return
    path = folder / "tokenizer_config.json"
    _remove(path)
    keys = ("fast_tokenizer_files", "tokenizer_file", "vocab_file", "chat_template")
    path.write_text(
        json.dumps({rng.choice(keys): rng.choice(([outside], outside))}), encoding="utf-8"
    )


MUTATIONS: list[Mutation] = [
    config_value,
    config_key,
    config_without,
    config_type,
    config_number,
    bytes_of_a_text,
    deep_json,
    tensor_lost,
    tensor_renamed,
    tensor_entry,
    bytes_of_weights,
    index_added,
    link,
    pipe,
    folder_for_file,
    socket_for_file,
    file_lost,
    strange_file,
    adapter,
    names_outside,
]
