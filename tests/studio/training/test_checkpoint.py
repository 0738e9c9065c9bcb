"""Checkpoints survive being killed at any moment: what is left can always be resumed."""

from __future__ import annotations

import builtins
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from studio.training.saved.checkpoint import commit, newest, read_manifest, remove_torn, unusable


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it, and no file operation works after it."""


@contextmanager
def killed_at(operation: int) -> Iterator[list[str]]:
    """Let the process "die" at its n-th file operation: that one and all later ones fail."""
    done: list[str] = []

    def guarded(name: str, real: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            writes = name != "open" or any(c in str(args[1:2]) + str(kwargs) for c in "wax+")
            if writes:
                done.append(name)
                if len(done) >= operation:
                    raise Killed
            return real(*args, **kwargs)

        return call

    names = ["fsync", "replace", "rename", "mkdir", "unlink", "rmdir", "remove"]
    kept = {n: getattr(os, n) for n in names}
    real_open, real_io_open = builtins.open, __import__("io").open
    for name in names:
        setattr(os, name, guarded(name, kept[name]))
    builtins.open = guarded("open", real_open)
    __import__("io").open = guarded("open", real_io_open)
    try:
        yield done
    finally:
        for name in names:
            setattr(os, name, kept[name])
        builtins.open = real_open
        __import__("io").open = real_io_open


def writer(step: int) -> Any:
    """Writes two files that say which step they are from."""

    def write(folder: Path) -> None:
        (folder / "weights").write_bytes(bytes([step]) * 5000)
        (folder / "state.json").write_text(json.dumps({"step": step}))

    return write


def content_step(path: Path) -> int:
    """The step that the files of a checkpoint are from; they must agree."""
    state = json.loads((path / "state.json").read_text())["step"]
    assert set((path / "weights").read_bytes()) == {state}
    return int(state)


def test_a_checkpoint_is_found_again(tmp_path: Path) -> None:
    """The newest of two, whole, with its step."""
    commit(tmp_path, 5, "me", writer(5), keep=2)
    commit(tmp_path, 10, "me", writer(10), keep=2)
    found = newest(tmp_path, "me")
    assert found is not None
    assert (found.step, content_step(found.path)) == (10, 10)


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    """Rotation leaves exactly as many as asked for."""
    for step in (1, 2, 3, 4):
        commit(tmp_path, step, "me", writer(step), keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000003", "step-000004"]


def test_what_cannot_be_resumed_does_not_push_out_what_can(tmp_path: Path) -> None:
    """A run that begins anew beside later checkpoints, damaged or of other settings, keeps its own."""
    for step in (50, 60):
        commit(tmp_path, step, "other settings", writer(step), keep=2)
    for step in (5, 10):
        commit(tmp_path, step, "me", writer(step), keep=2)
        found = newest(tmp_path, "me")
        assert found is not None
        assert found.step == step
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000005", "step-000010"]


def test_a_save_killed_at_any_operation_can_be_resumed(tmp_path: Path) -> None:
    """With two checkpoints there and a third being written, one whole one always remains."""
    operation = 0
    while True:
        operation += 1
        folder = tmp_path / str(operation)
        for step in (1, 2):
            commit(folder, step, "me", writer(step), keep=2)
        with killed_at(operation) as done:
            try:
                commit(folder, 3, "me", writer(3), keep=2)
            except Killed:
                pass
            else:
                break  # it was never killed: every operation has been tried
        found = newest(folder, "me")
        assert found is not None, f"nothing to resume after {done}"
        assert found.step >= 2
        assert content_step(found.path) == found.step
        remove_torn(folder)
        commit(folder, 4, "me", writer(4), keep=2)
        assert [p.name for p in sorted(folder.iterdir())][-1] == "step-000004"
        assert not list(folder.glob("staging-*"))
        shutil.rmtree(folder)
    assert operation > 12


@pytest.mark.parametrize("damage", ["cut", "flip", "gone", "manifest"])
def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, damage: str) -> None:
    """The previous one is used, and the reason is reported."""
    commit(tmp_path, 1, "me", writer(1), keep=2)
    last = commit(tmp_path, 2, "me", writer(2), keep=2)
    weights = last.path / "weights"
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-1])
    elif damage == "flip":
        weights.write_bytes(b"x" + weights.read_bytes()[1:])
    elif damage == "gone":
        weights.unlink()
    else:
        (last.path / "manifest.json").write_text("{")
    found = newest(tmp_path, "me")
    assert found is not None
    assert found.step == 1
    assert len(unusable(tmp_path, "me")) == 1
    assert unusable(tmp_path, "me")[0].startswith("step-000002: ")


def test_a_checkpoint_of_another_training_is_not_taken(tmp_path: Path) -> None:
    """Other settings or data, other identity."""
    commit(tmp_path, 1, "someone", writer(1), keep=2)
    assert newest(tmp_path, "me") is None
    assert "other settings or data" in unusable(tmp_path, "me")[0]


def test_the_manifest_lists_every_file(tmp_path: Path) -> None:
    """With size and sha256."""
    done = commit(tmp_path, 1, "me", writer(1), keep=2)
    manifest = read_manifest(done.path)
    assert manifest is not None
    assert set(manifest["files"]) == {"weights", "state.json"}
    assert manifest["files"]["weights"]["size"] == 5000
