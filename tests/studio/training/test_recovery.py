"""Memory that runs out and numbers that are none: the run goes on, or stops in time and says where."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM

from studio.errors import Stopped, StudioError
from studio.runs.failures import failure
from studio.training.adapter.tuning import Tuning
from studio.training.loop import evaluation
from studio.training.loop.train import train_adapter
from studio.training.loop.training_loop import TrainingLoop
from studio.training.saved.tensor_files import read_tensors
from tests.studio.training.steps import Recorder, make_context, make_inputs, settings_of
from tests.timing import WAIT_S

Rows = dict[int, list[list[int]]]
Fails = Callable[[int, int], bool]


def watch_steps(monkeypatch: pytest.MonkeyPatch, fails: Fails = lambda step, rows: False) -> Rows:
    """The rows of every optimizer step that was done, in order; ``fails(step, rows)`` says when a
    micro-batch does not fit: half of its gradients are there by then."""
    real = TrainingLoop.forward_backward
    seen: Rows = defaultdict(list)

    def forward_backward(self: Any, inputs: Any, *more: Any) -> Any:
        step = self.state.step + 1
        if not self.micro_losses:
            seen[step] = []
        loss = real(self, inputs, *more)
        rows = rows_in(inputs)
        if fails(step, len(rows)):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        seen[step] += rows
        return loss

    monkeypatch.setattr(TrainingLoop, "forward_backward", forward_backward)
    return seen


def rows_in(batch: Any) -> list[list[int]]:
    """The ids of the rows of a batch, padded or not."""
    ids = batch["input_ids"].cpu()
    if "lengths" in batch:
        return [row.tolist() for row in ids[0].split(batch["lengths"])]
    masks = batch["attention_mask"].bool().cpu()
    return [row[mask].tolist() for row, mask in zip(ids, masks, strict=True)]


CASES = {
    "batch 4, padded": {"batch_size": 4, "batching": "padded"},
    "batch 4": {"batch_size": 4},
    "batch 3, accumulation 2, over an epoch's end": {
        "batch_size": 3,
        "gradient_accumulation_steps": 2,
        "max_steps": 5,
    },
    "batch 5, accumulation 3": {"batch_size": 5, "gradient_accumulation_steps": 3, "max_steps": 4},
    "grouped by length": {"batch_size": 4, "batching": "padded", "group_by_length": True},
    "Muon": {"batch_size": 4, "optimizer": "muon"},
}


@pytest.mark.parametrize("case", CASES)
def test_a_run_out_of_memory_goes_on_with_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    """Every optimizer step holds the rows it would have held, in order; losses and weights agree."""
    settings = settings_of(**CASES[case])
    whole = Recorder()
    with monkeypatch.context() as patch:
        expected = watch_steps(patch)
        train_adapter(make_context(tmp_path / "a", whole), make_inputs(tmp_path), settings)
    recorder = Recorder()
    rows = watch_steps(monkeypatch, lambda step, size: step >= 3 and size > 1)
    train_adapter(make_context(tmp_path / "b", recorder), make_inputs(tmp_path), settings)
    assert rows == expected
    assert recorder.losses() == pytest.approx(whole.losses(), abs=2e-5)
    steps = [e.get("step") for e in recorder.named("Metric") if e.get("loss") is not None]
    assert steps == list(range(1, settings.max_steps + 1))
    weights = [read_tensors(tmp_path / n / "step/adapter/adapter_model.safetensors") for n in "ab"]
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, atol=2e-3, rtol=2e-3)
    sentences = [(e.get("step"), e.get("batch_size")) for e in recorder.named("MemoryRecovered")]
    assert sentences == [(3, settings.batch_size // 2), (3, 1)][-len(sentences) :]
    last = recorder.named("MemoryRecovered")[-1]
    per_step = settings.batch_size * settings.gradient_accumulation_steps
    assert last.get("accumulation") == per_step


def test_packed_rows_recover_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packed sequences are halved by sequences."""
    settings = settings_of(batch_size=4, batching="packed", pack_length=64, max_steps=4)
    whole, recorder = Recorder(), Recorder()
    inputs = make_inputs(tmp_path, 40)
    train_adapter(make_context(tmp_path / "a", whole), inputs, settings)
    real = TrainingLoop.forward_backward

    def forward_backward(self: Any, inputs: Any, *more: Any) -> Any:
        if self.accumulation == 1 and self.state.step == 2:
            raise RuntimeError(
                "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"
            )
        return real(self, inputs, *more)

    monkeypatch.setattr(TrainingLoop, "forward_backward", forward_backward)
    train_adapter(make_context(tmp_path / "b", recorder), inputs, settings)
    assert [e.get("batch_size") for e in recorder.named("MemoryRecovered")] == [2]
    assert recorder.losses() == pytest.approx(whole.losses(), abs=2e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_recovers_without_a_second_autocast(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    """Precision and loss scaling are set up anew for each pass, once."""
    inputs = make_inputs(tmp_path)
    inputs["model"]["model"].update(dtype=dtype)
    whole, recorder = Recorder(), Recorder()
    train_adapter(make_context(tmp_path / "a", whole), inputs, settings_of(batch_size=4))
    watch_steps(monkeypatch, lambda step, rows: step >= 3 and rows > 2)
    train_adapter(make_context(tmp_path / "b", recorder), inputs, settings_of(batch_size=4))
    assert len(recorder.named("MemoryRecovered")) == 1
    assert recorder.losses() == pytest.approx(whole.losses(), abs=2e-3)


def test_the_smaller_batch_outlives_a_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resumed run does not try the batch again that did not fit."""
    settings = settings_of(batch_size=4, max_steps=6)
    inputs = make_inputs(tmp_path, dropout=0.2)
    watch_steps(monkeypatch, lambda step, size: size > 2)
    whole, first, second = Recorder(), Recorder(), Recorder()
    train_adapter(make_context(tmp_path / "a", whole), inputs, settings)
    with pytest.raises(Stopped):
        train_adapter(
            make_context(tmp_path / "b", first, lambda: len(first.losses()) >= 3), inputs, settings
        )
    train_adapter(make_context(tmp_path / "b", second), inputs, settings)
    assert len(first.named("MemoryRecovered")) == 1
    assert second.named("MemoryRecovered") == []
    assert first.losses() + second.losses() == whole.losses()


def test_random_numbers_drawn_in_a_failed_step_are_drawn_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dropout goes on with the numbers of the step that failed, not with those of its first steps."""
    real, states = TrainingLoop.forward_backward, []

    def forward_backward(self: Any, inputs: Any, *more: Any) -> Any:
        if self.state.step == 2 and not self.micro_losses:
            states.append(torch.get_rng_state())
        loss = real(self, inputs, *more)
        if len(states) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return loss

    monkeypatch.setattr(TrainingLoop, "forward_backward", forward_backward)
    context = make_context(tmp_path, Recorder())
    train_adapter(context, make_inputs(tmp_path, dropout=0.3), settings_of(batch_size=4))
    assert len(states) == 2
    assert torch.equal(states[0], states[1])


def test_at_one_row_gradient_checkpointing_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same rows, losses and weights; also after a stop, which does not try without it again."""
    settings = settings_of(batch_size=8, max_steps=4)
    inputs = make_inputs(tmp_path, 40, dropout=0.2)
    real, seen = TrainingLoop.forward_backward, []

    def forward_backward(self: Any, inputs: Any, *more: Any) -> Any:
        layers = self.state.tuning.model.get_base_model().model.layers
        recomputes = all(layer.gradient_checkpointing for layer in layers)
        seen.append((len(rows_in(inputs)), recomputes))
        if self.state.step >= 1 and not recomputes:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(self, inputs, *more)

    whole = Recorder()
    one = settings.model_copy(update={"batch_size": 1, "gradient_accumulation_steps": 8})
    train_adapter(make_context(tmp_path / "a", whole), inputs, one)
    monkeypatch.setattr(TrainingLoop, "forward_backward", forward_backward)
    first, second = Recorder(), Recorder()
    with pytest.raises(Stopped):
        train_adapter(
            make_context(tmp_path / "b", first, lambda: len(first.losses()) >= 2), inputs, settings
        )
    assert seen[0] == (8, False)
    recovered = [
        (e.get("batch_size"), e.get("checkpointing")) for e in first.named("MemoryRecovered")
    ]
    assert recovered == [(4, False), (2, False), (1, False), (1, True)]
    said = [e.get("sentence") for e in first.named("Notice")]
    assert "gradient checkpointing" in said[-1]
    assert not any("gradient checkpointing" in s for s in said[:-1])
    assert len(set(said)) == len(said)
    seen.clear()
    train_adapter(make_context(tmp_path / "b", second), inputs, settings)
    assert set(seen) == {(1, True)}
    assert second.named("MemoryRecovered") == []
    trained = first.losses() + second.losses()
    assert trained[1:] == pytest.approx(whole.losses()[1:], abs=2e-2)
    assert len(trained) == 4


def test_without_a_way_left_it_says_what_to_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list is in order, and names only what has not been done."""
    watch_steps(monkeypatch, lambda step, size: True)
    recorder = Recorder()
    with pytest.raises(StudioError, match=r"there is not enough (GPU )?memory") as caught:
        train_adapter(
            make_context(tmp_path, recorder),
            make_inputs(tmp_path, 40),
            settings_of(batch_size=32, gradient_checkpointing=True),
        )
    assert [e.get("batch_size") for e in recorder.named("MemoryRecovered")] == [16, 8, 4, 2, 1]
    hint = caught.value.hint
    assert "1. Choose the optimizer" in hint
    assert "batch size" not in hint
    assert "gradient checkpointing" not in hint


def test_a_model_without_gradient_checkpointing_is_not_advised_to_use_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch_steps(monkeypatch, lambda step, rows: True)
    monkeypatch.setattr(LlamaForCausalLM, "supports_gradient_checkpointing", False)
    recorder = Recorder()
    with pytest.raises(StudioError) as caught:
        train_adapter(
            make_context(tmp_path, recorder), make_inputs(tmp_path), settings_of(batch_size=2)
        )
    assert [e.get("batch_size") for e in recorder.named("MemoryRecovered")] == [1]
    assert caught.value.field == "optimizer"
    assert "gradient checkpointing" not in caught.value.hint


LIMITED = """
import json, resource, sys
from pathlib import Path

from studio.training.loop.train import train_adapter
from studio.training.loop.training_loop import TrainingLoop
from tests.studio.training import steps
from tests.tiny import make_tiny_model

place, room = Path(sys.argv[1]), int(sys.argv[2]) * 2**20
real_run, real_rows = TrainingLoop.run, steps.rows_of


def run(self, resumed=None):
    if room:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + room
        resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))
    real_run(self, resumed)
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def long_rows(count, start=0):
    rows = real_rows(count, start)
    for row in rows:
        row["messages"][0]["content"] = "very " * 80 + row["messages"][0]["content"]
    return rows


TrainingLoop.run, steps.rows_of = run, long_rows
if not (place / "model").exists():
    make_tiny_model(place / "model", layers=3, hidden=128)
recorder = steps.Recorder()
settings = steps.settings_of(batch_size=32, max_steps=2, max_length=512)
context = steps.make_context(place / f"run-{room}", recorder)
train_adapter(context, steps.make_inputs(place, 64), settings)
recovered = [e.get("batch_size") for e in recorder.named("MemoryRecovered")]
print(json.dumps([recorder.losses(), recovered]))
"""


def limited(place: Path, room_mib: int) -> tuple[list[float], list[int]]:
    """Losses and recoveries of a training in a process that may take this much more memory than it
    has before the first step; 0 is without a limit."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(place), str(room_mib)],
        cwd=Path(__file__).parents[3],
        env={**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"},
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=WAIT_S,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    losses, recovered = json.loads(done.stdout.splitlines()[-1])
    return losses, recovered


@pytest.mark.slow(seconds=25)
@pytest.mark.skipif(sys.platform != "linux", reason="the limit on the address space is Linux's")
def test_a_real_limit_on_memory_is_survived(tmp_path: Path) -> None:
    """Where a smaller micro-batch fits, the training ends with the losses of the large one."""
    losses, recovered = limited(tmp_path, 0)
    assert recovered == []
    less, halved = limited(tmp_path, 100)
    assert halved
    assert halved == [16, 8, 4, 2, 1][: len(halved)]
    assert less == pytest.approx(losses, abs=1e-3)


@pytest.mark.parametrize("where", [(torch.optim.AdamW, "step"), (Tuning, "after_step")])
def test_an_update_that_does_not_fit_is_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: tuple[Any, str]
) -> None:
    """Half the weights may have moved, or all of them: only a checkpoint is safe to go on from."""

    def full(*args: object, **more: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(*where, full)
    recorder = Recorder()
    with pytest.raises(StudioError, match=r"there is not enough (GPU )?memory"):
        train_adapter(
            make_context(tmp_path, recorder), make_inputs(tmp_path), settings_of(batch_size=4)
        )
    assert recorder.named("MemoryRecovered") == []


def test_an_evaluation_takes_fewer_rows_when_memory_runs_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same validation loss, and the training is not touched."""
    settings = settings_of(batch_size=4, eval_steps=3)
    inputs = make_inputs(tmp_path, 20, 8)
    whole, recorder = Recorder(), Recorder()
    train_adapter(make_context(tmp_path / "a", whole), inputs, settings)
    real = evaluation.pad_rows

    def pad_rows(rows: Any, numbers: Any, pad_id: int) -> Any:
        if len(numbers) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(rows, numbers, pad_id)

    monkeypatch.setattr(evaluation, "pad_rows", pad_rows)
    train_adapter(make_context(tmp_path / "b", recorder), inputs, settings)
    evals = [
        [e.get("eval_loss") for e in r.named("Metric") if e.get("eval_loss") is not None]
        for r in (whole, recorder)
    ]
    assert evals[1] == pytest.approx(evals[0], abs=1e-5)
    assert recorder.losses() == whole.losses()
    assert sum("a batch size of 2" in e.get("sentence") for e in recorder.named("Notice")) == 1


def test_an_evaluation_that_never_fits_says_what_to_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no reason to make the training's batches smaller."""

    def full(rows: Any, numbers: Any, pad_id: int) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(evaluation, "pad_rows", full)
    recorder = Recorder()
    with pytest.raises(StudioError, match="memory for this evaluation"):
        train_adapter(
            make_context(tmp_path, recorder),
            make_inputs(tmp_path, 20, 4),
            settings_of(batch_size=4),
        )
    assert recorder.named("MemoryRecovered") == []


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_number_that_is_none_stops_within_its_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The weights of the step before are kept, and the rows are named: file, line, text."""
    settings = settings_of(batch_size=2, gradient_accumulation_steps=2, max_steps=8)
    inputs = make_inputs(tmp_path, 20)
    plain = Recorder()
    train_adapter(
        make_context(tmp_path / "a", plain), inputs, settings.model_copy(update={"max_steps": 4})
    )
    real, seen = TrainingLoop.forward_backward, watch_steps(monkeypatch)
    counted = TrainingLoop.forward_backward
    assert real is not counted

    def forward_backward(self: Any, inputs: Any, *more: Any) -> Any:
        loss = counted(self, inputs, *more)
        if self.state.step == 4 and len(self.micro_losses) == 1:
            if what == "loss":
                return loss[0] * float("nan"), loss[1]
            parameters = self.state.tuning.model.parameters()
            next(p for p in parameters if p.grad is not None).grad[0] = float("inf")
        return loss

    monkeypatch.setattr(TrainingLoop, "forward_backward", forward_backward)
    recorder = Recorder()
    with pytest.raises(StudioError, match=f"the {what} of step 5 is") as caught:
        train_adapter(make_context(tmp_path / "b", recorder), inputs, settings)
    (sentences,) = recorder.named("NonFinite")
    assert (sentences.get("step"), sentences.get("what"), sentences.get("kept")) == (5, what, 4)
    batch = seen[5][2:] if what == "loss" else seen[5]
    assert len(sentences.get("rows")) == len(batch)
    assert "rows.jsonl" in caught.value.sentence
    assert caught.value.line == sentences.get("rows")[0]["line"]
    for row, ids in zip(sentences.get("rows"), batch, strict=True):
        assert row["file"] == "rows.jsonl"
        assert row["text"].rstrip("…")[:20] in _decoded(tmp_path, ids)
    kept = [e for e in recorder.named("CheckpointSaved") if e.get("reason") == "finite"]
    assert [e.get("step") for e in kept] == [4]
    finite = Path(kept[0].get("path")) / "adapter_model.safetensors"
    trained = tmp_path / "a/step/adapter/adapter_model.safetensors"
    for name, value in read_tensors(trained).items():
        assert torch.equal(read_tensors(finite)[name], value)


def test_weights_that_are_no_numbers_end_the_run_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the layers are measured first: their decomposition would fail."""
    real = TrainingLoop._evaluate_if_due

    def evaluate(self: TrainingLoop) -> None:
        if self.state.step == 3:
            trained = [p for p in self.state.tuning.model.parameters() if p.requires_grad]
            for parameter in trained:
                parameter.data[0] = float("inf")
        real(self)

    monkeypatch.setattr(TrainingLoop, "_evaluate_if_due", evaluate)
    recorder = Recorder()
    with pytest.raises(StudioError, match="a trained weight is not finite after step 3") as caught:
        train_adapter(
            make_context(tmp_path, recorder),
            make_inputs(tmp_path, 20, 4),
            settings_of(eval_steps=3, save_steps=2),
        )
    assert recorder.named("Insight") == []
    assert "The last checkpoint (step 2) was saved before." in caught.value.hint


@pytest.mark.skipif(sys.platform == "win32", reason="the limit on a file's size is of POSIX")
def test_a_disk_that_fills_up_while_the_best_is_written(tmp_path: Path) -> None:
    """safetensors says it in its own way; half a file is not left there, and the run goes on later."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    settings = settings_of(eval_steps=2, save_steps=1, keep="best")
    inputs = make_inputs(tmp_path, 20, 4)
    recorder, second = Recorder(), Recorder()
    context = make_context(tmp_path, recorder)

    def emit(event: Any) -> None:
        recorder(event)
        if event.name == "Metric" and event.get("step") == 2 and event.get("loss") is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))

    context.emit_event = emit
    try:
        with pytest.raises(Exception, match="File too large") as caught:
            train_adapter(context, inputs, settings)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    sentences = failure(caught.value, "Train", tmp_path)
    assert sentences["code"] == "disk_full"
    assert sentences["sentence"].startswith("Train: the disk is full.")
    assert list((tmp_path / "checkpoints").rglob("staging-*")) == []
    train_adapter(make_context(tmp_path, second), inputs, settings)
    assert [e.get("step") for e in second.named("TrainResumed")] == [1]


def _decoded(root: Path, ids: list[int]) -> str:
    from transformers import AutoTokenizer

    return str(AutoTokenizer.from_pretrained(root / "model").decode(ids))
