"""Data sets from the Hugging Face hub, pinned to the current commit of a revision.

The download runs in a child process, so that it can be stopped at once. Downloaded files stay in
the hub's cache; a data set that is completely cached is used without a network.
"""

from __future__ import annotations

from pathlib import Path

from studio.data.reading.hub import (
    Fetched,
    HubSource,
    fetched,
    fetched_before,
    hub_source,
    note_fetched,
)
from studio.errors import StudioError
from studio.graph.context import StepContext
from studio.node_settings.dataset import DatasetSettings
from studio.training.fetch.hub import run_download

_HINTS = {
    "not_found": "Check the spelling; a private dataset needs a token with access to it.",
    "gated": "Accept the licence of the dataset on its page on the Hub, and enter a token with File, Hugging Face "
    "Token.",
    "no_network": "Check the network connection, or choose files on this machine.",
    "no_such_part": (
        "See the page of the dataset, and enter its configuration and split in the Dataset node."
    ),
}
_FIELDS = {"no_revision": "hub_revision", "no_such_part": "hub_split"}


def fetch_data(context: StepContext, settings: DatasetSettings, validation: bool = False) -> None:
    """Download the data set in the settings, unless it is complete on this machine."""
    source = hub_source(settings, validation)
    found = fetched(source)
    if found is None or settings.hub_look_for_updates:
        known = fetched_before(source)
        found = _download(context, source, known, "validation_source" if validation else "source")
    count = len(found.files) + len(found.validation)
    part = source.split or ("train and validation" if found.validation else "train")
    context.notice(
        f"{source.repo} ({part}) is used at commit {found.commit[:12]}: "
        f"{count} {'file' if count == 1 else 'files'}.",
        level="info",
    )


def _download(
    context: StepContext, source: HubSource, known: Fetched | None, field: str
) -> Fetched:
    program = "studio.training.fetch.hub_data_download"
    part = (source.repo, source.revision, source.config, source.split)
    ended = run_download(context, source.repo, program, *part)
    if not ended.code and "path" in ended.said:
        said = ended.said
        return note_fetched(
            source,
            Path(said["path"]),
            list(said["files"]),
            str(said["revision"]),
            list(said["validation"]),
            int(said["test"]),
        )
    code = str(ended.said.get("code", "download_failed"))
    if code == "no_network" and known is not None:
        context.notice(f"The Hub cannot be reached; {source.repo} is used from this machine.")
        return known
    raise StudioError(
        ended.reason,
        title="The dataset could not be downloaded",
        hint=ended.hint or _HINTS.get(code, "Run again; downloaded files are kept."),
        field=_FIELDS.get(code, field),
        code=code,
    )
