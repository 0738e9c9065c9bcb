"""Python packages that read exports back and are not installed with the program: whether they are there, and how to get
them."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from importlib.util import find_spec


@dataclass(frozen=True)
class Package:
    """``module`` is what is imported, ``requirements`` what pip installs, ``size_mb`` its size on disk with what it
    needs and the program does not have. ``systems`` are those it runs on (``sys.platform``); empty for all."""

    title: str
    module: str
    requirements: tuple[str, ...]
    size_mb: int
    systems: tuple[str, ...] = ()


_MLX = ("mlx-lm>=0.31",) if sys.platform == "darwin" else ("mlx-lm>=0.31", "mlx[cpu]")
PACKAGES = {
    "compressed-tensors": Package(
        "compressed-tensors", "compressed_tensors", ("compressed-tensors>=0.15",), 6
    ),
    "mlx-lm": Package("mlx-lm", "mlx_lm", _MLX, 160, ("darwin", "linux")),
}


def is_installed(name: str) -> bool:
    """Whether a package of ``PACKAGES`` can be imported in this Python."""
    importlib.invalidate_caches()
    return find_spec(PACKAGES[name].module) is not None


def missing_words(name: str) -> str:
    """What to do without it, in a sentence."""
    package = PACKAGES[name]
    if package.systems and sys.platform not in package.systems:
        return f"{package.title} does not run on this system: check the export where it is used."
    quoted = " ".join(f'"{r}"' for r in package.requirements)
    return (
        f"Install {package.title} ({package.size_mb} MB on disk) with: "
        f'"{sys.executable}" -m pip install {quoted}'
    )
