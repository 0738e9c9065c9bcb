"""Received model folders in a run: what transformers would fill with random numbers or take from elsewhere."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from studio.errors import StudioError
from studio.model import folder_check
from studio.node_settings.base_model import BaseModelSettings
from studio.node_settings.merge import MergeSettings
from studio.training.estimate.dry_run import meta_model
from studio.training.loop.train import train_adapter
from studio.training.merge.make import merge_adapter
from studio.training.model.base_model import prepare_base_model
from studio.training.model.configs import write_surroundings
from studio.training.model.load import load_base
from studio.values import ModelValue
from tests.model_files import change_config, drop_tensor
from tests.studio.training import tiny_gguf
from tests.studio.training.adapters import SHAPE, random_adapter, save_family, tiny_base
from tests.studio.training.steps import (
    Recorder,
    make_context,
    make_inputs,
    model_value,
    settings_of,
)
from tests.tiny import make_tiny_model, make_tiny_tokenizer

pytestmark = pytest.mark.usefixtures("quiet_transformers")

_SIZES = {k: SHAPE[k] for k in ("vocab_size", "hidden_size", "pad_token_id", "eos_token_id")}
OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "Cohere": ("CohereConfig", SHAPE),
    "StableLM": ("StableLmConfig", SHAPE),
    "OLMo": ("OlmoConfig", SHAPE),
    "GLM": ("GlmConfig", {**SHAPE, "head_dim": 8}),
    "Bloom": ("BloomConfig", {**_SIZES, "n_layer": 2, "n_head": 4}),
    "Falcon": ("FalconConfig", {**_SIZES, "num_hidden_layers": 2, "num_attention_heads": 4}),
    "Mamba": ("MambaConfig", {**_SIZES, "num_hidden_layers": 2, "state_size": 4}),
    "Qwen2, experts": (
        "Qwen2MoeConfig",
        {
            **SHAPE,
            "num_experts": 4,
            "moe_intermediate_size": 16,
            "shared_expert_intermediate_size": 16,
        },
    ),
}
"""Architectures that the table of families does not contain."""


def prepared(tmp_path: Path, folder: Path, recorder: Recorder | None = None) -> ModelValue:
    settings = BaseModelSettings(model=str(folder), dtype="float32")
    return prepare_base_model(make_context(tmp_path, recorder or Recorder()), settings)


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for an architecture that the table of families does not contain."""
    monkeypatch.setattr(folder_check, "differences", lambda config, stored: None)
    folder_check._checked.cache_clear()


@pytest.mark.parametrize("family", OTHERS)
def test_other_architectures_load_and_their_missing_tensors_are_named(
    family: str, tmp_path: Path
) -> None:
    """In the Base model step, which asks transformers without reading weights."""
    folder = save_family(tmp_path / "model", *OTHERS[family])
    value = prepared(tmp_path, folder)
    load_base(make_context(tmp_path, Recorder()), value)
    name = sorted(n for n in _names(folder) if ".1." in n and n.endswith(".weight"))[-1]
    drop_tensor(folder / "model.safetensors", name)
    with pytest.raises(StudioError) as caught:
        prepared(tmp_path, folder)
    assert caught.value.code == "missing_tensors"
    assert name.rpartition(".")[0].rpartition(".")[2] in caught.value.sentence
    assert caught.value.field == "model"


def _names(folder: Path) -> list[str]:
    from safetensors.torch import load_file

    return list(load_file(folder / "model.safetensors"))


@pytest.mark.parametrize(
    "name",
    ["model.norm.weight", "model.layers.1.self_attn.k_proj.weight", "model.embed_tokens.weight"],
)
def test_a_training_never_starts_without_a_tensor(
    name: str, tmp_path: Path, unchecked: None
) -> None:
    """Whatever the headers showed before: the loaded model itself is asked."""
    inputs = make_inputs(tmp_path)
    folder = Path(inputs["model"]["model"]["path"])
    drop_tensor(folder / "model.safetensors", name)
    with pytest.raises(StudioError, match=name) as caught:
        train_adapter(make_context(tmp_path, Recorder()), inputs, settings_of())
    assert caught.value.code == "missing_tensors"
    assert caught.value.title == "The weights do not fit the model"


def test_surplus_and_misshapen_tensors_are_named(tmp_path: Path, unchecked: None) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    folder = make_tiny_model(tmp_path / "model")
    file = folder / "model.safetensors"
    weights = load_file(file)
    save_file({**weights, "score.weight": torch.ones(2, 2)}, file, {"format": "pt"})
    value = model_value(folder)
    with pytest.raises(StudioError, match=r"score\.weight") as caught:
        load_base(make_context(tmp_path, Recorder()), value)
    assert caught.value.code == "surplus_tensors"
    save_file({**weights, "model.norm.weight": torch.ones(31)}, file, {"format": "pt"})
    with pytest.raises(StudioError, match=r"model\.norm\.weight has the shape 31") as caught:
        load_base(make_context(tmp_path, Recorder()), value)
    assert caught.value.code == "wrong_shapes"


def test_an_expert_that_is_missing_is_refused(tmp_path: Path) -> None:
    """One of four, which transformers joins while it loads, in a family without a table."""
    folder = save_family(tmp_path / "model", *OTHERS["Qwen2, experts"])
    name = next(n for n in _names(folder) if n.endswith(".experts.2.up_proj.weight"))
    drop_tensor(folder / "model.safetensors", name)
    with pytest.raises(StudioError, match=name) as caught:
        prepared(tmp_path, folder)
    assert caught.value.code == "missing_tensors"


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_quantizing_on_load_reports_nothing(quantization: str, tmp_path: Path) -> None:
    for family in ("Bloom", "Qwen2, experts"):
        folder = save_family(tmp_path / family, *OTHERS[family])
        value = model_value(folder, quantization=quantization, dtype="float32")
        load_base(make_context(tmp_path, Recorder()), value)


def test_several_files_and_a_head_of_its_own(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    folder = save_family(tmp_path / "one", "Qwen3Config", {**SHAPE, "tie_word_embeddings": False})
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.save_pretrained(tmp_path / "many", max_shard_size="20KB")
    make_tiny_tokenizer().save_pretrained(str(tmp_path / "many"))
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 2
    value = prepared(tmp_path, tmp_path / "many")
    load_base(make_context(tmp_path, Recorder()), value)
    last = sorted((tmp_path / "many").glob("*.safetensors"))[-1]
    last.write_bytes(last.read_bytes()[:-1])
    with pytest.raises(StudioError, match=f"{last.name} is truncated"):
        load_base(make_context(tmp_path, Recorder()), value)


@pytest.mark.parametrize(
    "values",
    [
        {"hidden_act": "no_such_activation"},
        {"hidden_act": 3},
        {"rope_parameters": {"rope_type": "nonsense", "rope_theta": 1.0}},
        {"rope_parameters": "x"},
        {"num_attention_heads": 5},
        {"rms_norm_eps": "small"},
        {"dtype": "float1"},
        {"dtype": 7},
        {"eos_token_id": {"a": 1}},
        {"layer_types": ["full_attention"]},
        {"initializer_range": []},
        {"pad_token_id": 10**9},
        {"torch_dtype": ["x"]},
        {"architectures": 3},
        {"sub_configs": 4},
        {"is_encoder_decoder": "yes"},
    ],
    ids=str,
)
def test_a_config_that_transformers_cannot_use_is_a_sentence(
    values: dict[str, Any], tmp_path: Path
) -> None:
    """Whatever it raises; a value that it accepts loads."""
    folder = make_tiny_model(tmp_path / "model")
    change_config(folder, **values)
    refusal = None
    try:
        load_base(make_context(tmp_path, Recorder()), prepared(tmp_path, folder))
    except StudioError as error:
        refusal = error
    if refusal is not None:
        codes = ("unsupported_model", "model_load", "wrong_shapes", "bad_config")
        assert refusal.code in codes
        assert len(refusal.sentence) < 500


# ------------------------------------------------------------------ kernels from the Hub


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kernels that transformers asked for."""
    asked: list[str] = []

    def ask(name: str, **options: Any) -> None:
        asked.append(name)
        raise ImportError(f"the kernel {name} was asked for")

    monkeypatch.setattr("transformers.modeling_utils.lazy_import_flash_attention", ask)
    return asked


KERNELS = {
    "attn_implementation": "someone/evil-kernel",
    "_attn_implementation": "kernels-community/flash-attn2",
    "_attn_implementation ": {"": "someone/evil-kernel"},
    "attn_implementation ": "flash_attention_2",
    "experts_implementation": "sonicmoe",
    "_experts_implementation": "deepgemm",
}


@pytest.mark.parametrize("key", KERNELS)
def test_a_received_config_loads_no_kernel(key: str, tmp_path: Path, kernels: list[str]) -> None:
    """It is named, and the model's own implementation is used, in every place that builds the model."""
    folder = make_tiny_model(tmp_path / "model")
    change_config(folder, **{key.strip(): KERNELS[key]})
    recorder = Recorder()
    value = prepared(tmp_path, folder, recorder)
    said = " ".join(str(e.get("sentence")) for e in recorder.named("Notice"))
    assert str(KERNELS[key]).split("'")[-2 if "{" in str(KERNELS[key]) else 0] in said
    model = load_base(make_context(tmp_path, Recorder()), value)
    assert model.config._attn_implementation == "sdpa"
    meta_model(json.loads((folder / "config.json").read_text(encoding="utf-8")), model.dtype)
    assert kernels == []


def test_the_part_of_a_config_loads_no_kernel(tmp_path: Path, kernels: list[str]) -> None:
    text = {**SHAPE, "head_dim": 8, "sliding_window": 16}
    eye = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    parts = {"text_config": text, "vision_config": {**eye, "image_size": 32, "patch_size": 8}}
    folder = save_family(tmp_path / "model", "Gemma3Config", {**parts, "mm_tokens_per_image": 4})
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["text_config"]["_attn_implementation"] = "someone/evil-kernel"
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    load_base(make_context(tmp_path, Recorder()), prepared(tmp_path, folder))
    assert kernels == []


def test_a_merge_builds_no_kernel(tmp_path: Path, kernels: list[str]) -> None:
    base = tiny_base(tmp_path)
    adapter = random_adapter(tmp_path, base)
    change_config(Path(base.path), _attn_implementation="someone/evil-kernel")
    context = make_context(tmp_path, Recorder())
    merge_adapter(context, adapter.model_dump(mode="json"), MergeSettings())
    assert kernels == []


# ------------------------------------------------------------------ nothing from outside


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_nothing_from_outside_is_copied_beside_merged_weights(kind: str, tmp_path: Path) -> None:
    """Even if the file appeared after the Base model step."""
    base = make_tiny_model(tmp_path / "model")
    (base / "generation_config.json").unlink()
    if kind == "pipe":
        os.mkfifo(base / "generation_config.json")
    else:
        (tmp_path / "secret.json").write_text('{"secret": 1}', encoding="utf-8")
        (base / "generation_config.json").symlink_to("../secret.json")
    (tmp_path / "out").mkdir()
    with pytest.raises(StudioError, match=r"generation_config\.json"):
        write_surroundings(base, tmp_path / "out", "float32", make_tiny_tokenizer())
    assert not (tmp_path / "out" / "generation_config.json").exists()
    with pytest.raises(StudioError, match=r"generation_config\.json"):
        prepared(tmp_path, base)


# ------------------------------------------------------------------ GGUF


@pytest.mark.parametrize("name", ["output_norm.weight", "blk.1.attn_k.weight", "token_embd.weight"])
def test_a_gguf_file_without_a_tensor_is_not_imported(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORA_STUDIO_CACHE", str(tmp_path / "cache"))
    shapes = tiny_gguf._shapes
    rest = lambda vocabulary: {n: s for n, s in shapes(vocabulary).items() if n != name}  # noqa: E731
    monkeypatch.setattr(tiny_gguf, "_shapes", rest)
    file = tiny_gguf.write_tiny_gguf(tmp_path / "model.gguf")
    with pytest.raises(StudioError, match="cannot be imported") as caught:
        prepared(tmp_path, file)
    assert caught.value.code == "gguf_import"
    if "norm" in name:
        assert "model.norm.weight" in caught.value.sentence


def test_a_damaged_import_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that lost a part of it; and a file that is truncated is not imported at all."""
    monkeypatch.setenv("LORA_STUDIO_CACHE", str(tmp_path / "cache"))
    file = tiny_gguf.write_tiny_gguf(tmp_path / "model.gguf")
    value = prepared(tmp_path, file)
    weights = Path(value.path) / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-100])
    assert prepared(tmp_path, file).path == value.path
    assert weights.stat().st_size == len(content)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(StudioError, match=r"model\.gguf is truncated"):
        prepared(tmp_path, file)
