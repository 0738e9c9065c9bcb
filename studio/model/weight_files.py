"""The weight files of a model folder and their headers, read and verified without the weights.

A safetensors file starts with a JSON header that gives the dtype, the shape and the place of each
tensor. It is read in milliseconds and must agree with the size of the file, so a truncated file is
found before anything is loaded. Format: https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from studio.model.folder_files import is_inside, read_json, shown
from studio.system.file_stamp import Stamp, file_stamp

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
DISTRIBUTED = re.compile(r"shard-\d{5}-model-\d{5}-of-\d{5}\.safetensors")
"""Names that transformers loads as a distributed checkpoint, in place of the files above."""
_LARGEST_HEADER = 100 * 2**20
_NAMES_BY_BITS = {
    64: "F64 I64 U64 C64",
    32: "F32 I32 U32",
    16: "F16 BF16 I16 U16",
    8: "I8 U8 BOOL F8_E5M2 F8_E4M3 F8_E8M0 F8_E5M2FNUZ F8_E4M3FNUZ",
    6: "F6_E2M3 F6_E3M2",
    4: "F4",
}
_BITS = {name: bits for bits, names in _NAMES_BY_BITS.items() for name in names.split()}


class BadWeights(ValueError):
    """A weight file that cannot be used; the text is the end of a sentence about it."""


@dataclass(frozen=True)
class Stored:
    """A tensor in a weight file: its dtype as the format names it, and its shape."""

    dtype: str
    shape: tuple[int, ...]


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that transformers loads from a model folder; none if there are none.

    Other files, such as the same weights in another program's format, are ignored. Raises
    ``OSError`` or ``ValueError``.
    """
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    if not (folder / INDEX).is_file():
        return []
    return [folder / name for name in sorted(set(weight_map(folder).values()))]


def weight_map(folder: Path) -> dict[str, str]:
    """The file of each tensor, as the index gives it; raises ``OSError`` or ``ValueError``."""
    listed = read_json(folder, INDEX).get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise BadWeights(f"{INDEX} lists no files")
    for name in listed.values():
        if not isinstance(name, str) or not name.endswith(".safetensors"):
            raise BadWeights(f"{INDEX} names {shown(name)}, which is not a safetensors file")
        if not is_inside(folder, folder / name):
            raise BadWeights(f"{INDEX} names {shown(name)}, which is outside the model folder")
    return listed


def tensor_shapes(file: Path) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Names and shapes of the tensors in a safetensors file. Raises ``OSError`` or ``ValueError``."""
    return tuple((name, tensor.shape) for name, tensor in stored_tensors(file).items())


def stored_tensors(file: Path) -> Mapping[str, Stored]:
    """The tensors in a safetensors file, from its verified header.

    Raises ``OSError``, or ``BadWeights`` if header and file do not agree.
    """
    return _read(file, file_stamp(file))


@lru_cache(maxsize=512)
def _read(file: Path, stamp: Stamp) -> Mapping[str, Stored]:
    """``stamp`` changes with the file."""
    del stamp
    size = file.stat().st_size
    if not size:
        raise BadWeights(f"{file.name} is empty")
    with file.open("rb") as stream:
        first = stream.read(8)
        length = struct.unpack("<Q", first)[0] if len(first) == 8 else 0
        if not 2 <= length <= _LARGEST_HEADER:
            raise BadWeights(f"{file.name} is not a safetensors file")
        if 8 + length > size:
            raise BadWeights(f"{file.name} is truncated: its header is longer than the file")
        text = stream.read(length)
    try:
        header = json.loads(text)
        if not isinstance(header, dict):
            raise ValueError("it is not a JSON object")
        header.pop("__metadata__", None)
        ends = {name: _end(name, entry) for name, entry in header.items()}
    except (ValueError, RecursionError) as error:
        raise BadWeights(f"the header of {file.name} is damaged ({shown(str(error))})") from error
    _verify(file.name, size - 8 - length, sorted(ends.values()))
    return {n: Stored(e["dtype"], tuple(e["shape"])) for n, e in header.items()}


def _end(name: str, entry: Any) -> tuple[int, int]:
    """First and last byte of a tensor; raises ``ValueError`` if its entry contradicts itself."""
    try:
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        known, whole = dtype in _BITS, all(type(n) is int and n >= 0 for n in (*shape, begin, end))
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"it does not describe {shown(name)} as the format requires") from None
    if not known:
        raise ValueError(f"{shown(name)} has the dtype {shown(dtype)}, which is unknown here")
    if not whole or 8 * (end - begin) != math.prod(shape) * _BITS[dtype]:
        raise ValueError(f"size and shape of {shown(name)} do not agree")
    return begin, end


def _verify(name: str, size: int, places: list[tuple[int, int]]) -> None:
    """Raise ``BadWeights`` unless the tensors fill the data of the file without gaps."""
    position = 0
    for begin, end in places:
        if begin != position:
            raise BadWeights(f"the header of {name} is damaged (its tensors do not adjoin)")
        position = end
    if position > size:
        raise BadWeights(
            f"{name} is truncated: its header describes {position:,} bytes of weights, and it has "
            f"{size:,}"
        )
    if position < size:
        raise BadWeights(
            f"{name} has {size - position:,} bytes more than its header describes ({position:,})"
        )
