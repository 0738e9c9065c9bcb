"""How long each phase of a plan will take: the times of the same steps in earlier runs on this machine.

A step of the same type, settings and inputs took its phases before. If only the settings differ, the
phases that depend on the base model alone are taken from a run with the same base model, and the time of
the training from its estimate. What is not known is ``None``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

from studio.errors import StudioError
from studio.estimate.earlier import facts_here
from studio.estimate.graph import estimate_graph
from studio.estimate.machine import machine_key, this_machine
from studio.events import Event, from_line
from studio.graph.graph import Graph
from studio.graph.registry import Registry
from studio.runs.folder import RunFolder, list_runs
from studio.runs.plan import Plan, Step
from studio.system.file_stamp import Stamp, file_stamp
from studio.system.stored_json import open_regular

LOOK_AT_RUNS = 20
MOST_LINES = 200_000
_OF_THE_MODEL = ("start", "load", "save", "verify", "merge", "export")
"""Phases whose time depends on the base model rather than on rows and steps."""
_IN_TRAINING = ("train", "evaluate", "sample")
_NAMES = ("RunStarted", "StepStarted", "Phase", "TrainResumed", "StepFinished", "RunFinished")
_HEADS = tuple(f'{{"event": "{name}"'.encode() for name in _NAMES)

Phases = list[tuple[str, float | None]]


def forecast_of(
    plan: Plan, graph: Graph, registry: Registry, runs_dir: Path, leave_core: bool
) -> dict[str, Phases]:
    """The phases of each step with their seconds, for the steps that ran before."""
    machine = this_machine(graph)
    found: dict[str, Phases] = {}
    similar: dict[str, Phases] = {}
    for run in list_runs(runs_dir)[:LOOK_AT_RUNS]:
        for step, earlier, phases in _earlier_steps(run, plan, machine_key(machine.name)):
            if _signature(step, plan) == _signature(*earlier):
                found.setdefault(step.node, phases)
            elif _bases(step, plan) and _bases(step, plan) == _bases(*earlier):
                similar.setdefault(step.node, phases)
    for node, phases in similar.items():
        if node not in found:
            training = _estimated_training(plan, graph, registry, runs_dir, leave_core, node)
            found[node] = [(phase, _scaled(phase, seconds, training)) for phase, seconds in phases]
    return found


def _scaled(phase: str, seconds: float | None, training: float | None) -> float | None:
    if phase == "train":
        return training
    return seconds if phase in _OF_THE_MODEL else None


def _estimated_training(
    plan: Plan, graph: Graph, registry: Registry, runs_dir: Path, leave_core: bool, node: str
) -> float | None:
    """The estimated seconds of a training without what comes before and after it."""
    if not graph.has(node) or graph.node(node).type != "train":
        return None
    facts = facts_here(runs_dir, registry, leave_core, this_machine(graph))
    estimate = estimate_graph(graph, registry, plan.project_dir, facts, node)
    if estimate is None or estimate.seconds is None:
        return None
    return max(0.0, estimate.seconds - estimate.seconds_parts.get("loading", 0.0))


def _earlier_steps(
    run: RunFolder, plan: Plan, machine: str
) -> Iterator[tuple[Step, tuple[Step, Plan], Phases]]:
    """The steps of a plan that an earlier run ran too, by type."""
    there = run.environment()
    if f"{there.get('device')} / {there.get('cpu')} / {there.get('cpu_count')}" != machine:
        return
    try:
        earlier = run.plan()
        times = _times(run.events_path, file_stamp(run.events_path))
    except (OSError, ValueError, StudioError):  # a damaged run
        return
    for step in plan.steps:
        same = [e for e in earlier.steps if e.type == step.type and times.get(e.node)]
        named = [e for e in same if e.node == step.node] or same
        exact = [e for e in same if _signature(e, earlier) == _signature(step, plan)]
        for candidate in (exact or named)[:1]:
            yield step, (candidate, earlier), times[candidate.node]


def _signature(step: Step, plan: Plan) -> tuple[Any, ...]:
    """Type and settings of a step and of all that it depends on."""
    inputs = sorted((port, _signature(plan.step(n), plan)) for port, (n, _) in step.inputs.items())
    return step.type, json.dumps(dict(step.settings), sort_keys=True, default=str), tuple(inputs)


def _bases(step: Step, plan: Plan) -> frozenset[str]:
    """The settings of the base models that a step depends on."""
    own = [json.dumps(dict(step.settings), sort_keys=True)] if step.type == "base_model" else []
    return frozenset(own).union(*(_bases(plan.step(n), plan) for n, _ in step.inputs.values()))


@lru_cache(maxsize=64)
def _times(events: Path, stamp: Stamp) -> Mapping[str, Phases]:
    """The phases of each step that ran from its start to its end in one execution."""
    del stamp  # changes with the file
    found: dict[str, Phases] = {}
    begun: dict[str, list[tuple[str, float]]] = {}
    for event in _events(events):
        node = event.node or ""
        if event.name == "RunStarted":
            begun = {}
        elif event.name == "StepStarted":
            begun[node] = [("", event.time)]
        elif event.name == "TrainResumed":
            begun.pop(node, None)
        elif event.name == "Phase" and node in begun:
            phase = str(event.get("phase", ""))
            in_training = begun[node][-1][0] == "train" and phase in _IN_TRAINING
            if not in_training and phase != begun[node][-1][0]:
                begun[node].append((phase, event.time))
        elif event.name == "StepFinished" and node in begun and not event.get("cached"):
            starts = [*begun.pop(node), ("", event.time)]
            found[node] = [
                (phase, round(max(0.0, after[1] - since), 2))
                for (phase, since), after in pairwise(starts)
                if phase or len(starts) == 2
            ]
    return found


def _events(events: Path) -> Iterator[Event]:
    with open_regular(events) as lines:
        for line in islice(lines, MOST_LINES):
            event = from_line(line) if line.startswith(_HEADS) else None
            if event is not None:
                yield event
