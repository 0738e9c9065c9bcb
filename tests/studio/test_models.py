"""Names of models, their layers and target modules: quick checks without torch and network."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from studio.errors import Problem
from studio.graph.node_type import CheckContext
from studio.model.layers import LinearModule, presets, read_linear_modules, resolve_targets
from studio.model.models import check_targets, classify, linear_modules, local_files, quick_check
from studio.node_settings.base_model import BaseModelSettings
from studio.node_settings.lora import LoraSettings
from tests.tiny import make_tiny_model


def check_context(folder: Path, **upstream: Any) -> CheckContext:
    """A node's surroundings; ``upstream`` are (type, settings) by node id."""
    return CheckContext("base", "Base model", folder, upstream=upstream)


def problems(model: str, folder: Path) -> list[Problem]:
    """What the Base model node says about a name."""
    return list(quick_check(BaseModelSettings(model=model), check_context(folder)))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("starter:smollm2-135m", "starter"),
        ("Qwen/Qwen3-0.6B", "hub"),
        ("gpt2", "hub"),
        ("models/tiny.Q4_1.gguf", "gguf"),
        ("./model", "folder"),
        ("/data/model", "folder"),
        ("~/model", "folder"),
        ("a/b/c", "folder"),
        ("C:\\models\\x", "folder"),
        ("my model", "folder"),
    ],
)
def test_what_a_name_means(name: str, kind: str) -> None:
    """Starter, file, folder or hub id."""
    assert classify(name) == kind


def test_good_names_have_no_problem(tmp_path: Path) -> None:
    """A starter, a hub id, a real folder (absolute and beside the project)."""
    make_tiny_model(tmp_path / "tiny")
    for name in (
        "starter:smollm2-135m",
        "Qwen/Qwen3-0.6B",
        "./tiny",
        "tiny",
        str(tmp_path / "tiny"),
    ):
        assert problems(name, tmp_path) == []


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("", "missing_setting", "no model is chosen"),
        ("starter:gpt5", "unknown_starter", "no starter model called"),
        ("./nothing", "missing_file", "neither a folder nor a valid Hub ID"),
        ("not an id!", "missing_file", "neither a folder nor a valid Hub ID"),
        ("gone.gguf", "missing_file", "gone.gguf does not exist."),
        ("./empty", "not_a_model", "has no config.json"),
        ("./pickled", "pickle_weights", ".bin pickles"),
    ],
)
def test_wrong_names_are_told(tmp_path: Path, name: str, code: str, words: str) -> None:
    """One sentence, on the node and its field."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(b"x")
    (found,) = problems(name, tmp_path)
    assert (found.node, found.field, found.code) == ("base", "model", code)
    assert words in found.sentence
    assert found.sentence.startswith("Base model: ")


def test_layers_of_a_folder(tmp_path: Path) -> None:
    """Names and widths of every linear layer; no embedding, no head, no norm."""
    modules = read_linear_modules(make_tiny_model(tmp_path))
    assert modules is not None
    assert len(modules) == 2 * 7
    assert modules[0].name.startswith("model.layers.0.")
    widths = {m.name.rpartition(".")[2]: (m.width_in, m.width_out) for m in modules}
    assert widths["q_proj"] == (32, 32)
    assert widths["k_proj"] == (32, 16)
    assert widths["down_proj"] == (64, 32)


def test_layers_of_the_starter_before_its_download() -> None:
    """Thirty layers of seven, as in the real model."""
    modules = linear_modules("starter:smollm2-135m", Path())
    assert modules is not None
    assert len(modules) == 210
    assert sum(m.width_in * m.width_out for m in modules) == 106_168_320


def test_a_hub_model_that_is_not_here_has_no_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing can be said before it is fetched; afterwards its snapshot is read."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))

    assert linear_modules("some/model", tmp_path) is None
    make_tiny_model(tmp_path / "models--some--model" / "snapshots" / "abc")
    assert len(linear_modules("some/model", tmp_path) or []) == 14


def layers(*names: str) -> list[LinearModule]:
    """Linear layers of two blocks."""
    return [LinearModule(f"model.layers.{i}.{n}", 8, 8) for i in range(2) for n in names]


LLAMA = (
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)
PHI = ("self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj")
GPT2 = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
NEOX = ("attention.query_key_value", "attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h")


@pytest.mark.parametrize(
    ("names", "attention", "query_value"),
    [
        (LLAMA, ["q_proj", "k_proj", "v_proj", "o_proj"], ["q_proj", "v_proj"]),
        (PHI, ["qkv_proj", "o_proj"], ["qkv_proj"]),
        (GPT2, ["c_attn", "attn.c_proj"], ["c_attn"]),
        (NEOX, ["query_key_value", "dense"], ["query_key_value"]),
    ],
)
def test_presets_know_fused_projections(
    names: tuple[str, ...], attention: list[str], query_value: list[str]
) -> None:
    """The same words on models that name their layers otherwise."""
    found = presets(layers(*names))
    assert found["attention"] == attention
    assert found["q,v"] == query_value
    assert resolve_targets(layers(*names), "all-linear")[1] == []


def test_a_wrong_target_names_the_nearest(tmp_path: Path) -> None:
    """The Problem sits on the LoRA node's field and offers the real names."""
    upstream = {"base": ("base_model", BaseModelSettings())}
    context = CheckContext("lora", "LoRA", tmp_path, upstream=upstream)
    found = list(check_targets(LoraSettings(target_modules=["q_proj", "qq_proj"]), context))
    assert [(p.node, p.field, p.code) for p in found] == [
        ("lora", "target_modules", "unknown_target")
    ]
    assert "“qq_proj” matches no linear layer" in found[0].sentence
    assert "q_proj" in found[0].hint
    assert list(check_targets(LoraSettings(), context)) == []


def test_local_files_are_what_the_fingerprint_needs(tmp_path: Path) -> None:
    """The folder's weights and configs; nothing for a starter."""
    make_tiny_model(tmp_path / "m")
    names = {p.name for p in local_files("./m", tmp_path)}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
    assert local_files("starter:smollm2-135m", tmp_path) == []


def test_a_damaged_header_is_no_model(tmp_path: Path) -> None:
    """Cut off, or nonsense: there are simply no layers to show."""
    make_tiny_model(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 6)
    assert read_linear_modules(tmp_path) is None


def test_no_torch_is_imported() -> None:
    """The window asks these questions while the user types."""
    code = (
        "import sys, json; from pathlib import Path; from studio.model.models import linear_modules;"
        "n = len(linear_modules('starter:smollm2-135m', Path()));"
        "print(json.dumps([n, 'torch' in sys.modules, 'transformers' in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True
    )
    assert json.loads(done.stdout) == [210, False, False]
