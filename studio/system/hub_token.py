"""The access token of the Hugging Face Hub: where it comes from, and how it is kept.

It is read from ``HF_TOKEN``, else from the keyring of the system, else from where ``hf auth login`` has stored it.
The program itself stores it in the keyring only, and passes it to helper processes in their environment: never in
a file, an argument, an event or a log.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from studio.errors import StudioError
from studio.system.optional_packages import KEYRING

VARIABLE = "HF_TOKEN"
PAGE = "https://huggingface.co/settings/tokens"
SERVICE = "huggingface.co"
"""The name of the entry in the keyring; its user name is ``ENTRY``."""
ENTRY = "lora-studio"
HOW = (
    f"Enter a token with write access with File, Hugging Face Token, or set the environment variable {VARIABLE}. "
    f"Tokens are made at {PAGE}."
)
_WAIT_S = 0.3
_FRESH_S = 20.0
_NO_KEYRING = "this computer has no keyring in which the token could be stored"


@dataclass(frozen=True)
class Token:
    """``source`` says where it was found, as the end of a sentence. Its text is not part of its representation."""

    text: str = field(repr=False)
    source: str


def find_token() -> Token | None:
    """The token, or ``None``. The keyring may ask the user to unlock it; on the main thread use ``is_known``."""
    text = os.environ.get(VARIABLE, "").strip()
    if text:
        return Token(text, f"the environment variable {VARIABLE}")
    text = kept_token()
    if text:
        return Token(text, "the keyring")
    from huggingface_hub import get_token

    text = (get_token() or "").strip()
    return Token(text, "the login of the Hugging Face command line") if text else None


def environment() -> dict[str, str]:
    """The environment in which a helper process of the Hub finds the token of the keyring; empty if it needs none."""
    found = find_token()
    return {VARIABLE: found.text} if found is not None else {}


def _keyring() -> Any:
    """The package ``keyring``, also if it was installed while the program runs. Raises ``ImportError``."""
    if KEYRING.module not in sys.modules:
        importlib.invalidate_caches()
    return importlib.import_module(KEYRING.module)


def kept_token() -> str:
    """The token in the keyring; empty if there is none, or no keyring."""
    try:
        return (_keyring().get_password(SERVICE, ENTRY) or "").strip()
    except Exception:
        # Not installed, no backend, locked, or an error of the backend: each has its own exceptions.
        return ""


def keep_token(text: str) -> None:
    """Store the token in the keyring. Raises ``StudioError`` if it cannot be stored."""
    fault = token_fault(text)
    if fault:
        raise StudioError(
            f"This is not a token of the Hub: {fault}.",
            hint=f"Copy it from {PAGE}.",
            code="bad_token",
        )
    try:
        _keyring().set_password(SERVICE, ENTRY, text.strip())
    except Exception as error:
        raise StudioError(
            f"The token was not stored: {_why(error)}.",
            title="The token was not stored",
            hint=f"{_install(error)}Set the environment variable {VARIABLE} before LoRA Studio is started, or run: "
            "hf auth login",
            code="no_keyring",
        ) from error
    _seen.clear()


def remove_token() -> None:
    """Remove the token from the keyring. Raises ``StudioError`` if it is still there."""
    try:
        keyring = _keyring()
        if keyring.get_password(SERVICE, ENTRY) is not None:
            keyring.delete_password(SERVICE, ENTRY)
    except Exception as error:
        raise StudioError(
            f"The token was not removed: {_why(error)}.",
            title="The token was not removed",
            hint=f"Remove the entry {SERVICE} in the keyring of the system.",
            code="no_keyring",
        ) from error
    _seen.clear()


def _why(error: Exception) -> str:
    """Why the keyring could not be used, without a full stop."""
    if isinstance(error, ImportError):
        return "the package keyring is not installed"
    if type(error).__name__ == "NoKeyringError":
        return _NO_KEYRING
    words = (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"the keyring refused it ({words.rstrip('.')})"


def _install(error: Exception) -> str:
    if not isinstance(error, ImportError):
        return ""
    return f"Install it with {KEYRING.command} Or: "


def token_fault(text: str) -> str:
    """What is wrong with a text as a token, as the end of a sentence; empty if nothing is."""
    text = text.strip()
    if not text:
        return "it is empty"
    if len(text) > 4096 or any(not c.isascii() or not c.isprintable() or c == " " for c in text):
        return "it may only contain letters, digits and signs, without spaces"
    return ""


# ------------------------------------------------------------ for the check of each edit


_seen: dict[str, tuple[bool, float]] = {}
_asking = threading.Lock()


def is_known(variables: Mapping[str, str] = os.environ) -> bool | None:
    """Whether there is a token, within a third of a second; ``None`` as long as the keyring has not answered."""
    if variables.get(VARIABLE, "").strip():
        return True
    from huggingface_hub import constants

    if Path(constants.HF_TOKEN_PATH).is_file():
        return True
    known = _seen.get(ENTRY)
    if known is not None and (known[0] or time.monotonic() - known[1] < _FRESH_S):
        return known[0]
    if _asking.acquire(blocking=False):
        asker = threading.Thread(target=_ask, name="hub token", daemon=True)
        asker.start()
        asker.join(_WAIT_S)
    known = _seen.get(ENTRY)
    return known[0] if known is not None else None


def _ask() -> None:
    try:
        _seen[ENTRY] = (bool(kept_token()), time.monotonic())
    finally:
        _asking.release()
