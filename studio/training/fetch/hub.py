"""Models from the Hugging Face hub, pinned to the current commit of a revision.

The download runs in a child process (``hub_download``), so that it can be stopped at once.
Downloaded files stay in the hub's cache, and the next attempt continues from there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from studio.errors import StudioError
from studio.graph.context import StepContext
from studio.model.hub_kept import kept, note_kept
from studio.system import hub_token
from studio.training.fetch.child import Ended, python, run_child

_HINTS = {
    "not_found": "Check the spelling; a private model needs a token with access to it.",
    "gated": "Accept the licence of the model on its page on the Hub, and enter a token with File, Hugging Face Token.",
    "no_network": "Check the network connection, or choose a model on this machine.",
    "no_weights": "Choose a repository with .safetensors files.",
}


def fetch_from_hub(
    context: StepContext, repo: str, revision: str, look_for_updates: bool = False
) -> tuple[Path, str]:
    """The snapshot folder of ``repo`` and the commit it is pinned to.

    A model that is completely cached is used without a network, unless ``look_for_updates`` is set.
    """
    found = kept(repo, revision)
    if found is not None and not look_for_updates:
        context.notice(
            f"{repo} is used from this machine, at commit {found[1][:12]}; the Hub was not "
            "checked for updates.",
            "Turn on “Check for updates” in the Base model node to use a newer version.",
            "info",
        )
        return found
    ended = run_download(context, repo, "studio.training.fetch.hub_download", repo, revision)
    if ended.code or "path" not in ended.said:
        code = str(ended.said.get("code", "download_failed"))
        if code == "no_network" and found is not None:
            context.notice(f"The Hub cannot be reached; {repo} is used from this machine.")
            return found
        raise StudioError(
            ended.reason,
            title="The model could not be downloaded",
            hint=ended.hint or _HINTS.get(code, "Run again; downloaded files are kept."),
            field="revision" if code == "no_revision" else "model",
            code=code,
        )
    folder, commit = Path(ended.said["path"]), str(ended.said["revision"])
    if ended.said.get("fetched"):  # an offline fallback may be incomplete
        note_kept(repo, revision, folder, commit)
    return folder, commit


def run_download(context: StepContext, repo: str, program: str, *arguments: str) -> Ended:
    """Run a download program to its end, and report its notices and progress."""
    context.phase("download", f"Looking up {repo} on the Hub")
    following: dict[str, Any] = {}

    def on_message(message: Any) -> None:
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

    return run_child(
        context,
        python("-m", program, *arguments),
        on_message=on_message,
        tick=tick,
        environment=hub_token.environment(),
    )


def _bytes_in(folder: Path) -> int:
    """The bytes downloaded so far; files may disappear while they are counted."""
    total = 0
    for path in folder.glob("*"):
        try:
            total += path.stat().st_size
        except OSError:
            continue
    return total
