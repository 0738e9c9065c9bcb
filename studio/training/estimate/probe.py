"""Probe: two real steps on the longest batch, to measure memory and the time of the second step.

The model is loaded as in a run, with the run's adapter, loss, precision and optimizer. The tokens
are random, since memory and time do not depend on them. Writes no files.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from studio.estimate.activations import Mode
from studio.estimate.machine import FRAMEWORK
from studio.estimate.memory import Batch
from studio.node_settings.train import TrainSettings
from studio.system import device as device_choice
from studio.training.batch.attention import use_row_attention
from studio.training.fused.swap import fuse
from studio.training.loop.optim import build_optimizer
from studio.training.loop.sft import choose_head, summed_loss
from studio.training.tokens.masks import IGNORED

STEPS = 2


@dataclass(frozen=True)
class Probed:
    """Measured peak in bytes (on a CPU those of the process), the seconds of the second step, and its tokens."""

    peak: int
    seconds: float
    tokens: int


def run_probe(
    model: Any,
    mode: Mode,
    batch: Batch,
    settings: TrainSettings,
    before_step: Callable[[int], None],
    peak: Peak | None = None,
) -> Probed:
    """Train two steps of the model with its adapter; ``before_step`` may raise to stop."""
    device = next(model.parameters()).device
    peak = peak or Peak(device)
    model.train()
    if mode.checkpointing:
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if settings.fused:
        fuse(model)
    rows = _batch(batch, int(model.get_input_embeddings().weight.shape[0]), device)
    if mode.joined:
        use_row_attention(model)
        rows = _joined(rows)
    optimizer = build_optimizer(model, settings)
    head = choose_head(model, rows)
    seconds = 0.0
    for step in range(STEPS):
        before_step(step)
        began = time.perf_counter()
        for _ in range(2 if batch.accumulated else 1):
            with _autocast(mode, device):
                loss = summed_loss(model, rows, head)
            loss.backward()
            found = loss.detach()
            del loss  # its graph would stay allocated during the next pass, unlike in a training
        optimizer.step()
        optimizer.zero_grad()
        float(found)  # synchronizes with the GPU
        seconds = time.perf_counter() - began
    return Probed(peak.bytes(), seconds, batch.tokens * (2 if batch.accumulated else 1))


def _batch(batch: Batch, vocabulary: int, device: torch.device) -> dict[str, Any]:
    """Rows of the maximum length; the last tokens of each have labels."""
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(0, vocabulary, (batch.rows, batch.length), generator=draw)
    wanted = torch.full_like(ids, IGNORED)
    count = max(1, min(batch.length - 1, batch.labels // batch.rows))
    wanted[:, -count:] = ids[:, -count:]
    mask = torch.ones_like(ids)
    mask[1:, -1:] = 0  # like padded rows
    rows = {"input_ids": ids, "attention_mask": mask, "shift_labels": wanted}
    return {name: tensor.to(device) for name, tensor in rows.items()}


def _joined(rows: dict[str, Any]) -> dict[str, Any]:
    """The rows in one sequence, as ``concatenate_rows`` makes it."""
    count, length = rows["input_ids"].shape
    places = torch.arange(length, device=rows["input_ids"].device).repeat(count)
    return {
        "input_ids": rows["input_ids"].reshape(1, -1),
        "position_ids": places[None],
        "shift_labels": rows["shift_labels"].reshape(1, -1),
        "lengths": (length,) * count,
    }


def _autocast(mode: Mode, device: torch.device) -> AbstractContextManager[Any]:
    if not mode.autocast:
        return nullcontext()
    half = torch.float16 if device.type == "cuda" and not _bf16() else torch.bfloat16
    return torch.autocast(device.type, dtype=half)


def _bf16() -> bool:
    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


class Peak:
    """The largest memory of this process on a device since ``reset``: on a CPU its resident memory, on a
    GPU what torch reserves, its context and the workspaces of its libraries.

    What other programs hold on the GPU is not part of it: the estimate compares the peak with the memory
    that they leave free. It is read before this process creates its context there. Not measured on a GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._others = 0
        if device.type == "cuda":
            before = _used_by_all(device)
            torch.cuda.init()  # statistics of memory raise without
            torch.zeros(1, device=device)  # creates the context
            self._others = before if before is not None else self._guessed()
        self.reset()

    def _guessed(self) -> int:
        """Where the driver has no readings: what is used besides a context of the usual size."""
        free, total = torch.cuda.mem_get_info(self.device)
        return max(0, int(total - free - FRAMEWORK["cuda"]))

    def reset(self) -> None:
        """Start measuring."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            return
        try:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        except OSError:
            return  # on other systems the process's overall peak is used

    def bytes(self) -> int:
        """The peak."""
        if self.device.type != "cuda":
            return _resident_peak()
        used = _used_by_all(self.device)
        if used is None:
            free, total = torch.cuda.mem_get_info(self.device)
            used = int(total - free)
        besides = max(0, used - int(torch.cuda.memory_reserved(self.device)) - self._others)
        return int(torch.cuda.max_memory_reserved(self.device)) + besides


def _used_by_all(device: torch.device) -> int | None:
    """The memory that all programs use on the GPU, as its driver reports it: without a context of this
    process. ``None`` where it does not, and outside the process of a probe."""
    chosen = device_choice.chosen()
    return chosen.used() if chosen is not None and device.type == chosen.kind else None


def _resident_peak() -> int:
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        peak = next(line for line in lines if line.startswith("VmHWM"))
        return int(peak.split()[1]) * 1024
    except (OSError, StopIteration):
        info = psutil.Process().memory_info()
        return int(getattr(info, "peak_wset", info.rss))
