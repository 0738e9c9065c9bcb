"""Rows of weights as blocks of K- and I-quants, by llama.cpp's own function."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from studio.export_folder import ggml_library

Array = np.ndarray[Any, Any]
BY_LIBRARY = frozenset(
    {"Q6_K", "Q5_K", "Q4_K", "Q3_K", "Q2_K", "IQ4_NL", "IQ4_XS", "IQ3_S", "IQ3_XXS", "IQ2_S"}
)
"""The types that the ``gguf`` package cannot write."""


def quantize(
    rows: Array, kind: gguf.GGMLQuantizationType, weights: Array | None, threads: int
) -> Array:
    """The blocks of ``rows`` (count, length; float32, contiguous) as bytes (count, bytes of a row). ``weights``
    (length) are the importance of each column. There must be a library: see ``ggml_library.find_library``."""
    path = ggml_library.find_library()
    assert path is not None
    function = _library(path).ggml_quantize_chunk
    count, length = rows.shape
    size, bytes_of = gguf.GGML_QUANT_SIZES[kind]
    found: Array = np.empty((count, length // size * bytes_of), dtype=np.uint8)
    importance = None if weights is None else np.ascontiguousarray(weights, dtype=np.float32)
    step = -(-count // max(1, threads))

    def part(start: int) -> None:
        # The function is given addresses of its part: it needs no lock, and ctypes releases Python's.
        own, out = rows[start : start + step], found[start : start + step]
        written = function(
            int(kind),
            own.ctypes.data,
            out.ctypes.data,
            0,
            len(own),
            length,
            None if importance is None else importance.ctypes.data,
        )
        assert written == out.nbytes

    starts = range(0, count, step)
    part(starts[0])  # its tables are made by the first call
    with ThreadPoolExecutor(max(1, threads)) as pool:
        list(pool.map(part, starts[1:]))
    return found


@lru_cache(maxsize=1)
def _library(path: Path) -> Any:
    return ggml_library.load(path)
