"""The names of GGUF files by the convention of llama.cpp: ``My-project-Q8_0.gguf``."""

from __future__ import annotations

import re

_LONGEST = 40


def model_part(project: str) -> str:
    """The part of the name that all files of a project share."""
    return re.sub(r"[^\w.]+", "-", project)[:_LONGEST].strip("-._") or "model"


def file_name(project: str, kind: str, adapter: bool = False) -> str:
    """The name of a file of this quantization."""
    return f"{model_part(project)}-{kind}{'-LoRA' if adapter else ''}.gguf"
