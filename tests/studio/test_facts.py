"""Facts of models, read without torch."""

from __future__ import annotations

import json
from pathlib import Path

from studio.graph.facts import facts_of, short_line
from studio.graph.graph import Node
from studio.graph.registry import load_registry
from studio.model.facts import describe, folder_facts, model_facts, sized
from tests.studio.estimate.architectures import ARCHITECTURES
from tests.tiny import make_tiny_model


def test_a_folder_tells_its_facts(tmp_path: Path) -> None:
    """As its config and its weights say."""
    folder = make_tiny_model(tmp_path / "tiny")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Tiny\n", encoding="utf-8")
    facts = model_facts(str(folder), tmp_path)
    assert facts is not None
    assert facts.layers == config["num_hidden_layers"]
    assert facts.hidden == config["hidden_size"]
    assert facts.vocabulary == config["vocab_size"]
    assert facts.licence == "apache-2.0"
    assert facts.bytes_on_disk == (folder / "model.safetensors").stat().st_size
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(str(folder))
    assert facts.parameters == model.num_parameters()


def test_a_config_alone_tells_the_parameters(tmp_path: Path) -> None:
    """Where no weights are: by the architecture, where it is known."""
    config, _ = ARCHITECTURES["Llama-3-8B"]
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    facts = folder_facts(tmp_path)
    assert facts is not None
    assert facts.parameters == 8_030_261_248
    assert facts.bytes_on_disk is None
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text(
        '{"model_type": "unheard-of"}', encoding="utf-8"
    )
    unknown = folder_facts(tmp_path / "other")
    assert unknown is not None
    assert unknown.parameters is None


def test_a_starter_is_known_before_it_is_fetched(tmp_path: Path) -> None:
    """Size, depth and licence stand on the node at once."""
    registry = load_registry()
    node = Node("base", "base_model", {"model": "starter:smollm2-135m"})
    facts = facts_of(node, registry.node_type("base_model"), tmp_path)
    assert short_line(facts) == "135 M · 30 layers"
    assert ("License", "Apache-2.0") in {(f.label, f.value) for f in facts}


def test_what_is_not_here_has_no_facts(tmp_path: Path) -> None:
    """No guess about a hub model that was never fetched, or about a folder that does not contain a model."""
    (tmp_path / "empty").mkdir()
    assert model_facts("someone/never-fetched", tmp_path) is None
    assert folder_facts(tmp_path / "empty") is None
    (tmp_path / "empty" / "config.json").write_text("[1]", encoding="utf-8")
    assert folder_facts(tmp_path / "empty") is None


def test_a_model_that_sees_tells_its_text_part(tmp_path: Path) -> None:
    """The language model's figures, not the tower's; parameters are unknown without weights."""
    text = {"num_hidden_layers": 26, "hidden_size": 1152, "max_position_embeddings": 32768}
    config = {"architectures": ["Gemma3ForConditionalGeneration"], "text_config": text}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    facts = folder_facts(tmp_path)
    assert facts is not None
    assert (facts.layers, facts.hidden, facts.context, facts.parameters) == (26, 1152, 32768, None)
    assert "Parameters" not in {f.label for f in describe(facts)}


def test_sizes_in_words() -> None:
    """As people say them."""
    assert [sized(n) for n in (100, 269_060_552, 14.5e9)] == ["1 MB", "269 MB", "14.5 GB"]
