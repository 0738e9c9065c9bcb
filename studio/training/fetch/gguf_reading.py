"""Reading GGUF files for transformers: once per file, quickly, and with progress.

transformers reads the file with the ``gguf`` package two or three times, which builds four numpy arrays for
each token and each merge of the vocabulary: minutes for a large one. While ``reading`` is active it gets a
reader whose entries are slices of one buffer, with the same values, and which is kept for the next call.
Converted weights are reported as they are done.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
from gguf import GGUFReader, GGUFValueType

Report = Callable[[int, int, str], None]
_FORMATS: dict[Any, Any] = {
    GGUFValueType.UINT8: "B",
    GGUFValueType.INT8: "b",
    GGUFValueType.UINT16: "H",
    GGUFValueType.INT16: "h",
    GGUFValueType.UINT32: "I",
    GGUFValueType.INT32: "i",
    GGUFValueType.FLOAT32: "f",
    GGUFValueType.UINT64: "Q",
    GGUFValueType.INT64: "q",
    GGUFValueType.FLOAT64: "d",
    GGUFValueType.BOOL: "?",
}
"""Value type -> format of ``struct``."""
_EVERY = 20_000


class QuickReader(GGUFReader):
    """A ``GGUFReader`` whose arrays of strings and numbers are slices of one buffer."""

    report: Report = staticmethod(lambda done, total, unit: None)

    def _get_field_parts(
        self, orig_offs: int, raw_type: int
    ) -> tuple[int, list[Any], list[int], list[Any]]:
        if raw_type != GGUFValueType.ARRAY or self.byte_order != "I":
            found: tuple[int, list[Any], list[int], list[Any]] = super()._get_field_parts(
                orig_offs, raw_type
            )
            return found
        kind = GGUFValueType(
            int.from_bytes(self.data[orig_offs : orig_offs + 4].tobytes(), "little")
        )
        buffer = memoryview(self.data)
        (count,) = struct.unpack_from("<Q", buffer, orig_offs + 4)
        head = [self._get(orig_offs, np.uint32), self._get(orig_offs + 4, np.uint64)]
        types = [GGUFValueType.ARRAY, *([kind] if count else [])]
        if kind == GGUFValueType.STRING:
            size, parts = self._strings(buffer, orig_offs + 12, count)
            return 12 + size, [*head, *parts], list(range(3, 3 + 2 * count, 2)), types
        if kind not in _FORMATS:
            return super()._get_field_parts(orig_offs, raw_type)
        size = struct.calcsize(_FORMATS[kind]) * count
        values = buffer[orig_offs + 12 : orig_offs + 12 + size].cast(_FORMATS[kind])
        return (
            12 + size,
            [*head, *(values[i : i + 1] for i in range(count))],
            list(range(2, 2 + count)),
            types,
        )

    def _strings(self, buffer: memoryview, offset: int, count: int) -> tuple[int, list[Any]]:
        """The bytes of an array of strings, and for each its length and its text."""
        at, parts = offset, []
        for done in range(count):
            if done % _EVERY == 0:
                self.report(done, count, "entries")
            (length,) = struct.unpack_from("<Q", buffer, at)
            parts += [buffer[at : at + 8], buffer[at + 8 : at + 8 + length]]
            at += 8 + length
        self.report(count, count, "entries")
        return at - offset, parts


@contextmanager
def reading(report: Report) -> Iterator[None]:
    """Within it, transformers reads GGUF files quickly. ``report(done, total, unit)`` is called for the
    entries of the vocabulary and for the weights."""
    import gguf
    from transformers import modeling_gguf_pytorch_utils as legacy

    kept: dict[str, QuickReader] = {}

    def reader(path: Any) -> QuickReader:
        if str(path) not in kept:
            kind = type("Reader", (QuickReader,), {"report": staticmethod(report)})
            kept[str(path)] = kind(path)
        return kept[str(path)]

    def counted(tensors: Iterable[Any], **_: Any) -> Iterator[Any]:
        listed = list(tensors)
        for done, tensor in enumerate(listed):
            report(done, len(listed), "weights")
            yield tensor

    with patch.object(gguf, "GGUFReader", reader), patch.object(legacy, "tqdm", counted):
        yield
