"""The Plan: a graph compiled into ordered steps, each with its full settings and fingerprint.

``compile_plan`` returns either a plan or the Problems that prevent one. It reads files to hash
them, but runs nothing, loads no model and must not import torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from studio.errors import Problem, StudioError
from studio.graph.graph import CycleError, Graph, Node, topological_order
from studio.graph.node_type import NodeType
from studio.graph.problems import find_problems
from studio.graph.project import with_earlier_defaults
from studio.graph.registry import Registry
from studio.graph.schema import Settings
from studio.graph.unused import without_training
from studio.graph.wires import title_of
from studio.runs.fingerprint import resolved_settings, step_fingerprint

PLAN_VERSION = 1
_FINGERPRINT = re.compile(r"[0-9A-Za-z_-]{1,128}")  # part of file names


@dataclass(frozen=True)
class Step:
    """One node to run. ``inputs`` maps an input port to (node, output port)."""

    node: str
    type: str
    version: int
    title: str
    settings: Mapping[str, Any]
    inputs: Mapping[str, tuple[str, str]]
    fingerprint: str

    def to_json(self) -> dict[str, Any]:
        """The step as JSON data; ``step_from_json`` is the exact inverse."""
        return {
            "node": self.node,
            "type": self.type,
            "version": self.version,
            "title": self.title,
            "settings": dict(self.settings),
            "inputs": {port: list(source) for port, source in self.inputs.items()},
            "fingerprint": self.fingerprint,
        }


@dataclass(frozen=True)
class Plan:
    """Steps in topological order."""

    name: str
    project_dir: Path
    steps: tuple[Step, ...]

    def step(self, node: str) -> Step:
        """The step of a node; raises ``KeyError``."""
        for step in self.steps:
            if step.node == node:
                return step
        raise KeyError(node)

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON data; ``plan_from_json`` is the exact inverse."""
        return {
            "version": PLAN_VERSION,
            "name": self.name,
            "project_dir": str(self.project_dir),
            "steps": [s.to_json() for s in self.steps],
        }


@dataclass(frozen=True)
class Compiled:
    """A plan, or the Problems that block one. A plan may come with warnings, and with the seconds that the
    phases of its steps are expected to take (``studio.estimate.forecast``)."""

    plan: Plan | None
    problems: tuple[Problem, ...] = ()
    forecast: Mapping[str, Sequence[tuple[str, float | None]]] = field(default_factory=dict)


def step_from_json(data: Mapping[str, Any]) -> Step:
    """The step in JSON data; raises ``KeyError``, ``TypeError`` or ``ValueError``."""
    inputs = {str(port): (str(s[0]), str(s[1])) for port, s in data["inputs"].items()}
    return Step(
        str(data["node"]),
        str(data["type"]),
        int(data["version"]),
        str(data["title"]),
        with_earlier_defaults(str(data["type"]), data["settings"]),
        inputs,
        str(data["fingerprint"]),
    )


def plan_from_json(data: Any, name: str = "plan.json") -> Plan:
    """The plan in JSON data; raises ``StudioError`` when it is not one."""
    try:
        if int(data["version"]) > PLAN_VERSION:
            raise StudioError(
                f"{name} was written by a newer LoRA Studio.",
                hint="Update LoRA Studio to resume this run.",
                code="newer_plan",
                file=name,
            )
        steps = tuple(step_from_json(s) for s in data["steps"])
        _check_order(steps)
        return Plan(str(data["name"]), Path(data["project_dir"]), steps)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise StudioError(
            f"{name} is damaged ({error}).",
            hint="Open the run's graph.studio and run it again.",
            code="damaged_plan",
            file=name,
        ) from error


def _check_order(steps: tuple[Step, ...]) -> None:
    """Raise ``ValueError`` unless each step has its own node and fingerprint, and its inputs come
    from earlier steps."""
    before: set[str] = set()
    for step in steps:
        if step.node in before:
            raise ValueError(f"two steps have the node {step.node!r}")
        if not _FINGERPRINT.fullmatch(step.fingerprint):
            raise ValueError(f"{step.fingerprint!r} is not a fingerprint")
        missing = {source for source, _ in step.inputs.values()} - before
        if missing:
            raise ValueError(f"{step.node!r} comes before its input {min(missing)!r}")
        before.add(step.node)


def compile_plan(
    graph: Graph, registry: Registry, project_dir: Path, *, all_rows: bool = True
) -> Compiled:
    """All nodes of the graph as steps, or the Problems that prevent a run; see ``find_problems``. That a run
    trains nothing is one of severity ``info``."""
    project_dir = project_dir.resolve()
    problems = find_problems(graph, registry, project_dir, all_rows=all_rows)
    if any(p.blocks for p in problems):
        return Compiled(None, tuple(problems))
    steps: dict[str, Step] = {}
    for node_id in topological_order(graph):
        node = graph.node(node_id)
        try:
            steps[node_id] = _step(graph, node, registry, project_dir, steps)
        except OSError as error:
            problems.append(_unreadable(node, error, registry))
            return Compiled(None, tuple(problems))
    untrained = without_training(graph, registry)
    if untrained is not None:
        problems.append(untrained.problem())
    return Compiled(Plan(graph.name, project_dir, tuple(steps.values())), tuple(problems))


def current_fingerprints(
    graph: Graph, registry: Registry, project_dir: Path
) -> dict[str, str | None]:
    """The fingerprint that each node would have in a plan; ``None`` for a node that cannot be run at present, and for
    those that depend on it."""
    project_dir = project_dir.resolve()
    steps: dict[str, Step] = {}
    try:
        order = topological_order(graph)
    except CycleError as error:
        kept = tuple(n for n in graph.nodes if n.id not in error.nodes)
        order = topological_order(Graph(graph.name, kept, graph.wires))
    for node_id in order:
        with suppress(KeyError, ValueError, OSError):
            steps[node_id] = _step(graph, graph.node(node_id), registry, project_dir, steps)
    return {n: steps[n].fingerprint if n in steps else None for n in graph.ids()}


def _step(
    graph: Graph, node: Node, registry: Registry, project_dir: Path, before: Mapping[str, Step]
) -> Step:
    node_type = _type_of(node, registry)
    settings = resolved_settings(node_type, node.settings, registry)
    wires = sorted((w for w in graph.wires if w.target == node.id), key=lambda w: w.target_port)
    inputs = {w.target_port: (w.source, w.source_port) for w in wires}
    print_ = step_fingerprint(node_type, settings, input_fingerprints(inputs, before), project_dir)
    title = title_of(node, registry)
    return Step(node.id, node_type.id, node_type.version, title, settings, inputs, print_)


def input_fingerprints(
    inputs: Mapping[str, tuple[str, str]], steps: Mapping[str, Step]
) -> dict[str, tuple[str, str]]:
    """Input port -> (fingerprint of the step it comes from, output port there)."""
    return {port: (steps[node].fingerprint, out) for port, (node, out) in inputs.items()}


def _type_of(node: Node, registry: Registry) -> NodeType[Settings]:
    found = registry.node_type(node.type)
    if found is None:  # find_problems has rejected such a graph
        raise KeyError(node.type)
    return found


def _unreadable(node: Node, error: OSError, registry: Registry) -> Problem:
    name = error.filename or "a file"
    return Problem(
        f"{title_of(node, registry)}: {name} cannot be read: {error.strerror or error}.",
        node.id,
        None,
        "Check the file and its permissions.",
        "unreadable_file",
        file=str(name),
    )
