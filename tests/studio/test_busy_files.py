"""Files that another program holds for a moment: renamed, replaced and deleted all the same."""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError

from studio.errors import Stopped
from studio.events import event
from studio.graph.project import load_project, save_project
from studio.runs import execute
from studio.runs import folder as folder_module
from studio.runs import lock as lock_module
from studio.runs.lock import HostLock, is_locked
from studio.system import busy_files
from studio.system.atomic import write_atomic
from studio.system.stored_json import read_regular
from studio.training.loop import saver as saver_module
from studio.training.loop.train import train_adapter
from studio.training.saved import checkpoint, tensor_files
from tests.studio.runs import toy_runs, toys
from tests.studio.training.steps import (
    Recorder,
    dataset_value,
    make_context,
    make_inputs,
    settings_of,
)
from tests.windows_files import refused_folder, windows_error, windows_files


class Scanner:
    """Makes a function refuse the first ``times`` calls as Windows does while another program holds a file."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, times: int, number: int = 32) -> None:
        self.left, self.calls = times, 0
        self._patch, self._number = monkeypatch, number

    def holds(self, module: Any, name: str, only: str = "") -> None:
        """Refuse calls of this function whose first argument contains ``only``."""
        real = getattr(module, name)

        def refusing(path: Any, *args: Any, **more: Any) -> Any:
            if only in str(path):
                self.calls += 1
                if self.left:
                    self.left -= 1
                    raise windows_error(self._number, str(path))
            return real(path, *args, **more)

        self._patch.setattr(module, name, refusing)


@pytest.fixture(autouse=True)
def no_waiting(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "sleeping" not in request.fixturenames:
        monkeypatch.setattr(busy_files.time, "sleep", lambda seconds: None)


@pytest.fixture
def sleeping() -> None:
    """For a test that waits for another process."""


@pytest.mark.parametrize("number", [5, 32, 33, 145, 303, 1224])
def test_a_text_file_is_replaced_when_it_is_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    file = tmp_path / "notes.txt"
    write_atomic(file, "old")
    scanner = Scanner(monkeypatch, 3, number)
    scanner.holds(os, "replace")
    write_atomic(file, "new")
    assert (file.read_text(encoding="utf-8"), scanner.calls) == ("new", 4)
    assert os.listdir(tmp_path) == ["notes.txt"]


def test_a_project_is_saved_when_it_is_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Scanner(monkeypatch, 3).holds(os, "replace")
    project = toy_runs.project(tmp_path)
    save_project(project, load_project(project))


def test_a_file_that_stays_in_use_is_an_error_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(busy_files, "PATIENCE_S", 0.0)
    Scanner(monkeypatch, 10**9).holds(os, "replace")
    with pytest.raises(PermissionError):
        write_atomic(tmp_path / "notes.txt", "new")
    assert os.listdir(tmp_path) == []


def test_a_folder_in_which_nothing_can_be_created_is_an_error_at_once(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("old", encoding="utf-8")
    with refused_folder(tmp_path) as tried, pytest.raises(PermissionError):
        write_atomic(tmp_path / "notes.txt", "new")
    assert len(tried) == 1
    assert (tmp_path / "notes.txt").read_text(encoding="utf-8") == "old"


def test_a_file_keeps_its_permissions(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    write_atomic(file, "a\n")
    file.chmod(0o640)
    before = file.stat().st_mode
    write_atomic(file, "b\n")
    assert (file.read_bytes(), file.stat().st_mode) == (b"b\n", before)


def test_other_errors_are_raised_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def refuse(*args: Any) -> None:
        calls.append(1)
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(PermissionError):
        write_atomic(tmp_path / "notes.txt", "new")
    assert len(calls) == 1


def test_a_folder_is_deleted_when_its_files_are_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for delete in (busy_files.remove_folder, busy_files.tidy):
        folder = tmp_path / "run"
        folder.mkdir()
        (folder / "curve").touch()
        with monkeypatch.context() as patched:
            Scanner(patched, 2).holds(shutil, "rmtree")
            delete(folder)
        assert not folder.exists()


def test_a_finished_step_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its folder cannot be renamed at first."""
    run = toy_runs.folder(tmp_path)
    scanner = Scanner(monkeypatch, 4)
    scanner.holds(os, "rename", ".staging-")
    assert toy_runs.run_here(run) == "completed"
    assert scanner.calls > 4
    assert not list(run.artifacts.glob(".staging-*"))


def test_a_finished_step_is_copied_when_its_file_is_never_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(busy_files, "PATIENCE_S", 0.0)
    Scanner(monkeypatch, 10**9).holds(os, "rename", ".staging-")
    run = toy_runs.folder(tmp_path)
    assert toy_runs.run_here(run) == "completed"
    assert list(run.artifacts.glob("train-*"))
    assert not list(run.artifacts.glob(".staging-*"))


def test_an_earlier_result_in_use_does_not_stop_a_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(busy_files, "PATIENCE_S", 0.0)
    staging, final = tmp_path / ".staging-a", tmp_path / "a-1"
    for folder in (staging, final):
        folder.mkdir()
        (folder / "file").write_text(folder.name, encoding="utf-8")
    Scanner(monkeypatch, 10**9).holds(os, "rename", "a-1")
    place = execute._put_in_place(staging, final)
    assert place != final
    assert (place / "file").read_text(encoding="utf-8") == ".staging-a"


def write(folder: Path) -> None:
    (folder / "weights").write_text("1", encoding="utf-8")


def test_a_checkpoint_is_committed_and_the_old_one_removed_when_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint.commit(tmp_path, 1, "a", write, 1)
    for name in ("rename", "mkdir"):
        with monkeypatch.context() as patched:
            Scanner(patched, 2).holds(os, name, "step-")
            checkpoint.commit(tmp_path, 2, "a", write, 1)
        assert [p.name for p in tmp_path.iterdir()] == ["step-000002"]


def test_an_old_checkpoint_in_use_remains_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(busy_files, "PATIENCE_S", 0.0)
    checkpoint.commit(tmp_path, 1, "a", write, 1)
    with monkeypatch.context() as patched:
        Scanner(patched, 10**9).holds(os, "rename", "step-000001")
        done = checkpoint.commit(tmp_path, 2, "a", write, 1)
    assert done.left == ("step-000001",)
    assert checkpoint.newest(tmp_path, "a") == checkpoint.Checkpoint(done.path, 2, "a")
    assert checkpoint.commit(tmp_path, 3, "a", write, 1).left == ()
    assert [p.name for p in tmp_path.iterdir()] == ["step-000003"]


def test_remains_that_cannot_be_removed_stop_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = tmp_path / "checkpoints" / "staging-step-000001" / "held"
    held.parent.mkdir(parents=True)
    monkeypatch.setattr(busy_files, "TIDY_PATIENCE_S", 0.0)
    with windows_files(tmp_path) as files, held.open("w", encoding="utf-8"):
        done = checkpoint.commit(tmp_path / "checkpoints", 1, "a", write, 1)
    assert files.refused
    assert {p.name for p in done.path.iterdir()} == {"manifest.json", "weights"}
    checkpoint.remove_torn(tmp_path / "checkpoints")
    assert os.listdir(tmp_path / "checkpoints") == ["step-000001"]


def test_an_event_is_written_when_its_file_is_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while a backup locks a part of the file."""
    run = toy_runs.folder(tmp_path)
    for name, number in (("open", 32), ("lseek", 33)):
        with monkeypatch.context() as patched:
            scanner = Scanner(patched, 3, number)
            scanner.holds(folder_module.os, name, "events.jsonl" if name == "open" else "")
            run.append(event("Notice", level="info", sentence=name))
            assert scanner.left == 0
    assert [e.get("sentence") for e in toy_runs.events_of(run)] == ["open", "lseek"]


def test_stored_files_are_read_when_they_are_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.json").write_text("1", encoding="utf-8")
    Scanner(monkeypatch, 3).holds(os, "open", "a.json")
    assert read_regular(tmp_path / "a.json") == b"1"


def test_a_checkpoint_is_flushed_when_its_files_are_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scanner = Scanner(monkeypatch, 3)
    scanner.holds(io, "open", "weights")
    done = checkpoint.commit(tmp_path, 1, "a", write_patiently, 1)
    assert scanner.left == 0
    assert (done.path / "weights").read_text(encoding="utf-8") == "1"


def write_patiently(folder: Path) -> None:
    busy_files.patiently(lambda: write(folder))


def test_a_training_goes_on_without_a_checkpoint_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(busy_files, "PATIENCE_S", 0.0)
    scanner = Scanner(monkeypatch, 1)
    scanner.holds(saver_module, "commit")
    recorder = Recorder()
    settings = settings_of(max_steps=3, save_steps=1)
    train_adapter(make_context(tmp_path, recorder), make_inputs(tmp_path), settings)
    assert len(recorder.losses()) == 3
    (notice,) = notices_of_busy_files(recorder)
    assert "checkpoint of step 1" in notice
    assert "There is no checkpoint yet." in notice
    assert [e.get("step") for e in recorder.named("CheckpointSaved")] == [2, 3]


def notices_of_busy_files(recorder: Recorder) -> list[str]:
    sentences = [str(e.get("sentence")) for e in recorder.named("Notice")]
    return [s for s in sentences if "another program uses" in s]


@pytest.mark.parametrize("held", ["step-000003", "best"])
def test_a_finished_training_is_kept_without_its_last_or_best_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: str
) -> None:
    """Also at its end, on request, and for the weights of the best evaluation."""
    monkeypatch.setattr(busy_files, "PATIENCE_S", 0.0)
    real = saver_module.commit

    def refusing(folder: Path, step: int, *more: Any, **options: Any) -> Any:
        if held in (folder.name, f"step-{step:06d}"):
            raise windows_error(32, str(folder))
        return real(folder, step, *more, **options)

    monkeypatch.setattr(saver_module, "commit", refusing)
    recorder, inputs = Recorder(), make_inputs(tmp_path)
    inputs["dataset"] = dict(dataset_value(tmp_path / "more", 6, 3).to_json())
    settings = settings_of(max_steps=3, save_steps=2, eval_steps=1, keep="best")
    train_adapter(make_context(tmp_path, recorder), inputs, settings)
    assert (tmp_path / "step" / "adapter" / "adapter_model.safetensors").is_file()
    found = notices_of_busy_files(recorder)
    assert found
    if held == "best":
        assert found[0].startswith("The weights of step 1, the best so far, could not be written")
    else:
        assert "The last checkpoint is that of step 2." in found[-1]


def test_a_stop_is_no_error_while_its_checkpoint_is_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Scanner(monkeypatch, 10**9).holds(saver_module, "commit")
    recorder = Recorder()
    context = make_context(tmp_path, recorder, lambda: len(recorder.losses()) >= 2)
    with pytest.raises(Stopped):
        train_adapter(context, make_inputs(tmp_path), settings_of(max_steps=3))
    assert "checkpoint of step 2" in notices_of_busy_files(recorder)[-1]


def test_a_checkpoint_that_cannot_be_written_for_another_reason_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(saver_module, "commit", full)
    with pytest.raises(OSError, match="No space"):
        train_adapter(
            make_context(tmp_path, Recorder()),
            make_inputs(tmp_path),
            settings_of(max_steps=2, save_steps=1),
        )


def test_an_old_checkpoint_in_use_is_reported_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(busy_files, "PATIENCE_S", 0.0)
    Scanner(monkeypatch, 10**9).holds(os, "rename", f"checkpoints{os.sep}step-000001")
    recorder = Recorder()
    settings = settings_of(max_steps=4, save_steps=1, keep_checkpoints=1)
    train_adapter(make_context(tmp_path, recorder), make_inputs(tmp_path), settings)
    (notice,) = notices_of_busy_files(recorder)
    assert "could not be removed" in notice
    assert "step-000001" in notice


def test_tensors_are_written_when_their_file_is_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """safetensors reports the code of the system only in its text."""
    import torch

    left = [3]
    real = tensor_files.save_file

    def refusing(*args: Any, **more: Any) -> None:
        if left[0]:
            left[0] -= 1
            raise SafetensorError("I/O error: Zugriff verweigert (os error 5)")
        real(*args, **more)

    monkeypatch.setattr(tensor_files, "save_file", refusing)
    with monkeypatch.context() as patched:
        patched.setattr(sys, "platform", "win32")
        tensor_files.write_tensors({"a": torch.ones(2)}, tmp_path / "a.safetensors")
    assert (tmp_path / "a.safetensors").is_file()
    left[0] = 1
    with pytest.raises(SafetensorError):  # os error 5 is a failing disk on Linux
        tensor_files.write_tensors({"a": torch.ones(2)}, tmp_path / "a.safetensors")


PATIENT: dict[str, Callable[[Path, Path], None]] = {
    "rename": busy_files.rename,
    "replace": busy_files.replace,
}


@pytest.mark.parametrize("name", PATIENT)
def test_moving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "a").touch()
    Scanner(monkeypatch, 5).holds(os, name)
    PATIENT[name](tmp_path / "a", tmp_path / "b")
    assert os.listdir(tmp_path) == ["b"]


def test_a_run_is_deleted_as_one_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(busy_files, "PATIENCE_S", 0.0)
    run = toy_runs.folder(tmp_path)
    before = sorted(run.path.rglob("*"))
    with windows_files(tmp_path):
        with run.graph_path.open("rb"), pytest.raises(PermissionError):
            folder_module.delete_run(run)
        assert sorted(run.path.rglob("*")) == before
        folder_module.delete_run(run)
    assert list(run.path.parent.iterdir()) == []


def test_a_run_does_not_look_dead_while_its_lock_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = HostLock(tmp_path / "host.lock")
    assert lock.acquire()
    lock.release()
    with monkeypatch.context() as patched:
        Scanner(patched, 3).holds(os, "open", "host.lock")
        assert not is_locked(tmp_path / "host.lock")
    with monkeypatch.context() as patched:
        Scanner(patched, 3).holds(os, "open", "host.lock")
        assert lock.acquire()
        lock.release()
    monkeypatch.setattr(lock_module, "TIDY_PATIENCE_S", 0.0)
    Scanner(monkeypatch, 10**9).holds(os, "open", "host.lock")
    assert is_locked(tmp_path / "host.lock")  # unknown, so it is not resumed


@pytest.mark.usefixtures("sleeping")
def test_a_run_in_a_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its folder is the current folder of the host, and can be deleted once that has ended."""
    monkeypatch.setenv("LORA_STUDIO_EXTENSIONS", toys.MODULE)
    with windows_files(tmp_path) as files:
        run = toy_runs.folder(tmp_path)
        watch = toy_runs.start(run)
        events = toy_runs.follow(watch)
        assert watch.status == "completed", events
        assert files.refused == []
        folder_module.delete_run(run)
    assert not run.path.exists()
