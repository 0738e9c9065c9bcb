"""Which attention kernel a GPU would take, simulated on a CPU.

The kernel for rows of different lengths is replaced by attention row by row, and torch's choice of a kernel by that
of an older GPU. Whether the real kernel computes the same is tested in ``test_gpu.py``.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn.attention import varlen
from torch.nn.functional import scaled_dot_product_attention as sdpa
from transformers.integrations import sdpa_attention

from studio.training.batch import attention, batching
from studio.training.loop.train import train_adapter, train_model
from studio.training.model import attention_kernel, load
from studio.training.model.attention_kernel import fused_attention
from tests.studio.training.steps import Recorder, make_context, make_inputs, settings_of

PADDING_FREE = {"batch_size": 4, "max_steps": 3, "learning_rate": 1e-4, "batching": "padding_free"}


def row_by_row(q: Any, k: Any, v: Any, borders: Any, scale: float | None, grouped: bool) -> Any:
    """What the kernel computes."""
    assert q.dtype in (torch.float16, torch.bfloat16)
    assert q.dtype == k.dtype == v.dtype
    lengths = borders.diff().tolist()
    parts = zip(*(t.transpose(0, 1)[None].split(lengths, dim=2) for t in (q, k, v)), strict=True)
    rows = [sdpa(a, b, c, is_causal=True, scale=scale, enable_gqa=grouped) for a, b, c in parts]
    return torch.cat(rows, dim=2)[0].transpose(0, 1)


def newest(
    query: Any,
    key: Any,
    value: Any,
    cu_seq_q: Any,
    cu_seq_k: Any,
    max_q: int,
    max_k: int,
    *,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
    enable_gqa: bool = False,
) -> Any:
    """torch 2.13: the same number of heads, or ``enable_gqa``."""
    assert window_size == (-1, 0)
    assert enable_gqa or query.shape[1] == key.shape[1]
    return row_by_row(query, key, value, cu_seq_q, scale, enable_gqa)


def older(
    query: Any,
    key: Any,
    value: Any,
    cu_seq_q: Any,
    cu_seq_k: Any,
    max_q: int,
    max_k: int,
    is_causal: bool = False,
    scale: float | None = None,
) -> Any:
    """Earlier versions: no window, and fewer key heads without asking."""
    assert is_causal
    return row_by_row(query, key, value, cu_seq_q, scale, query.shape[1] != key.shape[1])


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A GPU that has the kernel, in half precision."""
    monkeypatch.setattr(
        attention,
        "has_varlen",
        lambda q, k, v: q.dtype == k.dtype == v.dtype and q.dtype in attention._HALF,
    )
    monkeypatch.setattr(load, "computes_bfloat16", lambda device: True)
    attention._varlen_arguments.cache_clear()
    attention.USED.clear()
    return monkeypatch


def losses(root: Path, full: bool = False, dtype: str = "bfloat16", **changes: Any) -> list[float]:
    """The losses of a training, with padded batches unless ``changes`` say otherwise."""
    recorder = Recorder()
    inputs = make_inputs(root, 8)
    inputs["model"]["model"]["dtype"] = dtype
    settings = settings_of(**{**PADDING_FREE, **changes})
    context = make_context(root / settings.batching, recorder)
    if full:
        train_model(context, {**inputs, "model": inputs["model"]["model"]}, settings)
    else:
        train_adapter(context, inputs, settings)
    assert not any("Rows are padded" in e.get("sentence") for e in recorder.named("Notice"))
    return recorder.losses()


@pytest.mark.parametrize("kernel", [newest, older])
@pytest.mark.parametrize("full", [False, True])
def test_half_precision_uses_the_kernel_of_each_version_of_torch(
    tmp_path: Path, simulated: pytest.MonkeyPatch, kernel: Any, full: bool
) -> None:
    """Also in full fine-tuning, where only autocast makes queries and keys half precision."""
    simulated.setattr(varlen, "varlen_attn", kernel)
    got = losses(tmp_path, full)
    assert attention.USED["varlen"] >= 2 * 3  # two layers, three steps
    assert (attention.USED["rows"], attention.USED["mask"]) == (0, 0)
    assert got == pytest.approx(losses(tmp_path, full, batching="padded"), rel=2e-2)
    attention._varlen_arguments.cache_clear()


def test_float32_is_computed_row_by_row(tmp_path: Path, simulated: pytest.MonkeyPatch) -> None:
    losses(tmp_path, dtype="float32")
    assert attention.USED["rows"] > 0
    assert attention.USED["varlen"] == 0


def test_a_kernel_that_refuses_shows_in_the_count(
    tmp_path: Path, simulated: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Training goes on with a mask, which only packed rows are given, and the log says why."""

    def refuses(*_: Any, **__: Any) -> Any:
        raise RuntimeError("FlashAttention only supports Ampere GPUs or newer")

    refuses.__signature__ = inspect.signature(newest)  # type: ignore[attr-defined]
    simulated.setattr(varlen, "varlen_attn", refuses)
    with caplog.at_level("INFO", logger=batching.__name__):
        losses(tmp_path, batching="packed")
    assert attention.USED["mask"] == 0  # sdpa of transformers, with its own mask
    assert attention.USED["varlen"] == 1
    assert "only supports Ampere" in caplog.text
    attention._varlen_arguments.cache_clear()


def test_no_kernel_is_expected_of_a_cpu_or_of_other_shapes() -> None:
    q = torch.zeros(1, 4, 6, 16, dtype=torch.bfloat16)
    assert not attention.has_varlen(q, q, q)


class Card(SimpleNamespace):
    """A tensor on a GPU, as far as the choice looks at it."""


@pytest.mark.parametrize(
    ("dtype", "size", "value_size", "flash", "expected"),
    [
        (torch.bfloat16, 64, 64, True, True),
        (torch.float32, 64, 64, True, False),
        (torch.bfloat16, 64, 64, False, False),  # Turing, or a torch without FlashAttention
        (torch.bfloat16, 36, 36, True, False),  # only sdpa pads the heads
        (torch.bfloat16, 192, 128, True, False),
    ],
)
def test_the_kernel_is_used_where_flash_attention_is(
    monkeypatch: pytest.MonkeyPatch,
    dtype: torch.dtype,
    size: int,
    value_size: int,
    flash: bool,
    expected: bool,
) -> None:
    monkeypatch.setattr(torch.backends.cuda, "SDPAParams", lambda *values: values)
    monkeypatch.setattr(torch.backends.cuda, "can_use_flash_attention", lambda _: flash)
    q = Card(dtype=dtype, shape=(1, 4, 6, size), is_cuda=True)
    v = Card(dtype=dtype, shape=(1, 2, 6, value_size), is_cuda=True)
    assert attention.has_varlen(q, q, v) is expected  # type: ignore[arg-type]


# ------------------------------------------------------------------ fewer key heads


@pytest.mark.parametrize("repeated", [False, True])
def test_keys_are_repeated_where_no_fused_kernel_takes_fewer(
    monkeypatch: pytest.MonkeyPatch, repeated: bool
) -> None:
    """The same output and gradients; the kernel with full scores is never asked for."""
    calls: list[tuple[int, bool]] = []

    def watched(query: Any, key: Any, value: Any, *, enable_gqa: bool = False, **more: Any) -> Any:
        calls.append((key.shape[1], enable_gqa))
        return sdpa(query, key, value, enable_gqa=enable_gqa, **more)

    monkeypatch.setattr(sdpa_attention.torch.nn.functional, "scaled_dot_product_attention", watched)
    monkeypatch.setattr(attention_kernel, "takes_fewer_keys", lambda *_: not repeated)
    module: Any = SimpleNamespace(num_key_value_groups=3, is_causal=True)
    torch.manual_seed(0)
    q = torch.randn(2, 6, 5, 8, requires_grad=True)
    k = torch.randn(2, 2, 5, 8, requires_grad=True)
    got, _ = fused_attention(module, q, k, k, None)
    wanted = sdpa(q, k, k, is_causal=True, enable_gqa=True).transpose(1, 2)
    assert calls == [(6, False) if repeated else (2, True)]
    assert torch.allclose(got, wanted, atol=1e-6)
    for mine, theirs in zip(
        torch.autograd.grad(got.square().sum(), (q, k)),
        torch.autograd.grad(wanted.square().sum(), (q, k)),
        strict=True,
    ):
        assert torch.allclose(mine, theirs, atol=1e-5)


@pytest.mark.parametrize(("choice", "fused"), [(0, False), (1, True), (2, True)])
def test_torch_is_asked_for_its_kernel(
    monkeypatch: pytest.MonkeyPatch, choice: int, fused: bool
) -> None:
    """0 is the one with full scores."""
    asked: list[Any] = []

    def choose(*tensors: Any, **options: Any) -> int:
        asked.append(options)
        return choice

    monkeypatch.setattr(torch, "_fused_sdp_choice", choose)
    q: Any = Card(is_cuda=True)
    assert attention_kernel.takes_fewer_keys(q, q, q, 0.0, True) is fused
    assert asked == [{"enable_gqa": True}]
    assert torch.nn.attention.SDPBackend.MATH.value == 0


def test_a_training_uses_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In padded batches without padding, and row by row."""
    asked: list[int] = []

    def takes(query: Any, *_: Any) -> bool:
        asked.append(query.shape[0])
        return False

    usual = [losses(tmp_path, dtype="float32", batching=b) for b in ("padded", "padding_free")]
    monkeypatch.setattr(attention_kernel, "takes_fewer_keys", takes)
    for number, mode in enumerate(("padded", "padding_free")):
        asked.clear()
        got = losses(tmp_path / "again", dtype="float32", batching=mode, batch_size=1)
        assert asked
        assert len(got) == len(usual[number])
