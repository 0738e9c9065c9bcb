"""The header of a GGUF file: its architecture and its tensors, verified against the size of the file.

The reader of the ``gguf`` package builds objects for each token of the vocabulary, which took 47 s for
150,000 tokens and 280,000 merges; here values are skipped. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from studio.model.folder_files import shown
from studio.system.file_stamp import Stamp, file_stamp

_MAGIC, _VERSIONS = b"GGUF", (2, 3)
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY, _UINT32 = 8, 9, 4
_MOST_TENSORS, _MOST_VALUES, _LONGEST, _MOST_DIMENSIONS = 1_000_000, 100_000, 2**30, 8


class BadGguf(ValueError):
    """A file that is not a complete GGUF file; the text is a sentence without its full stop."""


@dataclass(frozen=True)
class GgufHeader:
    """The architecture, the numbers of tensors and parameters, the context (tokens), the licence, whether there is a
    chat template, llama.cpp's name of the pre-tokenizer, and whether it is a model or an adapter. ``None`` for what
    the file does not state."""

    architecture: str
    tensors: int
    parameters: int = 0
    context: int | None = None
    licence: str | None = None
    chat_template: bool = False
    pre_tokenizer: str | None = None
    kind: str = "model"


def read_gguf_header(file: Path) -> GgufHeader:
    """The verified header of a GGUF file, which must be a regular file. Raises ``OSError`` or ``BadGguf``."""
    return _read(file, file_stamp(file))


@lru_cache(maxsize=16)
def _read(file: Path, stamp: Stamp) -> GgufHeader:
    del stamp  # changes with the file
    size = file.stat().st_size
    if not size:
        raise BadGguf(f"{file.name} is empty")
    with file.open("rb") as stream:
        try:
            return _Reader(stream, file.name, size).header()
        except (struct.error, UnicodeDecodeError, KeyError, OverflowError, RecursionError):
            raise BadGguf(
                f"{file.name} is truncated or damaged: its header is not complete"
            ) from None


class _Reader:
    """Reads one file from front to back."""

    def __init__(self, stream: BinaryIO, name: str, size: int) -> None:
        self._stream, self._name, self._size = stream, name, size

    def header(self) -> GgufHeader:
        if self._stream.read(4) != _MAGIC:
            raise BadGguf(f"{self._name} is not a GGUF file")
        (version,) = self._numbers("I")
        if version not in _VERSIONS:
            raise BadGguf(
                f"{self._name} has version {version} of the GGUF format; 2 and 3 are known"
            )
        tensors, values = self._numbers("QQ")
        if tensors > _MOST_TENSORS or values > _MOST_VALUES:
            raise BadGguf(
                f"the header of {self._name} is damaged: it describes {tensors:,} tensors"
            )
        architecture, alignment = "", 32
        context: int | None = None
        licence: str | None = None
        pre: str | None = None
        template, type_ = False, "model"
        for _ in range(values):
            key, kind = self._text(), self._numbers("I")[0]
            if key == "general.architecture" and kind == _STRING:
                architecture = self._text()
            elif key == "general.type" and kind == _STRING:
                type_ = self._text()
            elif key == "general.alignment" and kind == _UINT32:
                (alignment,) = self._numbers("I")
            elif key.endswith(".context_length") and kind == _UINT32:
                (context,) = self._numbers("I")
            elif key == "general.license" and kind == _STRING:
                licence = shown(self._text())
            elif key == "tokenizer.ggml.pre" and kind == _STRING:
                pre = self._text()
            else:
                template = template or (key == "tokenizer.chat_template" and kind == _STRING)
                self._skip(kind)
        if not architecture:
            raise BadGguf(f"{self._name} does not name the architecture of its model")
        places = [self._place() for _ in range(tensors)]
        self._verify(places, alignment)
        elements = sum(place[3] for place in places)
        return GgufHeader(
            architecture, tensors, elements, context or None, licence, template, pre, type_
        )

    def _numbers(self, kinds: str) -> tuple[int, ...]:
        form = f"<{kinds}"
        return struct.unpack(form, self._stream.read(struct.calcsize(form)))

    def _length(self) -> int:
        (length,) = self._numbers("Q")
        if length > min(self._size, _LONGEST):
            raise KeyError(length)
        return length

    def _text(self) -> str:
        length = self._length()
        data = self._stream.read(length)
        if len(data) < length:
            raise KeyError(length)
        return data.decode("utf-8")

    def _skip(self, kind: int) -> None:
        """Pass over a value."""
        if kind == _STRING:
            self._stream.seek(self._length(), 1)
        elif kind == _ARRAY:
            inner, count = self._numbers("IQ")
            if count > self._size:
                raise KeyError(count)
            if inner in _SIZES:
                self._stream.seek(count * _SIZES[inner], 1)
            else:
                for _ in range(count):
                    self._skip(inner)
        else:
            self._stream.seek(_SIZES[kind], 1)
        if self._stream.tell() > self._size:
            raise KeyError(kind)

    def _place(self) -> tuple[str, int, int, int]:
        """Name, bytes, offset and number of elements of a tensor."""
        name, (dimensions,) = self._text(), self._numbers("I")
        if dimensions > _MOST_DIMENSIONS:
            raise KeyError(dimensions)
        shape = self._numbers(f"{dimensions}Q")
        kind, offset = self._numbers("IQ")
        return name, _bytes(math.prod(shape), kind), offset, math.prod(shape)

    def _verify(self, places: list[tuple[str, int, int, int]], alignment: int) -> None:
        """Raise ``BadGguf`` if a tensor lies outside the file."""
        if not places:
            raise BadGguf(f"{self._name} contains no tensors")
        if not alignment:
            raise KeyError(alignment)
        data = -(-self._stream.tell() // alignment) * alignment
        for name, size, offset, _ in places:
            if data + offset + size > self._size:
                raise BadGguf(
                    f"{self._name} is truncated: {shown(name)} ends at byte {data + offset + size:,}, and "
                    f"the file has {self._size:,}"
                )


def _bytes(elements: int, kind: int) -> int:
    """The size of a tensor; of a type that is unknown here, one byte for each block of 256 elements."""
    from gguf.constants import GGML_QUANT_SIZES

    block, size = dict(GGML_QUANT_SIZES).get(kind, (256, 1))
    return int(-(-elements // block) * size)
