"""A probe's correction counts only for what it was measured for; otherwise the estimate says so."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from studio.cli import main as cli
from studio.estimate import measured
from studio.estimate.fit import propose
from studio.estimate.graph import Estimate, estimate_job
from studio.estimate.job import Facts, counted_of, job_of, longest_batch, mode_of
from studio.estimate.machine import Machine
from studio.estimate.measured import Measured, conditions_of, store_measured
from studio.estimate.rows import rows_of
from studio.estimate.work import probed_paces
from studio.graph.edits import set_setting
from studio.graph.graph import Graph
from studio.graph.project import load_project
from studio.graph.registry import load_registry
from tests.e2e.studio_cli import write_project, write_rows

CONFIG = {
    "model_type": "llama",
    "hidden_size": 512,
    "intermediate_size": 1536,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "vocab_size": 32000,
    "tie_word_embeddings": True,
    "architectures": ["LlamaForCausalLM"],
}
FACTS = Facts(Machine("a processor", "cpu", 10**10, 10**10, False, 620 * 10**6), threads=2)


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Graph:
    """A project of which a probe was made: it needed a fifth more than the formula says."""
    monkeypatch.setenv("LORA_STUDIO_CACHE", str(tmp_path / "cache"))
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    project = write_project(tmp_path / "p.studio", model, write_rows(tmp_path / "r.jsonl"))
    graph = load_project(project)
    probe(graph, tmp_path)
    return graph


def probe(graph: Graph, folder: Path, ratio: float = 1.2) -> None:
    """Keep what a probe of this training would have found."""
    job = job_of(graph, load_registry(), folder, graph.node("train"))
    assert job.shape is not None
    counted, _ = counted_of(job, job.shape)
    mode = mode_of(job, FACTS.machine)
    batch = longest_batch(job, rows_of(job, FACTS)[0], mode)
    of = conditions_of(job, FACTS, counted, mode, batch)
    store_measured(Measured(of, ratio, 10**9, 500.0, 10**9, job.shape.linear_weights, "padded"))


def estimated(graph: Graph, folder: Path, facts: Facts = FACTS) -> Estimate:
    return estimate_job(job_of(graph, load_registry(), folder, graph.node("train")), facts)


def test_a_probe_corrects_the_training_it_was_made_of(graph: Graph, tmp_path: Path) -> None:
    found = estimated(graph, tmp_path)
    assert found.basis == "measured here"
    assert found.parts is not None
    assert found.peak == pytest.approx(1.2 * found.parts.peak, rel=1e-6)
    assert found.dropped == ""
    longer = estimated(set_setting(graph, "train", "max_steps", 500), tmp_path)
    assert longer.basis == "measured here"  # the number of steps changes no step


@pytest.mark.parametrize(
    ("node", "field", "value", "words"),
    [
        ("train", "batch_size", 8, "tokens, not 8 × "),
        ("train", "gradient_checkpointing", True, "different gradient checkpointing"),
        ("train", "optimizer", "sgd", "the optimizer adamw"),
        ("base", "dtype", "bfloat16", "different precision"),
        ("base", "quantization", "nf4", "different quantization"),
        ("lora", "method", "dora", "the method lora"),
        ("lora", "r", 64, "a different number of trainable parameters"),
    ],
)
def test_it_does_not_count_for_other_settings(
    graph: Graph, tmp_path: Path, node: str, field: str, value: Any, words: str
) -> None:
    found = estimated(set_setting(graph, node, field, value), tmp_path)
    assert found.basis == "formula"
    assert found.parts is not None
    assert found.peak == found.parts.peak
    assert words in found.dropped
    assert found.dropped.startswith("The probe of today, ")
    assert found.dropped.endswith("Run the probe again to measure this training.")


def test_it_does_not_count_elsewhere_or_later(
    graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(measured, "machine_key", lambda name: "another / machine / 8")
        assert "on another machine" in estimated(graph, tmp_path).dropped
    with monkeypatch.context() as patch:
        patch.setattr(measured, "formula_version", lambda: "newer")
        assert "another version of the estimate" in estimated(graph, tmp_path).dropped
    other = {**measured.libraries(), "transformers": "99.0"}
    with monkeypatch.context() as patch:
        patch.setattr(measured, "libraries", lambda: other)
        assert "with transformers " in estimated(graph, tmp_path).dropped
    more = dataclasses.replace(FACTS, threads=3)
    assert "with 2 threads" in estimated(graph, tmp_path, more).dropped
    (tmp_path / "model" / "config.json").write_text(
        json.dumps({**CONFIG, "rope_theta": 5e5}), encoding="utf-8"
    )
    assert "other model files" in estimated(graph, tmp_path).dropped


def test_no_word_about_probes_of_other_models(graph: Graph, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    found = estimated(set_setting(graph, "base", "model", str(other)), tmp_path)
    assert (found.basis, found.dropped) == ("formula", "")


def test_a_damaged_or_older_file_costs_only_the_correction(graph: Graph, tmp_path: Path) -> None:
    for file in (tmp_path / "cache" / "measured").iterdir():
        file.write_text(
            '{"ratio": 1.1, "operations_per_s": 1, "tokens_per_s": 1, "peak": 1}', encoding="utf-8"
        )
    (tmp_path / "cache" / "measured" / "half.json").write_text('{"of"', encoding="utf-8")
    found = estimated(graph, tmp_path)
    assert (found.basis, found.dropped) == ("formula", "")


def test_a_method_without_a_formula_is_known_by_its_probe(graph: Graph, tmp_path: Path) -> None:
    graph = set_setting(graph, "lora", "method", "oft")
    assert estimated(graph, tmp_path).peak is None
    probe(graph, tmp_path)
    found = estimated(graph, tmp_path)
    assert (found.peak, found.basis, found.fits) == (10**9, "measured here", True)
    other = estimated(set_setting(graph, "train", "batch_size", 9), tmp_path)
    assert other.peak is None
    assert "does not apply" in other.dropped


def test_a_probe_tells_the_time_too(graph: Graph, tmp_path: Path) -> None:
    facts = dataclasses.replace(FACTS, paces=probed_paces(FACTS.machine, 2))
    found = estimated(graph, tmp_path, facts)
    assert found.seconds is not None
    assert found.seconds_from.startswith("from a probe of today")
    assert found.seconds_low is not None
    assert found.seconds_low < found.seconds
    assert probed_paces(FACTS.machine, 8) == ()


def test_what_is_made_to_fit_is_not_promised_less_than_was_measured(
    graph: Graph, tmp_path: Path
) -> None:
    """The correction does not count for a smaller batch, but is not forgotten on the way there."""
    graph = set_setting(graph, "train", "batch_size", 64)
    probe(graph, tmp_path, 1.5)
    peak = estimated(graph, tmp_path).peak
    assert peak is not None
    machine = dataclasses.replace(FACTS.machine, available=round(0.8 * peak))
    facts = dataclasses.replace(FACTS, machine=machine)
    proposals, after = propose(graph, load_registry(), tmp_path, facts)
    assert proposals
    assert after is not None
    assert after.fits
    assert after.parts is not None
    assert after.peak == pytest.approx(1.5 * after.parts.peak, rel=1e-6)
    assert all(0 < p.saves < peak for p in proposals)


def test_the_terminal_says_what_does_not_count(
    graph: Graph, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del graph
    cli(["estimate", str(tmp_path / "p.studio"), "--runs", str(tmp_path / "none")])
    output = capsys.readouterr().out
    assert "The probe of today" in output  # made with other threads than a run has here
    assert "does not apply" in output
    assert "Time: unknown (run a probe or train once)." in output
