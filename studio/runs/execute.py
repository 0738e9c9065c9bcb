"""Running a plan: ``execute(plan, folder, emit, control, registry)``, an ordinary function.

It can be called from a test, the terminal, the run host or a QThread. Only here does an exception
become an event, and every call ends with exactly one ``RunFinished``. It knows no node type by name
and must not import torch: the steps do.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from studio.errors import Stopped
from studio.events import Event, event
from studio.graph.registry import Registry
from studio.runs.control import Control
from studio.runs.failures import as_studio_error, failure
from studio.runs.folder import RunFolder
from studio.runs.plan import Plan, Step
from studio.runs.records import Hit, Record, find_hit
from studio.runs.sampler import MemorySampler
from studio.runs.step import run_step
from studio.system import hardware

Emit = Callable[[Event], None]
logger = logging.getLogger(__name__)


@dataclass
class _Execution:
    """The state of one call of ``execute``."""

    plan: Plan
    folder: RunFolder
    emit: Emit
    control: Control
    registry: Registry
    resumed: bool
    hits: dict[str, Hit] = field(default_factory=dict)
    outputs: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    current: Step | None = None


def execute(plan: Plan, folder: RunFolder, emit: Emit, control: Control, registry: Registry) -> str:
    """Run the steps without a result; returns ``completed``, ``stopped``, ``suspended`` or
    ``failed``.

    Raises ``OSError`` only if not even the end of the run can be written.
    """
    started = time.monotonic()
    run = _Execution(plan, folder, emit, control, registry, folder.events_path.exists())
    sampler = MemorySampler(emit, lambda: run.current.node if run.current else None)
    try:
        status = _guarded(run, sampler)
    finally:
        if sampler.is_alive():
            sampler.end()
    emit(event("RunFinished", status=status, seconds=round(time.monotonic() - started, 3)))
    return status


def _guarded(run: _Execution, sampler: MemorySampler) -> str:
    """Run the steps; an exception becomes a status and, if it is a failure, an event."""
    try:
        run.folder.remove_staging()
        _tell_start(run)
        sampler.start()
        _run_steps(run)
        return "completed"
    except Stopped:
        status = run.control.stopped_status()
    except KeyboardInterrupt:
        status = "stopped"
    except (Exception, SystemExit) as error:  # a library that calls exit() is a failure too
        status = _failed(run, error)
    run.folder.remove_staging()
    return status


def _failed(run: _Execution, error: BaseException) -> str:
    """Report a failure. After a stop request, errors are caused by the stop (killed helpers)."""
    step = run.current
    title = step.title if step else run.plan.name
    expected = as_studio_error(error, title, run.folder.path)
    if run.control.stop_requested():
        logger.info("after the stop request: %s", error, exc_info=error)
        return run.control.stopped_status()
    if expected is None:
        logger.error("%s failed", title, exc_info=error)
    else:
        logger.info("%s failed: %s", title, expected, exc_info=error)
    # Remove partial results first: on a full disk this makes room for the event.
    run.folder.remove_staging()
    node = (expected.node if expected else None) or (step.node if step else None)
    run.emit(event("StepFailed", node, **failure(error, title, run.folder.path)))
    return "failed"


def _tell_start(run: _Execution) -> None:
    nodes = [{"id": s.node, "type": s.type, "title": s.title} for s in run.plan.steps]
    run.emit(
        event(
            "RunStarted",
            run=run.folder.id,
            name=run.plan.name,
            resumed=run.resumed,
            nodes=nodes,
            device=hardware.describe_device(),
            pid=os.getpid(),
            threads=threads(),
        )
    )


def threads() -> int | None:
    """The number of threads that the numeric libraries are set to."""
    value = os.environ.get("OMP_NUM_THREADS", "")
    return int(value) if value.isdigit() and int(value) > 0 else None


def _run_steps(run: _Execution) -> None:
    run.hits = {s.node: find_hit(run.folder, s) for s in run.plan.steps}
    needed = needed_steps(run.plan, run.hits)
    for index, step in enumerate(run.plan.steps, start=1):
        if run.control.stop_requested():
            raise Stopped(step.node)
        run.current = step
        count = len(run.plan.steps)
        run.emit(event("StepStarted", step.node, title=step.title, index=index, count=count))
        hit = run.hits[step.node]
        if hit.kind == "ready" and hit.record is not None:
            run.outputs[step.node] = hit.record.outputs
            _tell_end(run, step, hit.record, cached=True)
        elif step.node in needed:
            record = _fresh(run, step)
            run.outputs[step.node] = record.outputs
            _tell_end(run, step, record, cached=False)
        else:
            # No step that still has to run needs it, and the results made from it exist.
            run.emit(event("StepFinished", step.node, seconds=0.0, cached=True, outputs={}))
        run.current = None


def needed_steps(plan: Plan, hits: Mapping[str, Hit]) -> set[str]:
    """The steps that have to run: those without a result, and the steps they depend on.

    Results are the ends of the graph, and steps whose files were there and have been removed. A
    step does not run if everything made from it is reused.
    """
    used = {source for step in plan.steps for source, _ in step.inputs.values()}
    needed: set[str] = set()
    for step in reversed(plan.steps):
        if hits[step.node].kind == "ready":
            continue
        if step.node not in used or hits[step.node].kind == "gone" or step.node in needed:
            needed.add(step.node)
            needed.update(source for source, _ in step.inputs.values())
    return {n for n in needed if hits[n].kind != "ready"}


def _fresh(run: _Execution, step: Step) -> Record:
    inputs = {port: run.outputs[node][out] for port, (node, out) in step.inputs.items()}
    return run_step(
        step, inputs, run.plan, run.folder, run.emit, run.control, run.registry, threads()
    )


def _tell_end(run: _Execution, step: Step, record: Record, *, cached: bool) -> None:
    for evaluation in record.evaluations if cached else ():
        run.emit(event("Evaluation", step.node, **evaluation))
    for artifact in record.artifacts:
        run.emit(event("ArtifactSaved", step.node, **{**artifact, "cached": cached}))
    seconds = 0.0 if cached else record.seconds
    run.emit(
        event(
            "StepFinished",
            step.node,
            seconds=seconds,
            cached=cached,
            outputs=dict(record.outputs),
        )
    )
