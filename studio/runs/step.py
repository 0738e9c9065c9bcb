"""Running one step: staging folder, the node type's ``run``, commit, record.

A result is valid once its record has been written. Until then it is in a staging folder, which the
next start removes. Errors are passed on; ``execute`` turns them into events.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from studio.errors import Stopped, StudioError
from studio.events import Event
from studio.graph.context import StepContext
from studio.graph.node_type import NodeType
from studio.graph.registry import Registry
from studio.graph.schema import Settings
from studio.runs.control import Control
from studio.runs.fingerprint import step_fingerprint
from studio.runs.folder import RunFolder, file_name
from studio.runs.plan import Plan, Step, input_fingerprints
from studio.runs.records import Record, files_of, write_record


def run_step(
    step: Step,
    inputs: Mapping[str, Any],
    plan: Plan,
    folder: RunFolder,
    emit: Callable[[Event], None],
    control: Control,
    registry: Registry,
    threads: int | None,
) -> Record:
    """Run a step and commit its result; raises the errors of the step, or ``Stopped``."""
    node_type = _type_of(step, registry)
    _check_unchanged(step, node_type, plan)
    staging = folder.staging(step.node)
    staging.mkdir(parents=True)
    folder.checkpoints(step.node).mkdir(parents=True, exist_ok=True)
    context = StepContext(
        node=step.node,
        title=step.title,
        folder=staging,
        checkpoints=folder.checkpoints(step.node),
        project_dir=plan.project_dir,
        registry=registry,
        emit_event=emit,
        stop_requested=control.stop_requested,
        take_command=control.take,
        threads=threads,
        project_name=plan.name,
    )
    settings = node_type.settings.model_validate(dict(step.settings))
    started, clock = time.time(), time.monotonic()
    outputs = _checked(node_type, node_type.run(context, inputs, settings))
    seconds = round(time.monotonic() - clock, 3)
    if control.given_up:
        raise Stopped(step.node)
    made = _commit(step, folder, outputs, context, started)
    record = replace(made, seconds=seconds, evaluations=tuple(map(_fields, context.evaluations)))
    write_record(folder, record)
    return record


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
    _put_in_place(context.folder, final)
    outputs = moved(outputs, context.folder, final)
    artifacts = moved(context.artifacts, context.folder, final)
    for artifact in artifacts:
        artifact["path"] = os.path.abspath(artifact["path"])
    files = files_of(final, outputs, artifacts, started)
    return Record(step.node, step.type, step.fingerprint, outputs, tuple(artifacts), files, 0.0)


def _put_in_place(staging: Path, final: Path) -> None:
    """Rename the staging folder; an earlier result whose files were damaged is removed, and an
    empty result leaves no folder."""
    if final.exists():
        old = staging.with_name(f"{staging.name}-old-{secrets.token_hex(4)}")
        os.rename(final, old)
        shutil.rmtree(old, ignore_errors=True)
    if any(staging.iterdir()):
        os.rename(staging, final)
    else:
        staging.rmdir()


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
