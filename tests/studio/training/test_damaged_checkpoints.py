"""A training whose newest checkpoint is damaged continues from the one before, with the same numbers."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from studio.errors import Stopped, StudioError
from studio.events import Event
from studio.runs.failures import failure
from studio.system.stored_json import with_hash
from studio.training.loop import saver
from studio.training.loop.train import train_adapter
from studio.training.saved.checkpoint import choose
from studio.training.saved.snapshot import content_problem
from tests.studio.training.steps import Recorder, make_context, make_inputs, settings_of
from tests.studio.training.test_checkpoint import Killed, killed_at

SETTINGS = settings_of(max_steps=6, save_steps=2)


def adapter_bytes(root: Path) -> bytes:
    return (root / "step" / "adapter" / "adapter_model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The adapter of the training without an interruption."""
    root = tmp_path_factory.mktemp("whole")
    train_adapter(make_context(root, Recorder()), make_inputs(root, dropout=0.2), SETTINGS)
    return adapter_bytes(root)


def interrupted(root: Path) -> tuple[dict[str, Any], Path]:
    """Inputs, and the newest checkpoint of a training that was stopped after step 4."""
    inputs = make_inputs(root, dropout=0.2)
    recorder = Recorder()
    with pytest.raises(Stopped):
        train_adapter(
            make_context(root, recorder, lambda: len(recorder.losses()) >= 4), inputs, SETTINGS
        )
    return inputs, root / "checkpoints" / "step-000004"


def skipped(recorder: Recorder) -> list[Event]:
    """The notices of checkpoints that were not used."""
    return [e for e in recorder.named("Notice") if "A checkpoint" in e.get("sentence")]


def edit(manifest: Path, old: str, new: str) -> None:
    text = manifest.read_text(encoding="utf-8")
    assert text.count(old) >= 1
    manifest.write_text(text.replace(old, new, 1), encoding="utf-8")


def flip(file: Path, bit: int) -> None:
    data = bytearray(file.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    file.write_bytes(data)


MANIFESTS: dict[str, Callable[[Path], object]] = {
    "step": lambda m: edit(m, '"step": 4', '"step": 6'),
    "key": lambda m: edit(m, '"size"', '"rize"'),
    "identity": lambda m: edit(m, '"identity": "', '"identity": "0'),
    "bit": lambda m: flip(m, 1234),
    "truncated": lambda m: os.truncate(m, 200),
    "a folder": lambda m: (m.unlink(), m.mkdir()),
}


@pytest.mark.parametrize("how", MANIFESTS)
def test_a_damaged_manifest_costs_no_more_than_its_checkpoint(
    tmp_path: Path, whole: bytes, how: str
) -> None:
    inputs, newest = interrupted(tmp_path)
    MANIFESTS[how](newest / "manifest.json")
    recorder = Recorder()
    train_adapter(make_context(tmp_path, recorder), inputs, SETTINGS)
    assert [e.get("step") for e in recorder.named("TrainResumed")] == [2]
    (notice,) = skipped(recorder)
    assert "step-000004" in notice.get("sentence")
    assert notice.get("hint") == "The training continues after step 2."
    assert adapter_bytes(tmp_path) == whole


def seal(checkpoint: Path) -> None:
    """A manifest that agrees with the files, as one who prepares a run folder would write it."""
    manifest = json.loads((checkpoint / "manifest.json").read_text(encoding="utf-8"))
    del manifest["sha256"]
    for name, facts in manifest["files"].items():
        data = (checkpoint / name).read_bytes()
        facts.update(size=len(data), sha256=hashlib.sha256(data).hexdigest())
    (checkpoint / "manifest.json").write_text(json.dumps(with_hash(manifest)), encoding="utf-8")


STATES: dict[str, Callable[[dict[str, Any]], object]] = {
    "no figures": lambda s: s.pop("figures"),
    "figures as list": lambda s: s.update(figures=[1]),
    "figure as object": lambda s: s["figures"].update(tokens={}),
    "figure NaN": lambda s: s["figures"].update(best_eval_step="nan"),
    "figure too large": lambda s: s["figures"].update(waited="1e999"),
    "no optimizer": lambda s: s.pop("optimizer"),
    "rest as list": lambda s: s["optimizer"].update(rest=["x"]),
    "rest with odd keys": lambda s: s["optimizer"].update(rest={"x": 1}),
    "groups as number": lambda s: s["optimizer"].update(groups=5),
    "groups of numbers": lambda s: s["optimizer"].update(groups=[5]),
    "scheduler null": lambda s: s.update(scheduler=None),
    "random of words": lambda s: s.update(python_random=[3, ["a"], None]),
    "random too short": lambda s: s.update(python_random=[3, [1], None]),
    "random missing": lambda s: s.pop("python_random"),
    "method as text": lambda s: s.update(method="lora"),
}


def test_absurd_states_are_passed_over(tmp_path: Path, whole: bytes) -> None:
    """One after the other is tried, and the training continues from the checkpoint before."""
    inputs, newest = interrupted(tmp_path)
    file = newest / "state.json"
    sound = file.read_text(encoding="utf-8")
    texts = {"not JSON": "{", "a list": "[]", "deep": "[" * 100_000, "text": '"x"'}
    for name, change in STATES.items():
        state = json.loads(sound)
        change(state)
        texts[name] = json.dumps(state)
    for name, text in texts.items():
        file.write_text(text, encoding="utf-8")
        seal(newest)
        recorder = Recorder()
        stopped = make_context(tmp_path, recorder, lambda r=recorder: bool(r.named("TrainResumed")))
        with pytest.raises(Stopped):
            train_adapter(stopped, inputs, SETTINGS)
        assert [e.get("step") for e in recorder.named("TrainResumed")] == [2], name
        (notice,) = skipped(recorder)
        assert "its " in notice.get("sentence"), name
    file.write_text(sound, encoding="utf-8")
    seal(newest)
    recorder = Recorder()
    train_adapter(make_context(tmp_path, recorder), inputs, SETTINGS)
    assert [e.get("step") for e in recorder.named("TrainResumed")] == [4]
    assert adapter_bytes(tmp_path) == whole


def other_groups(checkpoint: Path) -> None:
    state = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))
    state["optimizer"]["groups"] = [{"params": [0]}]
    (checkpoint / "state.json").write_text(json.dumps(state), encoding="utf-8")


def other_shapes(checkpoint: Path) -> None:
    file = checkpoint / "adapter_model.safetensors"
    tensors = load_file(file)
    save_file({name: torch.zeros(3, 5) for name in tensors}, file, metadata={"format": "pt"})


def other_names(checkpoint: Path) -> None:
    file = checkpoint / "adapter_model.safetensors"
    save_file({f"x.{name}": value for name, value in load_file(file).items()}, file)


def no_weights(checkpoint: Path) -> None:
    save_file({}, checkpoint / "adapter_model.safetensors")


@pytest.mark.parametrize("change", [other_groups, other_shapes, other_names, no_weights])
def test_content_that_does_not_fit_is_refused_in_words(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    """Only the model and the optimizer can tell: the error names the checkpoint and what to do."""
    inputs, newest = interrupted(tmp_path)
    change(newest)
    seal(newest)
    with pytest.raises(StudioError, match="step-000004 does not fit") as caught:
        train_adapter(make_context(tmp_path, Recorder()), inputs, SETTINGS)
    assert caught.value.code == "checkpoint_mismatch"
    assert str(newest) in caught.value.hint


def test_tensors_that_no_optimizer_has_are_passed_over(tmp_path: Path, whole: bytes) -> None:
    inputs, newest = interrupted(tmp_path)
    tensors = load_file(newest / "optimizer.safetensors")
    kept = {k: v for k, v in tensors.items() if k.startswith("random")}
    save_file({**kept, "x.exp_avg": torch.zeros(1)}, newest / "optimizer.safetensors")
    seal(newest)
    recorder = Recorder()
    train_adapter(make_context(tmp_path, recorder), inputs, SETTINGS)
    assert [e.get("step") for e in recorder.named("TrainResumed")] == [2]
    assert adapter_bytes(tmp_path) == whole


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff" * 100, b"\x02" + bytes(7) + b"[]"])
def test_a_damaged_file_of_the_method_is_passed_over(
    tmp_path: Path, whole: bytes, content: bytes
) -> None:
    """The file of the LoRA method, which only some methods write."""
    inputs, newest = interrupted(tmp_path)
    (newest / "method.safetensors").write_bytes(content)
    manifest = json.loads((newest / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"]["method.safetensors"] = {}
    (newest / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    seal(newest)
    recorder = Recorder()
    train_adapter(make_context(tmp_path, recorder), inputs, SETTINGS)
    assert [e.get("step") for e in recorder.named("TrainResumed")] == [2]
    assert len(skipped(recorder)) == 1
    assert adapter_bytes(tmp_path) == whole


def system_error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


FAULTS: dict[str, tuple[str, Exception]] = {
    "EIO at the end": ("checkpoint.sync_file", system_error(errno.EIO)),
    "EIO of the folder": ("checkpoint.sync_folder", system_error(errno.EIO)),
    "full": ("checkpoint.sync_file", system_error(errno.ENOSPC)),
    "full, in Rust": (
        "tensor_files.save_file",
        SafetensorError("I/O error: No space left on device (os error 28)"),
    ),
    "EIO in Rust": (
        "tensor_files.save_file",
        SafetensorError("I/O error: Input/output error (os error 5)"),
    ),
    "read-only": ("snapshot.save_adapter", system_error(errno.EROFS)),
    "stale": ("checkpoint.remove_torn", system_error(errno.ESTALE)),
    "too many files": ("tensor_files.save_file", system_error(errno.EMFILE)),
    "a file in place of the folder": ("checkpoint.sha256_of", system_error(errno.ENOTDIR)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_checkpoint_that_cannot_be_written_fails_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: bytes, fault: str
) -> None:
    """The folder is named; once the disk works again, the run is resumed with the same numbers."""
    inputs = make_inputs(tmp_path, dropout=0.2)
    place, error = FAULTS[fault]
    name = f"studio.training.saved.{place}"
    recorder = Recorder()

    def failing(*arguments: Any, **more: Any) -> Any:
        if len(recorder.losses()) >= 4:
            raise error
        return real(*arguments, **more)

    module, _, function = name.rpartition(".")
    real = getattr(sys.modules[module], function)
    with monkeypatch.context() as patched:
        patched.setattr(name, failing)
        with pytest.raises(type(error)) as caught:
            train_adapter(make_context(tmp_path, recorder), inputs, SETTINGS)
    reported = failure(caught.value, "Train", tmp_path)
    assert reported["code"] != "bug"
    assert str(tmp_path) in reported["sentence"]
    assert "resume the run" in reported["hint"]
    again = Recorder()
    train_adapter(make_context(tmp_path, again), inputs, SETTINGS)
    assert [e.get("step") for e in again.named("TrainResumed")] == [2]
    assert adapter_bytes(tmp_path) == whole


@pytest.mark.slow(seconds=15)
def test_a_save_killed_at_any_file_operation_is_resumed_exactly(
    tmp_path: Path, whole: bytes
) -> None:
    """The second save of a real training; with the first one there, nothing is lost but its step."""
    operation, resumed_after = 0, []
    while True:
        operation += 1
        root = tmp_path / str(operation)
        inputs = make_inputs(root, dropout=0.2)
        recorder = Recorder()
        real = saver.commit

        def killed_commit(*arguments: Any, real: Any = real, at: int = operation) -> Any:
            if arguments[1] != 4:
                return real(*arguments)
            with killed_at(at):
                return real(*arguments)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(saver, "commit", killed_commit)
            try:
                train_adapter(make_context(root, recorder), inputs, SETTINGS)
            except Killed:
                pass
            else:
                break  # it was never killed: every operation has been tried
        again = Recorder()
        train_adapter(make_context(root, again), inputs, SETTINGS)
        resumed_after += [e.get("step") for e in again.named("TrainResumed")]
        assert adapter_bytes(root) == whole, operation
        shutil.rmtree(root)
    assert len(resumed_after) == operation - 1
    assert set(resumed_after) == {2, 4}
    assert operation > 12


@pytest.mark.slow(seconds=40)
@pytest.mark.parametrize("earlier", [False, True])
def test_every_flipped_bit_of_a_real_manifest_is_harmless(
    tmp_path: Path, whole: bytes, earlier: bool
) -> None:
    """The checkpoint is used as it is, or passed over; every 500th bit is resumed from."""
    inputs, newest = interrupted(tmp_path)
    file = newest / "manifest.json"
    if earlier:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        del manifest["sha256"]
        file.write_text(json.dumps(manifest, indent=2), encoding="utf-8")
    sound = file.read_bytes()
    identity = json.loads(sound)["identity"]
    for bit in range(8 * len(sound)):
        file.write_bytes(sound)
        flip(file, bit)
        found, passed_over = choose(tmp_path / "checkpoints", identity, content_problem)
        assert found is not None
        assert (found.step, len(passed_over)) in ((4, 0), (2, 1)), bit
        if bit % 500 == 0:
            recorder, place = Recorder(), tmp_path / "again"
            shutil.copytree(tmp_path / "checkpoints", place / "checkpoints")
            train_adapter(make_context(place, recorder), inputs, SETTINGS)
            assert [e.get("step") for e in recorder.named("TrainResumed")] == [found.step]
            assert adapter_bytes(place) == whole
            shutil.rmtree(place)
