"""Stop and resume: a run that was interrupted ends with exactly the same numbers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from studio.errors import Stopped
from studio.training.loop.train import train_adapter
from tests.studio.training.steps import Recorder, make_context, make_inputs, settings_of

ROOT = Path(__file__).parents[3]


def adapter_bytes(root: Path) -> bytes:
    """The trained weights as they lie on disk."""
    return (root / "step" / "adapter" / "adapter_model.safetensors").read_bytes()


def stop_after(recorder: Recorder, steps: int) -> Any:
    """A stop button that is pressed once so many steps are done."""
    return lambda: len(recorder.losses()) >= steps


CASES = {
    "mid-epoch, dropout": ({"max_steps": 9, "save_steps": 2}, {"dropout": 0.3}),
    "accumulation over an epoch's end": (
        {"max_steps": 0, "epochs": 2.5, "gradient_accumulation_steps": 3, "save_steps": 100},
        {"dropout": 0.1},
    ),
    "cosine, warm-up, decay, DoRA": (
        {"max_steps": 8, "lr_scheduler": "cosine", "warmup_ratio": 0.2, "weight_decay": 0.1},
        {"method": "dora", "dropout": 0.2},
    ),
    "grouped by length, over an epoch's end": (
        {
            "max_steps": 9,
            "batching": "padded",
            "group_by_length": True,
            "gradient_accumulation_steps": 2,
        },
        {"dropout": 0.2},
    ),
    "padded": ({"max_steps": 9, "batching": "padded"}, {"dropout": 0.2}),
    "packed, accumulation over an epoch's end": (
        {
            "max_steps": 9,
            "batching": "packed",
            "pack_length": 160,
            "gradient_accumulation_steps": 2,
        },
        {"dropout": 0.2},
    ),
    "label smoothing, z-loss": (
        {"max_steps": 6, "label_smoothing": 0.1, "z_loss": 1e-3},
        {"dropout": 0.2},
    ),
    "8-bit optimizer": ({"max_steps": 8, "optimizer": "adamw_8bit"}, {"r": 64}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path, case: str) -> None:
    """Every loss and every byte of the adapter."""
    train, adapter = CASES[case]
    settings = settings_of(**train)
    whole = Recorder()
    root = tmp_path / "whole"
    train_adapter(make_context(root, whole), make_inputs(root, 15, 3, **adapter), settings)
    again = tmp_path / "again"
    first, second = Recorder(), Recorder()
    inputs = make_inputs(again, 15, 3, **adapter)
    with pytest.raises(Stopped):
        train_adapter(make_context(again, first, stop_after(first, 4)), inputs, settings)
    train_adapter(make_context(again, second), inputs, settings)
    resumed = second.named("TrainResumed")
    assert [e.get("step") for e in resumed] == [4]
    assert first.losses()[:4] + second.losses() == whole.losses()
    assert evals(first, 4) + evals(second) == evals(whole)
    assert adapter_bytes(again) == adapter_bytes(root)


def evals(recorder: Recorder, upto: int = 1000) -> list[tuple[int, float]]:
    """Step and validation loss of every evaluation."""
    found = [e for e in recorder.named("Metric") if e.get("eval_loss") is not None]
    return [(e.get("step"), e.get("eval_loss")) for e in found if e.get("step") <= upto]


def test_a_stop_within_a_step_keeps_the_last_whole_step(tmp_path: Path) -> None:
    """Stopped between two micro-batches; random numbers drawn since do not count."""
    settings = settings_of(max_steps=6, gradient_accumulation_steps=4, save_steps=100)
    whole = Recorder()
    root = tmp_path / "whole"
    train_adapter(make_context(root, whole), make_inputs(root, dropout=0.3), settings)
    again = tmp_path / "again"
    first, second = Recorder(), Recorder()
    asked = {"since": 0}

    def stop() -> bool:
        asked["since"] += len(first.losses()) >= 3
        return asked["since"] > 4

    inputs = make_inputs(again, dropout=0.3)
    with pytest.raises(Stopped):
        train_adapter(make_context(again, first, stop), inputs, settings)
    assert [e.get("reason") for e in first.named("CheckpointSaved")] == ["stop"]
    train_adapter(make_context(again, second), inputs, settings)
    assert first.losses() + second.losses() == whole.losses()
    assert adapter_bytes(again) == adapter_bytes(root)


def test_a_finished_training_is_not_trained_again(tmp_path: Path) -> None:
    """The last checkpoint is from before verification; resuming goes straight to it."""
    settings = settings_of(max_steps=3)
    inputs = make_inputs(tmp_path)
    train_adapter(make_context(tmp_path, Recorder()), inputs, settings)
    before = adapter_bytes(tmp_path)
    second = Recorder()
    value = train_adapter(make_context(tmp_path, second), inputs, settings)
    assert second.losses() == []
    assert adapter_bytes(tmp_path) == before
    assert value.metrics["loss"] > 0


def test_other_settings_start_anew_and_say_so(tmp_path: Path) -> None:
    """A checkpoint of another learning rate is not continued."""
    inputs = make_inputs(tmp_path)
    train_adapter(make_context(tmp_path, Recorder()), inputs, settings_of(max_steps=3))
    second = Recorder()
    train_adapter(
        make_context(tmp_path, second), inputs, settings_of(max_steps=3, learning_rate=1e-3)
    )
    assert len(second.losses()) == 3
    assert any("cannot be used" in e.get("sentence") for e in second.named("Notice"))


def test_save_now_writes_a_checkpoint(tmp_path: Path) -> None:
    """The command is taken once, at the next whole step."""
    asked = [{"command": "save"}]

    def take(name: str) -> dict[str, Any] | None:
        return asked.pop() if name == "save" and asked else None

    recorder = Recorder()
    train_adapter(
        make_context(tmp_path, recorder, take_command=take),
        make_inputs(tmp_path),
        settings_of(max_steps=3, save_steps=100),
    )
    saved = [(e.get("step"), e.get("reason")) for e in recorder.named("CheckpointSaved")]
    assert saved == [(1, "save"), (3, "end")]


SCRIPT = """
import sys
from pathlib import Path
from studio.training.loop.train import train_adapter
from tests.studio.training.steps import Recorder, make_context, make_inputs, settings_of
root = Path(sys.argv[1])
class Telling(Recorder):
    def __call__(self, event):
        super().__call__(event)
        if event.get("loss") is not None:
            print("step", event.get("step"), flush=True)
train_adapter(make_context(root, Telling()), make_inputs(root, dropout=0.2),
              settings_of(max_steps=400, save_steps=1))
"""


@pytest.mark.slow(seconds=27, order=0)
def test_a_killed_training_resumes(tmp_path: Path) -> None:
    """SIGKILL while checkpoints are written at every step; three times, at other moments."""
    settings = settings_of(max_steps=400, save_steps=1)
    inputs = make_inputs(tmp_path, dropout=0.2)
    for pause in (0.0, 0.013, 0.037):
        child = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(tmp_path)],
            cwd=ROOT,
            encoding="utf-8",
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert child.stdout is not None
        for _ in range(8):
            assert child.stdout.readline().startswith("step")
        time.sleep(pause)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
        recorder = Recorder()
        with pytest.raises(Stopped):
            train_adapter(
                make_context(tmp_path, recorder, stop_after(recorder, 1)), inputs, settings
            )
        assert recorder.named("TrainResumed")[0].get("step") >= 7
