"""Which type each matrix of a K- or I-quant gets: the rules of llama.cpp's ``llama-quantize``.

A quantization such as Q4_K_M is a mixture: values and down projections of some layers are stored more precisely, and
so is the head. The rules depend on names, the number of layers, how many heads share keys and values, and whether there
is an importance matrix; so the size of a file is known before it is written. They follow ``src/llama-quant.cpp``
(MIT), and ``tests/fixtures/llama_quantize_types.json`` holds what it says itself for some models.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

TYPES: dict[str, str] = {
    "Q6_K": "Q6_K",
    "Q5_K_M": "Q5_K",
    "Q5_K_S": "Q5_K",
    "Q4_K_M": "Q4_K",
    "Q4_K_S": "Q4_K",
    "Q3_K_L": "Q3_K",
    "Q3_K_M": "Q3_K",
    "Q3_K_S": "Q3_K",
    "Q2_K": "Q2_K",
    "IQ4_NL": "IQ4_NL",
    "IQ4_XS": "IQ4_XS",
    "IQ3_M": "IQ3_S",
    "IQ3_S": "IQ3_S",
    "IQ3_XXS": "IQ3_XXS",
}
"""The quantization -> the type of most of its tensors."""
WITH_MATRIX = frozenset(k for k in TYPES if k.startswith(("IQ", "Q2", "Q3")))
"""Those for which an importance matrix is used by default: below 4 bits, and all I-quants."""

_FALLBACK = {"Q6_K": "Q8_0", "Q5_K": "Q5_1", "Q4_K": "Q5_0", "Q3_K": "Q4_0", "Q2_K": "Q4_0"}
"""Type -> the one for rows whose length is no multiple of 256; IQ4_NL for I-quants."""
_BLOCK, _SMALL_BLOCK = 256, 32
_EIGHT = 8
"""The number of experts for which llama.cpp has rules of their own (Mixtral)."""
_SHARED = 4
"""From this number of heads that share keys and values on, these are small and stored more precisely."""

_HEAD = {"IQ3_XXS": "Q5_K"}
_EMBEDDING = {"IQ3_XXS": "IQ3_S"}
_VALUES = {"Q2_K": "Q3_K", "IQ3_M": "Q4_K", "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K"}
_SHARED_VALUES = {
    "Q2_K": "Q4_K",
    "IQ3_XXS": "Q4_K",
    "IQ3_S": "Q4_K",
    "IQ4_NL": "Q5_K",
    "IQ4_XS": "Q5_K",
}
_DOWN = {"Q2_K": "Q3_K", "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K"}
_FIRST_DOWN = {"IQ3_M": "Q4_K", "Q4_K_S": "Q5_K"}
_FIRST_DOWN_PLAIN = {"IQ4_NL": "Q5_K", "IQ4_XS": "Q5_K", "IQ3_XXS": "Q4_K"}
_OUTPUT = {"Q2_K": "Q3_K", "IQ3_XXS": "IQ3_S", "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K", "IQ3_M": "Q4_K"}
_NOT_OUTPUT_OF_EXPERTS = ("Q6_K", "Q5_K_M", "Q5_K_S", "Q3_K_L")
_MORE = ("Q4_K_M", "Q5_K_M")
_PART = re.compile(
    r"^blk\.(\d+)\.(attn_v|attn_qkv|attn_kv_b|attn_k|attn_q|attn_output|ffn_down)(_exps|_shexp)?\.weight$"
)


@dataclass(frozen=True)
class Facts:
    """What the rules depend on. ``groups``: how many heads share a key. ``tied``: the head is the embedding.
    ``large``: llama.cpp calls it a 70B model, whose values are small."""

    layers: int
    groups: int = 1
    tied: bool = False
    experts: int = 0
    large: bool = False


def type_in(kind: str, name: str, columns: int, facts: Facts, matrix: bool = False) -> str:
    """The type of a matrix with rows of this length in a file of the quantization ``kind``, written with or without an
    importance ``matrix``. Not for tensors that are never quantized, such as norms."""
    found = _chosen(kind, name, columns, facts, matrix)
    if columns % (_SMALL_BLOCK if found in ("IQ4_NL", "Q8_0") else _BLOCK) == 0:
        return found
    return _FALLBACK.get(found, "IQ4_NL") if columns % _SMALL_BLOCK == 0 else "F16"


def _chosen(kind: str, name: str, columns: int, facts: Facts, matrix: bool) -> str:
    usual = TYPES[kind]
    if name == "output.weight" or (facts.tied and name == "token_embd.weight"):
        block = _SMALL_BLOCK if usual == "IQ4_NL" else _BLOCK
        return _HEAD.get(kind, "Q6_K") if columns % block == 0 else "Q8_0"
    if name == "token_embd.weight":
        return _EMBEDDING.get(kind, usual)
    part = _PART.match(name)
    if part is None:
        return usual
    layer, what = int(part[1]), part[2]
    if what == "ffn_down":
        return _down(kind, layer, facts, matrix)
    if what == "attn_output":
        if facts.experts == _EIGHT:
            return usual if kind in _NOT_OUTPUT_OF_EXPERTS else "Q5_K"
        return _OUTPUT.get(kind, usual)
    if what in ("attn_k", "attn_q"):
        if what == "attn_k" and facts.experts == _EIGHT:
            return "Q8_0"
        return "IQ2_S" if kind == "IQ3_XXS" else usual
    if facts.experts == _EIGHT:
        return "Q8_0"
    found = _values(kind, layer, facts, matrix)
    return "Q5_K" if facts.large and found in ("Q3_K", "Q4_K") else found


def _values(kind: str, layer: int, facts: Facts, matrix: bool) -> str:
    if facts.groups >= _SHARED and kind in _SHARED_VALUES:
        return _SHARED_VALUES[kind]
    if kind == "IQ3_XXS" and not matrix:
        return "IQ3_S"
    if kind == "Q3_K_M" and layer < 2:
        return "Q5_K"
    if kind == "Q4_K_S" and layer < 4:
        return "Q5_K"
    if kind in _MORE and _gets_more(layer, facts.layers):
        return "Q6_K"
    return _VALUES.get(kind, TYPES[kind])


def _down(kind: str, layer: int, facts: Facts, matrix: bool) -> str:
    first = layer < facts.layers // 8
    more = _gets_more(layer, facts.layers)
    if kind in _MORE and more:
        return "Q6_K"
    if kind in _FIRST_DOWN and (first or (kind == "IQ3_M" and facts.experts == _EIGHT and more)):
        return _FIRST_DOWN[kind]
    if not matrix and first and kind in _FIRST_DOWN_PLAIN:
        return _FIRST_DOWN_PLAIN[kind]
    if not matrix and kind == "IQ3_XXS":
        return "Q3_K"
    if kind == "Q3_K_M" and layer < facts.layers // 16:
        return "Q5_K"
    return _DOWN.get(kind, TYPES[kind])


def _gets_more(layer: int, layers: int) -> bool:
    """The first and the last eighth of the layers, and every third between them."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2
