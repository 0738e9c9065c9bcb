"""Downloads the data files of one split of a data set; without a split, the training and validation
files. Run as a program: ``hub_data_download REPO REVISION CONFIG SPLIT``.

Prints JSON lines with the size of the download and the resulting folder. Only files with rows are
downloaded; code of the data set is neither downloaded nor run.
"""

from __future__ import annotations

import glob
import sys
from pathlib import Path
from typing import Any

from studio.data.reading.splits import NoSuchPart, Sides, files_of, sides_of
from studio.training.fetch.hub_download import fail, tell


def fetch(repo: str, revision: str, config: str, split: str) -> int:
    """Resolve the commit, select the files, download them, and print the folder."""
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub import errors as hub
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    wanted = revision or "main"
    gated = f"{repo} is gated: its licence must be accepted first."
    # The client may use any HTTP library, so errors are recognized by their class.
    broken = (hub.HfHubHTTPError, *hub.HfHubHTTPError.__bases__, OSError)
    try:
        info = HfApi().dataset_info(repo, revision=wanted, files_metadata=True)
    except hub.GatedRepoError:
        return fail("gated", gated)
    except hub.RevisionNotFoundError:
        return fail("no_revision", f"{repo} has no revision “{wanted}”.")
    except (hub.RepositoryNotFoundError, hub.HFValidationError):
        return fail("not_found", f"the dataset {repo} does not exist on the Hub, or it is private.")
    except (hub.OfflineModeIsEnabled, *broken) as error:
        return fail("no_network", f"the Hub cannot be reached for {repo}: {_first_line(error)}")
    sizes = {f.rfilename: f.size or 0 for f in info.siblings or []}
    try:
        names, configs = list(sizes), _configs(info)
        if split:
            sides = Sides(tuple(files_of(names, configs, config, split)))
        else:
            sides = sides_of(names, configs, config)
    except NoSuchPart as error:
        return fail("no_such_part", f"{repo} {error}.")
    files = [*sides.train, *sides.validation]
    blobs = Path(constants.HF_HUB_CACHE) / ("datasets--" + repo.replace("/", "--")) / "blobs"
    tell(total=sum(sizes[f] for f in files), blobs=str(blobs))
    try:
        path = snapshot_download(
            repo,
            repo_type="dataset",
            revision=info.sha,
            allow_patterns=[glob.escape(f) for f in files],
        )
    except hub.GatedRepoError:
        return fail("gated", gated)
    except (hub.LocalEntryNotFoundError, *broken) as error:
        return fail(
            "download_failed", f"the download of {repo} was interrupted: {_first_line(error)}"
        )
    tell(
        path=path,
        revision=info.sha,
        files=sides.train,
        validation=sides.validation,
        test=len(sides.test),
    )
    return 0


def _configs(info: Any) -> list[Any]:
    """The configurations and their files from the data set card."""
    card = info.card_data.to_dict() if info.card_data is not None else {}
    found = card.get("configs")
    return [c for c in found if isinstance(c, dict)] if isinstance(found, list) else []


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


if __name__ == "__main__":
    sys.exit(fetch(*sys.argv[1:5]))
