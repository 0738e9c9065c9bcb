"""The type of each tensor in a GGUF file of a quantization, and the bytes that it takes; without torch.

The choice is that of llama.cpp's own tools.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from studio.export_folder.gguf_mixtures import TYPES, Facts, type_in

BLOCKS: dict[str, tuple[int, int]] = {
    "F32": (1, 4),
    "F16": (1, 2),
    "BF16": (1, 2),
    "Q8_0": (32, 34),
    "Q5_1": (32, 24),
    "Q5_0": (32, 22),
    "Q4_1": (32, 20),
    "Q4_0": (32, 18),
    "IQ4_NL": (32, 18),
    "Q6_K": (256, 210),
    "Q5_K": (256, 176),
    "Q4_K": (256, 144),
    "Q3_K": (256, 110),
    "Q2_K": (256, 84),
    "IQ4_XS": (256, 136),
    "IQ3_S": (256, 110),
    "IQ3_XXS": (256, 98),
    "IQ2_S": (256, 82),
}
"""Type -> elements and bytes of one block: a part of ``gguf.GGML_QUANT_SIZES``."""
_SMALL_TYPES = ("Q4_0", "Q4_1", "Q5_0", "Q5_1")
_EXACT = ("_norm.weight", "ffn_gate_inp.weight")
_MATRICES = (".weight", ".lora_a", ".lora_b")


def type_of(
    name: str,
    shape: Sequence[int],
    quantization: str,
    facts: Facts,
    head: bool = False,
    matrix: bool = False,
) -> str:
    """The type of a tensor, by its name in GGUF and its shape with the rows first: vectors, norms, positions and the
    router of a mixture in F32; the head of 4- and 5-bit files in a higher precision; F16 where a row does not consist
    of whole blocks. Of K- and I-quants, the mixtures of ``type_in``; ``matrix``: with an importance matrix."""
    plain = len(shape) == 1 or not name.endswith(_MATRICES)
    if plain or name.endswith(_EXACT) or name == "position_embd.weight":
        return "F32"
    if quantization in TYPES:
        return type_in(quantization, name, shape[-1], facts, matrix)
    chosen = "Q8_0" if head and quantization in _SMALL_TYPES else quantization
    return chosen if shape[-1] % BLOCKS[chosen][0] == 0 else "F16"


def size_of(shape: Sequence[int], kind: str) -> int:
    """The bytes of the data of a tensor of this type."""
    elements, size = BLOCKS[kind]
    return math.prod(shape) // elements * size
