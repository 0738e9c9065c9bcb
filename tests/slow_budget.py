"""A pytest plugin that ends the slow proofs within a given time: `--budget SECONDS`.

Why: on an old processor they take hours, and CI has a limit. The machine is measured first; each
proof states what it costs on the reference machine (`@pytest.mark.slow(seconds=40, kind="bf16")`).
What does not fit is left out by name: those marked `order=0` are
chosen first, then the cheapest, and those marked `order=2` last. What takes longer than expected is ended
when the time is over, and named as well. A failed test always fails the run.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

REFERENCE_S = {"": 0.1, "bf16": 0.06, "nf4": 0.04}
"""What each kind's probe takes on the reference machine: 2 cores of an AMD EPYC of 2022."""
DEFAULT_S = 10.0
RESERVE_S = 30.0
"""For the summary and for what a proof that is ended needs to clean up."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--budget", type=float, help="seconds that the chosen tests may take in all")


def pytest_configure(config: pytest.Config) -> None:
    """Without a budget nothing changes."""
    if config.getoption("budget") is not None:
        config.pluginmanager.register(Budget(config.getoption("budget")), "budget")


class Budget:
    """Chooses what fits, and ends what does not."""

    def __init__(self, seconds: float) -> None:
        self.ends_at = time.monotonic() + seconds - min(RESERVE_S, max(0.0, seconds) / 10)
        self.limit_s = float("inf")
        self.factors: dict[str, float] = {}
        self.left_out: list[str] = []

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Keep those marked first and the cheapest, as many as fit."""
        self.factors = {kind: measured(kind) for kind in REFERENCE_S}
        together: dict[str, list[pytest.Item]] = {}
        for item in items:
            together.setdefault(_group(item)[0], []).append(item)
        costs = {group: self._cost(found[0]) for group, found in together.items()}
        left = self.ends_at - time.monotonic()
        items[:] = []
        out: list[pytest.Item] = []
        for group in sorted(together, key=lambda g: (_order(together[g][0]), costs[g])):
            left -= costs[group]
            (items if left >= 0 else out).extend(together[group])
        self.left_out = [f"{i.nodeid} (needs about {costs[_group(i)[0]]:.0f} s)" for i in out]
        if out:
            config.hook.pytest_deselected(items=out)

    def _cost(self, item: pytest.Item) -> float:
        mark = _group(item)[1]
        return float(mark.get("seconds", DEFAULT_S)) * self.factors[mark.get("kind", "")]

    def pytest_timeout_set_timer(self, settings: Any) -> bool:
        """Take the place of pytest-timeout's own alarm: there is only one of them."""
        self.limit_s = settings.timeout or float("inf")
        return True

    def pytest_timeout_cancel_timer(self) -> bool:
        self.limit_s = float("inf")
        return True

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        """Start nothing when the time is over."""
        if time.monotonic() < self.ends_at:
            return None
        self.left_out.append(f"{item.nodeid} (the time was over)")
        return True

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Iterator[None]:
        with self._ended_in_time(item):
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        with self._ended_in_time(item):
            return (yield)

    @contextmanager
    def _ended_in_time(self, item: pytest.Item) -> Iterator[None]:
        """Interrupt a test that hangs, which is a failure, or that is at work when the time is over."""
        left = self.ends_at - time.monotonic()

        def end(*_: object) -> None:
            if self.limit_s < left:
                pytest.fail(f"Timeout: more than {self.limit_s:.0f} s")
            self.left_out.append(f"{item.nodeid} (the time was over)")
            pytest.skip("the time was over")

        before = signal.signal(signal.SIGALRM, end)
        signal.setitimer(signal.ITIMER_REAL, max(0.001, min(left, self.limit_s)))
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """No time for anything is no failure."""
        if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and self.left_out:
            session.exitstatus = pytest.ExitCode.OK

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Name what was left out, and how the machine was measured."""
        speed = ", ".join(f"{kind or 'float32'} {f:.1f}" for kind, f in self.factors.items())
        terminalreporter.section("budget")
        terminalreporter.write_line(f"Times of the reference machine: {speed}")
        terminalreporter.write_line(f"Left out for want of time: {len(self.left_out)}")
        for name in self.left_out:
            terminalreporter.write_line(f"LEFT OUT {name}")


def _group(item: pytest.Item) -> tuple[str, dict[str, Any]]:
    """What is chosen together, and its costs: a mark of a module holds for all its tests at once."""
    for node, mark in item.iter_markers_with_node("slow"):
        if isinstance(node, pytest.Module) and "seconds" in mark.kwargs:
            return node.nodeid, mark.kwargs
        return item.nodeid, mark.kwargs
    return item.nodeid, {}


def _order(item: pytest.Item) -> int:
    """The proofs that a user relies on most are marked ``order=0`` and chosen before cheaper ones;
    random tests are marked ``order=2`` and chosen last."""
    return int(_group(item)[1].get("order", 1))


def measured(kind: str) -> float:
    """How many times longer than the reference machine this one needs, at least 1."""
    work = _work(kind)
    times = []
    for _ in range(4):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return max(1.0, sorted(times[1:])[1] / REFERENCE_S[kind])


def _work(kind: str) -> Callable[[], Any]:
    """What most of a proof's time goes to: products of matrices, and Python between them."""
    import torch

    dtype = torch.float32 if not kind else torch.bfloat16
    x, w = torch.ones(256, 576, dtype=dtype), torch.ones(1536, 576, dtype=dtype)
    if kind == "nf4":
        from bitsandbytes import functional

        packed, state = functional.quantize_4bit(w, quant_type="nf4")
        return lambda: [
            torch.nn.functional.linear(x, functional.dequantize_4bit(packed, state))
            for _ in range(5)
        ]
    small = torch.ones(8)

    def work() -> None:
        for _ in range(5):
            torch.nn.functional.linear(x, w)
        for _ in range(2000):
            small.add(1)

    return work
