"""Running a plan: ``execute(plan, folder, emit, control, registry)``, an ordinary function.

It can be called from a test, the terminal, the run host or a QThread. Only here does an exception
become an event, and every call ends with exactly one ``RunFinished``. It knows no node type by name
and must not import torch: the steps do.

The result of a step is valid once its record has been written. Until then it is in a staging
folder, which the next start removes.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from studio.errors import Stopped, StudioError
from studio.events import Event, event
from studio.export_folder.llama_cpp import can_be_made_now
from studio.graph.context import StepContext
from studio.graph.node_type import NodeType
from studio.graph.registry import Registry
from studio.graph.schema import Settings
from studio.runs.control import Control
from studio.runs.failures import as_studio_error, failure
from studio.runs.fingerprint import step_fingerprint
from studio.runs.folder import RunFolder, file_name
from studio.runs.plan import Plan, Step, input_fingerprints
from studio.runs.records import Hit, Record, files_of, find_hit, write_record
from studio.runs.sampler import MemorySampler
from studio.system import busy_files, device

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
    only_here: set[str] = field(default_factory=set)  # nodes whose result no other run may reuse
    current: Step | None = None


def execute(plan: Plan, folder: RunFolder, emit: Emit, control: Control, registry: Registry) -> str:
    """Run the steps without a result; returns ``completed``, ``stopped``, ``suspended`` or
    ``failed``.

    Raises ``OSError`` only if not even the end of the run can be written.
    """
    started = time.monotonic()
    run = _Execution(plan, folder, emit, control, registry, folder.has_started())
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
    nodes = [
        {"id": s.node, "type": s.type, "title": s.title, "stages": _stages(run, s)}
        for s in run.plan.steps
    ]
    run.emit(
        event(
            "RunStarted",
            run=run.folder.id,
            name=run.plan.name,
            resumed=run.resumed,
            nodes=nodes,
            device=device.current().label,
            pid=os.getpid(),
            threads=threads(),
        )
    )
    why = device.why_unused()
    if why is not None and any(s.type == "base_model" for s in run.plan.steps):
        sentence = why.sentence[:1].upper() + why.sentence[1:]
        run.emit(event("Notice", level="warning", sentence=sentence, hint=why.hint))


def _stages(run: _Execution, step: Step) -> list[str]:
    node_type = run.registry.node_type(step.type)
    return list(node_type.stages) if node_type is not None else []


def threads() -> int | None:
    """The number of threads that the numeric libraries are set to."""
    value = os.environ.get("OMP_NUM_THREADS", "")
    return int(value) if value.isdigit() and int(value) > 0 else None


def _run_steps(run: _Execution) -> None:
    run.hits = {s.node: _hit(run, s) for s in run.plan.steps}
    needed = needed_steps(run.plan, run.hits)
    expected = run.folder.forecast()
    phases = {s.node: expected.get(s.node) for s in run.plan.steps if s.node in needed}
    run.emit(event("Forecast", phases=phases))
    for index, step in enumerate(run.plan.steps, start=1):
        if run.control.stop_requested():
            raise Stopped(step.node)
        run.current = step
        count = len(run.plan.steps)
        run.emit(event("StepStarted", step.node, title=step.title, index=index, count=count))
        hit = run.hits[step.node]
        if hit.kind == "ready" and hit.record is not None:
            record = hit.record
            run.outputs[step.node] = record.outputs
            _tell_end(run, step, record, cached=True)
        elif step.node in needed:
            record = _run_step(run, step)
            run.outputs[step.node] = record.outputs
            _tell_end(run, step, record, cached=False)
        else:
            # No step that still has to run needs it, and the results made from it exist.
            record = None
            run.emit(event("StepFinished", step.node, seconds=0.0, cached=True, outputs={}))
        if record is not None and not record.reusable:
            run.only_here.add(step.node)
        run.current = None


def _hit(run: _Execution, step: Step) -> Hit:
    """The record to reuse, unless a later step would miss an output in it, or it is of an earlier run whose
    result would be another one on this computer, or was not proven for lack of a program that is here now. A
    resumed run keeps its own results."""
    hit = find_hit(run.folder, step)
    node_type = run.registry.node_type(step.type)
    if hit.record is None or node_type is None:
        return hit
    own = (run.folder.steps / f"{step.fingerprint}.json").exists()
    if not own:
        settings = node_type.settings.model_validate(dict(step.settings))
        if not node_type.is_current(settings, hit.record.outputs):
            return Hit("none")
        if any(map(can_be_made_now, hit.record.checks)):
            return Hit("none")
    return hit if all(p.name in hit.record.outputs for p in node_type.outputs) else Hit("none")


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


def _tell_end(run: _Execution, step: Step, record: Record, *, cached: bool) -> None:
    for evaluation in record.evaluations if cached else ():
        run.emit(event("Evaluation", step.node, **evaluation))
    for check in record.checks if cached else ():
        run.emit(event("ExportChecked", step.node, **check))
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


def _run_step(run: _Execution, step: Step) -> Record:
    """Run a step and commit its result; raises the errors of the step, or ``Stopped``."""
    plan, folder, control = run.plan, run.folder, run.control
    node_type = _type_of(step, run.registry)
    _check_unchanged(step, node_type, plan)
    inputs = {port: run.outputs[node][out] for port, (node, out) in step.inputs.items()}
    staging = busy_files.free_name(folder.staging(step.node))
    staging.mkdir(parents=True)
    folder.checkpoints(step.node).mkdir(parents=True, exist_ok=True)
    context = StepContext(
        node=step.node,
        title=step.title,
        folder=staging,
        checkpoints=folder.checkpoints(step.node),
        project_dir=plan.project_dir,
        registry=run.registry,
        emit_event=run.emit,
        stop_requested=control.stop_requested,
        take_command=control.take,
        threads=threads(),
        project_name=plan.name,
        other_inputs=lambda: _inputs_of_others(run, step),
        input_titles=_input_titles(plan, step),
    )
    settings = node_type.settings.model_validate(dict(step.settings))
    started, clock = time.time(), time.monotonic()
    outputs = _checked(node_type, node_type.run(context, inputs, settings))
    seconds = round(time.monotonic() - clock, 3)
    if control.given_up:
        raise Stopped(step.node)
    made = _commit(step, folder, outputs, context, started)
    sources = {source for source, _ in step.inputs.values()}
    record = replace(
        made,
        seconds=seconds,
        evaluations=tuple(map(_fields, context.evaluations)),
        checks=tuple(map(_fields, context.checks)),
        reusable=context.reusable and not sources & run.only_here,
    )
    write_record(folder, record)
    return record


def _inputs_of_others(run: _Execution, step: Step) -> list[Mapping[str, Any]]:
    """The inputs of the other steps, as far as these exist already."""
    found: list[Mapping[str, Any]] = []
    for other in run.plan.steps:
        inputs = {
            port: run.outputs[node][out]
            for port, (node, out) in other.inputs.items()
            if out in run.outputs.get(node, {})
        }
        if other.node != step.node and inputs:
            found.append(inputs)
    return found


def _input_titles(plan: Plan, step: Step) -> dict[str, str]:
    titles = {s.node: s.title for s in plan.steps}
    return {port: titles[node] for port, (node, _) in step.inputs.items()}


def _fields(event: Event) -> dict[str, Any]:
    return {k: v for k, v in event.to_json().items() if k not in ("event", "time", "node")}


def _type_of(step: Step, registry: Registry) -> NodeType[Settings]:
    found = registry.node_type(step.type)
    if found is None:
        raise StudioError(
            f"the node type “{step.type}” is not installed.",
            hint="Install the extension it comes from, then resume.",
            code="unknown_type",
        )
    if found.version != step.version:
        raise StudioError(
            f"this run was planned with version {step.version} of “{step.type}”, "
            f"and version {found.version} is installed.",
            hint="Run the project again instead of resuming this run.",
            code="other_version",
        )
    return found


def _check_unchanged(step: Step, node_type: NodeType[Settings], plan: Plan) -> None:
    """Raise if a file has changed since the plan was made: the result would be cached under the old
    fingerprint."""
    inputs = input_fingerprints(step.inputs, {s.node: s for s in plan.steps})
    now = step_fingerprint(node_type, step.settings, inputs, plan.project_dir)
    if now != step.fingerprint:
        raise StudioError(
            "its files or settings have changed since this run was planned.",
            hint="Run the project again instead of resuming this run.",
            code="changed_since_plan",
        )


def _checked(node_type: NodeType[Settings], outputs: Mapping[str, Any]) -> dict[str, Any]:
    """The outputs as JSON data; raises ``TypeError`` or ``ValueError`` for a faulty node type."""
    missing = [p.name for p in node_type.outputs if p.name not in outputs]
    if missing:
        raise ValueError(f"{node_type.id} returned no output named {', '.join(missing)}")
    data: dict[str, Any] = json.loads(json.dumps(dict(outputs), allow_nan=False))
    return data


def _commit(
    step: Step,
    folder: RunFolder,
    outputs: dict[str, Any],
    context: StepContext,
    started: float,
) -> Record:
    """Move the result to its final place; it is valid once the record has been written."""
    final = folder.artifacts / f"{file_name(step.node)}-{step.fingerprint[:8]}"
    final = _put_in_place(context.folder, final)
    outputs = moved(outputs, context.folder, final)
    artifacts = moved(context.artifacts, context.folder, final)
    for artifact in artifacts:
        artifact["path"] = os.path.abspath(artifact["path"])
    files = files_of(final, outputs, artifacts, started)
    return Record(step.node, step.type, step.fingerprint, outputs, tuple(artifacts), files, 0.0)


def _put_in_place(staging: Path, final: Path) -> Path:
    """Rename the staging folder and return its new path. An earlier result whose files were damaged is removed, or
    keeps its name if it is in use; an empty result leaves no folder."""
    if final.exists():
        old = staging.with_name(f"{staging.name}-old-{secrets.token_hex(4)}")
        try:
            busy_files.rename(final, old)
        except OSError as error:
            if not busy_files.is_busy(error):
                raise
            final = busy_files.free_name(final)
        else:
            busy_files.tidy(old)
    if any(staging.iterdir()):
        busy_files.move_folder(staging, final)
    else:
        busy_files.patiently(staging.rmdir)
    return final


def moved(data: Any, staging: Path, final: Path) -> Any:
    """The same JSON data with paths in the staging folder replaced by the final ones."""
    if isinstance(data, Mapping):
        return {k: moved(v, staging, final) for k, v in data.items()}
    if isinstance(data, (list, tuple)):
        return [moved(v, staging, final) for v in data]
    if isinstance(data, Path):
        data = str(data)
    if isinstance(data, str):
        old = str(staging)
        if data == old:
            return str(final)
        if data.startswith((old + os.sep, old + "/")):
            return str(final) + data[len(old) :]
    return data
