"""Rows of weights as blocks of K- and I-quants, by llama.cpp's own function."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gguf
import numpy as np

Array = np.ndarray[Any, Any]
BY_LIBRARY = frozenset(
    {"Q6_K", "Q5_K", "Q4_K", "Q3_K", "Q2_K", "IQ4_NL", "IQ4_XS", "IQ3_S", "IQ3_XXS", "IQ2_S"}
)
"""The types that the ``gguf`` package cannot write."""


class Blocks:
    """Writes blocks with a ``library`` that ``ggml_library.open_library`` has loaded, on this number of threads."""

    def __init__(self, library: Any, threads: int) -> None:
        self._function = library.ggml_quantize_chunk
        self._threads = max(1, threads)

    def quantize(
        self, rows: Array, kind: gguf.GGMLQuantizationType, importance: Array | None = None
    ) -> Array:
        """The blocks of ``rows`` (count, length; float32, contiguous) as bytes (count, bytes of a row). ``importance``
        (length) is that of each column."""
        count, length = rows.shape
        size, bytes_of = gguf.GGML_QUANT_SIZES[kind]
        found: Array = np.empty((count, length // size * bytes_of), dtype=np.uint8)
        weights = None if importance is None else np.ascontiguousarray(importance, dtype=np.float32)
        address = None if weights is None else weights.ctypes.data
        step = -(-count // self._threads)

        def part(start: int) -> None:
            own, out = rows[start : start + step], found[start : start + step]
            # The function gets addresses of its own part, and ctypes releases the lock of Python meanwhile.
            written = self._function(
                int(kind), own.ctypes.data, out.ctypes.data, 0, len(own), length, address
            )
            assert written == out.nbytes

        starts = range(0, count, step)
        part(starts[0])  # the first call creates the tables that all use
        with ThreadPoolExecutor(self._threads) as pool:
            list(pool.map(part, starts[1:]))
        return found
