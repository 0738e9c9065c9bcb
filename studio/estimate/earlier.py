"""Earlier trainings on this machine: the speeds in its run folders.

Only runs on the same device count, on a CPU with the same number of threads. A run is read once,
and again after it has continued. Nothing is written, and damaged runs are skipped.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from studio.errors import StudioError
from studio.estimate.job import Facts, Job, counted_of, is_padded, job_of, method_of, mode_of
from studio.estimate.lengths import padded_tokens, tokens_per_step
from studio.estimate.machine import Machine, machine_key, this_machine
from studio.estimate.pace import Pace
from studio.estimate.rows import rows_of, sources_of
from studio.estimate.timings import Timing, read_timing
from studio.estimate.work import operations_of, probed_paces, way_of
from studio.graph.registry import Registry
from studio.runs.cadence import FORWARD_SHARE
from studio.runs.environment import threads_of
from studio.runs.folder import RunFolder, list_runs
from studio.system.hardware import planned_threads

LOOK_AT_RUNS = 40
GOES_ON_S = 30.0
"Interval in seconds at which a run in progress is read again."


@dataclass(frozen=True)
class _Known:
    """The facts read from a run for a device, and the state of its events file at that time."""

    device: str
    stamp: tuple[int, int]
    read_at: float
    threads: int
    paces: tuple[Pace, ...]


_known: dict[Path, _Known] = {}


def facts_here(
    runs_dir: Path, registry: Registry, leave_core: bool, machine: Machine | None = None
) -> Facts:
    """The facts about this machine for an estimate: memory, and earlier trainings and probes."""
    machine = machine or this_machine()
    threads = planned_threads(leave_core) if machine.device == "cpu" else 0
    paces = (*paces_of(runs_dir, registry, machine, threads), *probed_paces(machine, threads))
    return Facts(machine, paces=paces, threads=threads)


def paces_of(
    runs_dir: Path, registry: Registry, machine: Machine, threads: int
) -> tuple[Pace, ...]:
    """The paces of the newest runs."""
    try:
        runs = _newest(runs_dir, runs_dir.stat().st_mtime_ns)
    except OSError:
        return ()
    return tuple(pace for run in runs for pace in _of_run(run, registry, machine, threads))


@lru_cache(maxsize=4)
def _newest(runs_dir: Path, stamp: int) -> tuple[RunFolder, ...]:
    del stamp  # part of the cache key: read again when a run was added or removed
    return tuple(list_runs(runs_dir)[:LOOK_AT_RUNS])


def _of_run(
    folder: RunFolder, registry: Registry, machine: Machine, threads: int
) -> tuple[Pace, ...]:
    try:
        events = folder.events_path.stat()
    except OSError:
        return ()
    stamp, now = (events.st_mtime_ns, events.st_size), time.monotonic()
    known = _known.get(folder.path)
    again = known is not None and known.stamp != stamp and _may_read_again(folder, known, now)
    if known is None or known.device != machine.name or again:
        known = _Known(machine.name, stamp, now, *_read(folder, registry, machine))
        _known[folder.path] = known
    same = machine.device != "cpu" or known.threads == threads
    return known.paces if same else ()


def _may_read_again(folder: RunFolder, known: _Known, now: float) -> bool:
    return now - known.read_at > GOES_ON_S or not folder.is_running()


def _read(folder: RunFolder, registry: Registry, machine: Machine) -> tuple[int, tuple[Pace, ...]]:
    """The thread count of a run, and the speed of each of its trainings."""
    there = folder.environment()
    name = f"{there.get('device')} / {there.get('cpu')} / {there.get('cpu_count')}"
    if name != machine_key(machine.name):
        return 0, ()
    try:
        threads = int(threads_of(there) or there.get("cpu_count") or 0)
        return threads, tuple(_paces(folder, registry, machine))
    except (OSError, StudioError, KeyError, TypeError, ValueError, ArithmeticError):
        return 0, ()  # a damaged run, or a run of another version


def _paces(folder: RunFolder, registry: Registry, machine: Machine) -> Iterator[Pace]:
    plan, graph = folder.plan(), None
    for step in plan.steps:
        if step.type != "train":
            continue
        timing = read_timing(folder.events_path, step.node)
        if timing is None:
            continue
        graph = graph or folder.graph()
        job = job_of(graph, registry, plan.project_dir, graph.node(step.node))
        pace = _pace(job, machine, timing, folder.events_path.stat().st_mtime)
        if pace is not None:
            yield pace


def _pace(job: Job, machine: Machine, timing: Timing, when: float) -> Pace | None:
    if job.train is None or job.base is None or job.shape is None:
        return None
    counted, _ = counted_of(job, job.shape)
    mode, train = mode_of(job, machine), job.train
    data, _ = rows_of(job, Facts(machine))
    tokens = timing.tokens_per_step
    assumed = tokens_per_step(train, data) if data is not None else tokens
    rows = train.batch_size * train.gradient_accumulation_steps
    row = tokens / rows if train.batching != "packed" or data is None else data.mean
    forward = timing.evaluated * row * FORWARD_SHARE / timing.tokens_per_s
    return Pace(
        "run",
        when,
        str(job.base.model).strip(),
        way_of(vars(mode), method_of(job), train.batching),
        operations_of(job, job.shape, counted, mode, data),
        timing.tokens_per_s,
        tokens / train.gradient_accumulation_steps,
        job.shape.linear_weights,
        sources_of(job),
        counted=tokens / assumed,
        padding=padded_tokens(train, data, is_padded(job)),
        spread=timing.spread,
        evaluating=timing.evaluating_s / forward if forward else None,
        sampling_s=timing.sampling_s / timing.sampled if timing.sampled else None,
        saving=timing.between_s / sum(seconds for _, seconds in timing.steps),
        around_s=timing.before_s + timing.after_s,
    )
