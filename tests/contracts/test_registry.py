"""The contract of everything that is registered: node types and variants, from here or outside.

An extension's author can run this file with LORA_STUDIO_EXTENSIONS set to check their own.
"""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import pytest

from studio.graph.edits import set_setting
from studio.graph.graph import Graph, Node, Wire
from studio.graph.node_type import NodeType, Variant
from studio.graph.ports import PORT_TYPES, Port
from studio.graph.project import from_data, to_data
from studio.graph.registry import KINDS, Registry, load_registry
from studio.graph.schema import FieldSpec, Settings, fields_of, to_json_schema
from studio.runs.plan import compile_plan, plan_from_json

REGISTRY = load_registry()
NODES = list(REGISTRY.nodes.values())
VARIANTS = [v for table in REGISTRY.variants.values() for v in table.values()]
PLAIN_ID = re.compile(r"[a-z][a-z0-9_]*")

# Ids are in users' projects: one may be added, none may go or change.
STABLE_NODES = {
    *(
        "dataset",
        "mix",
        "base_model",
        "load_adapter",
        "lora",
        "train",
        "merge",
        "export",
        "evaluate",
    )
}
STABLE_VARIANTS = {
    "format": {
        "instruction",
        "messages",
        "prompt_completion",
        "text",
        "sharegpt",
        "question_answer",
        "classification",
        "preference",
        "kto",
        "custom",
    },
    "adapter": {"lora", "rslora", "dora"},
    "objective": {"sft"},
    "exporter": {"safetensors", "gguf"},
}

# Fields without unit, limits, choices or a special value, and why that is right.
FREE = {
    ("dataset", "format_settings"): "settings of the variant",
    ("base_model", "model"): "a path or a name",
    ("base_model", "revision"): "a branch, tag or commit",
    ("load_adapter", "revision"): "a branch, tag or commit",
    ("lora", "method_settings"): "settings of the variant",
    ("train", "objective_settings"): "settings of the variant",
    ("export", "format_settings"): "settings of the variant",
}


NEEDS_FOLDER = {"load_adapter"}
ADAPTER = Path(__file__).parents[1] / "fixtures" / "adapters" / "peft-0.13"


def test_ids_are_stable() -> None:
    assert set(REGISTRY.nodes) >= STABLE_NODES
    for kind, ids in STABLE_VARIANTS.items():
        assert set(REGISTRY.variants[kind]) >= ids
    assert REGISTRY.failures == ()


SUPPORT = {
    "studio.adapters": {
        "configure",
        "calibration",
        "gradients",
        "trained_tokens",
    },
    "studio.adapters.research": {"clusters", "coefficients"},
    "studio.data.formats": {"_choices", "_columns", "_pairs"},
}
"""What defines a kind of variant, or is shared by several of its files."""


@pytest.mark.parametrize("package", ["studio.nodes", "studio.adapters.research", *KINDS.values()])
def test_every_file_of_a_room_registers_something(package: str) -> None:
    root = Path(importlib.import_module(package).__path__[0])
    support = SUPPORT.get(package, set())
    modules = [p.stem for p in root.glob("*.py") if p.stem not in {"__init__", *support}]
    constant = "NODE" if package == "studio.nodes" else "VARIANT"
    assert modules
    for name in modules:
        assert hasattr(importlib.import_module(f"{package}.{name}"), constant), name


@pytest.mark.parametrize("node", NODES, ids=lambda n: n.id)
def test_node_type(node: NodeType) -> None:
    assert PLAIN_ID.fullmatch(node.id)
    assert node.version >= 1
    assert node.title
    assert node.category
    assert node.icon
    assert node.help.endswith(".")
    for ports in (node.inputs, node.outputs):
        assert len({p.name for p in ports}) == len(ports)
        for port in ports:
            check_port(port)
    assert all(len(p.types) == 1 for p in node.outputs)


def check_port(port: Port) -> None:
    assert PLAIN_ID.fullmatch(port.name)
    assert port.title
    assert all(PORT_TYPES[t.id] is t for t in port.types)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: f"{v.kind}-{v.id}")
def test_variant(variant: Variant) -> None:
    assert variant.kind in KINDS
    assert PLAIN_ID.fullmatch(variant.id)
    assert variant.title
    assert variant.help.endswith(".")
    assert variant.payload is not None


ALL_SETTINGS = [(n.id, n.settings) for n in NODES] + [
    (f"{v.kind}.{v.id}", v.settings) for v in VARIANTS
]


@pytest.mark.parametrize(("name", "model"), ALL_SETTINGS, ids=[n for n, _ in ALL_SETTINGS])
def test_settings(name: str, model: type[Settings]) -> None:
    for spec in fields_of(model):
        check_field(name, spec, model)
    defaults = model()
    assert model.model_validate(json.loads(defaults.model_dump_json())) == defaults
    assert json.loads(json.dumps(to_json_schema(model))) == to_json_schema(model)


def check_field(name: str, spec: FieldSpec, model: type[Settings]) -> None:
    place = f"{name}.{spec.name}"
    assert PLAIN_ID.fullmatch(spec.name), place
    assert spec.meta.label, place
    assert spec.meta.help.rstrip().endswith("."), place
    described = (
        spec.meta.unit
        or spec.choices
        or spec.meta.special
        or spec.meta.variant
        or spec.minimum is not None
        or spec.maximum is not None
        or spec.kind == "bool"
        or spec.meta.widget in ("file", "folder", "adapter")
        or spec.max_length is not None
    )
    assert described or (name, spec.name) in FREE, place
    for key, _ in spec.meta.shown_if:
        assert key in model.model_fields, place
    assert set(dict(spec.meta.choice_labels)) <= set(spec.choices), place
    if spec.meta.variant:
        assert spec.meta.variant in KINDS, place
        assert spec.default == "auto" or REGISTRY.variant(spec.meta.variant, spec.default), place
        assert f"{spec.name}_settings" in model.model_fields, place


def with_sources(registry: Registry, node: NodeType) -> Graph:
    """A graph with this node at its defaults, and before it whatever feeds its inputs."""
    nodes: list[Node] = []
    wires: list[Wire] = []

    def add(wanted: NodeType) -> str:
        node_id = f"n{len(nodes)}"
        nodes.append(Node(node_id, wanted.id))
        for port in wanted.inputs:
            for other in sorted(registry.nodes.values(), key=lambda n: n.id in NEEDS_FOLDER):
                if any(i.accepts(port.type) for i in other.inputs):
                    continue  # it needs one of its kind itself
                out = next((p for p in other.outputs if p.type == port.type), None)
                if out is not None:
                    wires.append(Wire(add(other), out.name, node_id, port.name))
                    break
            else:
                raise AssertionError(f"nothing can feed {wanted.id}.{port.name}")
        return node_id

    add(node)
    return Graph("One", tuple(nodes), tuple(wires))


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A file that a node may read."""
    path = tmp_path / "rows.jsonl"
    path.write_text(
        "".join(f'{{"prompt": "say {i}", "completion": "{i}"}}\n' for i in range(20)),
        encoding="utf-8",
    )
    return path


@pytest.mark.parametrize("node", NODES, ids=lambda n: n.id)
def test_a_default_graph_compiles(node: NodeType, rows: Path) -> None:
    """Defaults everywhere, but for files to read: only the user knows those."""
    graph = with_sources(REGISTRY, node)
    assert from_data(json.loads(json.dumps(to_data(graph)))) == graph
    for item in graph.nodes:
        known = REGISTRY.node_type(item.type)
        assert known is not None
        for spec in fields_of(known.settings):
            if spec.meta.widget == "file" and spec.default == "":
                graph = set_setting(graph, item.id, spec.name, str(rows))
            if item.type in NEEDS_FOLDER and spec.meta.widget == "adapter":
                graph = set_setting(graph, item.id, spec.name, str(ADAPTER))
    compiled = compile_plan(graph, REGISTRY, rows.parent)
    assert compiled.plan is not None, compiled.problems
    step = compiled.plan.steps[-1]
    settings = json.loads(json.dumps(dict(step.settings)))
    assert settings == dict(step.settings)
    assert plan_from_json(json.loads(json.dumps(compiled.plan.to_json()))) == compiled.plan
    assert isinstance(node.summary(node.settings.model_validate(settings)), str)
