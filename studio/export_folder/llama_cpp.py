"""llama.cpp as a Python package, which reads GGUF exports back: whether it is installed, and how to get it.

It is optional because of its size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from studio.system.optional_packages import LLAMA_CPP

PACKAGE = LLAMA_CPP.module
REQUIREMENT = LLAMA_CPP.requirement
SIZE_MB = LLAMA_CPP.disk_mb
"""On disk."""
NO_READER = "no_reader"
"""The code of a check that was not made because llama.cpp is not installed."""


def is_installed() -> bool:
    """Whether GGUF files can be read back in this Python."""
    return LLAMA_CPP.is_installed()


def install_command() -> str:
    """The command that installs it into the Python that runs the program."""
    return LLAMA_CPP.command


def missing_words() -> str:
    """What to do without it, in a sentence."""
    return f"Install llama.cpp for Python ({SIZE_MB} MB on disk) with: {install_command()}"


def lacked(check: Mapping[str, Any]) -> bool:
    """Whether a check was not made because llama.cpp was not installed."""
    return check.get("verdict") == "not_proven" and check.get("code") == NO_READER


def can_be_made_now(check: Mapping[str, Any]) -> bool:
    """Whether llama.cpp, which a check lacked, has been installed since."""
    return lacked(check) and is_installed()
