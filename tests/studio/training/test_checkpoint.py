"""Checkpoints survive being killed at any moment: what is left can always be resumed."""

from __future__ import annotations

import builtins
import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from studio.system.stored_json import with_hash
from studio.training.saved import checkpoint
from studio.training.saved.checkpoint import (
    choose,
    commit,
    newest,
    read_manifest,
    remove_torn,
)
from tests.damaged import KINDS, put, unix


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
        (folder / "state.json").write_text(json.dumps({"step": step}), encoding="utf-8")

    return write


def content_step(path: Path) -> int:
    """The step that the files of a checkpoint are from; they must agree."""
    state = json.loads((path / "state.json").read_text(encoding="utf-8"))["step"]
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
        (last.path / "manifest.json").write_text("{", encoding="utf-8")
    found = newest(tmp_path, "me")
    assert found is not None
    assert found.step == 1
    (skipped,) = choose(tmp_path, "me")[1]
    assert skipped.startswith("step-000002: ")


def test_a_checkpoint_of_another_training_is_not_taken(tmp_path: Path) -> None:
    """Other settings or data, other identity."""
    commit(tmp_path, 1, "someone", writer(1), keep=2)
    assert newest(tmp_path, "me") is None
    assert "other settings or data" in choose(tmp_path, "me")[1][0]


def test_the_manifest_lists_every_file(tmp_path: Path) -> None:
    """With size and sha256."""
    done = commit(tmp_path, 1, "me", writer(1), keep=2)
    manifest = read_manifest(done.path)
    assert manifest is not None
    assert set(manifest["files"]) == {"weights", "state.json"}
    assert manifest["files"]["weights"]["size"] == 5000


def as_earlier_versions_wrote_it(path: Path) -> None:
    """Remove the manifest's hash of itself."""
    manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    del manifest["sha256"]
    (path / "manifest.json").write_text(json.dumps(manifest, indent=2), encoding="utf-8")


@pytest.mark.parametrize("earlier", [False, True])
def test_every_flipped_bit_of_a_manifest_is_harmless(tmp_path: Path, earlier: bool) -> None:
    """The checkpoint is used with its own step and files, or passed over for the one before."""
    commit(tmp_path, 4, "me", writer(4), keep=2)
    last = commit(tmp_path, 6, "me", writer(6), keep=2)
    if earlier:
        as_earlier_versions_wrote_it(last.path)
    file = last.path / "manifest.json"
    whole = file.read_bytes()
    used = 0
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        file.write_bytes(damaged)
        found, skipped = choose(tmp_path, "me")
        assert found is not None
        assert found.step == content_step(found.path) == (4 if skipped else 6), bit
        used += not skipped
    assert used < 8 * len(whole) / 4  # only spaces between the values, and keys that nothing reads
    file.write_bytes(whole)
    assert newest(tmp_path, "me") == last


DIGEST = "0" * 64
FORMS = {
    "empty": "",
    "null": "null",
    "a number": "6",
    "a list": "[]",
    "an empty object": "{}",
    "deep": "[" * 100_000,
    "deep objects": '{"a":' * 100_000,
    "no UTF-8": b"\xff\xfe\x00",
    "step as text": {"step": "6"},
    "step as float": {"step": 6.0},
    "step true": {"step": True},
    "step NaN": '{"step": NaN, "identity": "me", "files": {}}',
    "step of 5,000 digits": '{"step": %s, "identity": "me", "files": {}}' % ("6" * 5000),
    "another step": {"step": 7},
    "negative step": {"step": -6},
    "identity as number": {"identity": 5},
    "no files": {"files": {}},
    "files null": {"files": None},
    "files as list": {"files": ["weights"]},
    "facts as number": {"files": {"weights": 5000}},
    "facts null": {"files": {"weights": None}},
    "size as text": {"files": {"weights": {"size": "5000", "sha256": DIGEST}}},
    "no size": {"files": {"weights": {"sha256": DIGEST}}},
    "hash as number": {"files": {"weights": {"size": 5000, "sha256": 5}}},
    "hash short": {"files": {"weights": {"size": 5000, "sha256": "0"}}},
    "outside": {"files": {"../step-000004/weights": {"size": 5000, "sha256": DIGEST}}},
    "absolute": {"files": {"/etc/hostname": {"size": 5000, "sha256": DIGEST}}},
    "NUL": {"files": {"a\0b": {"size": 5000, "sha256": DIGEST}}},
    "lone surrogate": {"files": {"\ud800": {"size": 5000, "sha256": DIGEST}}},
    "long name": {"files": {"x" * 5000: {"size": 5000, "sha256": DIGEST}}},
    "a folder's name": {"files": {".": {"size": 5000, "sha256": DIGEST}}},
    "another key": {"more": 1},
}


@pytest.mark.parametrize("hashed", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_a_malformed_manifest_is_passed_over(tmp_path: Path, form: str, hashed: bool) -> None:
    """Also one whose hash of itself is right."""
    commit(tmp_path, 4, "me", writer(4), keep=2)
    last = commit(tmp_path, 6, "me", writer(6), keep=2)
    file, content = last.path / "manifest.json", FORMS[form]
    if isinstance(content, dict):
        known = {
            k: v for k, v in json.loads(file.read_text(encoding="utf-8")).items() if k != "sha256"
        }
        changed = {**known, **content}
        content = json.dumps(with_hash(changed) if hashed else changed)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    found, skipped = choose(tmp_path, "me")
    if form == "another key" and hashed:  # written by a later version
        assert (found, skipped) == (last, [])
        return
    assert found is not None
    assert found.step == 4
    assert len(skipped) == 1
    assert "its manifest" in skipped[0] or "long name" in form or "surrogate" in form


def test_a_key_that_occurs_twice_hides_no_file(tmp_path: Path) -> None:
    """As when one bit turns the name of a file into that of another."""
    last = commit(tmp_path, 6, "me", writer(6), keep=2)
    as_earlier_versions_wrote_it(last.path)
    file = last.path / "manifest.json"
    file.write_text(
        file.read_text(encoding="utf-8").replace('"state.json"', '"weights"'), encoding="utf-8"
    )
    (last.path / "state.json").write_text("{}", encoding="utf-8")
    assert newest(tmp_path, "me") is None


def test_checkpoints_of_earlier_versions_are_used(tmp_path: Path) -> None:
    """A manifest without a hash of itself is checked by its step and the hashes of the files."""
    last = commit(tmp_path, 6, "me", writer(6), keep=2)
    as_earlier_versions_wrote_it(last.path)
    assert newest(tmp_path, "me") == last


def odd_files(folder: Path) -> dict[str, Path]:
    """What may stand in a checkpoint folder besides checkpoints."""
    odd = {
        "file": folder / "step-000099",
        "link": folder / "step-000098",
        "loop": folder / "step-000097",
        "pipe": folder / "step-000096",
        "leading zeros": folder / "step-0000000007",
        "other digits": folder / "step-\u0660\u0660\u0660\u0660\u0660\u0669",
        "minus": folder / "step--00001",
        "stray": folder / ".DS_Store",
        "torn": folder / "staging-step-000008",
        "gone": folder / "staging-gone-step-000006",
        "link torn": folder / "staging-x",
    }
    for name in ("file", "stray", "torn", "gone"):
        odd[name].write_text("odd", encoding="utf-8")
    odd["link"].symlink_to(folder / "nowhere")
    odd["loop"].symlink_to(odd["loop"])
    odd["link torn"].symlink_to(folder / "step-000006", target_is_directory=True)
    os.mkfifo(odd["pipe"])
    for name in ("leading zeros", "other digits", "minus"):
        odd[name].mkdir()
        (odd[name] / "manifest.json").write_text("{}", encoding="utf-8")
    return odd


@unix
def test_odd_files_beside_checkpoints_do_not_matter(tmp_path: Path) -> None:
    """They are neither resumed from, nor in the way of the next checkpoints; links are not followed."""
    commit(tmp_path, 4, "me", writer(4), keep=2)
    last = commit(tmp_path, 6, "me", writer(6), keep=2)
    odd_files(tmp_path)
    assert choose(tmp_path, "me") == (last, [])
    for step in (7, 8, 96, 97, 98, 99, 100):
        done = commit(tmp_path, step, "me", writer(step), keep=2)
        assert newest(tmp_path, "me") == done
        assert content_step(done.path) == step


@unix
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["manifest.json", "weights"])
def test_odd_files_within_a_checkpoint(tmp_path: Path, name: str, kind: str) -> None:
    """A folder, a pipe or a device in place of a file: passed over, without waiting for it."""
    commit(tmp_path, 4, "me", writer(4), keep=2)
    last = commit(tmp_path, 6, "me", writer(6), keep=2)
    put(last.path / name, kind)
    found, skipped = choose(tmp_path, "me")
    assert found is not None
    assert (found.step, len(skipped)) == (4, 1)


def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A damaged disk: the checkpoint is passed over with the reason."""
    commit(tmp_path, 4, "me", writer(4), keep=2)
    last = commit(tmp_path, 6, "me", writer(6), keep=2)
    real = checkpoint.sha256_of

    def failing(file: Path) -> str:
        if file.parent == last.path:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(file))
        return real(file)

    monkeypatch.setattr(checkpoint, "sha256_of", failing)
    found, skipped = choose(tmp_path, "me")
    assert found is not None
    assert found.step == 4
    assert skipped == [f"step-000006: its files cannot be read ({os.strerror(errno.EIO)})"]


def test_a_manifest_that_no_longer_lists_a_file_is_passed_over(tmp_path: Path) -> None:
    """The file would not be checked: only the hash of the manifest shows it."""
    last = commit(tmp_path, 6, "me", writer(6), keep=2)
    file = last.path / "manifest.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    del content["files"]["weights"]
    file.write_text(json.dumps(content), encoding="utf-8")
    assert newest(tmp_path, "me") is None
