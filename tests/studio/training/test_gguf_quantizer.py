"""K- and I-quants with llama.cpp's own function and an importance matrix from the rows of the training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from studio.errors import Stopped, StudioError
from studio.export_folder import ggml_library
from studio.export_folder.ggml_library import find_library
from studio.export_folder.gguf_mixtures import TYPES, WITH_MATRIX, Facts, type_in
from studio.graph.registry import load_registry
from studio.node_settings.export import GgufSettings
from studio.system.optional_packages import LLAMA_QUANTIZE
from studio.training.export import gguf as exporter
from studio.training.export.gguf_importance import collect
from studio.values import ModelValue
from tests.studio.training.adapters import SHAPE, plain_model, random_adapter
from tests.studio.training.gguf_models import FAMILIES, save_noisy
from tests.studio.training.llama_cpp import log_probabilities, needs_llama_cpp
from tests.studio.training.steps import Recorder, make_context, model_value
from tests.tiny import VOCABULARY

pytestmark = pytest.mark.usefixtures("quiet_transformers")

needs_quantizer = pytest.mark.skipif(
    find_library() is None,
    reason="a library of llama.cpp (pip install xllamacpp) is not installed",
)
KINDS = list(TYPES)
ROOT = Path(__file__).resolve().parents[3]


def tuned(root: Path, hidden: int = 256) -> ModelValue:
    """A model whose merged adapter names the rows of its training."""
    values = {**SHAPE, "hidden_size": hidden, "intermediate_size": 2 * hidden}
    base = model_value(save_noisy(root / "model", "LlamaConfig", values))
    adapter = random_adapter(root, base)
    record = {"adapter": adapter.to_json(), "max_logit_difference": 0.0}
    return base.model_copy(update={"merged_from": [record], "base": base})


def write(
    root: Path, value: ModelValue, recorder: Recorder, stop: Any = lambda: False, **settings: Any
) -> Path:
    context = make_context(root / "export", recorder, stop)
    context.project_name = "quant"
    folder = root / "out"
    folder.mkdir()
    exporter.write_gguf(context, value, GgufSettings(**settings), folder)
    return folder


def test_importance_is_the_mean_square_of_the_inputs(tmp_path: Path) -> None:
    """Of the tokens, not of padding: for the first layer they are those of the normed embeddings."""
    model = plain_model(tuned(tmp_path, 32).path)
    ids = torch.tensor([[5, 6, 7], [8, 9, 0]])
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    found = collect(model, [{"input_ids": ids, "attention_mask": mask}], lambda done: None)
    layer = model.model.layers[0]
    with torch.no_grad():
        inputs = layer.input_layernorm(model.model.embed_tokens(ids))[mask.bool()]
    assert torch.allclose(
        found["model.layers.0.self_attn.q_proj"], inputs.square().mean(0), rtol=1e-5
    )
    assert len(found) == 2 * 7 + 1


@needs_quantizer
def test_each_kind_is_written_as_such(tmp_path: Path) -> None:
    """Types of the tensors, sizes as estimated, the importance matrix where it is used, and nothing left behind."""
    import gguf

    recorder = Recorder()
    value = tuned(tmp_path)
    settings = {"quantizations": KINDS}
    folder = write(tmp_path, value, recorder, **settings)
    assert sorted(p.name for p in folder.iterdir()) == sorted(f"quant-{k}.gguf" for k in KINDS)
    total = sum(p.stat().st_size for p in folder.iterdir())
    needed = exporter.needed_bytes(value, GgufSettings(**settings))
    assert total <= needed  # and how closely: test_export_sizes
    told = " ".join(e.get("sentence") for e in recorder.named("Notice"))
    for kind in KINDS:
        reader = gguf.GGUFReader(folder / f"quant-{kind}.gguf")
        types = [t.tensor_type.name for t in reader.tensors if t.name.endswith("ffn_up.weight")]
        assert set(types) == {TYPES[kind]}, kind
        used = kind in WITH_MATRIX
        for tensor in (t for t in reader.tensors if len(t.shape) > 1):
            chosen = type_in(kind, tensor.name, int(tensor.shape[0]), Facts(2, 2), used)
            assert tensor.tensor_type.name == chosen, (kind, tensor.name)
        entries = reader.fields.get("quantize.imatrix.entries_count")
        assert (entries is not None) == (kind in WITH_MATRIX), kind
        assert f"matrices are stored in another type than {TYPES[kind]}" in told
    assert "Importance matrix: 15 layers, computed on 20 training rows." in told


@pytest.mark.parametrize("package", ["xllamacpp", "ik_llama_cpp", "llama_cpp"])
def test_each_library_writes_blocks_that_gguf_reads(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also on several threads, and closer to the weights where the importance is."""
    import gguf
    import numpy as np

    from studio.training.export.gguf_blocks import BY_LIBRARY, Blocks

    path = next((p for p in ggml_library._candidates() if package in p.parts), None)
    if path is None:
        pytest.skip(f"{package} is not installed")
    monkeypatch.setattr(ggml_library, "_candidates", lambda: iter([path]))
    one, three = (Blocks(ggml_library.open_library(["Q4_K_M"]), threads) for threads in (1, 3))
    rows = np.random.default_rng(0).standard_normal((10, 512)).astype(np.float32)
    weights = np.full(512, 1e-3)
    weights[::2] = 1
    for name in BY_LIBRARY:
        kind = gguf.GGMLQuantizationType[name]
        block, size = gguf.GGML_QUANT_SIZES[kind]
        found = one.quantize(rows, kind)
        assert found.shape == (10, 512 // block * size)
        assert (three.quantize(rows, kind) == found).all()
        error = np.abs(gguf.dequantize(found, kind) - rows).mean()
        assert error < 0.35, name
        weighted = gguf.dequantize(three.quantize(rows, kind, weights), kind)
        if name not in ("Q6_K", "IQ4_NL"):  # nearly exact, or with one scale for few values
            errors = np.abs(weighted - rows)
            assert errors[:, ::2].mean() < errors[:, 1::2].mean(), name


def test_where_the_library_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside llama-quantize first; a file that does not export the function is passed over."""
    import sys

    program = tmp_path / "llama" / "bin" / "llama-quantize"
    program.parent.mkdir(parents=True)
    program.touch()
    (tmp_path / "llama" / "lib").mkdir()
    names = ggml_library._NAMES.get(sys.platform, ggml_library._LINUX)
    library = tmp_path / "llama" / "lib" / names[0]
    library.write_bytes(b"something else")
    monkeypatch.setattr(ggml_library.shutil, "which", lambda name: str(program))
    monkeypatch.setattr(ggml_library, "find_spec", lambda name: None)
    assert find_library() is None
    library.write_bytes(b"\0ggml_quantize_chunk\0")
    assert find_library() == library


def test_a_library_that_cannot_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one is used; the first is named if there is no other."""
    damaged = tmp_path / "libggml-base.so"
    damaged.write_bytes(b"\0ggml_quantize_chunk\0")
    others = list(ggml_library._candidates())
    monkeypatch.setattr(ggml_library, "_candidates", lambda: iter([damaged]))
    with pytest.raises(StudioError, match=r"llama\.cpp, and libggml-base\.so cannot be loaded"):
        ggml_library.open_library(["Q4_K_M", "Q6_K"])
    if others:
        monkeypatch.setattr(ggml_library, "_candidates", lambda: iter([damaged, *others]))
        assert ggml_library.open_library(["Q4_K_M"]) is not None


def _said(model: str) -> tuple[Facts, dict[str, dict[str, str]]]:
    """What llama.cpp's own ``llama-quantize`` chooses for the matrices of a model: kind -> name -> type."""
    text = (ROOT / "tests/fixtures/llama_quantize_types.json").read_text(encoding="utf-8")
    said = json.loads(text)["models"][model]
    facts = Facts(**said["facts"])
    kinds = {}
    for kind, types in said["kinds"].items():
        found = dict.fromkeys(_matrices(facts), TYPES[kind])
        for name, parts in types.items():
            for part, ranges in parts.items():
                if not ranges:
                    assert part in found
                    found[part] = name
                for span in ranges.split(",") if ranges else ():
                    first, _, last = span.partition("-")
                    for layer in range(int(first), int(last or first) + 1):
                        assert f"blk.{layer}.{part}.weight" in found
                        found[f"blk.{layer}.{part}.weight"] = name
        kinds[kind] = found
    return facts, kinds


def _matrices(facts: Facts) -> list[str]:
    attention = ("attn_q", "attn_k", "attn_v", "attn_output")
    parts = (*attention, "ffn_up", "ffn_gate", "ffn_down")
    blocks = [f"blk.{i}.{part}.weight" for i in range(facts.layers) for part in parts]
    return ["token_embd.weight", *([] if facts.tied else ["output.weight"]), *blocks]


@pytest.mark.parametrize(
    "model", ["qwen3-0.6b", "qwen3-14b", "gemma-3-4b-it", "meta-llama-3.1-70b-instruct"]
)
def test_the_types_are_those_of_llama_cpp(model: str) -> None:
    facts, kinds = _said(model)
    assert set(kinds) == set(TYPES)
    for kind, said in kinds.items():
        assert {name: type_in(kind, name, 1024, facts) for name in said} == said, kind


def test_what_an_importance_matrix_changes() -> None:
    """With one, the first down projections need no more bits."""
    facts = Facts(16)
    for kind, better in (("IQ4_XS", "Q5_K"), ("IQ4_NL", "Q5_K"), ("IQ3_XXS", "Q4_K")):
        name = "blk.1.ffn_down.weight"
        assert type_in(kind, name, 1024, facts) == better
        assert type_in(kind, name, 1024, facts, matrix=True) == TYPES[kind]
        name = "blk.9.ffn_down.weight"
        assert type_in(kind, name, 1024, facts, matrix=True) == TYPES[kind]
    assert type_in("IQ3_XXS", "blk.9.ffn_down.weight", 1024, facts) == "Q3_K"
    assert type_in("IQ3_XXS", "blk.9.attn_v.weight", 1024, facts) == "IQ3_S"
    assert type_in("IQ3_XXS", "blk.9.attn_v.weight", 1024, facts, matrix=True) == "IQ3_XXS"


def test_a_mixture_of_eight_experts() -> None:
    facts = Facts(32, groups=4, experts=8)
    assert type_in("Q4_K_M", "blk.9.attn_k.weight", 1024, facts) == "Q8_0"
    assert type_in("Q4_K_M", "blk.9.attn_v.weight", 1024, facts) == "Q8_0"
    assert type_in("Q4_K_M", "blk.9.attn_output.weight", 1024, facts) == "Q5_K"
    assert type_in("Q5_K_M", "blk.9.attn_output.weight", 1024, facts) == "Q5_K"
    assert type_in("Q6_K", "blk.9.attn_output.weight", 1024, facts) == "Q6_K"
    assert type_in("Q4_K_M", "blk.0.ffn_down_exps.weight", 1024, facts) == "Q6_K"
    assert type_in("Q4_K_M", "blk.4.ffn_down_exps.weight", 1024, facts) == "Q4_K"


@pytest.mark.parametrize(
    ("kind", "type_of_narrow_rows"),
    [("Q6_K", "Q8_0"), ("Q5_K_S", "Q5_1"), ("Q4_K_S", "Q5_0"), ("Q2_K", "Q4_0")]
    + [("Q3_K_S", "Q4_0"), ("IQ4_XS", "IQ4_NL"), ("IQ3_S", "IQ4_NL"), ("IQ4_NL", "IQ4_NL")],
)
def test_rows_that_are_no_multiple_of_256(kind: str, type_of_narrow_rows: str) -> None:
    name = "blk.9.ffn_up.weight"
    assert type_in(kind, name, 96, Facts(16)) == type_of_narrow_rows
    assert type_in(kind, name, 48, Facts(16)) == "F16"
    assert type_in(kind, "output.weight", 96, Facts(16)) == "Q8_0"


@needs_quantizer
@needs_llama_cpp
def test_llama_cpp_loads_each_kind(tmp_path: Path) -> None:
    """The probabilities are closer to those of F32 with more bits."""
    folder = write(tmp_path, tuned(tmp_path), Recorder(), quantizations=["F32", *KINDS])
    prompts = [[5, 6, 7, 8, 9], [20, 30, 40], [60, 61, 62, 63]]

    def divergence(kind: str) -> float:
        found = log_probabilities(folder / f"quant-{kind}.gguf", prompts, VOCABULARY)
        pairs = [
            sum(2.718281828 ** a[t] * (a[t] - b[t]) for t in a if t in b)
            for a, b in zip(exact, found, strict=True)
        ]
        return sum(pairs) / len(pairs)

    exact = log_probabilities(folder / "quant-F32.gguf", prompts, VOCABULARY)
    measured = {kind: divergence(kind) for kind in KINDS}
    order = ["Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M", "Q2_K"]
    assert sorted(order, key=measured.__getitem__) == order, measured
    assert measured["Q6_K"] < 0.2, measured  # random weights, which quantize badly
    assert max(measured["IQ4_XS"], measured["IQ3_M"]) < measured["Q2_K"], measured


@needs_quantizer
@needs_llama_cpp
@pytest.mark.parametrize("family", ["olmo2", "qwen3 mixture"])
def test_llama_cpp_loads_k_quants_of_other_architectures(tmp_path: Path, family: str) -> None:
    """Also of those that are newer than an installed llama-quantize, and of the experts of a mixture."""
    config, values = FAMILIES[family]
    wide = {**values, "hidden_size": 256, "intermediate_size": 512}
    if "mixture" in family:
        wide |= {"moe_intermediate_size": 256, "head_dim": 64}
    base = model_value(save_noisy(tmp_path / "model", config, wide))
    folder = write(tmp_path, base, Recorder(), quantizations=["F32", "Q6_K", "Q4_K_M", "IQ3_XXS"])
    prompts = [[5, 6, 7, 8, 9], [20, 30, 40]]
    exact = log_probabilities(folder / "quant-F32.gguf", prompts, VOCABULARY)
    for kind in ("Q6_K", "Q4_K_M", "IQ3_XXS"):
        found = log_probabilities(folder / f"quant-{kind}.gguf", prompts, VOCABULARY)
        apart = [
            sum(2.718281828 ** a[t] * (a[t] - b[t]) for t in a)
            for a, b in zip(exact, found, strict=True)
        ]
        assert max(apart) < (0.2 if kind == "Q6_K" else 5), kind


@needs_quantizer
def test_narrow_rows_are_stored_in_other_types(tmp_path: Path) -> None:
    """32 columns are no multiple of 256: every matrix falls back, which is said."""
    recorder = Recorder()
    write(tmp_path, tuned(tmp_path, 32), recorder, quantizations=["Q4_K_M"])
    told = " ".join(e.get("sentence") for e in recorder.named("Notice"))
    assert "Q4_K_M: 16 of 16 matrices are stored in another type than Q4_K" in told


@needs_quantizer
def test_stopped_while_quantizing(tmp_path: Path) -> None:
    recorder = Recorder()

    def stop() -> bool:
        return any("Writing the files" in str(e.get("title")) for e in recorder.named("Phase"))

    with pytest.raises(Stopped):
        write(tmp_path, tuned(tmp_path), recorder, stop, quantizations=["IQ4_XS"])
    assert not list((tmp_path / "out").glob(".*"))


def test_without_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command that installs it, and its size, before anything is written."""
    monkeypatch.setattr(ggml_library, "_candidates", lambda: iter([]))
    with pytest.raises(StudioError, match=r"Q4_K_M needs llama\.cpp, which is not") as caught:
        write(tmp_path, tuned(tmp_path, 32), Recorder(), quantizations=["F16", "Q4_K_M"])
    assert LLAMA_QUANTIZE.command in caught.value.hint
    assert f"{LLAMA_QUANTIZE.disk_mb} MB" in caught.value.hint
    assert not list((tmp_path / "out").iterdir())


@needs_quantizer
def test_unknown_rows_are_said(tmp_path: Path) -> None:
    value = tuned(tmp_path).model_copy(update={"merged_from": []})
    recorder = Recorder()
    folder = write(tmp_path, value, recorder, quantizations=["IQ4_XS"])
    assert any(
        "without an importance matrix" in e.get("sentence") for e in recorder.named("Notice")
    )
    assert (folder / "quant-IQ4_XS.gguf").is_file()


def test_the_size_of_a_computed_adapter_is_known_before_it_is_written(tmp_path: Path) -> None:
    """A DoRA of rank 2 becomes a LoRA of rank 48."""
    from studio.training.export.portable import plain_bytes, plain_form, write_plain

    values = {**SHAPE, "hidden_size": 64, "intermediate_size": 128}
    base = model_value(save_noisy(tmp_path / "model", "LlamaConfig", values))
    adapter = random_adapter(tmp_path, base, use_dora=True, r=2)
    context = make_context(tmp_path / "c", Recorder())
    plain = plain_form(context, adapter, 48)
    target = tmp_path / "plain"
    target.mkdir()
    write_plain(context, plain, adapter, target, "base")
    written = (target / "adapter_model.safetensors").stat().st_size
    assert written > 4 * (Path(adapter.path) / "adapter_model.safetensors").stat().st_size
    assert written <= plain_bytes(plain) <= 1.05 * written


def test_a_missing_program_is_a_problem_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the quantizations, with the command that installs it; not for those that need none, or with the program."""
    from studio.exporters import gguf
    from studio.graph.problems import find_problems
    from studio.graph.project import from_data

    def problems(*kinds: str) -> list[tuple[str | None, str]]:
        own = {"format": "gguf", "format_settings": {"quantizations": list(kinds)}}
        data = {
            "format": "lora-studio",
            "version": 2,
            "name": "Quant",
            "nodes": [
                {"id": "base", "type": "base_model", "settings": {"model": "starter:smollm2-135m"}},
                {"id": "export", "type": "export", "settings": own},
            ],
            "wires": [{"from": "base.model", "to": "export.model"}],
        }
        found = find_problems(from_data(data), load_registry(), tmp_path)
        return [(p.field, p.hint) for p in found if p.code == "no_quantizer"]

    monkeypatch.setattr(gguf, "find_library", lambda: None)
    ((field, hint),) = problems("F16", "Q4_K_M")
    assert field == "format_settings.quantizations"
    assert LLAMA_QUANTIZE.command in hint
    assert problems("F16", "Q4_0") == []
    monkeypatch.setattr(gguf, "find_library", lambda: Path("libggml-base.so"))
    assert problems("Q4_K_M") == []
