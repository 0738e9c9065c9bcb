"""Memory by formula against published peaks, and the live estimate of a graph."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from studio.cli import main as cli
from studio.estimate.activations import Mode, layer_bytes
from studio.estimate.fit import apply, propose
from studio.estimate.graph import Estimate, estimate_graph
from studio.estimate.job import Facts, job_of, mode_of
from studio.estimate.machine import Machine
from studio.estimate.memory import Batch, Parts, memory
from studio.estimate.trainable import count, matched, rank_for
from studio.graph.edits import set_setting
from studio.graph.graph import Graph, Node, Wire
from studio.graph.project import load_project, save_project
from studio.graph.registry import load_registry
from studio.model.layers import resolve_targets
from studio.model.read_shape import shape_of_config
from studio.model.shapes import Shape
from studio.system.paths import assets_dir
from tests.studio.estimate.architectures import ARCHITECTURES
from tests.timing import cpu_limit

PUBLISHED = [("q,v", 32, 22.29), ("q,v", 64, 22.55), ("gate_proj,up_proj,down_proj", 10, 24.70)]
"""PEFT's method comparison on an L40S: targets, rank, peak reserved in GB."""


def shape_of(name: str) -> Shape:
    shape = shape_of_config(ARCHITECTURES[name][0])
    assert shape is not None
    return shape


def parts_of(shape: Shape, wanted: str, r: int, mode: Mode, batch: Batch, **more: Any) -> Parts:
    names, _ = resolve_targets(shape.modules(), wanted)
    counted = count(shape, "lora", matched(shape, names, rank_for(r, None)))
    parts = memory(shape, counted, mode, batch, **more)
    assert parts is not None
    return parts


@pytest.mark.parametrize(("wanted", "r", "measured_gb"), PUBLISHED)
def test_published_peaks_are_met_within_3_percent(wanted: str, r: int, measured_gb: float) -> None:
    mode = Mode(weights=2, adapter=4, autocast=False, head="plain", device="cuda")
    parts = parts_of(shape_of("Llama-3.2-3B"), wanted, r, mode, Batch(4, 768, 4 * 768))
    assert parts.peak / 1e9 == pytest.approx(measured_gb, rel=0.03)


def test_each_remedy_lowers_the_peak_of_an_8b_model() -> None:
    shape, batch = shape_of("Llama-3-8B"), Batch(4, 1024, 2048)
    plain = parts_of(shape, "all-linear", 16, Mode(device="cuda"), batch)
    checkpointed = parts_of(shape, "all-linear", 16, Mode(checkpointing=True, device="cuda"), batch)
    quantized = parts_of(shape, "all-linear", 16, Mode(quantization="nf4", device="cuda"), batch)
    smaller = parts_of(shape, "all-linear", 16, Mode(device="cuda"), Batch(1, 1024, 512, True))
    eight = parts_of(shape, "all-linear", 16, Mode(device="cuda"), batch, optimizer="adamw_8bit")
    assert max(checkpointed.peak, quantized.peak, smaller.peak, eight.peak) < plain.peak
    assert quantized.weights + quantized.quantization < 0.37 * plain.weights
    assert eight.optimizer < 0.26 * plain.optimizer


def machine(available: int) -> Machine:
    return Machine("a card", "cuda", available, available, True, 600 * 10**6)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a model folder that holds only its config, and a few rows."""
    folder = tmp_path / "llama-3-8b"
    folder.mkdir()
    (folder / "config.json").write_text(
        json.dumps(ARCHITECTURES["Llama-3-8B"][0]), encoding="utf-8"
    )
    row = json.dumps({"prompt": "Why? " * 300, "completion": "Because. " * 200})
    (tmp_path / "rows.jsonl").write_text("\n".join([row] * 100), encoding="utf-8")
    graph = Graph(
        "demo",
        (
            Node("data", "dataset", {"source": "rows.jsonl", "validation_fraction": 0.1}),
            Node("base", "base_model", {"model": "./llama-3-8b", "dtype": "bfloat16"}),
            Node("lora", "lora", {"r": 16}),
            Node("train", "train", {"batch_size": 8, "max_length": 2048}),
        ),
        (
            Wire("data", "dataset", "train", "dataset"),
            Wire("base", "model", "lora", "model"),
            Wire("lora", "model", "train", "model"),
        ),
    )
    save_project(tmp_path / "demo.studio", graph)
    return tmp_path / "demo.studio"


def estimated(file: Path, available: int = 80 * 10**9, graph: Graph | None = None) -> Estimate:
    facts = Facts(machine(available))
    found = estimate_graph(graph or load_project(file), load_registry(), file.parent, facts)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("native", "dtype", "mode", "weights"),
    [
        (True, "auto", ("chunks", False), 2),
        (True, "float32", ("chunks", True), 4),  # its fused kernel takes as many keys as queries
        (False, "auto", ("rows", True), 2),  # float16, of which all logits are computed at once
        (False, "float32", ("chunks", True), 4),
        (True, "float16", ("rows", False), 2),
    ],
)
def test_the_kernel_and_precision_of_a_gpu_are_known(
    project: Path, native: bool, dtype: str, mode: tuple[str, bool], weights: int
) -> None:
    graph = load_project(project)
    graph = set_setting(graph, "base", "dtype", dtype)
    card = dataclasses.replace(machine(10**11), bfloat16=native)
    job = job_of(graph, load_registry(), project.parent, graph.node("train"))
    found = mode_of(job, card)
    assert (found.head, found.repeats_keys, found.weights) == (*mode, weights)
    assert found.autocast is (dtype != "float32")


@pytest.mark.parametrize(
    ("base", "found"),
    [
        ({"dtype": "auto"}, (4, 0, False)),
        ({"dtype": "bfloat16"}, (4, 2, False)),
        ({"dtype": "bfloat16", "quantization": "nf4"}, (2, 0, True)),
    ],
)
def test_a_processor_without_units_for_bfloat16_computes_in_float32(
    project: Path, base: dict[str, str], found: tuple[int, int, bool]
) -> None:
    graph = load_project(project)
    for field, value in base.items():
        graph = set_setting(graph, "base", field, value)
    old = dataclasses.replace(machine(10**11), device="cpu", bfloat16=False)
    job = job_of(graph, load_registry(), project.parent, graph.node("train"))
    mode = mode_of(job, old)
    assert (mode.weights, mode.stored, mode.autocast) == found
    new = mode_of(job, dataclasses.replace(old, bfloat16=True))
    assert (new.weights, new.stored, new.autocast) == (2, 0, True)


def test_weights_in_bfloat16_take_half_the_memory_of_float32(project: Path) -> None:
    facts = Facts(dataclasses.replace(machine(10**11), device="cpu", bfloat16=False))
    found = []
    for dtype in ("float32", "bfloat16"):
        graph = set_setting(load_project(project), "base", "dtype", dtype)
        estimate = estimate_graph(graph, load_registry(), project.parent, facts)
        assert estimate is not None
        assert estimate.parts is not None
        found.append(estimate.parts)
    assert found[1].weights == found[0].weights / 2
    assert found[1].activations == found[0].activations


def test_trained_tokens_need_an_embedding_in_float32(project: Path) -> None:
    """Which is converted where weights are stored in bfloat16 and multiplied in float32."""
    facts = Facts(dataclasses.replace(machine(10**11), device="cpu", bfloat16=False))
    weights = {}
    for tokens in ("", "1, 2"):
        graph = set_setting(load_project(project), "base", "dtype", "bfloat16")
        graph = set_setting(graph, "lora", "trained_tokens", tokens)
        estimate = estimate_graph(graph, load_registry(), project.parent, facts)
        assert estimate is not None
        assert estimate.parts is not None
        weights[tokens] = estimate.parts.weights
    job = job_of(graph, load_registry(), project.parent, graph.node("train"))
    assert job.shape is not None
    assert weights["1, 2"] - weights[""] == 2 * (job.shape.embedding + job.shape.head)


def test_repeated_keys_take_memory(project: Path) -> None:
    """This model has 32 heads of queries, and 8 of keys and values."""
    graph = load_project(project)
    per_token = 2 * 4 * 32 * (4096 - 1024)  # keys and values of 32 layers
    job = job_of(graph, load_registry(), project.parent, graph.node("train"))
    assert job.shape is not None
    without = [
        layer_bytes(job.shape, (), Mode(weights=4, autocast=False, repeats_keys=r), 1, 1)
        for r in (False, True)
    ]
    assert 32 * (without[1] - without[0]) == per_token


def test_a_folder_with_only_a_config_is_enough(project: Path) -> None:
    found = estimated(project)
    assert found.trainable == 41_943_040
    assert found.total == 8_030_261_248 + 41_943_040
    assert found.rows == 90
    assert found.steps == 12
    assert found.peak is not None
    assert found.seconds is None  # nothing was measured on such a card
    assert found.basis == "formula"


def test_what_is_only_taken_for_granted_is_said(project: Path) -> None:
    assert not any("assumed to be" in n for n in estimated(project).notes)
    assert not any("assumed to be" in n for n in with_method(project, "dora").notes)
    assert not any("assumed to be" in n for n in with_method(project, "vera").notes)
    assert any("assumed to be" in n for n in with_method(project, "monteclora").notes)
    unknown = with_method(project, "oft")
    assert unknown.trainable is None
    assert unknown.peak is None
    assert unknown.fits is None
    assert any("a dry run or a probe counts" in n for n in unknown.notes)


def with_method(project: Path, method: str) -> Estimate:
    return estimated(project, graph=set_setting(load_project(project), "lora", "method", method))


def test_full_fine_tuning_counts_every_weight(project: Path) -> None:
    graph = load_project(project)
    wires = [w for w in graph.wires if "lora" not in (w.source, w.target)]
    whole = Graph("whole", graph.nodes, (*wires, Wire("base", "model", "train", "model")))
    found = estimated(project, graph=whole)
    assert found.trainable == found.total == 8_030_261_248
    assert found.fits is False  # 16 bytes for each weight


def test_an_unfinished_graph_is_told_and_never_raises(project: Path) -> None:
    graph = load_project(project)
    alone = estimated(
        project, graph=Graph("alone", tuple(n for n in graph.nodes if n.id == "train"))
    )
    assert alone.peak is None
    assert "Base model" in alone.notes[0]
    none = estimate_graph(Graph("none"), load_registry(), project.parent, Facts(machine(10**9)))
    assert none is None


def test_it_follows_a_slider(project: Path) -> None:
    graph, registry, facts = load_project(project), load_registry(), Facts(machine(8 * 10**10))
    estimate_graph(graph, registry, project.parent, facts)
    with cpu_limit(0.2):  # 2.5 ms each where it was written
        for _ in range(20):
            estimate_graph(graph, registry, project.parent, facts)


def test_padding_takes_memory(project: Path) -> None:
    """A mask, and keys and values repeated for every head; a batch of one row has none. Methods that need padding have
    it without being asked."""
    graph = set_setting(load_project(project), "train", "batch_size", 4)
    padded = set_setting(graph, "train", "batching", "padded")
    assert estimated(project, graph=graph).peak < estimated(project, graph=padded).peak
    one = [set_setting(g, "train", "batch_size", 1) for g in (graph, padded)]
    assert len({estimated(project, graph=g).peak for g in one}) == 1
    method = [set_setting(g, "lora", "method", "alora") for g in (graph, padded)]
    assert len({estimated(project, graph=g).peak for g in method}) == 1


def test_make_it_fit_takes_the_least_harm_first(project: Path) -> None:
    graph, registry = load_project(project), load_registry()
    graph = set_setting(graph, "train", "batching", "padded")
    graph = set_setting(graph, "train", "fused", False)
    for available, fields in (
        (400, []),
        (80, ["batch_size", "gradient_accumulation_steps"]),
        (24, ["gradient_checkpointing"]),  # with it the batch need not be smaller
        (
            9,
            ["batch_size", "gradient_accumulation_steps", "gradient_checkpointing", "quantization"],
        ),
        (
            7.8,
            [
                "batch_size",
                "gradient_accumulation_steps",
                "gradient_checkpointing",
                "optimizer",
                "quantization",
            ],
        ),
    ):
        facts = Facts(machine(round(available * 1e9)))
        proposals, after = propose(graph, registry, project.parent, facts)
        assert after is not None
        assert after.fits, available
        assert [p.field for p in proposals] == fields
        applied = estimated(project, round(available * 1e9), apply(graph, proposals))
        assert applied.peak == after.peak
        settings = apply(graph, proposals).node("train").settings
        assert settings["batch_size"] * settings.get("gradient_accumulation_steps", 1) == 8


def test_fused_functions_need_less_memory(project: Path) -> None:
    """Where they support the whole training: not with dropout, DoRA, quantization, nor where they are turned off."""
    graph = set_setting(load_project(project), "lora", "dropout", 0.0)
    peaks = {}
    for name, node, field, value in (
        ("fused", "lora", "dropout", 0.0),
        ("off", "train", "fused", False),
        ("dropout", "lora", "dropout", 1e-9),
        ("DoRA", "lora", "method", "dora"),
        ("biases", "lora", "bias", "all"),
        ("quantized", "base", "quantization", "nf4"),
    ):
        changed = set_setting(graph, node, field, value)
        job = job_of(changed, load_registry(), project.parent, changed.node("train"))
        peaks[name] = mode_of(job, machine(10**11)).fused, estimated(project, graph=changed).peak
    assert {name: fused for name, (fused, _) in peaks.items() if fused} == {"fused": True}
    assert peaks["fused"][1] is not None
    assert peaks["off"][1] is not None
    assert peaks["fused"][1] < 0.9 * peaks["off"][1]


def test_half_the_precision_comes_before_four_bits(project: Path) -> None:
    """Where the device computes in it; and what was saved adds up to the new peak."""
    graph, registry = load_project(project), load_registry()
    graph = set_setting(set_setting(graph, "train", "fused", False), "base", "dtype", "float32")
    before = estimated(project, 24 * 10**9, graph)
    proposals, after = propose(graph, registry, project.parent, Facts(machine(24 * 10**9)))
    assert [p.field for p in proposals] == ["gradient_checkpointing", "dtype"]
    assert before.peak is not None
    assert after is not None
    assert before.peak - sum(p.saves for p in proposals) == after.peak
    older = dataclasses.replace(machine(24 * 10**9), bfloat16=False)
    for without, value in (
        (older, "float16"),
        (dataclasses.replace(older, device="cpu"), "bfloat16"),
    ):
        proposals, _ = propose(graph, registry, project.parent, Facts(without))
        assert {p.field: p.value for p in proposals}.get("dtype") == value


def test_what_cannot_fit_is_said(project: Path) -> None:
    facts = Facts(machine(10**9))
    _, after = propose(load_project(project), load_registry(), project.parent, facts)
    assert after is not None
    assert after.fits is False


def test_the_terminal_tells_it(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli(["estimate", str(project), "--fit"])
    output = capsys.readouterr().out
    assert "41,943,040 of 8,072,204,288 parameters are trainable (0.52 %)" in output
    assert "Peak" in output
    code = cli(["estimate", str(project), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["trainable"] == 41_943_040
    assert code == (0 if found["fits"] else 1)


def test_the_terminal_applies_it(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    big = {"train.batch_size": 4096, "train.max_length": 1_000_000}
    changes = [w for k, v in big.items() for w in ("--set", f"{k}={v}")]
    before = dict(load_project(project).node("train").settings)
    cli(["estimate", str(project), "--apply", "--json", *changes])
    output = capsys.readouterr()
    proposed = {p["field"]: p["value"] for p in json.loads(output.out)["proposals"]}
    assert proposed["batch_size"] < 4096
    after = load_project(project).node("train").settings
    assert after == before | {k: v for k, v in proposed.items() if k in after}
    assert after.get("max_length") != 1_000_000
    assert (
        "Not written, because --set applies to this invocation only: train.batch_size=4096"
        in output.err
    )


def test_invalid_settings_are_named_as_the_reason() -> None:
    """A connected model is not asked for; the invalid value is."""
    graph = load_project(assets_dir() / "starter.studio")
    wrong = set_setting(graph, "train", "batch_size", -3)
    found = estimate_graph(wrong, load_registry(), assets_dir())
    assert found is not None
    assert found.peak is None
    assert "correct invalid settings" in found.notes[0]
