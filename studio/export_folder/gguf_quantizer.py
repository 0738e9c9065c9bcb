"""The program of llama.cpp that writes K- and I-quants of GGUF, and when it needs an importance matrix.

The ``gguf`` package cannot write them. ``llama-quantize`` is taken from PATH, else from the package
``ik-llama-cpp-python``, whose wheels contain that of ik_llama.cpp: this one mixes in types of its own, which llama.cpp
cannot load, and is therefore told the type of each tensor.
"""

from __future__ import annotations

import importlib
import os
import shutil
from importlib.util import find_spec
from pathlib import Path

from studio.export_folder.gguf_mixtures import TYPES
from studio.system.optional_packages import LLAMA_QUANTIZE

WITH_MATRIX = frozenset(k for k in TYPES if k.startswith(("IQ", "Q2", "Q3")))
"""Those for which an importance matrix is used by default: below 4 bits, and all I-quants."""

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
