"""On an NVIDIA GPU: every precision and quantization trains, resumes, reloads and merges; the kernels and the memory
are those that a training needs.

Skipped where there is none. Nothing here is compared with the CPU: only a GPU with itself. Losses of two runs are
compared with “Repeatable on a GPU”, so that what is not restored or not the same shows. Not yet run on a GPU.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention as sdpa

from studio.errors import Stopped
from studio.estimate.ask import request
from studio.estimate.job import Facts, job_of
from studio.estimate.machine import Machine
from studio.graph.graph import Graph, Node, Wire
from studio.graph.registry import load_registry
from studio.node_settings.merge import MergeSettings
from studio.node_settings.train import OptimizerName
from studio.runs.failures import failure
from studio.training.batch import attention
from studio.training.loop.state import enable_gradient_checkpointing
from studio.training.loop.train import train_adapter, train_model
from studio.training.loop.training_loop import TrainingLoop
from studio.training.merge import check as merge_check
from studio.training.merge.make import merge_adapter
from studio.training.model.attention_kernel import fused_attention
from studio.training.model.load import load_base
from tests.studio.training.steps import (
    Recorder,
    make_context,
    make_inputs,
    model_value,
    settings_of,
)
from tests.timing import WAIT_S
from tests.tiny import make_tiny_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore:MatMul8bitLt"),
]
CASES = [
    ("float32", "none"),
    ("bfloat16", "none"),
    ("float16", "none"),
    ("bfloat16", "nf4"),
    ("float16", "nf4"),
    ("bfloat16", "int8"),
    ("float16", "int8"),
]
MIB = 2**20


def inputs_of(
    root: Path,
    dtype: str,
    quantization: str = "none",
    rows: int = 20,
    validation: int = 0,
    **lora: Any,
) -> dict[str, Any]:
    """Everything a Train step takes, in this precision."""
    inputs = make_inputs(root, rows, validation, **lora)
    inputs["model"]["model"].update(quantization=quantization, dtype=dtype, parameters=10**5)
    return inputs


def clean() -> None:
    """Free the memory of earlier models, and forget the peak."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """Within the block torch may take ``size`` bytes of the GPU."""
    torch.cuda.set_per_process_memory_fraction(size / torch.cuda.mem_get_info()[1])
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        clean()


@pytest.mark.parametrize(("dtype", "quantization"), CASES)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_training_on_the_gpu(
    tmp_path: Path, dtype: str, quantization: str, checkpointing: bool
) -> None:
    """The loss falls, memory is read, a resume ends where it should, and the adapter merges."""
    inputs = inputs_of(tmp_path, dtype, quantization, 20, 4)
    settings = settings_of(
        max_steps=12,
        save_steps=6,
        eval_steps=4,
        gradient_checkpointing=checkpointing,
        gradient_accumulation_steps=2,
        max_grad_norm=0.0 if checkpointing else 1.0,
    )
    recorder = Recorder()
    value = train_adapter(make_context(tmp_path, recorder), inputs, settings)
    losses = recorder.losses()
    assert sum(losses[-4:]) < sum(losses[:4])
    assert all(e.get("vram_allocated_gib") > 0 for e in recorder.named("Metric") if e.get("loss"))
    again = Recorder()
    train_adapter(make_context(tmp_path, again), inputs, settings)
    assert [e.get("step") for e in again.named("TrainResumed")] == [12]
    merge_adapter(make_context(tmp_path / "merge", Recorder()), value.to_json(), MergeSettings())


# ------------------------------------------------------------------ the same run again


def stopped_and_resumed(
    root: Path, inputs: dict[str, Any], settings: Any, after: int
) -> list[float]:
    """The losses of a run that is stopped after a step and resumed."""
    first, second = Recorder(), Recorder()
    run = train_adapter if "method" in inputs["model"] else train_model
    with pytest.raises(Stopped):
        run(make_context(root, first, lambda: len(first.losses()) >= after), inputs, settings)
    run(make_context(root, second), inputs, settings)
    assert [e.get("step") for e in second.named("TrainResumed")] == [after]
    return first.losses() + second.losses()


@pytest.mark.parametrize(("dtype", "quantization"), CASES)
def test_a_run_is_repeated_and_resumed_with_its_losses(
    tmp_path: Path, dtype: str, quantization: str
) -> None:
    """With dropout, whose random numbers are those of the GPU; and another seed gives other losses."""
    inputs = inputs_of(tmp_path, dtype, quantization, dropout=0.1)
    settings = settings_of(max_steps=8, save_steps=4, repeatable=True)
    found = []
    for name, seed in (("a", 0), ("b", 0), ("other", 1)):
        recorder = Recorder()
        own = settings.model_copy(update={"seed": seed})
        train_adapter(make_context(tmp_path / name, recorder), inputs, own)
        found.append(recorder.losses())
    assert found[1] == found[0]
    assert found[2] != found[0]
    assert stopped_and_resumed(tmp_path / "c", inputs, settings, 5) == found[0]


@pytest.mark.parametrize("optimizer", get_args(OptimizerName))
def test_each_optimizer_is_resumed_with_its_losses(tmp_path: Path, optimizer: str) -> None:
    """The matrices are large enough for paged and for 8-bit states."""
    make_tiny_model(tmp_path / "model", hidden=1024)
    inputs = inputs_of(tmp_path, "bfloat16", r=128, alpha=128)
    rate = 1e-1 if optimizer == "sgd" else 2e-4
    settings = settings_of(optimizer=optimizer, learning_rate=rate, max_steps=8, repeatable=True)
    recorder = Recorder()
    train_adapter(make_context(tmp_path / "a", recorder), inputs, settings)
    losses = recorder.losses()
    assert losses[-1] < losses[0]
    assert stopped_and_resumed(tmp_path / "b", inputs, settings, 4) == losses


@pytest.mark.parametrize("bits", [8, 32])
def test_states_are_paged_again_after_a_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bits: int
) -> None:
    make_tiny_model(tmp_path / "model", hidden=1024)
    inputs = inputs_of(tmp_path, "bfloat16", r=128, alpha=128)
    optimizer = "paged_adamw_8bit" if bits == 8 else "paged_adamw"
    settings = settings_of(optimizer=optimizer, max_steps=6)
    real, paged = TrainingLoop.train_step, []

    def train_step(self: Any, batches: Any) -> None:
        real(self, batches)
        states = [s["state1"] for s in self.state.optimizer.state.values()]
        paged.append(sum(s.numel() for s in states if getattr(s, "is_paged", False)))

    monkeypatch.setattr(TrainingLoop, "train_step", train_step)
    stopped_and_resumed(tmp_path, inputs, settings, 3)
    assert len(paged) >= 5  # the step of the stop does not return
    assert paged[0] > 0
    assert set(paged) == {paged[0]}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_full_fine_tuning(tmp_path: Path, dtype: str) -> None:
    """Trained in float32 with the fused optimizer, stored in the model's precision, stopped once."""
    inputs = make_inputs(tmp_path, 20, 4)
    inputs["model"] = {**inputs["model"]["model"], "dtype": dtype}
    settings = settings_of(
        max_steps=12,
        learning_rate=3e-3,
        optimizer="adamw_fused",
        eval_steps=4,
        keep="best",
        repeatable=True,
    )
    whole = Recorder()
    value = train_model(make_context(tmp_path / "whole", whole), inputs, settings)
    losses = whole.losses()
    assert len(losses) == 12
    assert sum(losses[-4:]) < sum(losses[:4])
    assert value.dtype == dtype
    assert stopped_and_resumed(tmp_path / "parts", inputs, settings, 6) == losses


def test_loss_scaling_skips_a_step_and_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the scaler of accelerate: its factor is halved and stored."""
    real = TrainingLoop.forward_backward

    def forward_backward(self: Any, *batch: Any) -> Any:
        loss = real(self, *batch)
        if self.state.step + 1 == 2:
            parameters = self.state.tuning.model.parameters()
            next(p for p in parameters if p.grad is not None).grad[0] = float("inf")
        return loss

    monkeypatch.setattr(TrainingLoop, "forward_backward", forward_backward)
    inputs = inputs_of(tmp_path, "float16")
    settings = settings_of(max_steps=8, repeatable=True)
    whole = Recorder()
    train_adapter(make_context(tmp_path / "a", whole), inputs, settings)
    assert any("loss scaling" in e.get("sentence") for e in whole.named("Notice"))
    assert stopped_and_resumed(tmp_path / "b", inputs, settings, 4) == whole.losses()
    scales = []
    for name in ("a", "b"):
        state = json.loads(
            (tmp_path / name / "checkpoints/step-000008/state.json").read_text("utf-8")
        )
        scales.append(state["figures"]["scaler"]["scale"])
        assert state["figures"]["skipped_steps"] >= 1
    assert scales[0] == scales[1] < 65536


# ------------------------------------------------------------------ attention


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_rows_without_padding_train_as_padded_ones(
    tmp_path: Path, dtype: str, full: bool, checkpointing: bool
) -> None:
    """In half precision all of them with the kernel for variable lengths, also in full fine-tuning."""
    inputs = make_inputs(tmp_path, 8)
    inputs["model"]["model"]["dtype"] = dtype
    common = {
        "max_steps": 3,
        "batch_size": 8,
        "learning_rate": 1e-4,
        "gradient_checkpointing": checkpointing,
    }
    run: Any = train_model if full else train_adapter
    if full:
        inputs["model"] = inputs["model"]["model"]
    padding_free, padded = Recorder(), Recorder()
    attention.USED.clear()
    settings = settings_of(**common, batching="padding_free")
    run(make_context(tmp_path / "padding_free", padding_free), inputs, settings)
    used = dict(attention.USED)
    run(make_context(tmp_path / "padded", padded), inputs, settings_of(**common))
    assert not any("Rows are padded" in e.get("sentence") for e in padding_free.named("Notice"))
    ampere = torch.cuda.get_device_capability() >= (8, 0)
    kernel = "varlen" if dtype != "float32" and ampere else "rows"
    assert list(used) == [kernel]
    assert used[kernel] >= 2 * 3  # two layers, three steps
    assert padding_free.losses() == pytest.approx(
        padded.losses(), rel=1e-4 if dtype == "float32" else 2e-2
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("size", "heads", "keys"), [(8, 4, 2), (64, 9, 3), (128, 32, 8)])
def test_the_kernel_for_rows_is_attention_within_each(
    dtype: torch.dtype, size: int, heads: int, keys: int
) -> None:
    """Output and gradients against float64, row by row."""
    if torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("FlashAttention needs Ampere or newer")
    lengths = (5, 700, 33)
    torch.manual_seed(0)
    q, k, v = (
        torch.randn(1, n, sum(lengths), size, device="cuda", dtype=dtype, requires_grad=True)
        for n in (heads, keys, keys)
    )
    assert attention.has_varlen(q, k, v)
    with attention.row_boundaries(lengths, q.device):
        rows = attention._segments.get()
        assert rows is not None
        got = attention._varlen(q, k, v, rows, None)
    up = torch.randn_like(got)
    exact = [t.detach().double().requires_grad_() for t in (q, k, v)]
    parts = zip(*(t.split(lengths, dim=2) for t in exact), strict=True)
    wanted = torch.cat(
        [sdpa(a, b, c, is_causal=True, enable_gqa=True).transpose(1, 2) for a, b, c in parts], dim=1
    )
    mine = (got, *torch.autograd.grad(got, (q, k, v), up))
    theirs = (wanted, *torch.autograd.grad(wanted, exact, up.double()))
    for a, b in zip(mine, theirs, strict=True):
        assert float((a.double() - b).norm() / b.norm()) < 1e-2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_attention_with_fewer_key_heads_never_stores_all_scores(dtype: torch.dtype) -> None:
    """For 4,096 tokens and 32 heads they take 2 GiB in float32, and 1 GiB in half precision."""
    module: Any = type("Module", (), {"num_key_value_groups": 4, "is_causal": True})()
    q = torch.randn(1, 32, 4096, 64, device="cuda", dtype=dtype, requires_grad=True)
    k, v = (
        torch.randn(1, 8, 4096, 64, device="cuda", dtype=dtype, requires_grad=True) for _ in "kv"
    )
    clean()
    before = torch.cuda.memory_allocated()
    out, _ = fused_attention(module, q, k, v, None)
    out.sum().backward()
    assert torch.cuda.max_memory_allocated() - before < 512 * MIB


# ------------------------------------------------------------------ memory


def test_checkpointing_frees_activations_in_int8_too(tmp_path: Path) -> None:
    """As without quantization: an input per decoder layer, and not that of each linear layer."""
    folder = make_tiny_model(tmp_path / "model", layers=8, hidden=512)
    held = {}
    for quantization in ("none", "nf4", "int8"):
        value = model_value(folder, quantization=quantization, dtype="bfloat16")
        model = load_base(make_context(tmp_path, Recorder()), value).train()
        model.requires_grad_(False)
        model.enable_input_require_grads()
        enable_gradient_checkpointing(model)
        ids = torch.randint(0, 260, (4, 512), device="cuda")
        clean()
        before = torch.cuda.memory_allocated()
        hidden = model.model(ids, use_cache=False).last_hidden_state
        held[quantization] = torch.cuda.memory_allocated() - before
        hidden.float().sum().backward()
        del model, hidden
    assert held["nf4"] <= 1.2 * held["none"]
    assert held["int8"] <= 1.2 * held["none"]


@pytest.mark.parametrize("quantization", ["none", "nf4", "int8"])
def test_memory_that_runs_out_while_loading_is_recognised(
    tmp_path: Path, quantization: str
) -> None:
    folder = make_tiny_model(tmp_path / "model", layers=8, hidden=1024)
    value = model_value(folder, quantization=quantization, dtype="bfloat16")
    clean()
    with at_most(torch.cuda.memory_reserved() + 24 * MIB):
        with pytest.raises(Exception) as caught:
            load_base(make_context(tmp_path, Recorder()), value)
        code = failure(caught.value, "Train", tmp_path)["code"]
        del caught
    assert code == "out_of_memory"


def test_a_step_that_does_not_fit_is_repeated_with_less(tmp_path: Path) -> None:
    """With the losses of a run that had enough."""
    make_tiny_model(tmp_path / "model", layers=4, hidden=512)
    inputs = inputs_of(tmp_path, "float32", rows=128)
    settings = settings_of(batch_size=64, max_steps=3, learning_rate=1e-4)
    free, capped = Recorder(), Recorder()
    clean()
    train_adapter(make_context(tmp_path / "free", free), inputs, settings)
    peak = torch.cuda.max_memory_reserved()
    clean()
    with at_most(int(0.7 * peak)):
        train_adapter(make_context(tmp_path / "capped", capped), inputs, settings)
    assert capped.named("MemoryRecovered")
    assert capped.losses() == pytest.approx(free.losses(), rel=1e-3)


def test_a_probe_measures_in_its_own_process(tmp_path: Path) -> None:
    """Where CUDA is not initialised yet, and with what a run would hold beside the tensors."""
    make_tiny_model(tmp_path / "model")
    (tmp_path / "rows.jsonl").write_text(
        '{"prompt": "a", "completion": "b"}\n' * 20, encoding="utf-8"
    )
    nodes = (
        Node("data", "dataset", {"source": "rows.jsonl"}),
        Node("base", "base_model", {"model": "./model", "dtype": "float32"}),
        Node("lora", "lora", {"r": 4}),
        Node("train", "train", {"max_length": 64, "batch_size": 2}),
    )
    wires = (
        Wire("data", "dataset", "train", "dataset"),
        Wire("base", "model", "lora", "model"),
        Wire("lora", "model", "train", "model"),
    )
    total = torch.cuda.mem_get_info()[1]
    facts = Facts(Machine("a GPU", "cuda", total, total, True, 0))
    graph = Graph("small", nodes, wires)
    asked = request("probe", job_of(graph, load_registry(), tmp_path, nodes[-1]), facts)
    done = subprocess.run(
        [sys.executable, "-m", "studio.training.estimate.host"],
        input=json.dumps(asked),
        capture_output=True,
        encoding="utf-8",
        timeout=WAIT_S,
        check=False,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert not [m["error"] for m in lines if "error" in m], done.stderr
    found = next(m["found"] for m in lines if "found" in m)
    assert found["peak"] > 50 * MIB
    assert found["seconds"] > 0


def test_a_merge_that_the_gpu_cannot_hold_is_compared_on_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a training in 4 bits on a small card."""
    inputs = make_inputs(tmp_path)
    inputs["model"]["model"].update(quantization="nf4", dtype="bfloat16")
    value = train_adapter(make_context(tmp_path, Recorder()), inputs, settings_of())
    monkeypatch.setattr(merge_check, "_place", lambda merged: (torch.device("cpu"), "float32"))
    monkeypatch.setattr(merge_check, "roomy_device", lambda merged: torch.device("cpu"))
    merge_adapter(make_context(tmp_path / "merge", Recorder()), value.to_json(), MergeSettings())
