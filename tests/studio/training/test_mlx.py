"""Adapters of mlx-lm, read and written: the same effect by the formulas of ``mlx_lm/tuner``, and by mlx-lm itself where
it is installed."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from studio.errors import StudioError
from studio.export_folder import optional
from studio.export_folder.commands import commands
from studio.values import AdapterValue, ModelValue
from tests.studio.training.adapters import (
    logits,
    plain_adapted,
    plain_model,
    random_adapter,
    tiny_base,
)
from tests.studio.training.gguf_models import FAMILIES, make_bpe_tokenizer, save_noisy
from tests.studio.training.steps import Recorder, dataset_value, model_value
from tests.studio.training.test_load_adapter import loaded, sentences
from tests.studio.training.test_parity import exported

pytestmark = pytest.mark.usefixtures("quiet_transformers")
needs_mlx = pytest.mark.skipif(find_spec("mlx_lm") is None, reason="needs mlx-lm")
LIKE = {"form": "mlx"}


def as_mlx_reads(folder: Path, base: ModelValue) -> torch.Tensor:
    """The logits of base and adapter by mlx-lm's rules: ``linear_to_lora_layers`` decides by ``keys`` and
    ``num_layers`` which layers are adapted, ``LoRALinear`` and ``DoRALinear`` what is computed."""
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    model = plain_model(base.path)
    own = config["lora_parameters"]
    weights = load_file(folder / "adapters.safetensors")
    first = model.config.num_hidden_layers - config["num_layers"]
    adapted = set()
    for name, _ in model.named_modules():
        found = re.match(r"model\.layers\.(\d+)\.(.+)$", name)
        inside = found and int(found[1]) >= first and found[2] in own["keys"]
        if inside or name in own["keys"]:
            adapted.add(name)
    named = {n.rpartition(".")[0] for n in weights}
    assert named <= adapted, named - adapted  # mlx-lm refuses other tensors
    for name in named:
        module = model.get_submodule(name)
        a, b = weights[f"{name}.lora_a"], weights[f"{name}.lora_b"]
        assert a.shape[1] == b.shape[0] == own["rank"]
        change = (own["scale"] * b.T) @ a.T
        if isinstance(module, torch.nn.Embedding):
            change = own["scale"] * a @ b
        weight = module.weight.data + change
        if config["fine_tune_type"] == "dora":
            weight = (weights[f"{name}.m"] / weight.norm(dim=1))[:, None] * weight
        module.weight.data = weight  # of a tied embedding also that of the head, as in mlx-lm
    return logits(model)


def write_mlx_adapter(folder: Path, base: ModelValue, dora: bool = False, **own: Any) -> Path:
    """What ``mlx_lm.lora`` leaves: random values, and the settings of its command line."""
    model = plain_model(base.path)
    generator = torch.Generator().manual_seed(3)
    tensors = {}
    for name, module in model.named_modules():
        if name.endswith(("layers.1.self_attn.q_proj", "layers.1.mlp.down_proj")):
            out, width = module.weight.shape
            tensors[f"{name}.lora_a"] = 0.2 * torch.randn(width, 4, generator=generator)
            tensors[f"{name}.lora_b"] = 0.2 * torch.randn(4, out, generator=generator)
            if dora:
                size = module.weight.norm(dim=1)
                tensors[f"{name}.m"] = size * (1 + 0.1 * torch.randn(out, generator=generator))
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapters.safetensors", metadata={"format": "mlx"})
    keys = ["self_attn.q_proj", "mlp.down_proj"]
    config = {
        "model": "someone/tiny",
        "fine_tune_type": "dora" if dora else "lora",
        "num_layers": 1,
        "lora_parameters": {"rank": 4, "scale": 2.5, "dropout": 0.0, "keys": keys, **own},
        "train": True,
        "iters": 100,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@pytest.mark.parametrize("dora", [False, True])
def test_an_adapter_of_mlx_is_loaded(tmp_path: Path, dora: bool) -> None:
    """With the same effect, and it is said that it was converted."""
    base = tiny_base(tmp_path)
    folder = write_mlx_adapter(tmp_path / "theirs", base, dora)
    recorder = Recorder()
    value = loaded(tmp_path, base, folder, recorder)
    wanted = as_mlx_reads(folder, base)
    assert float((wanted - logits(plain_model(base.path))).abs().max()) > 0.05
    assert float((logits(plain_adapted(value)) - wanted).abs().max()) < 1e-4
    assert (value.model.method, value.model.r) == ("dora" if dora else "lora", 4)
    said = sentences(recorder)
    assert "converted to the format of PEFT: 2 layers of rank 4 with scale 2.5" in said
    assert "was trained on someone/tiny" in said


def test_the_head_of_a_tied_embedding_changes_with_it(tmp_path: Path) -> None:
    """mlx-lm computes the head with the adapted embedding."""
    base = tiny_base(tmp_path)
    folder = write_mlx_adapter(tmp_path / "theirs", base, keys=["model.embed_tokens"], scale=1.5)
    rows, width = plain_model(base.path).model.embed_tokens.weight.shape
    pair = {"lora_a": 0.1 * torch.randn(rows, 4), "lora_b": 0.1 * torch.randn(4, width)}
    named = {f"model.embed_tokens.{n}": t for n, t in pair.items()}
    save_file(named, folder / "adapters.safetensors")
    value = loaded(tmp_path, base, folder)
    difference = logits(plain_adapted(value)) - as_mlx_reads(folder, base)
    assert float(difference.abs().max()) < 1e-4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"fine_tune_type": "full"}, "its fine_tune_type is full"),
        ({"lora_parameters": {"rank": 4, "alpha": 8}}, "has no lora_parameters with a scale"),
    ],
)
def test_what_is_no_adapter_is_named(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    base = tiny_base(tmp_path)
    folder = write_mlx_adapter(tmp_path / "theirs", base)
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**config, **change}), encoding="utf-8")
    with pytest.raises(StudioError, match=words) as caught:
        loaded(tmp_path, base, folder)
    assert caught.value.field == "adapter"


def test_another_base_is_named(tmp_path: Path) -> None:
    folder = write_mlx_adapter(tmp_path / "theirs", tiny_base(tmp_path))
    with pytest.raises(
        StudioError,
        match=r"does not belong to this base model: .* and the layer of the base has 128",
    ) as caught:
        loaded(tmp_path, tiny_base(tmp_path / "other", hidden=64), folder)
    assert caught.value.code == "other_base"


ADAPTERS: dict[str, dict[str, Any]] = {
    "lora": {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 3}},
    "rslora": {"use_rslora": True, "target_modules": ["q_proj", "down_proj"]},
    "dora": {"use_dora": True, "lora_alpha": 12},
    "some layers": {"target_modules": ["q_proj"], "layers_to_transform": [1]},
    "tokens of a tied embedding": {"target_modules": ["q_proj"], "trainable_token_indices": [5]},
}


@pytest.mark.parametrize("kind", list(ADAPTERS))
def test_an_adapter_is_written_for_mlx(tmp_path: Path, kind: str) -> None:
    """With the same effect by mlx-lm's formulas; loaded again, it is the same adapter."""
    base = tiny_base(tmp_path)
    value = random_adapter(tmp_path, base, size=0.2, **ADAPTERS[kind])
    folder, recorder = exported(tmp_path, value, format_settings=LIKE, check_rows=0)
    wanted = logits(plain_adapted(value))
    assert float((as_mlx_reads(folder, base) - wanted).abs().max()) < 2e-4
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["fine_tune_type"] == ("dora" if kind == "dora" else "lora")
    assert "adapter_model.safetensors" not in {p.name for p in folder.iterdir()}
    assert "of mlx-lm, rank" in sentences(recorder)
    again = loaded(tmp_path / "again", base, folder)
    assert float((logits(plain_adapted(again)) - wanted).abs().max()) < 2e-4
    (command,) = commands("adapter", folder)
    assert command.arguments[0] == "mlx_lm.generate"
    assert command.arguments[3:5] == ("--adapter-path", str(folder))
    assert "library_name: mlx" in (folder / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("family", "options", "words"),
    [
        ("llama", {"modules_to_save": ["input_layernorm"]}, "input_layernorm.weight"),
        ("llama", {"target_modules": ["embed_tokens"]}, "share one matrix"),
        ("gpt2", {"target_modules": ["c_attn"], "fan_in_fan_out": True}, "architecture gpt2"),
    ],
)
def test_what_mlx_applies_differently_is_refused(
    tmp_path: Path, family: str, options: dict[str, Any], words: str
) -> None:
    name, shape = FAMILIES[family]
    tied = {"tie_word_embeddings": True}
    base = model_value(save_noisy(tmp_path / "model", name, {**shape, **tied}))
    value = random_adapter(tmp_path, base, **options)
    with pytest.raises(StudioError, match=words) as caught:
        exported(tmp_path, value, format_settings=LIKE, check_rows=0)
    assert "Merge the adapter and export the model" in str(caught.value.hint)


@pytest.mark.usefixtures("one_process")
def test_without_mlx_it_is_not_proven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optional, "is_installed", lambda name: False)
    value = random_adapter(tmp_path, tiny_base(tmp_path))
    _, recorder = exported(tmp_path, value, format_settings=LIKE)
    (event,) = recorder.named("ExportChecked")
    assert (event.get("verdict"), event.get("cause")) == ("not_proven", "mlx-lm is not installed.")
    assert "mlx-lm" in event.get("hint")


@needs_mlx
@pytest.mark.usefixtures("one_process")
@pytest.mark.parametrize("family", ["llama", "mistral"])
def test_mlx_itself_computes_the_same(tmp_path: Path, family: str) -> None:
    base = model_value(save_noisy(tmp_path / "model", *FAMILIES[family]))
    value = random_adapter(tmp_path, base, 0.15, target_modules="all-linear", lora_alpha=12)
    make_bpe_tokenizer().save_pretrained(value.path)
    value = value.model_copy(update={"dataset": dataset_value(tmp_path / "rows", 4, 4)})
    _, recorder = exported(tmp_path, value, format_settings=LIKE, folder=str(tmp_path / "made"))
    (event,) = recorder.named("ExportChecked")
    assert (event.get("verdict"), event.get("code")) == ("green", ""), event.data
    assert event.get("kl_mean") < 1e-4 < event.get("effect")
    assert (event.get("template"), event.get("stop")) == (True, True)
    assert event.get("speed") > 0


@needs_mlx
@pytest.mark.usefixtures("one_process")
def test_a_lost_scale_turns_the_check_red(tmp_path: Path) -> None:
    base = model_value(save_noisy(tmp_path / "model", *FAMILIES["llama"]))
    value = random_adapter(tmp_path, base, 0.15, lora_alpha=12)
    make_bpe_tokenizer().save_pretrained(value.path)
    folder, _ = exported(tmp_path, value, format_settings=LIKE, folder=str(tmp_path / "made"))
    assert isinstance(value, AdapterValue)
    from studio.variants.exporter import Readable
    from tests.studio.training.test_parity import checked

    file = folder / "adapter_config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    config["lora_parameters"]["scale"] = 2.0
    file.write_text(json.dumps(config), encoding="utf-8")
    found = checked(tmp_path, value, folder, Readable("mlx", title="Adapter", needs="mlx-lm"))
    assert (found.verdict, found.code) == ("red", "double_merge")
