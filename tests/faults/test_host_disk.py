"""A disk that fills up under a run: a small real file system is filled for it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from studio.errors import StudioError
from studio.runs.folder import RunFolder
from tests.studio.runs import toy_runs
from tests.studio.runs.toy_runs import events_of, finished, follow


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB; skipped where none may be mounted."""
    if sys.platform != "linux":
        pytest.skip("needs a Linux mount")
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a file system")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_events_fill_the_disk(small_disk: Path) -> None:
    run = toy_runs.folder(small_disk, block={"how": "write"})
    watch = toy_runs.start(run)
    follow(watch)
    assert watch.status == "failed"
    assert finished(run) == ["failed"]
    (failed,) = [e for e in events_of(run) if e.name == "StepFailed"]
    assert (failed.node, failed.get("code")) == ("block", "disk_full")
    assert "disk is full" in failed.get("sentence")
    assert str(run.path) in failed.get("sentence")
    assert "GiB free" in failed.get("sentence")
    assert not list(run.artifacts.glob(".*"))
    assert not run.is_running()


def fill(place: Path) -> None:
    """Take every byte that is left."""
    with (place / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)


def test_a_run_that_cannot_be_made(small_disk: Path) -> None:
    plan, graph = toy_runs.plan(small_disk), toy_runs.graph()
    with pytest.raises(OSError, match="No space left"):
        fill(small_disk)
    with pytest.raises(StudioError, match="No space left"):
        RunFolder.create(small_disk / "runs", plan, graph)
    assert not list(small_disk.glob("runs/*"))


def test_events_that_can_never_be_written(tmp_path: Path) -> None:
    run = toy_runs.folder(tmp_path)
    run.events_path.mkdir()
    watch = toy_runs.start(run)
    events = follow(watch)
    assert watch.status == "failed"
    (failed,) = [e for e in events if e.name == "StepFailed"]
    assert str(run.events_path) in failed.get("sentence")
    assert "folder stands where a file is needed" in failed.get("hint")
    assert toy_runs.calls(tmp_path) == []
