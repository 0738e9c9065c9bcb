"""Widely used models: their published sizes, what fits, and that downloaded ones take their place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from studio.estimate.job import shape_of_model
from studio.model.facts import model_facts
from studio.model.known_models import known_model, known_models
from studio.model.models import classify
from studio.model.supported import supported
from studio.recipe.base_models import choices, known_candidates, local_candidates
from studio.system.number_text import counted
from tests.studio.test_base_models import machine, purpose

PUBLISHED = {
    "HuggingFaceTB/SmolLM2-360M-Instruct": 361_821_120,
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": 1_711_376_384,
    "Qwen/Qwen3-0.6B": 596_049_920,
    "Qwen/Qwen3-1.7B": 1_720_574_976,
    "Qwen/Qwen3-4B-Instruct-2507": 4_022_468_096,
    "Qwen/Qwen3-8B": 8_190_735_360,
    "meta-llama/Llama-3.2-1B-Instruct": 1_235_814_400,
    "meta-llama/Llama-3.2-3B-Instruct": 3_212_749_824,
    "google/gemma-3-1b-it": 999_885_952,
    "google/gemma-3-4b-it": 4_300_079_472,
    "mistralai/Mistral-7B-Instruct-v0.3": 7_248_023_552,
}


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No models of the person who runs the tests."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("LORA_STUDIO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "hub"


def test_the_shapes_have_the_published_number_of_parameters() -> None:
    found = {name: model_facts(name, Path()).parameters for name in known_models()}
    assert found == PUBLISHED


@pytest.mark.parametrize("name", PUBLISHED)
def test_each_is_a_causal_model_of_the_hub_with_its_facts(name: str) -> None:
    known, facts = known_model(name), model_facts(name, Path())
    assert classify(name) == "hub"
    assert known.config["model_type"] in supported().causal
    assert "auto_map" not in known.config
    assert facts.context >= 8192
    assert (facts.licence, facts.chat_template) == (known.licence, True)
    assert shape_of_model(name, Path()).parameters == PUBLISHED[name]
    if known.download is not None:  # it states what differs from two bytes per parameter
        assert known.download > 2.1 * PUBLISHED[name]


def test_what_fits_comes_first_and_follows_from_the_estimate(tmp_path: Path) -> None:
    asked = purpose(tmp_path, 8)
    made = choices(known_candidates([]), asked)
    assert {c.candidate.model for c in made} == set(PUBLISHED)
    order = ["fits", "4 bits", "no"]
    fits = [order.index(c.fit) for c in made]
    assert fits == sorted(fits)
    assert set(fits) >= {0, 1}
    for choice in made:
        assert choice.estimate is not None
        assert choice.estimate.fits is (choice.fit != "no")
        quantization = choice.graph.node("base_model").settings.get("quantization", "none")
        assert (quantization == "nf4") == (choice.fit == "4 bits")
    small = choices(known_candidates([]), purpose(tmp_path, 3, facts=machine(3)))
    assert [c.fit for c in small].count("fits") < fits.count(0)


def test_a_card_says_what_is_downloaded_and_whether_it_is_gated() -> None:
    found = {c.model: c for c in known_candidates([])}
    assert not any(c.on_disk for c in found.values())
    assert found["Qwen/Qwen3-0.6B"].download == 1_503_300_328  # with a copy of the tied weights
    assert found["Qwen/Qwen3-8B"].download == 2 * PUBLISHED["Qwen/Qwen3-8B"]
    gated = {name.partition("/")[0] for name, c in found.items() if c.gated}
    assert gated == {"meta-llama", "google", "mistralai"}


def test_a_downloaded_one_is_listed_once_with_its_own_facts(empty_cache: Path) -> None:
    name = "Qwen/Qwen3-0.6B"
    snapshot = empty_cache / ("models--" + name.replace("/", "--")) / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    config = {**known_model(name).config, "num_hidden_layers": 4}
    (snapshot / "config.json").write_text(json.dumps(config), encoding="utf-8")
    local = local_candidates([], [])
    assert name in {c.model for c in local}
    assert name not in {c.model for c in known_candidates(local)}
    assert shape_of_model(name, Path()).layers == 4
    assert model_facts(name, Path()).layers == 4


def test_a_count_that_rounds_to_a_thousand_takes_the_next_unit() -> None:
    assert counted(999_885_952) == "1.0 B"
    assert counted(999_400_000) == "999 M"
    assert counted(999) == "999"
