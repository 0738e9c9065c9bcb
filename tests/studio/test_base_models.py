"""The base models to choose from: what is found, with which facts, what fits, and in which order."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from studio.errors import StudioError
from studio.estimate.job import Facts
from studio.estimate.machine import Machine
from studio.graph.edits import reset_setting
from studio.graph.graph import Graph, Node
from studio.graph.problems import find_problems
from studio.graph.project import load_project
from studio.graph.registry import load_registry
from studio.model.hub_search import HubModel, search_hub
from studio.recipe.base_models import (
    BaseChoice,
    Candidate,
    Purpose,
    choices,
    hub_candidate,
    local_candidates,
)
from studio.recipe.new_training import new_training
from tests.e2e.studio_cli import ROOT, write_rows
from tests.studio.training.hub_server import serve_hub
from tests.studio.training.tiny_gguf import write_tiny_gguf
from tests.tiny import make_tiny_model

GB = 10**9
REGISTRY = load_registry()
LARGE = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "vocab_size": 32000,
    "max_position_embeddings": 4096,
}
"""A model with 6.7 billion parameters."""


def machine(free: float, device: str = "cuda") -> Facts:
    """A machine with so many GB free."""
    return Facts(Machine("Test", device, int(free * GB), int(free * GB), True, int(0.6 * GB)))


def purpose(tmp_path: Path, free: float = 24, **changes: str) -> Purpose:
    """A new training on a file of rows."""
    rows = write_rows(tmp_path / "rows.jsonl", 60)
    graph = Graph(nodes=(Node("data", "dataset", {"source": str(rows)}),))
    asked = Purpose(graph, REGISTRY, tmp_path, machine(free), dataset="data")
    return replace(asked, **changes)


def candidate(folder: Path) -> Candidate:
    """A model of which only the config is there: enough for an estimate."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(LARGE), encoding="utf-8")
    found = local_candidates([str(folder)], ())
    (made,) = (c for c in found if c.model == str(folder))
    return replace(made, fault="")


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No models of the person who runs the tests."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("LORA_STUDIO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "hub"


def test_folders_files_and_the_cache_are_found_with_their_facts(
    tmp_path: Path, empty_cache: Path
) -> None:
    make_tiny_model(tmp_path / "models" / "family" / "tiny")
    write_tiny_gguf(tmp_path / "models" / "small.gguf")
    snapshot = empty_cache / "models--maker--cached" / "snapshots" / "abc"
    make_tiny_model(snapshot)
    (snapshot / "README.md").write_text("---\nlicense: mit\n---\n", encoding="utf-8")
    found = {c.title: c for c in local_candidates([], [tmp_path / "models"])}
    assert set(found) == {"SmolLM2 135M Instruct", "tiny", "small", "maker/cached"}
    assert {c.source for c in found.values()} == {"starter", "folder", "gguf", "hub"}
    assert found["tiny"].facts.context == 512
    assert found["tiny"].facts.chat_template is True
    assert found["small"].facts.parameters > 20_000
    assert (found["small"].facts.context, found["small"].facts.chat_template) == (256, True)
    assert found["maker/cached"].facts.licence == "mit"
    assert found["maker/cached"].on_disk
    assert not found["SmolLM2 135M Instruct"].on_disk  # it is downloaded at the first run


def test_a_damaged_or_partial_model_is_listed_with_the_reason(
    tmp_path: Path, empty_cache: Path
) -> None:
    folder = make_tiny_model(tmp_path / "models" / "tiny")
    (folder / "model.safetensors").unlink()
    partial = empty_cache / "models--maker--partial" / "snapshots" / "abc"
    make_tiny_model(partial)
    (partial / "model.safetensors").unlink()
    (tmp_path / "models" / "bad.gguf").write_bytes(b"GGUF")
    found = {c.title: c for c in local_candidates([], [tmp_path / "models"])}
    assert "no weights" in found["tiny"].fault
    assert "bad.gguf" in found["bad"].fault
    assert not found["maker/partial"].on_disk
    made = choices(found.values(), purpose(tmp_path))
    assert {c.candidate.title for c in made[-2:]} == {"tiny", "bad"}
    assert made[-1].graph is None


def test_other_kinds_of_models_in_the_cache_are_not_offered(empty_cache: Path) -> None:
    folder = empty_cache / "models--maker--vision" / "snapshots" / "abc"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "vit"}', encoding="utf-8")
    assert [c.title for c in local_candidates([], [])] == ["SmolLM2 135M Instruct"]


def one(found: Candidate, asked: Purpose) -> BaseChoice:
    (made,) = choices([found], asked)
    return made


@pytest.mark.parametrize(("free", "fit"), [(40, "fits"), (12, "4 bits"), (3, "no")])
def test_what_fits_is_the_estimate_of_the_graph_that_the_choice_gives(
    tmp_path: Path, free: float, fit: str
) -> None:
    made = one(candidate(tmp_path / "large"), purpose(tmp_path, free))
    assert made.fit == fit
    assert made.estimate is not None
    assert made.estimate.fits is (fit != "no")
    assert made.graph is not None
    quantization = made.graph.node("base_model").settings.get("quantization", "none")
    assert (quantization == "nf4") == (fit != "fits")


def test_another_model_in_a_project_keeps_its_settings_and_gets_4_bits_only_if_needed(
    tmp_path: Path,
) -> None:
    graph = reset_setting(load_project(ROOT / "assets" / "starter.studio"), "base", "dtype")
    large = candidate(tmp_path / "large")
    for free, quantization in ((60, None), (12, "nf4")):
        asked = Purpose(graph, REGISTRY, ROOT / "assets", machine(free), base="base")
        made = one(large, asked)
        settings = dict(made.graph.node("base").settings)
        assert settings["model"] == large.model
        assert settings.get("quantization") == quantization
        assert made.graph.node("train") == graph.node("train")


def test_a_revision_belongs_to_the_earlier_model(tmp_path: Path) -> None:
    base = Node("base", "base_model", {"model": "maker/one", "revision": "v2"})
    asked = Purpose(Graph(nodes=(base,)), REGISTRY, tmp_path, machine(24), base="base")
    made = one(candidate(tmp_path / "large"), asked)
    assert "revision" not in made.graph.node("base").settings
    assert made.estimate is not None  # without a training: that of one with default settings


def test_full_fine_tuning_is_not_offered_in_4_bits(tmp_path: Path) -> None:
    data = load_project(ROOT / "assets" / "starter.studio")
    wires = [w for w in data.wires if "lora" not in (w.source, w.target)]
    train = replace(next(w for w in data.wires if w.target == "lora"), target="train")
    graph = replace(
        data, nodes=tuple(n for n in data.nodes if n.id != "lora"), wires=(*wires, train)
    )
    asked = Purpose(graph, REGISTRY, ROOT / "assets", machine(12), base="base")
    made = one(candidate(tmp_path / "large"), asked)
    assert (made.fit, made.quantization) == ("no", "none")


def test_what_fits_comes_first_and_larger_models_only_on_a_gpu(tmp_path: Path) -> None:
    tiny = make_tiny_model(tmp_path / "tiny")
    folders = [candidate(tmp_path / "large"), *local_candidates([str(tiny)], ())]
    asked = purpose(tmp_path, 12)
    titles = [c.candidate.title for c in choices(folders, asked)]
    assert titles == ["SmolLM2 135M Instruct", "tiny", "large"]
    asked = replace(asked, facts=machine(12, "cpu"))
    titles = [c.candidate.title for c in choices(folders, asked)]
    assert titles == ["tiny", "SmolLM2 135M Instruct", "large"]


# ------------------------------------------------------------------ the Hub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the Hub with one model."""
    monkeypatch.delenv("HF_HUB_OFFLINE")
    folder = tmp_path / "served"
    folder.mkdir()
    with serve_hub(folder, "maker/small-talk") as endpoint:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        yield


def test_the_hub_is_searched_by_name(hub: None, tmp_path: Path) -> None:
    (found,) = search_hub("Small")
    assert found.id == "maker/small-talk"
    made = one(hub_candidate(found), purpose(tmp_path))
    facts = made.candidate.facts
    assert (facts.parameters, facts.licence, facts.chat_template) == (27_000, "apache-2.0", True)
    assert (made.fit, made.candidate.on_disk, made.candidate.download) == ("fits", False, 108_000)
    assert made.graph.node("base_model").settings["model"] == "maker/small-talk"
    assert search_hub("nothing like it") == []


def test_without_a_network_a_search_says_so() -> None:
    with pytest.raises(StudioError) as caught:
        search_hub("small")
    assert caught.value.code == "no_network"
    assert caught.value.sentence.startswith("The Hub cannot be searched")


@pytest.mark.parametrize(
    ("parameters", "fit"), [(1_000_000_000, "fits"), (13_000_000_000, "4 bits"), (None, "unknown")]
)
def test_a_model_that_is_only_on_the_hub_is_judged_by_its_size(
    tmp_path: Path, parameters: int | None, fit: str
) -> None:
    made = one(hub_candidate(HubModel("maker/x", parameters)), purpose(tmp_path, 24))
    assert made.fit == fit
    settings = made.graph.node("base_model").settings
    assert (settings.get("quantization") == "nf4") == (fit == "4 bits")


# ------------------------------------------------------------------ the new training


def test_plain_text_gets_no_evaluation_and_a_note(tmp_path: Path) -> None:
    (tmp_path / "story.txt").write_text("once upon a time " * 50, encoding="utf-8")
    graph = Graph(nodes=(Node("data", "dataset", {"source": "story.txt"}),))
    made = new_training(graph, REGISTRY, tmp_path, "data", "starter:smollm2-135m", machine(24))
    assert "evaluate" not in {n.type for n in made.graph.nodes}
    assert "no Evaluate node" in made.notes[0]
    found = find_problems(made.graph, REGISTRY, tmp_path)
    assert not [p for p in found if p.blocks or p.code == "unused_node"]


def test_test_files_are_named_as_the_data_is(tmp_path: Path) -> None:
    (tmp_path / "tone").mkdir()
    write_rows(tmp_path / "tone" / "train.jsonl", 60)
    write_rows(tmp_path / "tone" / "test.jsonl", 6)
    for source, expected in (
        ("tone", "tone/test.jsonl"),
        (str(tmp_path / "tone"), str(tmp_path / "tone" / "test.jsonl")),
    ):
        graph = Graph(nodes=(Node("data", "dataset", {"source": source}),))
        made = new_training(graph, REGISTRY, tmp_path, "data", "starter:smollm2-135m", machine(24))
        wire = made.graph.wire_into("evaluate", "dataset")
        settings = made.graph.node(wire.source).settings
        assert dict(settings) == {"source": expected, "validation_fraction": 0.0}


def test_a_free_base_model_is_used_and_no_node_covers_another(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", 60)
    nodes = (
        Node("data", "dataset", {"source": str(rows)}),
        Node("mine", "base_model", {"model": "maker/one"}, "Mine", (0, 400)),
        Node("other", "export", {}, "", (560, 40)),
    )
    made = new_training(
        Graph(nodes=nodes), REGISTRY, tmp_path, "data", "starter:smollm2-135m", machine(24)
    )
    assert made.base == "mine"
    assert made.graph.node("mine").title == "Mine"
    places = [n.position for n in made.graph.nodes]
    near = [
        (a, b)
        for i, a in enumerate(places)
        for b in places[:i]
        if abs(a[0] - b[0]) < 220 and abs(a[1] - b[1]) < 100
    ]
    assert not near


def test_long_rows_raise_the_maximum_length(tmp_path: Path) -> None:
    rows = [{"prompt": "x" * 4000, "completion": "y"} for _ in range(60)]
    path = tmp_path / "long.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    graph = Graph(nodes=(Node("data", "dataset", {"source": str(path)}),))
    made = new_training(graph, REGISTRY, tmp_path, "data", "starter:smollm2-135m", machine(24))
    (length,) = (p for p in made.proposals if p.field == "max_length")
    assert length.value > 1000
    assert "estimated" in length.reason
    assert made.graph.node("train").settings["max_length"] == length.value
