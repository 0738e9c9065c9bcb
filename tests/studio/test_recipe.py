"""The recipe: values that validate, move the right way, and say why."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from studio.errors import StudioError
from studio.graph.graph import Graph
from studio.graph.problems import find_problems
from studio.graph.project import load_project
from studio.graph.registry import load_registry
from studio.preview.report import DataReport, Histogram
from studio.recipe.facts import apply_recipe, recipe_facts
from studio.recipe.fit import RecipeFacts
from studio.recipe.recipe import (
    LIKE_LORA,
    epochs_for,
    propose,
    rank_for,
    rows_per_step,
)
from studio.values import FULL_FINE_TUNING
from tests.e2e.studio_cli import studio, write_project, write_rows
from tests.tiny import make_tiny_model

ROOT = Path(__file__).parents[2]
STARTER = ROOT / "assets" / "starter.studio"
BIG = RecipeFacts(
    train="train",
    lora="lora",
    base="base",
    dataset="data",
    parameters=8_000_000_000,
    layers=32,
    hidden=4096,
    vocabulary=128_256,
    context=131_072,
    rows=3000,
    validation_rows=300,
    tokens=300.0,
    longest=900,
    max_length=1024,
    gpu=True,
    memory_gb=80.0,
)


def values(facts: RecipeFacts) -> dict[str, Any]:
    """The proposals by “node.field”; none may come twice."""
    found = propose(facts)
    named = {f"{p.node}.{p.field}": p.value for p in found}
    assert len(named) == len(found)
    return named


def starter(rows: int = 1400) -> tuple[Graph, RecipeFacts]:
    """The starter project, and its facts with so many rows."""
    graph = load_project(STARTER)
    report = DataReport(
        rows=rows,
        done=rows,
        max_length=512,
        train_on="answers",
        train_rows=rows,
        validation_rows=rows // 10,
        tokens=50 * rows,
        histogram=Histogram(longest=120, max_length=512),
    )
    return graph, recipe_facts(graph, load_registry(), ROOT / "assets", None, report)


@pytest.mark.parametrize("rows", [3, 60, 700, 4_000, 40_000, 2_000_000])
@pytest.mark.parametrize("method", ["lora", "rslora", "dora"])
def test_the_graph_with_the_recipe_has_no_new_problem(rows: int, method: str) -> None:
    """Every value is allowed, whatever the size of the data."""
    graph, facts = starter(rows)
    registry = load_registry()
    done = apply_recipe(graph, propose(replace(facts, method=method)))
    before = {(p.node, p.field) for p in find_problems(graph, registry, ROOT / "assets")}
    found = find_problems(done, registry, ROOT / "assets")
    assert [p for p in found if (p.node, p.field) not in before] == []


def test_every_value_has_a_reason_of_one_sentence_or_two() -> None:
    for proposal in propose(BIG):
        assert proposal.reason.endswith(".")
        assert 20 <= len(proposal.reason) <= 200


def test_the_methods_it_knows_exist() -> None:
    """A method under another name would silently get no rank."""
    assert {v.id for v in load_registry().choices("adapter")} >= LIKE_LORA


@pytest.mark.parametrize("parameters", [100_000_000, 8_000_000_000, 400_000_000_000])
def test_each_method_gets_a_rate_of_its_own_range(parameters: int) -> None:
    for variant in load_registry().choices("adapter"):
        found = values(replace(BIG, method=variant.id, parameters=parameters))
        rates = variant.payload.learning_rates
        if rates is None:
            assert "train.learning_rate" not in found
        else:
            assert rates[0] <= found["train.learning_rate"] <= rates[2], variant.id


def test_another_method_gets_another_rate() -> None:
    """AdaLoRA hardly moves at LoRA's rate."""
    lora, ada = (values(replace(BIG, method=m))["train.learning_rate"] for m in ("lora", "adalora"))
    assert (lora, ada) == (2e-4, 1e-3)


def test_more_rows_never_mean_more_epochs_or_a_smaller_step() -> None:
    """Epochs fall, rows of a step and ranks rise; there are always steps enough to learn."""
    counts = [10, 50, 150, 299, 300, 1_000, 2_000, 5_000, 10_000, 50_000, 100_000, 1_000_000]
    assert [epochs_for(n) for n in counts] == sorted((epochs_for(n) for n in counts), reverse=True)
    assert [rows_per_step(n) for n in counts] == sorted(rows_per_step(n) for n in counts)
    assert [rank_for(n) for n in counts] == sorted(rank_for(n) for n in counts)
    for count in counts[2:]:
        assert epochs_for(count) * count / rows_per_step(count) >= 60


def test_the_batch_grows_at_round_numbers_of_rows() -> None:
    assert [rows_per_step(n) for n in (299, 300, 1999, 2000)] == [4, 8, 8, 16]


def test_larger_models_get_smaller_rates_and_a_whole_model_a_tenth() -> None:
    sizes = [100_000_000, 1_000_000_000, 8_000_000_000, 70_000_000_000]
    rates = [values(replace(BIG, parameters=n))["train.learning_rate"] for n in sizes]
    assert rates == sorted(rates, reverse=True)
    assert len(set(rates)) == 4
    whole = values(replace(BIG, parameters=1_000_000_000, method=FULL_FINE_TUNING, lora=None))
    assert whole["train.learning_rate"] == pytest.approx(rates[1] / 10)
    assert not any(name.startswith("lora.") for name in whole)


def test_less_memory_means_smaller_batches_then_recomputing_then_four_bits() -> None:
    """The least harmful first; rows of an optimizer step stay the same."""
    found = [values(replace(BIG, memory_gb=gb)) for gb in (141.0, 48.0, 24.0, 12.0)]
    batches = [f["train.batch_size"] for f in found]
    per_step = {f["train.batch_size"] * f["train.gradient_accumulation_steps"] for f in found}
    assert per_step == {rows_per_step(3000)}
    assert batches[0] == 8
    assert batches[1] < 8
    assert "base.quantization" not in {**found[0], **found[1]}
    assert "train.gradient_checkpointing" not in found[0]
    assert found[2].get("train.gradient_checkpointing") or found[2]["base.quantization"] == "nf4"
    assert found[3]["base.quantization"] == "nf4"


def test_a_quantized_base_is_not_quantized_again() -> None:
    assert "base.quantization" not in values(replace(BIG, memory_gb=12.0, quantization="nf4"))


def test_best_and_early_stopping_only_where_there_is_validation() -> None:
    assert values(BIG)["train.keep"] == "best"
    without = values(replace(BIG, validation_rows=0))
    assert "train.early_stopping" not in without
    assert without["data.validation_fraction"] == 0.1
    once = values(replace(BIG, rows=200_000))
    assert (once["train.keep"], once["train.early_stopping"]) == ("last", 0)


def test_rows_that_are_cut_get_more_room_up_to_the_models_own() -> None:
    cut = replace(BIG, cut=12, longest=1500, max_length=512)
    assert values(cut)["train.max_length"] == 1536
    assert values(replace(cut, context=1024))["train.max_length"] == 1024
    assert "train.max_length" not in values(BIG)


def test_texts_that_are_cut_are_split_instead_and_other_rows_get_more_room() -> None:
    texts = replace(BIG, cut=12, cut_texts=12, longest=1500, max_length=512)
    assert values(texts)["train.long_text"] == "split"
    assert "train.max_length" not in values(texts)
    both = values(replace(texts, cut=13))
    assert (both["train.long_text"], both["train.max_length"]) == ("split", 1536)
    assert "train.long_text" not in values(BIG)


def test_the_recipe_of_a_single_long_text_counts_its_pieces() -> None:
    report = DataReport(
        rows=1,
        done=1,
        max_length=512,
        train_on="answers",
        train_rows=1,
        train_pieces=20_000,
        tokens=10_000_000,
        histogram=Histogram(longest=10_000_000, max_length=512, divided=1),
    )
    graph = load_project(STARTER)
    facts = recipe_facts(graph, load_registry(), ROOT / "assets", None, report)
    found = values(facts)
    like_many_rows = values(replace(BIG, rows=20_000))
    for name in ("train.epochs", "lora.r", "lora.dropout"):
        assert found[name] == like_many_rows[name]
    assert "data.validation_fraction" not in found  # one row cannot be divided


def test_rslora_keeps_its_scale_at_two() -> None:
    found = values(replace(BIG, method="rslora"))
    assert found["lora.alpha"] / found["lora.r"] ** 0.5 == pytest.approx(2.0)


def test_without_facts_only_what_needs_none_is_proposed() -> None:
    found = values(RecipeFacts(train="train", lora="lora"))
    assert set(found) == {"train.learning_rate", "train.lr_scheduler"}


def test_two_train_nodes_need_a_name(tmp_path: Path) -> None:
    graph = load_project(STARTER)
    from studio.graph.edits import add_node
    from studio.graph.graph import Node

    twice = add_node(graph, Node("again", "train"))
    registry = load_registry()
    with pytest.raises(StudioError, match="2 Train nodes"):
        recipe_facts(twice, registry, tmp_path)
    assert recipe_facts(twice, registry, tmp_path, "again").train == "again"
    with pytest.raises(StudioError, match="no Train node “gone”"):
        recipe_facts(twice, registry, tmp_path, "gone")


def test_in_the_terminal(tmp_path: Path) -> None:
    """Shown, then applied; what is applied is what was shown, and the project still runs."""
    home = {"LORA_STUDIO_HOME": str(tmp_path / "home")}
    project = write_project(
        tmp_path / "p.studio",
        make_tiny_model(tmp_path / "model"),
        write_rows(tmp_path / "r.jsonl", 60),
    )
    before = project.read_text(encoding="utf-8")
    shown = studio("recipe", project, "--json", **home)
    assert shown.code == 0, shown.err
    rows = [json.loads(line) for line in shown.out.splitlines()]
    found = {f"{r['node']}.{r['field']}": r["value"] for r in rows}
    assert found["train.epochs"] == epochs_for(48)
    assert all(r["reason"] for r in rows)
    assert project.read_text(encoding="utf-8") == before
    applied = studio("recipe", project, "--apply", "--set", "train.max_length=999", **home)
    assert applied.code == 0, applied.err
    assert f"saved {project}" in applied.out
    assert (
        "Not written, because --set applies to this invocation only: train.max_length=999"
        in applied.err
    )
    settings = {n.id: n.settings for n in load_project(project).nodes}
    assert settings["train"].get("max_length") != 999
    assert all(settings[r["node"]][r["field"]] == r["value"] for r in rows)
    again = studio("recipe", project, **home)
    assert "All values already match the recommendations." in again.out
    assert studio("check", project, **home).code == 0
    assert "does not fit" not in again.out
    large = {"batching": "packed", "batch_size": 4096, "max_length": 10**6, "pack_length": 10**6}
    changes = [word for k, v in large.items() for word in ("--set", f"train.{k}={v}")]
    assert "The training does not fit" in studio("recipe", project, *changes, **home).out
    lines = studio("recipe", project, "--json", *changes, **home).out.splitlines()
    assert json.loads(lines[0])["fits"] is False
