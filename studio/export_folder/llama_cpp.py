"""llama.cpp as a Python package, which reads GGUF exports back: whether it is installed, and how to get it.

It is optional because of its size.
"""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec

PACKAGE = "xllamacpp"
REQUIREMENT = "xllamacpp>=2026.10"
SIZE_MB = 102
"""On disk."""


def is_installed() -> bool:
    """Whether GGUF files can be read back in this Python."""
    importlib.invalidate_caches()
    return find_spec(PACKAGE) is not None


def install_command() -> str:
    """The command that installs it into the Python that runs the program."""
    return f'"{sys.executable}" -m pip install "{REQUIREMENT}"'


def missing_words() -> str:
    """What to do without it, in a sentence."""
    return f"Install llama.cpp for Python ({SIZE_MB} MB on disk) with: {install_command()}"
