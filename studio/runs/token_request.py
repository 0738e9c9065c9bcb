"""The part of a project that determines how rows are shown as tokens.

That is the steps that make a Train node's data, the base model at the other end of its model input,
and its settings. Problems elsewhere in the graph are ignored. Nothing is run or loaded here, and no
model file is read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from studio.errors import Problem, StudioError
from studio.graph.edits import set_setting
from studio.graph.graph import Graph, Node
from studio.graph.problems import find_problems, settings_of
from studio.graph.registry import Registry
from studio.graph.schema import Settings
from studio.graph.wires import title_of
from studio.preview.report_cache import NOTHING_TRAINED, report_key
from studio.runs.plan import Plan, Step, compile_plan, plan_from_json, step_from_json


@dataclass(frozen=True)
class TokenRequest:
    """``plan`` makes the data, which is the output ``output`` of the step ``dataset``. ``base`` is
    the Base model node; its fingerprint is empty where finding it would mean reading weights.
    ``train`` and ``title`` are id and name of the Train node, ``settings`` what it is set to. ``key``
    names data and settings as ``studio.preview.report_cache`` does."""

    plan: Plan
    dataset: str
    output: str
    base: Step
    title: str
    train: str
    settings: Mapping[str, Any]
    key: str = ""

    @property
    def max_length(self) -> int:
        """The maximum length in tokens."""
        return int(self.settings["max_length"])

    @property
    def train_on(self) -> str:
        """Which tokens are trained."""
        return str(self.settings["train_on"])

    def to_json(self) -> dict[str, Any]:
        """The request as JSON data; ``request_from_json`` is the exact inverse."""
        plain = {n: getattr(self, n) for n in _PLAIN}
        return {**plain, "plan": self.plan.to_json(), "base": self.base.to_json()}


_PLAIN = ("dataset", "output", "title", "train", "settings", "key")


def request_from_json(data: Mapping[str, Any]) -> TokenRequest:
    """The request in JSON data."""
    plain = {n: data[n] for n in _PLAIN}
    return TokenRequest(
        plan=plan_from_json(data["plan"]), base=step_from_json(data["base"]), **plain
    )


def token_request(
    graph: Graph, registry: Registry, project_dir: Path, train: str | None = None
) -> tuple[TokenRequest | None, tuple[Problem, ...]]:
    """The token request, or the Problems that prevent it; a request may come with warnings.

    ``train`` names the Train node where there are several. Raises ``StudioError`` when there is no
    such node. Invalid rows are not a problem: they are shown, too.
    """
    node = _train_node(graph, train)
    data = graph.wire_into(node.id, "dataset")
    makers = graph.upstream(data.source) if data is not None else frozenset()
    base = _base_of(graph, node)
    needed = {node.id, *makers, *([base.id] if base else [])}
    problems = _problems(graph, registry, project_dir, needed)
    readable = graph
    if any(p.blocks and p.line is not None for p in problems):
        readable = _without_bad_rows(graph, makers)
        problems = _problems(readable, registry, project_dir, needed)
    if any(p.blocks for p in problems):
        return None, tuple(problems)
    if data is None or base is None:
        return None, (*problems, _no_base(node, registry))
    compiled = compile_plan(_part(readable, makers), registry, project_dir, all_rows=False)
    if compiled.plan is None:
        return None, tuple(p for p in compiled.problems if p.blocks)  # of a part of the graph
    plan = _as_set(compiled.plan, graph)
    request = TokenRequest(
        plan,
        data.source,
        data.source_port,
        _base_step(graph, base, registry, project_dir),
        title_of(node, registry),
        node.id,
        _settings(node, registry),
        _key(graph, node, registry, project_dir),
    )
    return request, tuple(problems)


def _problems(
    graph: Graph, registry: Registry, project_dir: Path, needed: Collection[str]
) -> list[Problem]:
    """The Problems of these nodes, except those that the rows help to solve."""
    found = find_problems(graph, registry, project_dir, all_rows=False)
    return [p for p in found if (p.node is None or p.node in needed) and p.code not in _OF_ROWS]


def _without_bad_rows(graph: Graph, makers: Collection[str]) -> Graph:
    """The graph with its Dataset nodes set to skip invalid rows."""
    for node in graph.nodes:
        if node.id in makers and node.type == "dataset":
            graph = set_setting(graph, node.id, _BAD_ROWS, "skip")
    return graph


def _as_set(plan: Plan, graph: Graph) -> Plan:
    """The plan with the user's choice for invalid rows."""
    steps = []
    for step in plan.steps:
        own = graph.node(step.node).settings.get(_BAD_ROWS, "stop")
        if step.type == "dataset" and step.settings[_BAD_ROWS] != own:
            step = replace(step, settings={**step.settings, _BAD_ROWS: own})
        steps.append(step)
    return replace(plan, steps=tuple(steps))


_OF_ROWS = (NOTHING_TRAINED, "wrong_shape")
_BAD_ROWS = "on_bad_rows"


def _train_node(graph: Graph, wanted: str | None) -> Node:
    trains = [n for n in graph.nodes if n.type == "train"]
    names = ", ".join(n.id for n in trains)
    if wanted is not None:
        found = [n for n in trains if n.id == wanted]
        if found:
            return found[0]
        hint = f"Available: {names}." if trains else ""
        raise StudioError(f"There is no Train node “{wanted}”.", hint=hint, code="no_train")
    if not trains:
        raise StudioError(
            "The project has no Train node.",
            hint="Add one and connect its dataset and model.",
            code="no_train",
        )
    if len(trains) > 1:
        raise StudioError(
            f"The project has {len(trains)} Train nodes: {names}.",
            hint="Select one with --node.",
            code="several_trains",
        )
    return trains[0]


def _base_of(graph: Graph, train: Node) -> Node | None:
    """The Base model node that the model of ``train`` comes from, through all nodes between them.
    Data of earlier trainings does not count."""
    waiting, seen = [train.id], set()
    while waiting:
        current = waiting.pop()
        if current in seen or not graph.has(current):
            continue
        seen.add(current)
        node = graph.node(current)
        if node.type == "base_model":
            return node
        waiting += [
            w.source for w in graph.wires if w.target == current and w.target_port != "dataset"
        ]
    return None


def _no_base(train: Node, registry: Registry) -> Problem:
    title = title_of(train, registry)
    return Problem(
        f"{title}: its model does not come from a Base model node, so no tokenizer is available.",
        train.id,
        "model",
        "Connect a Base model node.",
        "no_base_model",
    )


def _part(graph: Graph, nodes: Iterable[str]) -> Graph:
    """The graph with these nodes and the wires between them."""
    kept = set(nodes)
    return replace(
        graph,
        nodes=tuple(n for n in graph.nodes if n.id in kept),
        wires=tuple(w for w in graph.wires if {w.source, w.target} <= kept),
    )


def _settings(node: Node, registry: Registry) -> dict[str, Any]:
    node_type = registry.node_type(node.type)
    assert node_type is not None  # find_problems has rejected such a graph
    return node_type.settings.model_validate(dict(node.settings)).model_dump(mode="json")


def _key(graph: Graph, train: Node, registry: Registry, project_dir: Path) -> str:
    """The key of the data as the Train node's own check makes it."""
    parsed: dict[str, tuple[str, Settings | None]] = {}
    for node_id in graph.upstream(train.id) | {train.id}:
        node = graph.node(node_id)
        node_type = registry.node_type(node.type)
        parsed[node_id] = node.type, settings_of(node, node_type) if node_type else None
    own = parsed.pop(train.id)[1]
    return report_key(own, parsed, project_dir) if own is not None else ""


def _base_step(graph: Graph, node: Node, registry: Registry, project_dir: Path) -> Step:
    """The step of the Base model node. Weights on this machine are not read for a fingerprint."""
    node_type = registry.node_type(node.type)
    assert node_type is not None
    settings = _settings(node, registry)
    if not list(node_type.files(node_type.settings.model_validate(settings), project_dir)):
        compiled = compile_plan(_part(graph, [node.id]), registry, project_dir)
        if compiled.plan is not None:
            return compiled.plan.step(node.id)
    title = title_of(node, registry)
    return Step(node.id, node_type.id, node_type.version, title, settings, {}, "")
