"""Adapters from GGUF files: loaded as the LoRA that was exported, trained further, or refused with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from studio.training.export.gguf_weights import permuted
from tests.studio.training.adapters import logits, plain_adapted, plain_model, random_adapter
from tests.studio.training.steps import Recorder
from tests.studio.training.test_gguf_export import NAME, exported, noisy, tensors
from tests.studio.training.test_load_adapter import loaded, refused, sentences
from tests.studio.training.test_train_on import trained_on

pytestmark = [
    pytest.mark.usefixtures("quiet_transformers"),
    pytest.mark.filterwarnings("ignore::UserWarning:peft"),
]
LORA = f"{NAME}-F32-LoRA.gguf"


@pytest.mark.parametrize(
    "family",
    ["llama", "llama with biases", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "phi3", "gpt2"],
)
def test_an_exported_adapter_is_read_back(tmp_path: Path, family: str) -> None:
    """Other ranks, alphas and rsLoRA: the same logits, and the same file again, bit for bit."""
    base = noisy(tmp_path, family)
    options = {"rank_pattern": {"v_proj": 2}, "alpha_pattern": {"q_proj": 3}, "use_rslora": True}
    adapter = random_adapter(tmp_path, base, size=0.2, **options)
    file = exported(tmp_path / "a", adapter) / LORA
    value = loaded(tmp_path, base, file)
    wanted = logits(plain_adapted(adapter))
    assert float((wanted - logits(plain_model(base.path))).abs().max()) > 0.1
    assert float((wanted - logits(plain_adapted(value))).abs().max()) < 1e-3
    again = tensors(exported(tmp_path / "b", value) / LORA)
    first = tensors(file)
    assert first.keys() == again.keys()
    assert all(np.array_equal(first[n], again[n]) for n in first)


def test_an_adapter_of_embedding_and_head_is_read_back(tmp_path: Path) -> None:
    base = noisy(tmp_path, "llama with biases")
    names = ["embed_tokens", "q_proj", "lm_head"]
    adapter = random_adapter(tmp_path, base, size=0.2, target_modules=names)
    value = loaded(tmp_path, base, exported(tmp_path / "a", adapter) / LORA)
    found = logits(plain_adapted(adapter)) - logits(plain_adapted(value))
    assert float(found.abs().max()) < 1e-4


def write_gguf(file: Path, pairs: dict[str, Any], alpha: float, arch: str = "llama") -> Path:
    """An adapter as llama.cpp's converter writes it."""
    import gguf

    writer = gguf.GGUFWriter(file, arch)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha)
    writer.add_base_model_count(1)
    writer.add_base_model_name(0, "Large-Talk")
    writer.add_base_model_repo_url(0, "https://huggingface.co/other/large-talk")
    for name, (a, b) in pairs.items():
        writer.add_tensor(f"{name}.lora_a", a)
        writer.add_tensor(f"{name}.lora_b", b)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


@pytest.mark.parametrize("alpha", [8.0, 0.0])
def test_llama_cpp_s_rule_for_the_scale(tmp_path: Path, alpha: float) -> None:
    """alpha / rank of each layer, and no scale without an alpha; rows of Q are in another order."""
    import torch

    base = noisy(tmp_path)
    maker = np.random.default_rng(0)
    pairs = {
        f"blk.0.{name}.weight": (
            maker.standard_normal((rank, 32), np.float32) / 8,
            maker.standard_normal((32, rank), np.float32) / 8,
        )
        for name, rank in (("attn_q", 4), ("attn_output", 2))
    }
    recorder = Recorder()
    value = loaded(tmp_path, base, write_gguf(tmp_path / "a.gguf", pairs, alpha), recorder)
    assert "was trained on other/large-talk" in sentences(recorder)
    plain, adapted = plain_model(base.path), plain_adapted(value)
    layers = adapted.merge_and_unload().model.layers[0].self_attn
    before = plain.model.layers[0].self_attn
    for name, layer, old in (
        ("attn_q", layers.q_proj, before.q_proj),
        ("attn_output", layers.o_proj, before.o_proj),
    ):
        a, b = (torch.from_numpy(t) for t in pairs[f"blk.0.{name}.weight"])
        change = (alpha / len(a) if alpha else 1.0) * (b @ a)
        found = layer.weight - old.weight
        found = permuted(found, 4) if name == "attn_q" else found
        assert float((found - change).abs().max()) < 1e-5, name


def test_a_gguf_adapter_is_trained_further(tmp_path: Path) -> None:
    base = noisy(tmp_path)
    adapter = random_adapter(tmp_path, base, size=0.05)
    value = loaded(tmp_path, base, exported(tmp_path / "a", adapter) / LORA)
    second = trained_on(tmp_path / "train", value, Recorder(), max_steps=4)
    one, two = (load_file(Path(v.path) / "adapter_model.safetensors") for v in (value, second))
    assert one.keys() == two.keys()


def test_what_is_no_adapter_of_this_base_is_refused(tmp_path: Path) -> None:
    base = noisy(tmp_path)
    pair = (np.ones((2, 32), np.float32), np.ones((32, 2), np.float32))
    other = write_gguf(tmp_path / "other.gguf", {"blk.0.attn_q.weight": pair}, 2.0, "qwen2")
    error = refused(tmp_path, base, other)
    assert error.code == "other_base"
    assert "for the architecture qwen2, and the base model has llama" in error.sentence
    deep = write_gguf(tmp_path / "deep.gguf", {"blk.7.attn_q.weight": pair}, 2.0)
    assert (
        "blk.7.attn_q.weight, which the base does not have"
        in refused(tmp_path, base, deep).sentence
    )
    wide = write_gguf(tmp_path / "wide.gguf", {"blk.0.ffn_down.weight": pair}, 2.0)
    assert "is for 32 inputs" in refused(tmp_path, base, wide).sentence
    model = exported(tmp_path / "m", base, quantizations=["F32"]) / f"{NAME}-F32.gguf"
    error = refused(tmp_path, base, model)
    assert (error.code, error.hint) == ("model_folder", "Choose it in a Base model node.")
    (tmp_path / "broken.gguf").write_bytes(other.read_bytes()[:-80])
    assert "is truncated" in refused(tmp_path, base, tmp_path / "broken.gguf").sentence
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "one.gguf").write_bytes(b"")
    assert "Enter the file itself, such as one.gguf" in refused(tmp_path, base, folder).hint


def test_an_adapter_is_no_base_model(tmp_path: Path) -> None:
    """The Base model node offers Load Adapter."""
    from studio.model.folder_check import gguf_faults

    pair = (np.ones((2, 32), np.float32), np.ones((32, 2), np.float32))
    (fault,) = gguf_faults(write_gguf(tmp_path / "a.gguf", {"blk.0.attn_q.weight": pair}, 2.0))
    assert fault.code == "adapter_folder"
    assert "Load Adapter" in fault.hint
