"""Recipe and estimate agree on whether a training fits, for large models on GPUs that are not here."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from studio.estimate.graph import Estimate, estimate_graph
from studio.estimate.job import Facts
from studio.estimate.machine import Machine
from studio.estimate.words import headline, without_merge
from studio.graph.edits import set_setting
from studio.graph.graph import Graph, Node, Wire
from studio.graph.registry import load_registry
from studio.preview.report import DataReport, Histogram
from studio.recipe.facts import apply_recipe, recipe_facts
from studio.recipe.recipe import Proposal, propose
from studio.recipe.verdict import verdict
from tests.studio.estimate.architectures import ARCHITECTURES

LLAMA_8B = dict(ARCHITECTURES["Llama-3-8B"][0])
LLAMA_70B = {
    **LLAMA_8B,
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
}
MIXTURE = {
    **LLAMA_8B,
    "model_type": "mixtral",
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 24,
    "num_attention_heads": 32,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
}
"""About 7 billion parameters, which are compared after a merge as a whole."""
CONFIGS = {"8B": LLAMA_8B, "70B": LLAMA_70B, "mixture": MIXTURE}
REPORT = DataReport(
    rows=3000,
    done=3000,
    max_length=1024,
    train_on="answers",
    train_rows=3000,
    validation_rows=300,
    tokens=300 * 3000,
    histogram=Histogram(longest=900, max_length=1024),
)


def card(gb: float) -> Facts:
    return Facts(Machine("a card", "cuda", int(gb * 1e9), int(gb * 1e9), True, 600 * 10**6))


def processor(gb: float) -> Facts:
    return Facts(Machine("a CPU", "cpu", int(gb * 1e9), int(gb * 1e9), True, 620 * 10**6))


def project(
    folder: Path, size: str, quantization: str, lora: bool = True, merge: bool = False
) -> Graph:
    """A project whose model folder holds only its config."""
    model = folder / size
    model.mkdir(exist_ok=True)
    (model / "config.json").write_text(json.dumps(CONFIGS[size]), encoding="utf-8")
    (folder / "rows.jsonl").write_text(
        json.dumps({"prompt": "Why?", "completion": "So."}) + "\n", encoding="utf-8"
    )
    base = {"model": f"./{size}", "dtype": "bfloat16", "quantization": quantization}
    nodes = [
        Node("data", "dataset", {"source": "rows.jsonl"}),
        Node("base", "base_model", base),
        Node("train", "train", {"batch_size": 8, "max_length": 1024}),
    ]
    wires = [Wire("data", "dataset", "train", "dataset")]
    if lora:
        nodes.append(Node("lora", "lora", {"r": 16}))
        wires.append(Wire("base", "model", "lora", "model"))
    wires.append(Wire("lora" if lora else "base", "model", "train", "model"))
    if merge:
        nodes.append(Node("merge", "merge", {}))
        wires.append(Wire("train", "adapter", "merge", "adapter"))
    return Graph("demo", tuple(nodes), tuple(wires))


def estimated(graph: Graph, folder: Path, facts: Facts) -> Estimate:
    found = estimate_graph(graph, load_registry(), folder, facts)
    assert found is not None
    return found


def advised(graph: Graph, folder: Path, facts: Facts) -> tuple[list[Proposal], str]:
    """The recipe, and its sentence about the memory."""
    registry = load_registry()
    proposals = propose(recipe_facts(graph, registry, folder, None, REPORT, facts))
    return proposals, verdict(graph, registry, folder, "train", proposals, facts)


@pytest.mark.parametrize("lora", [True, False])
@pytest.mark.parametrize("quantization", ["none", "nf4"])
@pytest.mark.parametrize("gb", [8, 24, 80])
@pytest.mark.parametrize("size", ["8B", "70B"])
def test_the_recipe_says_what_the_estimate_says(
    tmp_path: Path, size: str, gb: float, quantization: str, lora: bool
) -> None:
    if not lora and quantization != "none":
        return  # refused for other reasons
    graph, facts = project(tmp_path, size, quantization, lora), card(gb)
    proposals, sentence = advised(graph, tmp_path, facts)
    now = estimated(graph, tmp_path, facts)
    then = estimated(apply_recipe(graph, proposals), tmp_path, facts)
    assert ("does not fit" in sentence) == (now.fits is False or then.fits is False)
    assert ("even with these values" in sentence) == (then.fits is False)
    if then.fits is False:
        assert "would fit" in sentence
    elif sentence:
        assert "and fits." in sentence


FIT_WITH_THE_RECIPE = {
    ("8B", 8, "none"): True,
    ("8B", 24, "none"): True,
    ("8B", 80, "none"): True,
    ("70B", 8, "none"): False,
    ("70B", 24, "none"): False,
    ("70B", 80, "none"): True,
}


@pytest.mark.parametrize(("case", "fits"), FIT_WITH_THE_RECIPE.items())
def test_what_is_known_to_fit(tmp_path: Path, case: tuple[str, float, str], fits: bool) -> None:
    """QLoRA of 8B trains in 8 GB and of 70B in 80 GB, as published; 70B in 24 GB does not."""
    size, gb, quantization = case
    _, sentence = advised(project(tmp_path, size, quantization), tmp_path, card(gb))
    assert ("even with these values" not in sentence) == fits


def test_the_nearest_that_fits_does_fit(tmp_path: Path) -> None:
    """The model that is named is smaller, and one of that size trains."""
    graph = project(tmp_path, "70B", "none")
    _, sentence = advised(graph, tmp_path, card(24))
    size = float(sentence.split("A model of about ")[1].split()[0])
    assert 15 < size < 50


def test_a_merge_needs_no_more_than_the_training(tmp_path: Path) -> None:
    """On a CPU the merged model is compared without quantization, layer by layer."""
    facts = processor(14)
    graph = project(tmp_path, "8B", "nf4", merge=True)
    proposals, sentence = advised(graph, tmp_path, facts)
    assert estimated(apply_recipe(graph, proposals), tmp_path, facts).fits
    assert "even with these values" not in sentence


def test_a_merge_that_does_not_fit_is_named(tmp_path: Path) -> None:
    found = estimated(project(tmp_path, "8B", "nf4", merge=True), tmp_path, processor(30))
    peaks = {**found.peaks, "merging": 32 * 10**9}
    then = replace(found, peaks=peaks, phase="merging", peak=32 * 10**9, fits=False)
    assert "while merging" in headline(then)
    assert "Without the Merge node" in without_merge(then)


def test_a_large_merge_is_compared_by_layers(tmp_path: Path) -> None:
    """An embedding in bfloat16 and float32 is the largest part."""
    graph = project(tmp_path, "8B", "none", merge=True)
    found = estimated(graph, tmp_path, processor(30))
    assert found.phases["merging"].weights == 6 * EMBEDDING
    assert found.phase != "merging"
    quantized = estimated(project(tmp_path, "8B", "nf4", merge=True), tmp_path, processor(30))
    assert quantized.peaks["merging"] < quantized.peaks["checking"] * 1.2


def test_a_merge_takes_the_precision_that_fits(tmp_path: Path) -> None:
    graph = project(tmp_path, "mixture", "none", merge=True)
    narrow, wide = (estimated(graph, tmp_path, processor(gb)) for gb in (30, 100))
    assert narrow.peaks["merging"] < 0.6 * wide.peaks["merging"]
    assert wide.peaks["merging"] > 4 * 7e9


PARAMETERS = 8_030_261_248
EMBEDDING = LLAMA_8B["vocab_size"] * LLAMA_8B["hidden_size"]
LINEAR = LLAMA_8B["intermediate_size"] * LLAMA_8B["hidden_size"]


@pytest.mark.parametrize(("more", "width"), [(1.01, 4), (0.99, 2)])
def test_a_merge_is_compared_in_float32_where_a_fifth_stays_free(
    tmp_path: Path, more: float, width: int
) -> None:
    graph = project(tmp_path, "mixture", "none", merge=True)
    parameters = estimated(graph, tmp_path, processor(200)).phases["merging"].weights / 4
    facts = processor((1.2 * 4 * parameters * more + 620 * 10**6) / 1e9)
    found = estimated(graph, tmp_path, facts)
    assert found.phases["merging"].weights == width * parameters


@pytest.mark.parametrize(
    ("quantization", "dtype", "read"),
    [
        ("none", "bfloat16", 0),
        ("none", "float32", 2 * EMBEDDING),
        ("nf4", "bfloat16", 2 * LINEAR),
    ],
)
def test_a_tensor_that_is_converted_is_read_beside_the_model(
    tmp_path: Path, quantization: str, dtype: str, read: int
) -> None:
    graph = set_setting(project(tmp_path, "8B", quantization), "base", "dtype", dtype)
    found = estimated(graph, tmp_path, card(80)).phases["loading"]
    kept = found.weights + found.quantization + found.framework
    assert found.peak - kept == read


@pytest.mark.parametrize(("dtype", "width"), [("bfloat16", 2), ("float32", 4)])
def test_after_full_fine_tuning_the_saved_model_is_checked(
    tmp_path: Path, dtype: str, width: int
) -> None:
    graph = set_setting(project(tmp_path, "8B", "none", lora=False), "base", "dtype", dtype)
    found = estimated(graph, tmp_path, card(80))
    assert found.phases["checking"].weights == width * PARAMETERS
    assert "merging" not in found.peaks


def test_only_the_merge_behind_a_training_counts(tmp_path: Path) -> None:
    graph = project(tmp_path, "8B", "none", merge=True)
    wires = (Wire("data", "dataset", "other", "dataset"), Wire("lora", "model", "other", "model"))
    two = Graph("two", (*graph.nodes, Node("other", "train")), (*graph.wires, *wires))
    for node, merges in (("train", True), ("other", False)):
        found = estimate_graph(two, load_registry(), tmp_path, processor(30), node)
        assert found is not None
        assert ("merging" in found.peaks) is merges


def test_on_a_gpu_a_merge_falls_back_to_the_cpu(tmp_path: Path) -> None:
    graph = project(tmp_path, "8B", "nf4", merge=True)
    assert estimated(graph, tmp_path, card(12)).peaks["merging"] < 1e9


def test_the_phases_are_in_order(tmp_path: Path) -> None:
    """Loading and checking hold one model and need less than the training."""
    for quantization in ("none", "nf4"):
        found = estimated(project(tmp_path, "8B", quantization), tmp_path, card(80))
        assert found.phase == "training"
        assert found.peaks["loading"] < found.peaks["training"]
        assert found.peaks["checking"] < found.peaks["training"]
