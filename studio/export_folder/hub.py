"""The upload of an export to the Hugging Face Hub: what it needs, and what its errors mean.

Pure functions of settings, environment and answers of the Hub; the upload is in ``studio/training/export/hub.py`` and
``hub_upload.py``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from studio.shown_text import short
from studio.system.hub_token import PAGE
from studio.system.number_text import duration

_YES = ("1", "ON", "YES", "TRUE")
MESSAGE = "Upload with LoRA Studio"
BRANCH = "main"
_STATUS = "https://status.huggingface.co"
_AGAIN = "Resume the run to upload what is missing."


def is_offline(variables: Mapping[str, str] = os.environ) -> bool:
    """Whether a variable of the environment keeps ``huggingface_hub`` from sending requests."""
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return any(variables.get(name, "").upper() in _YES for name in names)


@dataclass(frozen=True)
class Refused:
    """Why an upload ended: a stable code, what happened (without a full stop), and what to do."""

    code: str
    sentence: str
    hint: str


def explain(
    status: int | None, said: str, repository: str, *, file: str = "", wait_s: float | None = None
) -> Refused:
    """The meaning of an error of the Hub.

    ``status`` is that of its answer, ``None`` if there was none; ``said`` is its message, or that of the connection.
    ``file`` was being uploaded; ``wait_s`` is how long it asks to wait.
    """
    words = said.strip().splitlines()[0].rstrip(".") if said.strip() else ""
    quoted = f" ({short(words)})" if words else ""
    during = f" during the upload of {file}" if file else ""
    full = any(w in said.lower() for w in ("storage limit", "storage quota", "quota exceeded"))
    if status in (402, 507) or full:
        return Refused(
            "hub_full",
            f"the Hub has not enough storage for {repository}{quoted}",
            "Delete what is not needed in the storage settings of the account, extend its plan, or upload to a public "
            "repository or a smaller quantization. Then resume the run.",
        )
    if status == 401:
        return Refused(
            "token_refused",
            f"the Hub does not accept the token{quoted}",
            f"It may have expired or been revoked. Make one with write access at {PAGE}, enter it with File, Hugging "
            "Face Token, and resume the run.",
        )
    if status == 403:
        return Refused(
            "no_write_access",
            f"the token may not write to {repository}{quoted}",
            f"Use a token with write access to this repository ({PAGE}); for an organization, its owner must be a "
            "member with the right to write. Or choose another owner.",
        )
    if status == 404:
        return Refused(
            "no_such_repository",
            f"the Hub does not find {repository}{quoted}",
            "Check the owner's name: it must be your user name or an organization that you are a member of. A token "
            "without access to a private repository does not see it either.",
        )
    if status in (409, 412):
        return Refused(
            "hub_conflict",
            f"{repository} was changed by someone else during the upload{quoted}",
            "Nothing of the other change was overwritten. Look at the repository, and resume the run to upload on top.",
        )
    if status == 413:
        return Refused(
            "hub_too_large",
            f"the Hub does not accept a file of this size{during}{quoted}",
            "Choose a smaller maximum file size in the Merge node, or a quantization with fewer bits.",
        )
    if status == 429:
        wait = f" {duration(wait_s)}" if wait_s else " some minutes"
        return Refused(
            "hub_busy",
            f"the Hub takes no more requests of this account for now{quoted}",
            f"Wait{wait}, then resume the run to upload what is missing.",
        )
    if status is not None and status >= 500:
        return Refused(
            "hub_down",
            f"the Hub has a fault: it answered {status}{during}{quoted}",
            f"Try again later; {_STATUS} shows its state. {_AGAIN}",
        )
    if status is not None:
        return Refused(
            "upload_failed",
            f"the Hub refused the upload: it answered {status}{during}{quoted}",
            _AGAIN,
        )
    return Refused(
        "connection_lost",
        f"the connection to the Hub was lost{during}{quoted}",
        f"Check the network connection. {_AGAIN}",
    )
