"""A training around a Dataset node: base model, LoRA, training, merge, export and evaluation, wired, placed,
and with the values of the recipe for this data and this machine.

The graph is made before the user chooses it, so that the base model chooser can show the memory and the time of
exactly what a choice gives. Nothing is loaded or downloaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from studio.data.check import detected_format
from studio.data.reading.folder import parts_of
from studio.data.sources import Sources, sources_of
from studio.errors import StudioError
from studio.estimate.graph import Estimate, estimate_graph
from studio.estimate.job import Facts
from studio.graph import edits
from studio.graph.graph import Graph, Node, Position, Wire
from studio.graph.problems import settings_of
from studio.graph.registry import Registry
from studio.graph.schema import fields_of
from studio.model.facts import ModelFacts
from studio.node_settings.dataset import DatasetSettings
from studio.recipe.facts import recipe_facts
from studio.recipe.recipe import Proposal, propose

_PLACES: Mapping[str, Position] = {
    "base_model": (0, 190),
    "lora": (280, 190),
    "train": (560, 0),
    "merge": (840, 0),
    "export": (1120, 0),
    "test": (840, 190),
    "evaluate": (1120, 190),
}
"""From the corner of the Dataset node, as in the starter project."""
_CARD: Position = (220, 170)
"""The space (scene pixels) that a node takes."""
_STEP_DOWN = 190.0
_TEXT = "text"
"""The format whose rows have no question with an answer, which an evaluation needs."""


@dataclass(frozen=True)
class NewTraining:
    """The graph with a training around a Dataset node. ``estimate`` is that of its Train node ``train``,
    ``base`` its Base model node, ``proposals`` the recipe whose values were set, ``notes`` sentences about what
    was assumed or omitted."""

    graph: Graph
    base: str
    train: str
    proposals: tuple[Proposal, ...]
    estimate: Estimate
    notes: tuple[str, ...] = ()


def new_training(
    graph: Graph,
    registry: Registry,
    project_dir: Path,
    dataset: str,
    model: str,
    facts: Facts,
    known: ModelFacts | None = None,
) -> NewTraining:
    """Add a training on the Dataset (or Mix) node ``dataset`` with the base ``model``; ``known`` are the facts of a
    model that is not on this machine. A Base model node without wires is used instead of a new one."""
    data = graph.node(dataset)
    settings, sources = _data(data, registry, project_dir)
    base = _free_base(graph)
    tests = _written(sources.test, settings, project_dir) if sources and settings else ""
    variants = registry.variants.get("format", {})
    text = settings is not None and detected_format(settings, project_dir, variants) == _TEXT
    types = ["base_model", "lora", "train", "merge", "export"]
    types += [] if text else (["test", "evaluate"] if tests else ["evaluate"])
    down = _room_below(graph, data.position, [t for t in types if t != "base_model" or not base])
    ids = {"data": dataset, "base_model": base} if base else {"data": dataset}
    for kind in types:
        if kind not in ids:
            node = _node(graph, kind, data.position, down if kind != "train" else max(0.0, down))
            graph, ids[kind] = edits.add_node(graph, node), node.id
    graph = edits.set_setting(graph, ids["base_model"], "model", model)
    if "test" in ids:
        graph = edits.set_setting(graph, ids["test"], "source", tests)
        graph = edits.set_setting(graph, ids["test"], "validation_fraction", 0.0)
    for source, target in _wires(ids):
        graph = edits.connect(graph, Wire(*source, *target))
    found = recipe_facts(graph, registry, project_dir, ids["train"], facts=facts, known=known)
    proposals = tuple(propose(found))
    graph = with_values(graph, registry, proposals)
    estimate = estimate_graph(graph, registry, project_dir, facts, ids["train"])
    assert estimate is not None
    notes = []
    if text:
        notes.append("The rows are plain text without questions, so there is no Evaluate node.")
    if found.rows is None:
        notes.append(
            "The rows of this file type are not counted before a run, so batch size and epochs are defaults."
        )
    return NewTraining(graph, ids["base_model"], ids["train"], proposals, estimate, tuple(notes))


def with_values(graph: Graph, registry: Registry, proposals: Iterable[Proposal]) -> Graph:
    """The graph with the proposed values; a default is left out of the settings."""
    for proposal in proposals:
        node_type = registry.node_type(graph.node(proposal.node).type)
        specs = fields_of(node_type.settings) if node_type else ()
        default = next((s.default for s in specs if s.name == proposal.field), None)
        if proposal.value == default and isinstance(proposal.value, bool) == isinstance(
            default, bool
        ):
            graph = edits.reset_setting(graph, proposal.node, proposal.field)
        else:
            graph = edits.set_setting(graph, proposal.node, proposal.field, proposal.value)
    return graph


def _data(
    node: Node, registry: Registry, project_dir: Path
) -> tuple[DatasetSettings | None, Sources | None]:
    """The settings of a Dataset node and its files; ``None`` while they have an error."""
    node_type = registry.node_type(node.type)
    settings = settings_of(node, node_type) if node_type else None
    if not isinstance(settings, DatasetSettings):
        return None, None
    try:
        return settings, sources_of(settings, project_dir, downloads=True)
    except (StudioError, OSError, ValueError):
        return settings, None


def _written(files: Sequence[Path], settings: DatasetSettings, project_dir: Path) -> str:
    """Test files as the setting “File” names them: relative to the project where those of the data are; empty if they
    cannot be named, as members of an archive."""
    if not files or not all(path.is_file() for path in files):
        return ""
    names = [str(path) for path in files]
    if not Path(settings.source.strip()).expanduser().is_absolute():
        root = project_dir.resolve()
        resolved = [path.resolve() for path in files]
        names = [
            p.relative_to(root).as_posix() if p.is_relative_to(root) else str(p) for p in resolved
        ]
    source = "; ".join(names)
    return source if len(parts_of(source, project_dir)) == len(files) else ""


def _free_base(graph: Graph) -> str:
    """The only Base model node, if nothing is connected to it; else empty."""
    bases = [n.id for n in graph.nodes if n.type == "base_model"]
    connected = {w.source for w in graph.wires}
    return bases[0] if len(bases) == 1 and bases[0] not in connected else ""


def _node(graph: Graph, kind: str, corner: Position, down: float) -> Node:
    x, y = _PLACES[kind]
    place = (corner[0] + x, corner[1] + y + down)
    if kind == "test":
        return Node(edits.unique_id(graph, "test"), "dataset", {}, "Test rows", place)
    return Node(edits.unique_id(graph, kind), kind, {}, "", place)


def _room_below(graph: Graph, corner: Position, kinds: Iterable[str]) -> float:
    """How far down (scene pixels) the new nodes must move to cover no other node."""
    kinds = list(kinds)
    down = 0.0
    while any(
        abs(n.position[0] - corner[0] - _PLACES[k][0]) < _CARD[0]
        and abs(n.position[1] - corner[1] - _PLACES[k][1] - down) < _CARD[1]
        for n in graph.nodes
        for k in kinds
    ):
        down += _STEP_DOWN
    return down


def _wires(ids: Mapping[str, str]) -> Iterable[tuple[tuple[str, str], tuple[str, str]]]:
    """Source and target of each wire, as node and port."""
    links: list[tuple[str, str, str, str]] = [
        ("data", "dataset", "train", "dataset"),
        ("base_model", "model", "lora", "model"),
        ("lora", "model", "train", "model"),
        ("train", "adapter", "merge", "adapter"),
        ("merge", "model", "export", "model"),
    ]
    if "evaluate" in ids:
        links.append(("test" if "test" in ids else "data", "dataset", "evaluate", "dataset"))
        links.append(("merge", "model", "evaluate", "model"))
    for source, out, target, into in links:
        yield (ids[source], out), (ids[target], into)
