"""K- and I-quants of GGUF: their names and sizes, and the program of llama.cpp that writes them.

The ``gguf`` package cannot write them. ``llama-quantize`` is taken from PATH, else from the package
``ik-llama-cpp-python``, whose wheels contain that of ik_llama.cpp: this one mixes in types of its own, which llama.cpp
cannot load, and is therefore told the type of each tensor.
"""

from __future__ import annotations

import importlib
import os
import re
import shutil
from importlib.util import find_spec
from pathlib import Path

from studio.system.optional_packages import LLAMA_QUANTIZE

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
"""The quantization -> the type of most of its tensors. Some tensors get a better one: see ``better_type``."""

WITH_MATRIX = frozenset(k for k in TYPES if k.startswith(("IQ", "Q2", "Q3")))
"""Those for which an importance matrix is used by default: below 4 bits, and all I-quants."""

FALLBACK: dict[str, str] = {"Q6_K": "Q8_0", "Q5_K": "Q5_1", "Q4_K": "Q5_0"}
"""Type -> what llama.cpp stores where a row is no multiple of 256; IQ4_NL for all others."""

_MORE = {
    "Q5_K_M": ("Q6_K", ""),
    "Q4_K_M": ("Q6_K", ""),
    "Q3_K_L": ("Q5_K", "Q5_K"),
    "Q3_K_M": ("Q5_K", "Q4_K"),
    "Q2_K": ("Q4_K", "Q3_K"),
    "IQ4_XS": ("Q5_K", ""),
    "IQ3_M": ("Q5_K", "Q4_K"),
    "IQ3_S": ("Q4_K", ""),
    "IQ3_XXS": ("Q4_K", ""),
}
"""Quantization -> the better type of V, and of the down projection in some layers, and that of the attention output
where it is better, too. Those of Q4_K_M, Q5_K_M, Q6_K and Q3_K_L are llama.cpp's for dense models with separate Q, K
and V; the others are close to them: llama.cpp also looks at groups of heads and at the importance matrix."""

_LAYER = re.compile(r"^blk\.(\d+)\.(attn_v|attn_qkv|ffn_down|attn_output)\.weight$")


def better_type(name: str, kind: str, layers: int) -> str:
    """The better type of a tensor in a file of this quantization; empty for most tensors."""
    value, output = _MORE.get(kind, ("", ""))
    found = _LAYER.match(name)
    if found is None or not value:
        return ""
    layer, part = int(found[1]), found[2]
    if part == "attn_output":
        return output
    if part == "ffn_down" and kind[:2] != "IQ" and kind not in ("Q5_K_M", "Q4_K_M"):
        return output
    eighth = layers // 8
    chosen = layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2
    if kind in ("Q5_K_M", "Q4_K_M"):
        return value if chosen else ""
    return value if part != "ffn_down" or layer < max(eighth, 1) else ""


PACKAGE = LLAMA_QUANTIZE.name


def find_quantizer() -> Path | None:
    """``llama-quantize``; ``None`` without one. No package is imported."""
    found = shutil.which("llama-quantize")
    if found:
        return Path(found)
    importlib.invalidate_caches()
    spec = find_spec(LLAMA_QUANTIZE.module)
    if spec is None or not spec.origin:
        return None
    name = "llama-quantize.exe" if os.name == "nt" else "llama-quantize"
    program = Path(spec.origin).parent / "bin" / name
    return program if program.is_file() else None


def how_to_get() -> str:
    """What to install, and its size."""
    return (
        f"Install it ({LLAMA_QUANTIZE.disk_mb} MB on disk) with: {LLAMA_QUANTIZE.command} – or put llama.cpp's "
        "llama-quantize on the PATH, or choose Q8_0, Q5_1, Q5_0, Q4_1 or Q4_0, which need no other program."
    )
