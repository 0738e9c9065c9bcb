"""Models in FP8: what is stored, by the rules of compressed-tensors, and what its readers compute."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from studio.errors import StudioError
from studio.export_folder import optional
from studio.export_folder.commands import commands
from studio.training.export.fp8 import plan_fp8, quantized
from studio.values import ModelValue
from tests.small_disk import small_disk
from tests.studio.training.adapters import random_adapter, save_family
from tests.studio.training.gguf_models import FAMILIES, make_bpe_tokenizer, save_noisy
from tests.studio.training.steps import dataset_value, model_value
from tests.studio.training.test_load_adapter import sentences
from tests.studio.training.test_merge import merged
from tests.studio.training.test_parity import exported

pytestmark = pytest.mark.usefixtures("quiet_transformers")
needs_reader = pytest.mark.skipif(
    find_spec("compressed_tensors") is None, reason="needs compressed-tensors"
)
FP8 = {"model_quantization": "fp8"}
MOE = {
    "vocab_size": 264,
    "hidden_size": 32,
    "intermediate_size": 48,
    "moe_intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "max_position_embeddings": 256,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelValue:
    """A merged model whose probabilities are not flat, with held-out rows."""
    root = tmp_path_factory.mktemp("fp8")
    base = model_value(save_noisy(root / "model", *FAMILIES["qwen3"]))
    adapter = random_adapter(root, base, 0.3, target_modules="all-linear")
    make_bpe_tokenizer().save_pretrained(adapter.path)
    data = dataset_value(root / "rows", train=4, validation=4)
    return merged(root, adapter.model_copy(update={"dataset": data}))


def test_weights_and_scales_are_stored(model: ModelValue, tmp_path: Path) -> None:
    """Each row of a weight is within half a step of FP8; embedding, head and norms are the same bytes."""
    folder, recorder = exported(tmp_path, model, format_settings=FP8, check_rows=0)
    found, stored = (
        load_file(folder / "model.safetensors"),
        load_file(f"{model.path}/model.safetensors"),
    )
    linear = [n for n, t in found.items() if t.dtype == torch.float8_e4m3fn]
    assert len(linear) == 14
    for name, tensor in stored.items():
        if name not in linear:
            assert torch.equal(found.pop(name), tensor), name
            continue
        weight, scale = found.pop(name), found.pop(f"{name}_scale")
        assert scale.shape == (tensor.shape[0], 1)
        back = weight.float() * scale
        size = tensor.abs().amax(1, keepdim=True)
        assert bool(((back - tensor).abs() <= tensor.abs() / 16 + size * 2**-9 / 448).all()), name
        assert torch.allclose(weight.float().abs().amax(1), torch.full((len(weight),), 448.0))
    assert not found
    assert {n.split(".")[0] for n in set(stored) - set(linear)} == {"lm_head", "model"}
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))["quantization_config"]
    assert (config["quant_method"], config["format"]) == ("compressed-tensors", "float-quantized")
    assert config["ignore"] == ["lm_head"]
    assert "FP8: 14 weights in 8 bits with a scale per output channel" in sentences(recorder)
    assert "lm_head, embedding, norms as they are" in sentences(recorder)
    assert "FP8 (E4M3)" in (folder / "README.md").read_text(encoding="utf-8")
    assert [c.program for c in commands("merged_model", folder)] == [
        "vLLM",
        "text-generation-webui",
    ]


def test_the_size_is_known_before(model: ModelValue, tmp_path: Path) -> None:
    """Also inside a run, where the weights cannot be linked."""
    plan = plan_fp8(Path(model.path))
    folder, _ = exported(tmp_path / "a", model, format_settings=FP8, check_rows=0)
    written = (folder / "model.safetensors").stat().st_size
    assert written - 8192 < plan.size < written
    before = json.loads((folder / "lora-studio.json").read_text(encoding="utf-8"))
    assert before["quantization"] == "fp8"
    with small_disk(tmp_path / "b", plan.size // 2048), pytest.raises(StudioError) as caught:
        exported(tmp_path / "b", model, format_settings=FP8, check_rows=0)
    assert caught.value.code == "disk_full"


def test_rows_of_zeros_and_half_precision() -> None:
    weight = torch.randn(4, 16).to(torch.bfloat16)
    weight[2] = 0
    found, scale = quantized(weight, torch.bfloat16)
    back = found.float() * scale.float()
    assert bool((back[2] == 0).all())
    assert torch.allclose(back, weight.float(), rtol=0.07, atol=1e-3)


def test_routers_of_mixtures_are_kept(tmp_path: Path) -> None:
    """The experts are stored in FP8, the layer that chooses them is not."""
    folder = save_family(tmp_path / "moe", "Qwen3MoeConfig", MOE)
    plan = plan_fp8(folder)
    assert len(plan.quantized) == 2 * (4 + 4 * 3)
    kept = [f"model.layers.{n}.mlp.gate" for n in range(2)]
    assert plan.kept == ["lm_head", *kept]


def test_layers_that_are_stored_otherwise_are_refused(tmp_path: Path) -> None:
    value = model_value(save_noisy(tmp_path / "model", *FAMILIES["gpt2"]))
    with pytest.raises(StudioError, match="GPT-2 stores its layers otherwise") as caught:
        exported(tmp_path, value, format_settings=FP8, check_rows=0)
    assert caught.value.field == "format_settings.model_quantization"


def test_without_its_reader_it_is_not_proven(
    model: ModelValue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optional, "is_installed", lambda name: False)
    _, recorder = exported(tmp_path, model, format_settings=FP8)
    (event,) = recorder.named("ExportChecked")
    assert event.get("verdict") == "not_proven"
    assert event.get("cause") == "compressed-tensors is not installed."
    assert "compressed-tensors>=" in event.get("hint")


@needs_reader
@pytest.mark.usefixtures("one_process")
def test_transformers_reads_it_back(model: ModelValue, tmp_path: Path) -> None:
    _, recorder = exported(tmp_path, model, format_settings=FP8)
    (event,) = recorder.named("ExportChecked")
    assert (event.get("title"), event.get("reader")) == ("FP8", "transformers")
    assert event.get("verdict") in ("green", "amber"), event.data
    assert 1e-6 < event.get("kl_mean") < 0.1


@needs_reader
def test_the_values_are_those_of_compressed_tensors(tmp_path: Path) -> None:
    from compressed_tensors.quantization import QuantizationArgs
    from compressed_tensors.quantization.lifecycle.forward import quantize
    from compressed_tensors.quantization.utils import calculate_qparams

    weight = torch.randn(8, 32, generator=torch.Generator().manual_seed(0))
    args = QuantizationArgs(num_bits=8, type="float", strategy="channel", symmetric=True)
    least, most = weight.amin(1, keepdim=True), weight.amax(1, keepdim=True)
    scale, zero = calculate_qparams(least, most, args)
    wanted = quantize(weight, scale, zero, args, dtype=torch.float8_e4m3fn)
    found, own = quantized(weight, torch.float32)
    assert torch.allclose(own, scale)
    assert torch.equal(found.view(torch.uint8), wanted.view(torch.uint8))
