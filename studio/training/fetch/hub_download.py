"""Downloads the files of a hub model. Run as a program: ``hub_download REPO [REVISION]``.

Prints JSON lines with the size of the download and the resulting folder. Only safetensors, configs
and tokenizer files are downloaded, and code only as text for a person to read: no pickles.
"""

from __future__ import annotations

import glob
import json
import sys
from pathlib import Path
from typing import Any

PATTERNS = [
    "*.safetensors",
    "*.json",
    "tokenizer*",
    "*.txt",
    "*.jinja",
    "*.model",
    "README.md",
    "LICENSE*",
]
# The same weights in formats of other programs.
OTHERS = ["*/*", "consolidated*"]
TEMPLATES = "additional_chat_templates/*.jinja"  # where a tokenizer has several by name


def tell(**message: Any) -> None:
    """Print one JSON line for the parent process."""
    print(json.dumps(message), flush=True)


def fail(code: str, error: str) -> int:
    """Print an error line; returns the program's exit code."""
    tell(code=code, error=error)
    return 1


def fetch(repo: str, revision: str) -> int:
    """Resolve the commit, download the files, and print the folder."""
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub import errors as hub
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    wanted = revision or "main"
    # The client may use any HTTP library, so errors are recognized by their class.
    broken = (hub.HfHubHTTPError, *hub.HfHubHTTPError.__bases__, OSError)
    try:
        info = HfApi().model_info(repo, revision=wanted, files_metadata=True)
    except hub.GatedRepoError:
        return fail("gated", f"{repo} is gated: its licence must be accepted first.")
    except hub.RevisionNotFoundError:
        return fail("no_revision", f"{repo} has no revision “{wanted}”.")
    except (hub.RepositoryNotFoundError, hub.HFValidationError):
        return fail("not_found", f"the model {repo} does not exist on the Hub, or it is private.")
    except (hub.OfflineModeIsEnabled, *broken) as error:
        return _from_cache(repo, wanted, error)
    sizes = {f.rfilename: f.size or 0 for f in info.siblings or [] if _wanted(f.rfilename)}
    if not any(name.endswith(".safetensors") for name in sizes):
        return fail("no_weights", f"{repo} has no weights in safetensors format.")
    blobs = Path(constants.HF_HUB_CACHE) / ("models--" + repo.replace("/", "--")) / "blobs"
    tell(total=sum(sizes.values()), blobs=str(blobs))
    try:
        path = snapshot_download(
            repo, revision=info.sha, allow_patterns=[glob.escape(name) for name in sizes]
        )
    except hub.GatedRepoError:
        return fail("gated", f"{repo} is gated: its licence must be accepted first.")
    except (hub.LocalEntryNotFoundError, *broken) as error:
        return fail(
            "download_failed", f"the download of {repo} was interrupted: {_first_line(error)}"
        )
    if _asks_for_code(Path(path)):  # for review by the user; it is not run
        snapshot_download(repo, revision=info.sha, allow_patterns=["*.py"])
    tell(path=path, revision=info.sha, fetched=True)
    return 0


def _from_cache(repo: str, revision: str, error: Exception) -> int:
    """The snapshot of an earlier download, for use without a network."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        path = snapshot_download(
            repo,
            revision=revision,
            local_files_only=True,
            allow_patterns=PATTERNS,
            ignore_patterns=OTHERS,
        )
    except (LocalEntryNotFoundError, HFValidationError):
        return fail("no_network", f"the Hub cannot be reached for {repo}: {_first_line(error)}")
    tell(notice=f"The Hub cannot be reached; {repo} is used from the cache on this machine.")
    tell(path=path, revision=Path(path).name)
    return 0


def _asks_for_code(folder: Path) -> bool:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and "AutoModelForCausalLM" in (config.get("auto_map") or {})


def _wanted(name: str) -> bool:
    from fnmatch import fnmatch

    if fnmatch(name, TEMPLATES):
        return True
    other = any(fnmatch(name, p) for p in OTHERS)
    return not other and any(fnmatch(name, p) for p in PATTERNS)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


if __name__ == "__main__":
    sys.exit(fetch(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else ""))
