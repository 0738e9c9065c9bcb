"""Optional packages: what the program can use, but does not require because of its size.

Each is an extra of ``pyproject.toml`` with the same requirement. ``pip_install`` installs them.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from importlib.util import find_spec


@dataclass(frozen=True)
class OptionalPackage:
    """A package of the index: ``id`` is the extra of ``pyproject.toml``, ``module`` what is imported. The sizes are
    megabytes of the Linux x86-64 build, as downloaded and on disk. ``without`` says what is not possible without it."""

    id: str
    title: str
    module: str
    requirement: str
    download_mb: int
    disk_mb: int
    without: str

    @property
    def name(self) -> str:
        """The name in the index, without the version."""
        return self.requirement.partition(">=")[0]

    @property
    def command(self) -> str:
        """The command that installs it into the Python that runs the program."""
        return f'"{sys.executable}" -m pip install "{self.requirement}"'

    @property
    def button(self) -> str:
        """The words of a button that leads to the installation."""
        return f"Install {self.title} ({self.disk_mb} MB)…"

    def is_installed(self) -> bool:
        """Whether this Python finds it; nothing is imported."""
        importlib.invalidate_caches()
        return find_spec(self.module) is not None


LLAMA_CPP = OptionalPackage(
    "llama-cpp",
    "llama.cpp",
    "xllamacpp",
    "xllamacpp>=2026.10",
    34,
    102,
    "GGUF files are written, but count as not proven: nothing reads them back. K- and I-quants such as Q4_K_M "
    "cannot be written.",
)
IK_LLAMA_CPP = OptionalPackage(
    "gguf-quants",
    "ik_llama.cpp",
    "ik_llama_cpp",
    "ik-llama-cpp-python>=0.1.5",
    25,
    60,
    "K- and I-quants such as Q4_K_M cannot be written. Q8_0, Q5_1, Q5_0, Q4_1 and Q4_0 can.",
)
# The module of xllamacpp exports the functions of llama.cpp on Linux and macOS only.
LLAMA_QUANTIZE = IK_LLAMA_CPP if sys.platform == "win32" else LLAMA_CPP
COMPRESSED_TENSORS = OptionalPackage(
    "fp8",
    "compressed-tensors",
    "compressed_tensors",
    "compressed-tensors>=0.15",
    1,
    6,
    "Models in FP8 are written, but count as not proven: nothing reads them back.",
)
KEYRING = OptionalPackage(
    "keyring",
    "keyring",
    "keyring",
    "keyring>=25.6,<26",
    6,
    21,
    "The token of the Hugging Face Hub cannot be stored. It is taken from HF_TOKEN or from hf auth login.",
)
PACKAGES = {p.id: p for p in (LLAMA_CPP, IK_LLAMA_CPP, COMPRESSED_TENSORS, KEYRING)}
_OF_PROBLEM = {
    "no_llama_cpp": LLAMA_CPP,
    "no_quantizer": LLAMA_QUANTIZE,
    "no_compressed_tensors": COMPRESSED_TENSORS,
}


def of_problem(code: str) -> OptionalPackage | None:
    """The package that solves the problem with this code; ``None`` if none does."""
    return _OF_PROBLEM.get(code)
