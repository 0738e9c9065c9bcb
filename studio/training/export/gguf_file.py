"""Writes GGUF files, several quantizations of the same tensors at once.

The header is written first, because names, shapes and types are known; then each tensor is read once, converted
for every file, and forgotten. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import gguf
import numpy as np

from studio.export_folder.gguf_mixtures import TYPES
from studio.training.export.gguf_blocks import Blocks
from studio.training.export.gguf_importance import Importance
from studio.training.export.gguf_weights import Tensor, converted

FILE_TYPES = {
    "F32": gguf.LlamaFileType.ALL_F32,
    "F16": gguf.LlamaFileType.MOSTLY_F16,
    "BF16": gguf.LlamaFileType.MOSTLY_BF16,
    "Q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
    "Q4_0": gguf.LlamaFileType.MOSTLY_Q4_0,
    "Q4_1": gguf.LlamaFileType.MOSTLY_Q4_1,
    "Q5_0": gguf.LlamaFileType.MOSTLY_Q5_0,
    "Q5_1": gguf.LlamaFileType.MOSTLY_Q5_1,
    **{kind: gguf.LlamaFileType[f"MOSTLY_{kind}"] for kind in TYPES},
}


def data_size(tensors: Sequence[Tensor], quantization: str, matrix: bool = False) -> int:
    """The bytes of all tensors in a file of this quantization, with their alignment. ``matrix``: written with an
    importance matrix."""
    return sum(
        gguf.GGUFWriter.ggml_pad(t.size(quantization, matrix), gguf.GGUF_DEFAULT_ALIGNMENT)
        for t in tensors
    )


def write_files(
    files: Mapping[str, Path],
    architecture: str,
    describe: Callable[[gguf.GGUFWriter], None],
    tensors: Sequence[Tensor],
    tick: Callable[[int], None],
    blocks: Blocks | None = None,
    importance: Importance | None = None,
) -> None:
    """Write one file for each quantization. ``describe`` adds the keys; ``tick(bytes done)`` is called every few
    million elements and may raise to stop. K- and I-quants need ``blocks``; those in the ``kinds`` of ``importance``
    use it. ``OSError`` is not caught."""
    done = 0
    kinds = importance.kinds if importance is not None else frozenset()
    with ExitStack() as opened:
        writers = {}
        for quantization, path in files.items():
            writer = gguf.GGUFWriter(path, architecture)
            opened.callback(writer.close)
            describe(writer)
            writer.add_file_type(FILE_TYPES[quantization])
            writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
            if importance is not None and quantization in kinds:
                writer.add_string("quantize.imatrix.dataset", importance.rows)
                writer.add_uint32("quantize.imatrix.entries_count", len(importance.columns))
            for tensor in tensors:
                _add_info(writer, tensor, quantization, quantization in kinds)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            writers[quantization] = writer
        for tensor in tensors:
            stored = tensor.read()
            for quantization, writer in writers.items():
                matrix = quantization in kinds
                # A head that is the embedding has the name of the latter.
                name = "output.weight" if tensor.head else tensor.name
                columns = importance.columns.get(name) if importance and matrix else None
                kind = tensor.type_for(quantization, matrix)
                data = converted(tensor, stored, kind, partial(tick, done), blocks, columns)
                writer.write_tensor_data(data)
                done += data.nbytes
                tick(done)
        for writer in writers.values():
            for file in writer.fout or ():
                file.flush()
                os.fsync(file.fileno())


def _add_info(writer: gguf.GGUFWriter, tensor: Tensor, quantization: str, matrix: bool) -> None:
    writer.add_tensor_info(
        tensor.name,
        tensor.shape,
        np.dtype(np.float32),
        tensor.size(quantization, matrix),
        tensor.type_for(quantization, matrix),
    )
