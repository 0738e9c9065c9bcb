"""The device in the process that trains or measures, with a torch that stands for one with a GPU."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from studio.errors import StudioError
from studio.estimate.machine import FRAMEWORK
from studio.system import device, torch_report
from studio.training.estimate import probe
from studio.training.estimate.probe import Peak
from studio.training.model import load
from tests.gpus import ADA, AMPERE, GIB, Card, computer_with

__all__ = ["computer_with"]
MIB = 2**20
CONTEXT = 450 * MIB


class Cuda:
    """The allocator of ``torch.cuda``: ``others`` is what other programs hold on the card."""

    def __init__(self, others: int) -> None:
        self.initialized = False
        self.others = others
        self.reserved = self.peak = 0

    def init(self) -> None:
        self.initialized = True

    def reset_peak_memory_stats(self, where: object) -> None:
        if not self.initialized:
            raise RuntimeError("invalid argument to reset_peak_memory_stats")
        self.peak = self.reserved

    def reserve(self, size: int) -> None:
        """Reserve more memory, or return some."""
        self.reserved += size
        self.peak = max(self.peak, self.reserved)

    @property
    def used(self) -> int:
        """What all programs use."""
        return self.others + self.initialized * CONTEXT + self.reserved

    def mem_get_info(self, where: object) -> tuple[int, int]:
        return 24 * GIB - self.used, 24 * GIB

    def memory_reserved(self, where: object) -> int:
        return self.reserved

    def max_memory_reserved(self, where: object) -> int:
        return self.peak


@pytest.fixture
def gpu_with(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A card on which other programs hold so much memory."""

    def make(others: int, driver: bool = True) -> Cuda:
        cuda = Cuda(others)
        fake = SimpleNamespace(cuda=cuda, zeros=lambda *_, **__: None, device=torch.device)
        monkeypatch.setattr(probe, "torch", fake)
        readings = (lambda where: cuda.used) if driver else (lambda where: None)
        monkeypatch.setattr(probe, "_used_by_all", readings)
        return cuda

    return make


@pytest.mark.parametrize("others", [0, 9 * GIB])
def test_the_peak_is_that_of_the_own_process(gpu_with: Any, others: int) -> None:
    """Context and tensors, whatever other programs hold; initialized before it is measured."""
    cuda = gpu_with(others)
    peak = Peak(torch.device("cuda", 0))
    cuda.reserve(3 * GIB)
    cuda.reserve(-GIB)
    assert peak.bytes() == 3 * GIB + CONTEXT
    peak.reset()
    assert peak.bytes() == 2 * GIB + CONTEXT


def test_without_readings_a_context_of_the_usual_size_is_assumed(gpu_with: Any) -> None:
    cuda = gpu_with(9 * GIB, driver=False)
    peak = Peak(torch.device("cuda", 0))
    cuda.reserve(3 * GIB)
    assert peak.bytes() == 3 * GIB + FRAMEWORK["cuda"]


def test_the_readings_are_those_of_the_chosen_card(computer_with: Any) -> None:
    computer_with(ADA, AMPERE)
    device.use(AMPERE.name)
    assert probe._used_by_all(torch.device("cuda", 0)) == int(0.5 * GIB)
    device.release()
    assert probe._used_by_all(torch.device("cuda", 0)) is None


def test_the_peak_of_a_cpu_is_positive() -> None:
    peak = Peak(torch.device("cpu"))
    assert peak.bytes() > 50 * MIB


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets what torch reports in this process."""

    def put(computer: Any) -> None:
        monkeypatch.setattr(load, "_report", lambda: torch_report.read_torch(computer.torch()))
        monkeypatch.setattr(load.torch.cuda, "current_device", lambda: 0)

    return put


def test_training_is_on_the_device_that_was_shown(computer_with: Any, report: Any) -> None:
    computer = computer_with(ADA, AMPERE)
    report(computer)
    assert device.use(AMPERE.name).label == "NVIDIA RTX A2000, 6 GiB"
    assert load.pick_device() == torch.device("cuda", 0)
    device.release()
    device.use("cpu")
    assert load.pick_device() == torch.device("cpu")


def test_a_card_without_kernels_is_not_used(computer_with: Any, report: Any) -> None:
    report(computer_with(Card("NVIDIA GeForce GTX 1080", 3, 8.0, capability=(6, 1)), ADA))
    assert load.pick_device() == torch.device("cuda", 1)
    report(computer_with(Card("NVIDIA GeForce GTX 1080", 3, 8.0, capability=(6, 1))))
    assert load.pick_device() == torch.device("cpu")


def test_a_gpu_that_fails_after_the_start_ends_the_run(computer_with: Any, report: Any) -> None:
    """Not a training on the CPU under the name of the GPU."""
    computer = computer_with(ADA)
    report(computer)
    device.use("auto")
    computer.supports = (12, 2)
    with pytest.raises(StudioError, match="NVIDIA L4, 22 GiB cannot be used any more") as caught:
        load.pick_device()
    assert "too old" in str(caught.value)
    assert torch_report.known() is None  # asked again the next time


def test_a_thread_of_the_window_hides_no_card(
    computer_with: Any, report: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    computer = computer_with(ADA, AMPERE)
    report(computer)
    current: list[int] = []
    monkeypatch.setattr(load.torch.cuda, "set_device", current.append)
    device.use(AMPERE.name, hide=False)
    assert load.pick_device() == torch.device("cuda", 1)
    assert current == [1]


@pytest.mark.gpu
def test_measuring_begins_in_a_new_process() -> None:
    """A process in which nothing has initialized CUDA."""
    code = (
        "import torch; from studio.training.estimate.probe import Peak; "
        "p = Peak(torch.device('cuda', 0)); x = torch.zeros(2**28, device='cuda'); print(p.bytes())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr
    assert GIB < int(done.stdout) < 3 * GIB


@pytest.mark.gpu
def test_the_card_of_the_driver_is_that_of_torch() -> None:
    """Its readings follow what torch allocates."""
    report = torch_report.read_torch(torch)
    chosen = device.choose(report)
    assert chosen.gpu is not None
    assert chosen.gpu.uuid
    before = chosen.used()
    held = torch.zeros(2**28, device="cuda")
    after = chosen.used()
    if before is not None and after is not None:  # MIG and shared memory have no readings
        assert after - before > 0.9 * held.nbytes
