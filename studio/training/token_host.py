"""The process that turns rows into tokens for whoever shows them.

``python -m studio.training.token_host`` reads one JSON object from standard input: ``request`` (a
``TokenRequest``), ``first`` and ``limit`` (rows; ``limit`` may be null), ``runs`` (where finished
steps may lie) and ``work`` (a folder for what has to be made). It answers in JSON lines, one key
each: ``begin``, then ``row`` after ``row``, or ``error``; ``progress`` and ``notice`` in between.
Outside ``work`` it writes to the caches of models only.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from studio.errors import StudioError
from studio.graph.registry import Registry, load_registry
from studio.runs.context import StepContext
from studio.runs.events import Event
from studio.runs.execute import needed_steps
from studio.runs.failures import as_studio_error
from studio.runs.folder import RunFolder
from studio.runs.plan import Plan, Step
from studio.runs.records import find_hit
from studio.runs.token_request import TokenRequest, request_from_json
from studio.values import DatasetValue

ROWS_AT_ONCE = 64


def main() -> int:
    """Answer the request on standard input; returns the exit code."""
    asked = json.load(sys.stdin)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))  # helpers end too
    request = request_from_json(asked["request"])
    try:
        serve(request, asked)
    except KeyboardInterrupt:
        return 3
    except Exception as error:
        expected = as_studio_error(error, request.title, Path(asked["work"]))
        if expected is None:
            raise
        tell(error=expected.problem().to_json())
        return 1
    return 0


def tell(**message: Any) -> None:
    """One JSON line."""
    print(json.dumps(message), flush=True)


def serve(request: TokenRequest, asked: Mapping[str, Any]) -> None:
    """Prepare data and tokenizer as a run would, then tell the rows that were asked for."""
    registry = load_registry()
    runs, work = RunFolder(Path(asked["runs"]) / ".tokens"), Path(asked["work"])
    outputs = _data(request.plan, runs, work, registry)
    dataset = DatasetValue.model_validate(outputs[request.dataset][request.output])

    from studio.training.quiet import quiet_libraries
    from studio.training.source_order import SourceOrder

    quiet_libraries()
    order = SourceOrder(dataset, _split_seed(request))
    first = int(asked["first"])
    if first > order.count:
        raise _no_such_row(first, order.count)
    folder = _model_folder(request, runs, work, registry)
    last = min(order.count, first - 1 + int(asked["limit"] or order.count))
    _rows(request, order, folder, first, last)


def _rows(request: TokenRequest, order: Any, folder: Path, first: int, last: int) -> None:
    from studio.training.data import Encoder, load_tokenizer
    from studio.training.token_view import view_rows

    encoder = Encoder(load_tokenizer(folder), request.max_length, request.train_on)
    tell(begin={"tokenizer": str(folder), "rows": order.count, "max_length": request.max_length})
    for start in range(first, last + 1, ROWS_AT_ONCE):
        rows = order.rows(start, min(last, start + ROWS_AT_ONCE - 1))
        for row in view_rows(request.title, encoder, rows):
            tell(row=row.to_json())


def _no_such_row(number: int, count: int) -> StudioError:
    return StudioError(
        f"There is no row {number}: the data has {count} {'row' if count == 1 else 'rows'}.",
        code="no_such_row",
    )


def _split_seed(request: TokenRequest) -> int | None:
    step = request.plan.step(request.dataset)
    return int(step.settings["seed"]) if step.type == "dataset" else None


def _data(plan: Plan, runs: RunFolder, work: Path, registry: Registry) -> dict[str, Any]:
    """The outputs of the plan's steps: kept from a run where they are, else made."""
    hits = {s.node: find_hit(runs, s) for s in plan.steps}
    needed = needed_steps(plan, hits)
    outputs: dict[str, Any] = {n: h.record.outputs for n, h in hits.items() if h.record is not None}
    for step in (s for s in plan.steps if s.node in needed):
        inputs = {port: outputs[node][out] for port, (node, out) in step.inputs.items()}
        node_type = registry.nodes[step.type]
        settings = node_type.settings.model_validate(dict(step.settings))
        context = _context(step, plan, work, registry)
        outputs[step.node] = node_type.run(context, inputs, settings)
    return outputs


def _model_folder(request: TokenRequest, runs: RunFolder, work: Path, registry: Registry) -> Path:
    """The local folder of the base model, found as its step finds it; weights are not read."""
    from studio.training.base_model import check_folder, model_folder

    step = request.base
    hit = find_hit(runs, step) if step.fingerprint else None
    if hit is not None and hit.kind == "ready" and hit.record is not None:
        return Path(hit.record.outputs["model"]["path"])
    context = _context(step, request.plan, work, registry)
    settings = registry.nodes[step.type].settings.model_validate(dict(step.settings))
    folder, source, _ = model_folder(context, settings)
    check_folder(context, folder, source)
    return folder.resolve()


def _context(step: Step, plan: Plan, work: Path, registry: Registry) -> StepContext:
    folder = work / f"step-{plan.steps.index(step) if step in plan.steps else 'base'}"
    folder.mkdir()
    return StepContext(
        node=step.node, title=step.title, folder=folder, checkpoints=work / "checkpoints",
        project_dir=plan.project_dir, registry=registry, emit_event=_tell_event,
        project_name=plan.name,
    )  # fmt: skip


def _tell_event(event: Event) -> None:
    """What a step says, as far as somebody who waits wants to know it."""
    if event.name == "Notice" and event.get("level") != "info":
        tell(notice=f"{event.get('sentence')} {event.get('hint') or ''}".strip())
    elif event.name == "Phase":
        tell(progress={"phase": event.get("phase"), "title": event.get("title")})
    elif event.name == "Progress" and event.get("total"):
        share = min(1.0, event.get("done") / event.get("total"))
        tell(progress={"phase": event.get("phase"), "share": share})


if __name__ == "__main__":
    sys.exit(main())
