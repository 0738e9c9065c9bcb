"""Errors of full memory are recognised wherever they come from, and GPU memory has a limit on Windows.

The errors are raised by hand, and the GPU is simulated: this runs on a CPU.
"""

from __future__ import annotations

import errno
import inspect
import os
import platform
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM

from studio.chat_templates.chats import Chat
from studio.errors import StudioError
from studio.estimate import ask
from studio.node_settings.base_model import BaseModelSettings
from studio.runs import host
from studio.runs.failures import failure
from studio.system import disk, torch_environment
from studio.system.memory import out_of_memory_in
from studio.training.batch.batching import rows_stay_apart
from studio.training.loop import sft, training_loop
from studio.training.loop.train import train_adapter
from studio.training.merge import in_memory, layers, make
from studio.training.merge.make import plan_merge
from studio.training.model import load, spilling
from studio.training.model.base_model import prepare_base_model
from studio.training.model.load import load_base
from studio.training.tokens import chat
from tests.studio.runs import toy_runs
from tests.studio.training.adapters import random_adapter, tiny_base
from tests.studio.training.steps import (
    Recorder,
    make_context,
    make_inputs,
    model_value,
    settings_of,
)
from tests.studio.training.test_merge import merged
from tests.tiny import make_tiny_model

GIB = 2**30


def cuda_full(*_: Any, **__: Any) -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def wrapped(kind: type[Exception], cause: BaseException, linked: bool = True) -> Exception:
    """An error of a library raised because of ``cause``."""
    try:
        try:
            raise cause
        except BaseException as error:
            if linked:
                raise kind("the weight cannot be converted") from error
            raise kind("the weight cannot be converted")  # noqa: B904
    except kind as error:
        return error


@pytest.mark.parametrize(
    ("error", "place"),
    [
        (wrapped(RuntimeError, torch.OutOfMemoryError("CUDA out of memory.")), "GPU memory"),
        (wrapped(ValueError, torch.OutOfMemoryError("full")), "GPU memory"),
        (wrapped(ValueError, torch.OutOfMemoryError("full"), linked=False), "GPU memory"),
        (wrapped(KeyError, MemoryError()), "memory"),
        (RuntimeError("CUDA error: out of memory"), "GPU memory"),
        (OSError("The paging file is too small for this operation. (os error 1455)"), "memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "memory"),
        (RuntimeError("std::bad_alloc"), "memory"),
    ],
)
def test_full_memory_behind_other_errors_is_recognised(
    error: Exception, place: str, tmp_path: Path
) -> None:
    """Along the causes, whatever type the last error has."""
    found = failure(error, "Train", tmp_path)
    assert found["code"] == "out_of_memory"
    assert f"not enough {place}" in found["sentence"]


@pytest.mark.parametrize(
    "error",
    [
        ValueError("line 3: “the server ran out of memory” is not a number"),
        KeyError("out of memory"),
        RuntimeError("shape mismatch"),
        wrapped(ValueError, RuntimeError("shape mismatch")),
    ],
)
def test_text_of_the_user_is_no_report_of_full_memory(error: Exception) -> None:
    assert out_of_memory_in(error) is None


def test_memory_is_not_reported_as_a_full_disk(tmp_path: Path) -> None:
    """A file that is mapped needs memory too."""
    error = OSError(errno.ENOMEM, "Cannot allocate memory", str(tmp_path / "rows"))
    with pytest.raises(OSError, match="allocate") as caught, disk.explain_errors("it", tmp_path):
        raise error
    assert failure(caught.value, "Dataset", tmp_path)["code"] == "out_of_memory"


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_memory_that_runs_out_while_quantizing_ends_the_loading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quantization: str
) -> None:
    """transformers reports it as a failed conversion, without its cause, after trying all weights."""
    import bitsandbytes as bnb

    tried = []

    def full(*_: Any, **__: Any) -> Any:
        tried.append(1)
        cuda_full()

    kind = bnb.nn.Params4bit if quantization == "nf4" else bnb.nn.Int8Params
    monkeypatch.setattr(kind, "to", full)
    folder = make_tiny_model(tmp_path / "model")
    value = model_value(folder, quantization=quantization, dtype="bfloat16")
    with pytest.raises(torch.OutOfMemoryError):
        load_base(make_context(tmp_path, Recorder()), value)
    assert len(tried) == 1
    inputs = make_inputs(tmp_path)
    inputs["model"]["model"].update(quantization=quantization, dtype="bfloat16")
    with pytest.raises(StudioError, match="not enough GPU memory for this training") as caught:
        train_adapter(make_context(tmp_path, Recorder()), inputs, settings_of())
    assert caught.value.code == "out_of_memory"


def test_memory_that_runs_out_while_reading_weights_is_not_a_damaged_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tiny_model(tmp_path / "model")
    monkeypatch.setattr(
        load,
        "_from_files",
        lambda *_, **__: (_ for _ in ()).throw(wrapped(ValueError, MemoryError())),
    )
    with pytest.raises(ValueError, match="converted"):
        load_base(make_context(tmp_path, Recorder()), model_value(tmp_path / "model"))


# ------------------------------------------------------------------ tests of what a model supports


def tiny(tmp_path: Path) -> Any:
    return LlamaForCausalLM.from_pretrained(make_tiny_model(tmp_path / "model"))


def ids() -> dict[str, torch.Tensor]:
    return {"input_ids": torch.tensor([[5, 6, 7, 8]])}


@pytest.mark.parametrize("call", [1, 2, 3])
def test_the_choice_of_the_head_passes_full_memory_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    """At each of its three forward passes; otherwise the full head, which needs most memory, is chosen."""
    model, real, calls = tiny(tmp_path), LlamaForCausalLM.forward, []
    model.requires_grad_(False)

    def forward(self: Any, *args: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == call:
            raise RuntimeError("CUDA error: out of memory")
        return real(self, *args, **options)

    forward.__signature__ = inspect.signature(real)  # type: ignore[attr-defined]
    monkeypatch.setattr(LlamaForCausalLM, "forward", forward)
    with pytest.raises(RuntimeError, match="out of memory"):
        sft.choose_head(model, ids())
    assert len(calls) == call


def test_the_test_of_rows_in_one_sequence_passes_full_memory_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise rows are padded, which needs more memory, and the notice blames the model."""
    from datasets import Dataset

    model = tiny(tmp_path)
    monkeypatch.setattr(LlamaForCausalLM, "forward", cuda_full)
    rows = Dataset.from_list([{"input_ids": [1, 2, 3], "labels": [1, 2, 3]}] * 2)
    with pytest.raises(torch.OutOfMemoryError):
        rows_stay_apart(model, rows, 0)


def test_a_merge_passes_full_memory_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the adapter is blamed."""
    folder = make_tiny_model(tmp_path / "model")
    monkeypatch.setattr(layers.PeftModel, "from_pretrained", cuda_full)
    with pytest.raises(torch.OutOfMemoryError):
        plan_merge(folder, tmp_path, torch.float32)


@pytest.mark.parametrize("place", ["from_pretrained", "write_weights"])
def test_a_merge_says_that_memory_ran_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """In memory and tensor by tensor: neither the adapter nor the model is named as the cause."""
    adapter = random_adapter(tmp_path, tiny_base(tmp_path))
    if place == "from_pretrained":
        monkeypatch.setattr(make, "_planned", lambda *_: None)
        monkeypatch.setattr(in_memory.PeftModel, place, cuda_full)
    else:

        def full(*_: Any, **__: Any) -> Any:
            raise wrapped(ValueError, torch.OutOfMemoryError("CUDA out of memory."))

        monkeypatch.setattr(make, place, full)
    with pytest.raises(StudioError, match="not enough GPU memory for this merge"):
        merged(tmp_path, adapter)


def test_bitsandbytes_that_memory_is_missing_for_is_not_blamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its libraries are hundreds of megabytes; Windows reports a full paging file when it loads them."""

    class Full:
        def find_spec(self, name: str, *_: Any) -> None:
            if name == "bitsandbytes":
                raise OSError("[WinError 1455] The paging file is too small for this operation")

    make_tiny_model(tmp_path / "model")
    monkeypatch.delitem(sys.modules, "bitsandbytes", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Full(), *sys.meta_path])
    settings = BaseModelSettings(model="model", quantization="nf4")
    with pytest.raises(OSError, match="paging file") as caught:
        prepare_base_model(make_context(tmp_path, Recorder()), settings)
    assert failure(caught.value, "Base model", tmp_path)["code"] == "out_of_memory"


def test_a_row_is_not_refused_because_memory_ran_out() -> None:
    """With a tokenizer that renders conversations itself, whose errors name what is wrong with a row."""

    class Own:
        eos_token = None

        def apply_chat_template(self, *_: Any, **__: Any) -> str:
            raise MemoryError

    with pytest.raises(MemoryError):
        chat._own_text(
            Own(), Chat([{"role": "user", "content": "a"}], None, [(1, False)]), 1, False
        )


def test_a_step_halves_its_batch_also_for_a_wrapped_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failed = training_loop.TrainingLoop.forward_backward, []

    def forward_backward(self: Any, batch: Any, *more: Any) -> Any:
        if len(batch["lengths"]) > 2:
            failed.append(1)
            raise wrapped(ValueError, torch.OutOfMemoryError("CUDA out of memory."))
        return real(self, batch, *more)

    monkeypatch.setattr(training_loop.TrainingLoop, "forward_backward", forward_backward)
    recorder = Recorder()
    settings = settings_of(batch_size=4, max_steps=2)
    train_adapter(make_context(tmp_path, recorder), make_inputs(tmp_path), settings)
    assert [e.get("batch_size") for e in recorder.named("MemoryRecovered")] == [2]
    assert len(failed) == 1


# ------------------------------------------------------------------ the driver's use of main memory


class FakeCuda:
    """A GPU of 8 GiB; ``held`` is what other programs hold, ``reserved`` what torch holds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, held: float = 1.5, reserved: float = 0.0):
        self.held, self.reserved, self.limits = held, reserved, []
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: self._info())
        monkeypatch.setattr(
            torch.cuda, "memory_reserved", lambda device=None: int(self.reserved * GIB)
        )
        monkeypatch.setattr(
            torch.cuda,
            "set_per_process_memory_fraction",
            lambda fraction, device=None: self.limits.append(fraction),
        )

    def _info(self) -> tuple[int, int]:
        return int(max(0.0, 8 - self.held - self.reserved) * GIB), 8 * GIB


@pytest.fixture
def on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_environment.sys, "platform", "win32")
    for name in torch_environment.ALLOCATOR_CONFIGS:
        monkeypatch.delenv(name, raising=False)


CUDA = torch.device("cuda", 0)


def test_on_windows_torch_may_take_what_is_free(
    monkeypatch: pytest.MonkeyPatch, on_windows: None
) -> None:
    """What other programs hold is left to them; what torch already holds counts as its own."""
    fake = FakeCuda(monkeypatch, held=1.5)
    spilling.limit_memory(CUDA)
    fake.reserved = 3.0
    spilling.limit_memory(CUDA)
    expected = (6.5 * GIB - spilling.KEPT_FREE) / (8 * GIB)
    assert fake.limits == pytest.approx([expected, expected])
    fake.held = 8.0
    fake.reserved = 0.0
    assert spilling.limit_memory(CUDA) == 0.0
    assert spilling.limit_memory(torch.device("cpu")) is None


def test_loading_a_model_sets_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limited: list[torch.device] = []
    monkeypatch.setattr(load, "limit_memory", limited.append)
    folder = make_tiny_model(tmp_path / "model")
    load_base(make_context(tmp_path, Recorder()), model_value(folder))
    assert [d.type for d in limited] == ["cpu"]


def test_a_limit_of_the_user_is_kept(monkeypatch: pytest.MonkeyPatch, on_windows: None) -> None:
    fake = FakeCuda(monkeypatch)
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", "per_process_memory_fraction:0.5")
    assert spilling.limit_memory(CUDA) is None
    assert fake.limits == []


@pytest.mark.parametrize(
    ("release", "spills"), [("5.15.90.1-microsoft-standard-WSL2", True), ("6.1.0-18-amd64", False)]
)
def test_linux_has_no_limit_but_under_windows(
    monkeypatch: pytest.MonkeyPatch, release: str, spills: bool
) -> None:
    fake = FakeCuda(monkeypatch)
    monkeypatch.setattr(torch_environment.sys, "platform", "linux")
    monkeypatch.setattr(platform, "uname", lambda: SimpleNamespace(release=release))
    assert torch_environment.driver_spills() == spills
    spilling.limit_memory(CUDA)
    assert bool(fake.limits) == spills


def steps(tmp_path: Path, times: list[float]) -> list[str]:
    """The notices after steps of 100 tokens that take these seconds."""
    recorder = Recorder()
    watch = spilling.SlowDown(make_context(tmp_path, recorder), CUDA)
    for seconds in times:
        watch.step(seconds, 100)
    return [e.get("sentence") for e in recorder.named("Notice")]


def test_steps_that_become_far_slower_on_a_full_gpu_are_reported_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_windows: None
) -> None:
    FakeCuda(monkeypatch, held=1.0, reserved=6.8)
    (sentence,) = steps(tmp_path, [1.0] * 8 + [20.0] * 9)
    assert "20 times slower" in sentence
    assert "main memory" in sentence


@pytest.mark.parametrize(
    ("times", "reserved"),
    [
        ([1.0] * 8 + [20.0, 20.0, 1.0] * 4, 6.8),  # single pauses
        ([20.0] * 3 + [1.0] * 20, 6.8),  # a slow start
        ([1.0] * 8 + [3.0] * 9, 6.8),  # longer rows
        ([1.0] * 8 + [20.0] * 9, 2.0),  # the GPU is not full: another program computes
    ],
)
def test_other_slow_steps_are_not_reported(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    on_windows: None,
    times: list[float],
    reserved: float,
) -> None:
    FakeCuda(monkeypatch, held=1.0, reserved=reserved)
    assert steps(tmp_path, times) == []


def test_steps_of_a_training_are_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step with its seconds and tokens, from the first step of each pass."""
    seen: list[tuple[float, int]] = []

    class Watch:
        def __init__(self, *_: Any) -> None:
            pass

        def step(self, seconds: float, tokens: int) -> None:
            seen.append((seconds, tokens))

    monkeypatch.setattr(training_loop, "SlowDown", Watch)
    train_adapter(make_context(tmp_path, Recorder()), make_inputs(tmp_path), settings_of())
    assert len(seen) == 6
    assert all(seconds > 0 and tokens > 0 for seconds, tokens in seen)


# ------------------------------------------------------------------ fragmentation


@pytest.mark.parametrize(
    ("given", "added"),
    [
        ({}, {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}),
        ({"PYTORCH_ALLOC_CONF": "max_split_size_mb:64"}, {}),
        ({"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:False"}, {}),
    ],
)
def test_segments_are_expandable_on_linux_unless_the_user_has_chosen(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], added: dict[str, str]
) -> None:
    monkeypatch.setattr(torch_environment.sys, "platform", "linux")
    monkeypatch.setattr(platform, "uname", lambda: SimpleNamespace(release="6.1.0-18-amd64"))
    assert torch_environment.torch_variables(given) == added
    monkeypatch.setattr(torch_environment.sys, "platform", "win32")
    assert torch_environment.torch_variables(given) == {}


def test_the_run_and_the_probe_get_the_allocator_of_this_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}
    for module in (host, ask):
        monkeypatch.setattr(module, "torch_variables", lambda environment: added)
    for name in ("PYTORCH_ALLOC_CONF", "OMP_NUM_THREADS", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "")
    host.set_threads(toy_runs.folder(tmp_path), leave_core=False)
    assert os.environ["PYTORCH_ALLOC_CONF"] == "expandable_segments:True"
    assert ask._environment(2)["PYTORCH_ALLOC_CONF"] == "expandable_segments:True"
