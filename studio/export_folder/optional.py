"""Python packages that read exports back and are not installed with the program: whether they are there, and how to get
them."""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec

from studio.system.optional_packages import COMPRESSED_TENSORS

CT, MLX = "compressed-tensors", "mlx-lm"
_MLX_MODULE, _MLX_MB = "mlx_lm", 160
_MLX_SYSTEMS = ("darwin", "linux")
_MLX_REQUIREMENTS = ("mlx-lm>=0.31", *(() if sys.platform == "darwin" else ("mlx[cpu]",)))
"""On Linux, mlx-lm does not name the package that it needs."""


def is_installed(name: str) -> bool:
    """Whether the package of this name (``CT``, ``MLX``) can be imported in this Python."""
    if name == CT:
        return COMPRESSED_TENSORS.is_installed()
    importlib.invalidate_caches()
    return find_spec(_MLX_MODULE) is not None


def missing_words(name: str) -> str:
    """What to do without it, in a sentence."""
    if name == CT:
        size, command = COMPRESSED_TENSORS.disk_mb, COMPRESSED_TENSORS.command
        return f"Install {name} ({size} MB on disk) with: {command}"
    if sys.platform not in _MLX_SYSTEMS:
        return f"{name} does not run on this system: check the export where it is used."
    quoted = " ".join(f'"{r}"' for r in _MLX_REQUIREMENTS)
    return f'Install {name} ({_MLX_MB} MB on disk) with: "{sys.executable}" -m pip install {quoted}'
