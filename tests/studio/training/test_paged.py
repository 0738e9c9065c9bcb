"""States of paged optimizers after a resume. The driver's paged memory is simulated by marked tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import pytest
import torch
from bitsandbytes.optim.optimizer import Optimizer8bit

from studio.node_settings.train import TrainSettings
from studio.training.loop.optim import build_schedule
from studio.training.saved.snapshot import read_random, restore_optimizer, write_snapshot

LARGE, SMALL = (400, 300), (20, 30)


class Paging:
    """What bitsandbytes does on a GPU: states of at least 100,000 numbers are paged."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.moved: list[int] = []
        self.synchronized = 0
        self.onto_gpu: list[bool] = []
        real = Optimizer8bit.load_state_dict

        def load(own: Any, values: Any, move_to_device: bool = True) -> None:
            self.onto_gpu.append(move_to_device)
            real(own, values, move_to_device)

        monkeypatch.setattr(Optimizer8bit, "load_state_dict", load)
        monkeypatch.setattr(Optimizer8bit, "get_state_buffer", self._buffer)
        monkeypatch.setattr(Optimizer8bit, "prefetch_state", lambda *_: None)
        monkeypatch.setattr(Optimizer8bit, "to_gpu", lambda own: self._to_gpu(own))
        monkeypatch.setattr(torch.cuda, "synchronize", self._synchronize)

    @staticmethod
    def _buffer(optimizer: Any, p: torch.Tensor, dtype: torch.dtype = torch.float32) -> Any:
        buffer: Any = torch.zeros_like(p, dtype=dtype)
        if p.numel() >= 1e5:
            buffer.is_paged = True
        return buffer

    def _to_gpu(self, optimizer: Any) -> None:
        values = [v for state in optimizer.state.values() for v in state.values()]
        tensors = [v for v in values if isinstance(v, torch.Tensor)]
        self.moved += [t.numel() for t in tensors if not getattr(t, "is_paged", False)]

    def _synchronize(self) -> None:
        self.synchronized += 1


class Trained:
    """Two matrices, one of them large, with a paged optimizer."""

    def __init__(self, bits: int) -> None:
        torch.manual_seed(0)
        self.model = torch.nn.ParameterDict(
            {"large": torch.randn(*LARGE) / 10, "small": torch.randn(*SMALL) / 10}
        )
        kind = bnb.optim.AdamW8bit if bits == 8 else bnb.optim.AdamW32bit
        self.optimizer = kind(list(self.model.parameters()), lr=1e-2, is_paged=True)
        self.schedule = build_schedule(self.optimizer, TrainSettings(), 10)

    def step(self, seed: int) -> None:
        torch.manual_seed(seed)
        for p in self.model.parameters():
            p.grad = torch.randn_like(p)
        self.optimizer.step()

    def save(self, folder: Path) -> None:
        folder.mkdir()
        write_snapshot(folder, self.model, self.optimizer, self.schedule, read_random(), {})

    def states(self) -> dict[int, list[Any]]:
        found: dict[int, list[Any]] = {}
        for p, state in self.optimizer.state.items():
            found[p.numel()] = [state["state1"], state["state2"]]
        return found


@pytest.mark.parametrize("bits", [32, 8])
def test_large_states_are_paged_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bits: int
) -> None:
    """They never pass through the memory of the GPU, and the next step is that of the uninterrupted run."""
    paging = Paging(monkeypatch)
    first = Trained(bits)
    first.step(1)
    first.save(tmp_path / "snapshot")
    assert paging.synchronized == 1  # before the states are read
    weights = {name: p.detach().clone() for name, p in first.model.items()}
    first.step(2)

    second = Trained(bits)
    with torch.no_grad():
        for name, p in second.model.items():
            p.copy_(weights[name])
    paging.moved.clear()
    restore_optimizer(tmp_path / "snapshot", second.optimizer, second.schedule)
    large, small = LARGE[0] * LARGE[1], SMALL[0] * SMALL[1]
    assert all(getattr(s, "is_paged", False) for s in second.states()[large])
    assert not any(getattr(s, "is_paged", False) for s in second.states()[small])
    assert paging.onto_gpu == [False]
    assert paging.moved
    assert large not in paging.moved
    second.step(2)
    for name, p in first.model.items():
        assert torch.equal(p, second.model[name])
