"""What a person needs to know to choose among the quantizations of GGUF: groups, purpose, size, and what is missing."""

from __future__ import annotations

from dataclasses import dataclass

from studio.export_folder.ggml_library import find_library
from studio.export_folder.gguf_mixtures import TYPES, WITH_MATRIX
from studio.export_folder.gguf_sizes import file_size
from studio.graph.node_type import Option
from studio.model.facts import sized
from studio.model.shapes import Shape
from studio.system.optional_packages import LLAMA_QUANTIZE

RECOMMENDED = "Recommended"
FULL, EIGHT, LEGACY = "Full precision", "8-bit", "4- and 5-bit, legacy"
K_QUANTS, I_QUANTS = "K-quants", "I-quants"


@dataclass(frozen=True)
class Purpose:
    """The group of a quantization, and what it is for."""

    group: str
    words: str


PURPOSES: dict[str, Purpose] = {
    "Q8_0": Purpose(RECOMMENDED, "8.5 bits per weight. Stays close to the model."),
    "Q4_K_M": Purpose(
        RECOMMENDED, "4.9 bits per weight. The usual choice where memory is limited."
    ),
    "F32": Purpose(FULL, "Exact, and the largest. To quantize with other programs."),
    "F16": Purpose(FULL, "Exact for models in float16. Half as large as F32."),
    "BF16": Purpose(FULL, "Exact for models in bfloat16. Slow on older CPUs."),
    "Q5_1": Purpose(LEGACY, "6 bits. Older than the K-quants, and needs no other program."),
    "Q5_0": Purpose(LEGACY, "5.5 bits. Older than the K-quants, and needs no other program."),
    "Q4_1": Purpose(LEGACY, "5 bits. Better than Q4_0, and needs no other program."),
    "Q4_0": Purpose(LEGACY, "4.5 bits. Fast on CPUs; Q4_K_M loses less."),
    "Q6_K": Purpose(K_QUANTS, "6.6 bits. Close to Q8_0."),
    "Q5_K_M": Purpose(K_QUANTS, "5.7 bits. Between Q6_K and Q4_K_M."),
    "Q5_K_S": Purpose(K_QUANTS, "5.5 bits. A little smaller than Q5_K_M."),
    "Q4_K_S": Purpose(K_QUANTS, "4.6 bits. A little smaller than Q4_K_M."),
    "Q3_K_L": Purpose(K_QUANTS, "4.3 bits. The best of the 3-bit K-quants."),
    "Q3_K_M": Purpose(K_QUANTS, "3.9 bits. Loses noticeably more than 4 bits."),
    "Q3_K_S": Purpose(K_QUANTS, "3.5 bits. Only for large models."),
    "Q2_K": Purpose(K_QUANTS, "3 bits. The last resort, for large models."),
    "IQ4_NL": Purpose(I_QUANTS, "4.5 bits. For rows that are no multiple of 256."),
    "IQ4_XS": Purpose(I_QUANTS, "4.3 bits. As good as Q4_K_S, and smaller."),
    "IQ3_M": Purpose(I_QUANTS, "3.7 bits. Better than Q3_K_M, and slower on CPUs."),
    "IQ3_S": Purpose(I_QUANTS, "3.4 bits. Better than Q3_K_S, and slower on CPUs."),
    "IQ3_XXS": Purpose(I_QUANTS, "3.1 bits. Better than Q2_K, and slower on CPUs."),
}
"""Quantization -> its purpose, the recommended ones first. Bits are those of llama.cpp for models with billions of
parameters; small models have more, because their embedding is stored in a higher precision."""

_MATRIX = " Uses an importance matrix."
_MISSING = "needs llama.cpp"


def options(shape: Shape | None) -> tuple[Option, ...]:
    """All quantizations, in the order in which they are offered; ``shape`` is that of the model, ``None`` while it is
    unknown or an adapter is exported."""
    missing = find_library() is None
    return tuple(
        Option(
            name,
            purpose.group,
            purpose.words + (_MATRIX if name in WITH_MATRIX else ""),
            f"≈ {sized(file_size(shape, name))}" if shape is not None else "",
            _MISSING if missing and name in TYPES else "",
            LLAMA_QUANTIZE.id if missing and name in TYPES else "",
        )
        for name, purpose in PURPOSES.items()
    )
