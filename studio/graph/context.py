"""What a running step may use: its folders, its events, and the stop request.

The engine makes one per step; tests make one with plain functions. Steps never write outside
``folder`` and ``checkpoints`` (except to caches with a commit of their own, and exports to the
folder that the user named), and never print.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from studio.errors import Stopped
from studio.events import Event, event
from studio.graph.node_type import Variant
from studio.graph.registry import Registry
from studio.shown_text import sentence as shown

PROGRESS_EVERY_S = 0.2


@dataclass
class StepContext:
    """The surroundings of one running step.

    ``folder`` is the step's staging folder; it is renamed to its final place when the step ends, and
    paths inside it that occur in outputs and artifacts are rewritten. ``checkpoints`` is the step's
    own folder in the run folder; it survives a stop. ``project_dir`` is where relative paths in
    settings start. ``take_command`` returns and removes the oldest command of a name (``save``,
    ``sample``, ``finish``), or ``None``. A step sets ``reusable`` to False if its result is not what
    the settings describe, for example because a training was finished early: no other run reuses it. ``input_titles``
    names the node that each input comes from, and ``other_inputs`` returns the inputs of the other steps of the run, by
    port, as far as they exist already.
    """

    node: str
    title: str
    folder: Path
    checkpoints: Path
    project_dir: Path
    registry: Registry
    emit_event: Callable[[Event], None]
    stop_requested: Callable[[], bool] = lambda: False
    take_command: Callable[[str], dict[str, Any] | None] = lambda name: None
    threads: int | None = None
    project_name: str = ""
    input_titles: Mapping[str, str] = field(default_factory=dict)
    reusable: bool = True
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    evaluations: list[Event] = field(default_factory=list)
    checks: list[Event] = field(default_factory=list)
    other_inputs: Callable[[], list[Mapping[str, Any]]] = list
    _last_progress: dict[str, float] = field(default_factory=dict)
    _started: dict[str, tuple[float, float]] = field(default_factory=dict)
    _told: set[str] = field(default_factory=set)

    def emit(self, name: str, /, **data: Any) -> None:
        """Send an event of this node."""
        sent = event(name, self.node, **data)
        if name == "Evaluation":  # kept in the step's record, so that a cached step sends it again
            self.evaluations.append(sent)
        elif name == "ExportChecked":
            self.checks.append(sent)
        self.emit_event(sent)

    def check(self) -> None:
        """Raise ``Stopped`` if the user asked for a stop. Call it at least once a second."""
        if self.stop_requested():
            raise Stopped(self.node)

    def phase(self, phase: str, title: str = "") -> None:
        """Begin a new phase of the step; raises ``Stopped`` after a stop request."""
        self.check()
        self._started.pop(phase, None)
        self.emit("Phase", phase=phase, title=title)

    def starts_libraries(self) -> None:
        """Say that the libraries are being imported, which takes seconds, unless they have been."""
        if "torch" not in sys.modules:
            self.phase("start", "Importing PyTorch and its libraries")

    def progress(self, phase: str, done: float, total: float | None, unit: str = "") -> None:
        """Report the progress of a phase (at most five times per second); raises ``Stopped`` after
        a stop request."""
        self.check()
        now = time.monotonic()
        first = self._started.setdefault(phase, (now, done))
        finished = total is not None and done >= total
        if not finished and now - self._last_progress.get(phase, -1.0) < PROGRESS_EVERY_S:
            return
        self._last_progress[phase] = now
        eta = None
        if total and done > first[1] and now > first[0]:
            eta = round((total - done) * (now - first[0]) / (done - first[1]), 1)
        self.emit("Progress", phase=phase, done=done, total=total, unit=unit, eta_s=eta)

    def notice(
        self, sentence: str, hint: str = "", level: str = "warning", once: bool = False
    ) -> None:
        """Show a notice to the user; it does not end the run. ``once``: not again in this step."""
        if once and sentence in self._told:
            return
        self._told.add(sentence)
        self.emit("Notice", level=level, sentence=shown(sentence), hint=shown(hint))

    def artifact(self, kind: str, path: Path, **details: Any) -> None:
        """Register an artifact; ``ArtifactSaved`` is sent once the step has been committed."""
        self.artifacts.append({"kind": kind, "path": str(path), **details})

    def resolve(self, path: str) -> Path:
        """A path of the settings, made absolute from the project's folder."""
        found = Path(path).expanduser()
        return found if found.is_absolute() else (self.project_dir / found).resolve()

    def variant(self, kind: str, variant_id: str) -> Variant:
        """A variant that the settings name; raises ``KeyError`` when it is not installed."""
        found = self.registry.variant(kind, variant_id)
        if found is None:
            raise KeyError(f"{kind} {variant_id}")
        return found
