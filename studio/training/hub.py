"""A model from the Hugging Face hub, pinned to the commit that its revision names now.

The download runs in a process of its own (``hub_download``), so that a stop ends it at once; what
was fetched stays in the hub's cache and the next try goes on from there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from studio.errors import StudioError
from studio.runs.context import StepContext
from studio.training.child import python, run_child

_HINTS = {
    "not_found": "Check the spelling; a private model needs a token with access to it.",
    "gated": "Accept the model's licence on its hub page and sign in with a token.",
    "no_network": "Check the network connection, or choose a model that is on this machine.",
    "no_weights": "Choose a repository with .safetensors files.",
}


def fetch_from_hub(context: StepContext, repo: str, revision: str) -> tuple[Path, str]:
    """The snapshot folder of ``repo`` and the commit it is pinned to."""
    context.phase("download", f"Looking for {repo} on the hub")
    following: dict[str, Any] = {}

    def told(message: Any) -> None:
        if "total" in message:
            following.update(message)
            context.phase("download", f"Downloading {repo}")
        elif "notice" in message:
            context.notice(message["notice"])

    def tick(lines: list[str]) -> None:
        del lines
        if following:
            done = min(_bytes_in(Path(following["blobs"])), following["total"])
            context.progress("download", done, following["total"], "bytes")

    ended = run_child(
        context, python("-m", "studio.training.hub_download", repo, revision), told=told, tick=tick
    )
    if ended.code or "path" not in ended.said:
        code = str(ended.said.get("code", "download_failed"))
        reason = ended.said.get("error") or (ended.last_words.splitlines() or ["no reason"])[-1]
        raise StudioError(
            f"{context.title}: {reason}", title="The model could not be fetched",
            hint=_HINTS.get(code, "Run again; what was downloaded is kept."),
            field="revision" if code == "no_revision" else "model", code=code,
        )  # fmt: skip
    return Path(ended.said["path"]), str(ended.said["revision"])


def _bytes_in(folder: Path) -> int:
    """Bytes that have arrived; files may vanish while they are counted."""
    total = 0
    for path in folder.glob("*"):
        try:
            total += path.stat().st_size
        except OSError:
            continue
    return total
