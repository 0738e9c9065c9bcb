"""The merged model on disk: plain transformers gives the logits of base and adapter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from studio.errors import Stopped, StudioError
from studio.export_folder.model_card import model_card
from studio.node_settings.merge import MergeSettings
from studio.training.merge.make import merge_adapter
from studio.values import AdapterValue, ModelValue
from tests.small_disk import small_disk, small_files
from tests.studio.training.adapters import (
    logits,
    plain_adapted,
    plain_model,
    random_adapter,
    tiny_base,
)
from tests.studio.training.steps import Recorder, make_context, model_value
from tests.tiny import VOCABULARY, make_tiny_tokenizer

pytestmark = pytest.mark.usefixtures("quiet_transformers")


def merged(
    root: Path,
    adapter: AdapterValue,
    recorder: Recorder | None = None,
    dtype: Any = "base",
    **options: Any,
) -> ModelValue:
    context = make_context(root / "merge", recorder or Recorder())
    context.title = "Merge"
    return merge_adapter(context, adapter.to_json(), MergeSettings(dtype=dtype), **options)


def difference(value: ModelValue, adapter: AdapterValue) -> float:
    return float((logits(plain_model(value.path)) - logits(plain_adapted(adapter))).abs().max())


METHODS: dict[str, dict[str, Any]] = {
    "lora": {},
    "rslora": {"use_rslora": True, "target_modules": ["q_proj", "v_proj"]},
    "dora": {"use_dora": True},
    "rank pattern": {"rank_pattern": {"q_proj": 8}, "alpha_pattern": {"v_proj": 32}},
    "biases": {"bias": "all"},
    "embedding of tied weights": {"target_modules": ["embed_tokens", "q_proj"]},
    "head of tied weights": {"target_modules": ["lm_head", "q_proj"]},
    "saved embedding": {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
    "saved head": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    "saved ends": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head", "embed_tokens"]},
    "tokens of tied weights": {"target_modules": ["q_proj"], "trainable_token_indices": [1, 70]},
    "saved norm": {"target_modules": ["q_proj"], "modules_to_save": ["input_layernorm"]},
}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_merges_exactly(method: str, tmp_path: Path) -> None:
    adapter = random_adapter(tmp_path, tiny_base(tmp_path), **METHODS[method])
    recorder = Recorder()
    value = merged(tmp_path, adapter, recorder)
    assert difference(value, adapter) < 1e-5
    untouched = logits(plain_model(adapter.model.model.path))
    assert float((logits(plain_model(value.path)) - untouched).abs().max()) > 1e-3
    record = value.merged_from[-1]
    assert record["max_logit_difference"] < 1e-5
    assert record["adapter"] == adapter.to_json()
    assert value.base == adapter.model.model
    assert any("differ by at most" in e.get("sentence") for e in recorder.named("Notice"))


def test_a_parameter_of_one_number_stays(tmp_path: Path) -> None:
    """Where the skeleton's zeros take no less room than the real thing."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path / "model"
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=1,
        num_hidden_layers=1,
        num_attention_heads=4,
        mlp_bias=True,
    )
    model = LlamaForCausalLM(config)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.constant_(parameter, 2.0)
    model.save_pretrained(folder)
    make_tiny_tokenizer().save_pretrained(str(folder))
    adapter = random_adapter(tmp_path, model_value(folder), target_modules=["q_proj"])
    assert difference(merged(tmp_path, adapter), adapter) < 1e-5


def test_transposed_layers_of_gpt2(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path / "gpt2"
    GPT2LMHeadModel(
        GPT2Config(vocab_size=VOCABULARY, n_positions=128, n_embd=32, n_layer=2, n_head=4)
    ).save_pretrained(folder)
    make_tiny_tokenizer().save_pretrained(str(folder))
    adapter = random_adapter(
        tmp_path, model_value(folder), target_modules=["c_attn", "c_proj"], fan_in_fan_out=True
    )
    assert difference(merged(tmp_path, adapter), adapter) < 1e-5


def test_the_folder_holds_all_that_is_needed(tmp_path: Path) -> None:
    adapter = random_adapter(tmp_path, tiny_base(tmp_path))
    context = make_context(tmp_path / "merge", Recorder())
    value = merge_adapter(context, adapter.to_json(), MergeSettings())
    names = {p.name for p in Path(value.path).iterdir()}
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} <= names
    from transformers import AutoTokenizer

    assert AutoTokenizer.from_pretrained(value.path).chat_template
    (artifact,) = context.artifacts
    assert (artifact["kind"], artifact["path"]) == ("merged_model", value.path)
    assert artifact["max_logit_difference"] < 1e-5


def test_many_files_with_an_index(tmp_path: Path) -> None:
    adapter = random_adapter(tmp_path, tiny_base(tmp_path))
    value = merged(tmp_path, adapter, shard_bytes=20_000)
    files = sorted(Path(value.path).glob("model-*.safetensors"))
    assert len(files) > 3
    assert files[0].name == f"model-00001-of-{len(files):05d}.safetensors"
    index = json.loads(
        (Path(value.path) / "model.safetensors.index.json").read_text(encoding="utf-8")
    )
    assert set(index["weight_map"].values()) == {f.name for f in files}
    assert difference(value, adapter) < 1e-5


def test_a_base_of_many_files(tmp_path: Path) -> None:
    base = tiny_base(tmp_path)
    many = tmp_path / "many"
    plain_model(base.path).save_pretrained(many, max_shard_size="20KB")
    (many / "tokenizer.json").write_bytes((Path(base.path) / "tokenizer.json").read_bytes())
    assert (many / "model.safetensors.index.json").exists()
    adapter = random_adapter(tmp_path, model_value(many))
    assert difference(merged(tmp_path, adapter), adapter) < 1e-5


def test_half_precision_is_measured_and_told(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    adapter = random_adapter(tmp_path, tiny_base(tmp_path))
    recorder = Recorder()
    value = merged(tmp_path, adapter, recorder, dtype="bfloat16")
    weights = load_file(Path(value.path) / "model.safetensors")
    assert {w.dtype for w in weights.values()} == {torch.bfloat16}
    assert (
        json.loads((Path(value.path) / "config.json").read_text(encoding="utf-8"))["dtype"]
        == "bfloat16"
    )
    assert value.dtype == "bfloat16"
    measured = value.merged_from[-1]["max_logit_difference"]
    assert 1e-5 < measured < 0.1
    assert any(f"{measured:.2g}" in e.get("sentence") for e in recorder.named("Notice"))


def test_the_change_is_added_in_float32(tmp_path: Path) -> None:
    """A weight just above the middle of two bfloat16 numbers is rounded once, at the end.

    Stored is 1 + 2⁻⁸ (exactly between 1 and 1 + 2⁻⁷), the adapter adds 2⁻¹². Rounded to bfloat16 before
    or after the sum alone, the stored weight is 1, and a change of 2⁻¹² cannot move it.
    """
    import torch
    from safetensors.torch import load_file, save_file

    base = tiny_base(tmp_path)
    adapter = random_adapter(tmp_path, base, r=1, lora_alpha=1, target_modules=["q_proj"])
    file = Path(base.path) / "model.safetensors"
    stored = load_file(file)
    changed = [n for n in stored if n.endswith("q_proj.weight")]
    stored.update({n: torch.full_like(stored[n], 1 + 2**-8) for n in changed})
    save_file(stored, file, metadata={"format": "pt"})
    own = Path(adapter.path) / "adapter_model.safetensors"
    factors = {"A": 1.0, "B": 2.0**-12}
    trained = load_file(own)
    save_file(
        {n: torch.full_like(t, factors[n.split(".lora_")[1][0]]) for n, t in trained.items()},
        own,
        metadata={"format": "pt"},
    )
    value = merged(tmp_path, adapter, dtype="bfloat16")
    written = load_file(Path(value.path) / "model.safetensors")
    assert changed
    for name in changed:
        assert torch.equal(written[name].float(), torch.full_like(stored[name], 1 + 2**-7))


@pytest.mark.parametrize("stored", ["bfloat16", "float16", "float32"])
def test_the_merged_model_is_stored_as_its_base(tmp_path: Path, stored: str) -> None:
    """A base trained in float32 does not grow; later steps load the merged one as it was trained."""
    from safetensors.torch import load_file

    adapter = random_adapter(tmp_path, tiny_base(tmp_path, dtype=stored))
    recorder = Recorder()
    value = merged(tmp_path, adapter, recorder)
    weights = load_file(Path(value.path) / "model.safetensors")
    assert {str(w.dtype) for w in weights.values()} == {f"torch.{stored}"}
    assert (
        json.loads((Path(value.path) / "config.json").read_text(encoding="utf-8"))["dtype"]
        == stored
    )
    assert (value.dtype, value.stored_dtype) == ("float32", None if stored == "float32" else stored)
    hints = [e.get("hint") for e in recorder.named("Notice")]
    assert any("keep them as trained" in h for h in hints) == (stored != "float32")
    assert f"({stored})" in model_card(value, "Merged")


def test_a_float32_merge_is_exact_for_any_base(tmp_path: Path) -> None:
    adapter = random_adapter(tmp_path, tiny_base(tmp_path, dtype="bfloat16"))
    value = merged(tmp_path, adapter, dtype="float32")
    assert (value.dtype, value.stored_dtype) == ("float32", None)
    assert difference(value, adapter) < 1e-5


@pytest.mark.parametrize("odd", ["sharded", "biases in float32"])
def test_the_precision_of_most_weights_counts(tmp_path: Path, odd: str) -> None:
    from safetensors.torch import load_file, save_file

    base = tiny_base(tmp_path, dtype="bfloat16")
    folder = Path(base.path)
    if odd == "sharded":
        model = plain_model(base.path).bfloat16()
        (folder / "model.safetensors").unlink()
        model.save_pretrained(folder, max_shard_size="20KB")
    else:
        weights = load_file(folder / "model.safetensors")
        mixed = {n: w.float() if w.dim() == 1 else w for n, w in weights.items()}
        save_file(mixed, folder / "model.safetensors", metadata={"format": "pt"})
    value = merged(tmp_path, random_adapter(tmp_path, base))
    assert value.stored_dtype == "bfloat16"


def test_an_adapter_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    adapter = random_adapter(tmp_path, tiny_base(tmp_path))
    wide = tiny_base(tmp_path / "wide", hidden=64)
    other = adapter.model_copy(update={"model": adapter.model.model_copy(update={"model": wide})})
    with pytest.raises(StudioError, match=r"^this adapter cannot be merged") as caught:
        merged(tmp_path, other)
    assert caught.value.code == "cannot_merge"


def test_an_adapter_with_broken_numbers_is_refused(tmp_path: Path) -> None:
    adapter = random_adapter(tmp_path, tiny_base(tmp_path), size=float("nan"))
    with pytest.raises(StudioError, match="not finite"):
        merged(tmp_path, adapter)
    assert not (tmp_path / "merge" / "step" / "model").exists()


def test_a_stop_leaves_nothing(tmp_path: Path) -> None:
    adapter = random_adapter(tmp_path, tiny_base(tmp_path))
    recorder = Recorder()
    context = make_context(
        tmp_path / "merge", recorder, stop=lambda: bool(recorder.named("Progress"))
    )
    with pytest.raises(Stopped):
        merge_adapter(context, adapter.to_json(), MergeSettings())
    assert not list(context.folder.iterdir())
    assert not context.artifacts


@pytest.mark.parametrize(
    "spare_kib", [-40, 6], ids=["weights do not fit", "tokenizer does not fit"]
)
def test_a_full_disk(spare_kib: int, tmp_path: Path) -> None:
    adapter = random_adapter(tmp_path, tiny_base(tmp_path))
    weights = Path(adapter.model.model.path) / "model.safetensors"
    size_kib = weights.stat().st_size // 1024 + spare_kib
    with small_disk(tmp_path / "merge", size_kib) as place:
        with pytest.raises(StudioError, match="the disk is full") as caught:
            merged(tmp_path, adapter)
        assert caught.value.code == "disk_full"
        assert "KiB needed" in str(caught.value)
        assert "free" in str(caught.value)
        assert str(place) in str(caught.value)
        assert not list((place / "step").iterdir())


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    adapter = random_adapter(tmp_path, tiny_base(tmp_path))
    with small_files(50_000), pytest.raises(StudioError, match=r"^the merged model could not"):
        merged(tmp_path, adapter)
    assert not list((tmp_path / "merge" / "step").iterdir())


def test_the_maximum_file_size_divides_the_weights(tmp_path: Path) -> None:
    """As chosen in the Merge node, with an index that names the file of every tensor."""
    from safetensors.torch import load_file

    adapter = random_adapter(tmp_path, tiny_base(tmp_path))
    context = make_context(tmp_path / "merge", Recorder())
    settings = MergeSettings().model_copy(update={"max_shard_size": 2e-5})  # 20 kB
    value = merge_adapter(context, adapter.to_json(), settings)
    files = sorted(Path(value.path).glob("*.safetensors"))
    assert len(files) > 2
    index = json.loads((Path(value.path) / "model.safetensors.index.json").read_text("utf-8"))
    stored = {name: file for file in files for name in load_file(file)}
    assert index["weight_map"] == {name: file.name for name, file in stored.items()}
    for file in files:
        weights = load_file(file)
        size = sum(t.numel() * t.element_size() for t in weights.values())
        assert size <= 20_000 or len(weights) == 1
