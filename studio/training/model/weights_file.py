"""Writes safetensors files tensor by tensor.

``save_file`` needs all tensors of a file in memory and cannot be stopped. The header only needs
names, shapes and dtypes, which are known in advance, so one tensor in memory is enough. Format:
https://huggingface.co/docs/safetensors (8 bytes of length, JSON header, raw data).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

SHARD_BYTES = 2 * 10**9
_BLOCK = 16 * 1024 * 1024
_NAMES = {
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.float64: "F64",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
    torch.float8_e4m3fn: "F8_E4M3",
}
DTYPES = {name: dtype for dtype, name in _NAMES.items()}


@dataclass(frozen=True)
class Entry:
    """A tensor to be written: its name, shape and dtype."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def size(self) -> int:
        """The size of its data in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


def plan_shards(entries: Sequence[Entry], limit: int = SHARD_BYTES) -> list[list[Entry]]:
    """The entries in order, divided into files of at most ``limit`` bytes (and at least one tensor)."""
    shards: list[list[Entry]] = []
    room = -1
    for entry in entries:
        if entry.size > room:
            shards.append([])
            room = limit
        shards[-1].append(entry)
        room -= entry.size
    return shards


def shard_names(count: int) -> list[str]:
    """The file names that transformers expects."""
    if count == 1:
        return ["model.safetensors"]
    return [f"model-{i + 1:05d}-of-{count:05d}.safetensors" for i in range(count)]


def write_weights(
    folder: Path,
    entries: Sequence[Entry],
    tensor: Callable[[str], torch.Tensor],
    tick: Callable[[int], None],
    limit: int = SHARD_BYTES,
) -> str:
    """Write all entries, calling ``tensor(name)`` for each; returns the sha256 over the files.

    ``tick(bytes done)`` is called every few MiB and may raise to stop. ``OSError`` is not caught.
    """
    shards = plan_shards(entries, limit)
    names = shard_names(len(shards))
    digest = hashlib.sha256()
    done = 0
    for name, shard in zip(names, shards, strict=True):
        with (folder / name).open("wb") as file:
            for block in _blocks(shard, tensor):
                file.write(block)
                digest.update(block)
                done += len(block)
                tick(done)
            file.flush()
            os.fsync(file.fileno())
    if len(shards) > 1:
        _write_index(folder, names, shards)
    return digest.hexdigest()


def _blocks(
    shard: Sequence[Entry], tensor: Callable[[str], torch.Tensor]
) -> Iterator[bytes | memoryview]:
    yield _header(shard)
    for entry in shard:
        value = tensor(entry.name)
        if tuple(value.shape) != entry.shape or value.dtype != entry.dtype:
            raise ValueError(f"{entry.name} came out as {tuple(value.shape)} {value.dtype}")
        data = memoryview(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        for start in range(0, len(data), _BLOCK):
            yield data[start : start + _BLOCK]


def _header(shard: Sequence[Entry]) -> bytes:
    described: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    place = 0
    for entry in shard:
        described[entry.name] = {
            "dtype": _NAMES[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": [place, place + entry.size],
        }
        place += entry.size
    text = json.dumps(described, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _write_index(folder: Path, names: Sequence[str], shards: Sequence[Sequence[Entry]]) -> None:
    pairs = list(zip(names, shards, strict=True))
    index = {
        "metadata": {"total_size": sum(e.size for s in shards for e in s)},
        "weight_map": {e.name: name for name, shard in pairs for e in shard},
    }
    text = json.dumps(index, indent=2, sort_keys=True) + "\n"
    (folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")


class StoredWeights:
    """The tensors of a model folder by name, read one at a time with one file open."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file_of = _weight_map(folder)
        self._open: tuple[str, Any] = ("", None)

    def entries(self) -> list[Entry]:
        """Every tensor with its stored shape and dtype, file by file."""
        return [self._entry(name) for name in self._file_of]

    def _entry(self, name: str) -> Entry:
        stored = self._file(name).get_slice(name)
        return Entry(name, tuple(stored.get_shape()), DTYPES[stored.get_dtype()])

    def tensor(self, name: str) -> torch.Tensor:
        """One tensor as stored."""
        found: torch.Tensor = self._file(name).get_tensor(name)
        return found

    def _file(self, name: str) -> Any:
        wanted = self._file_of[name]
        if self._open[0] != wanted:
            self.close()
            # Not mapped: its pages would stay resident until the file is closed.
            file = safe_open(str(self._folder / wanted), framework="pt", backend="pread")
            self._open = (wanted, file)
        return self._open[1]

    def close(self) -> None:
        """Close the open file."""
        self._open = ("", None)


def _weight_map(folder: Path) -> dict[str, str]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        listed: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        return dict(sorted(listed.items(), key=lambda pair: pair[1]))
    with safe_open(str(folder / "model.safetensors"), framework="pt", backend="pread") as file:
        return dict.fromkeys(file.keys(), "model.safetensors")
