"""From a ``TokenRequest`` to rows and tokenizer: the ``open`` request of the data host.

Results of steps that a run has completed are reused; other steps are run as in a run, in a folder
of the host's own. Weights are never read.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from studio.data.reading.folder import is_hub
from studio.data.window import SourceWindow, open_window
from studio.errors import Stopped, errors_of
from studio.events import Event
from studio.graph.context import StepContext
from studio.graph.registry import Registry
from studio.model.folder_check import refuse_faults
from studio.node_settings.base_model import BaseModelSettings
from studio.preview.protocol import Kind
from studio.runs.execute import needed_steps
from studio.runs.folder import RunFolder
from studio.runs.plan import Plan, Step
from studio.runs.records import find_hit
from studio.runs.token_request import TokenRequest
from studio.training.data.by_number import PreparedRows, Rows, WindowRows
from studio.values import DatasetValue

Say = Callable[[Kind, Mapping[str, Any]], None]


class Opener:
    """Finds or prepares data and model folder; ``stopped`` and ``say`` belong to the current request."""

    def __init__(
        self, registry: Registry, work: Path, stopped: Callable[[], bool], say: Say
    ) -> None:
        self._registry = registry
        self._work = work
        self._stopped = stopped
        self._say = say
        self._folders = itertools.count(1)
        self._title = ""

    def rows(self, request: TokenRequest, runs: Path) -> Rows:
        """The rows of the request's data: read in place if its files are local, otherwise prepared."""
        step = request.plan.step(request.dataset)
        if step.type == "dataset" and not is_hub(str(step.settings["source"])):
            return WindowRows(step.title, self._window(step, request.plan), self._looking)
        outputs = self._outputs(request.plan, RunFolder(runs / ".tokens"))
        dataset = DatasetValue.model_validate(outputs[request.dataset][request.output])
        return PreparedRows(dataset, _split_seed(request))

    def _window(self, step: Step, plan: Plan) -> SourceWindow:
        from studio.node_settings.dataset import DatasetSettings

        settings = DatasetSettings.model_validate(dict(step.settings))
        with errors_of(step.title):
            return open_window(settings, plan.project_dir, self._registry.variants["format"])

    def _outputs(self, plan: Plan, runs: RunFolder) -> dict[str, Any]:
        """The outputs of the plan's steps: reused from a run if available, otherwise computed."""
        hits = {s.node: find_hit(runs, s) for s in plan.steps}
        needed = needed_steps(plan, hits)
        outputs: dict[str, Any] = {
            n: h.record.outputs for n, h in hits.items() if h.record is not None
        }
        for step in (s for s in plan.steps if s.node in needed):
            inputs = {port: outputs[node][out] for port, (node, out) in step.inputs.items()}
            node_type = self._registry.nodes[step.type]
            settings = node_type.settings.model_validate(dict(step.settings))
            with errors_of(step.title):
                outputs[step.node] = node_type.run(self._context(step, plan), inputs, settings)
        return outputs

    def model_folder(self, request: TokenRequest, runs: Path) -> Path:
        """The local folder of the base model, resolved as in its step."""
        from studio.training.model.base_model import check_folder, model_folder

        step = request.base
        hit = find_hit(RunFolder(runs / ".tokens"), step) if step.fingerprint else None
        if hit is not None and hit.kind == "ready" and hit.record is not None:
            folder = Path(hit.record.outputs["model"]["path"])
            with errors_of(step.title):
                refuse_faults(folder)
            return folder
        context = self._context(step, request.plan)
        settings = BaseModelSettings.model_validate(dict(step.settings))
        with errors_of(step.title):
            folder, source, _ = model_folder(context, settings)
            check_folder(context, folder, source)
        return folder.resolve()

    def _context(self, step: Step, plan: Plan) -> StepContext:
        folder = self._work / f"step-{next(self._folders)}"
        folder.mkdir()
        return StepContext(
            node=step.node,
            title=step.title,
            folder=folder,
            checkpoints=self._work / "checkpoints",
            project_dir=plan.project_dir,
            registry=self._registry,
            emit_event=self._tell_event,
            stop_requested=self._stopped,
            project_name=plan.name,
        )

    def _looking(self, done: int, total: int) -> None:
        """Report progress while all rows are read before the first can be shown."""
        if self._stopped():
            raise Stopped
        if done:
            self._say(
                "progress",
                {
                    "title": "Assigning rows to training and validation",
                    "phase": "sides",
                    "done": done,
                    "total": total,
                    "unit": "rows",
                },
            )

    def _tell_event(self, event: Event) -> None:
        """Forward the events of a step that concern a waiting user."""
        if event.name == "Notice" and event.get("level") != "info":
            words = f"{event.get('sentence')} {event.get('hint') or ''}".strip()
            self._say("notice", {"sentence": words})
        elif event.name == "Phase":
            self._title = str(event.get("title") or "")
            self._say("progress", {"title": self._title, "phase": event.get("phase")})
        elif event.name == "Progress" and event.get("total"):
            reported = {n: event.get(n) for n in ("phase", "done", "total", "unit", "eta_s")}
            self._say("progress", {"title": self._title, **reported})


def _split_seed(request: TokenRequest) -> int | None:
    step = request.plan.step(request.dataset)
    return int(step.settings["seed"]) if step.type == "dataset" else None
