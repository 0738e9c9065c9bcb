"""Adapters that were trained elsewhere: loaded, merged, exported, or refused with the reason."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from studio.errors import StudioError
from studio.export_folder.model_card import model_card
from studio.node_settings.received_adapter import LoadAdapterSettings
from studio.training.adapter.received import load_received
from studio.values import AdapterValue, ModelValue
from tests.studio.training.adapters import (
    logits,
    plain_adapted,
    plain_model,
    random_adapter,
    tiny_base,
)
from tests.studio.training.hub_server import COMMIT, serve_hub
from tests.studio.training.steps import Recorder, make_context, model_value
from tests.studio.training.test_merge import merged
from tests.studio.training.test_portable import assert_all_agree, exported
from tests.tiny import make_tiny_model

pytestmark = pytest.mark.usefixtures("quiet_transformers")

FIXTURES = Path(__file__).parents[2] / "fixtures" / "adapters"
"""Written by PEFT 0.13.2, 0.15.2 and 0.17.1 for a model of the shape of the tiny one."""
LAYER = "base_model.model.model.layers.0.self_attn.q_proj"


def loaded(
    root: Path, base: ModelValue, adapter: Path | str, recorder: Recorder | None = None
) -> AdapterValue:
    context = make_context(root / "load", recorder or Recorder())
    context.title = "Load Adapter"
    return load_received(context, base.to_json(), LoadAdapterSettings(adapter=str(adapter)))


def refused(root: Path, base: ModelValue, adapter: Path | str) -> StudioError:
    with pytest.raises(StudioError) as caught:
        loaded(root, base, adapter)
    return caught.value


def sentences(recorder: Recorder) -> str:
    return "\n".join(e.get("sentence") for e in recorder.named("Notice"))


def change(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> Path:
    """Change the tensors of an adapter."""
    tensors = load_file(folder / "adapter_model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    return folder


def configure(folder: Path, **changes: Any) -> Path:
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**config, **changes}), encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", sorted(p.name for p in FIXTURES.iterdir()))
def test_adapters_of_other_versions_load_merge_and_export(tmp_path: Path, name: str) -> None:
    """The files as other versions of PEFT have written them."""
    base = tiny_base(tmp_path)
    recorder = Recorder()
    value = loaded(tmp_path, base, FIXTURES / name, recorder)
    wanted = logits(plain_adapted(value))
    assert float((wanted - logits(plain_model(base.path))).abs().max()) > 0.01
    assert "no tokenizer; that of the base model is used" in sentences(recorder)
    assert "was trained on someone/tiny-talk" not in sentences(recorder)
    model = merged(tmp_path / "merge", value)
    assert float((logits(plain_model(model.path)) - wanted).abs().max()) < 1e-3
    assert_all_agree(value, exported(tmp_path, value))
    card = model_card(value, "")
    assert f"from {name}" in card
    assert "trained with LoRA Studio" not in card


def test_the_file_is_copied_and_described(tmp_path: Path) -> None:
    """A change of the original later on does not change the run."""
    base = tiny_base(tmp_path)
    source = tmp_path / "received"
    shutil.copytree(FIXTURES / "peft-0.13-patterns", source)
    value = loaded(tmp_path, base, source)
    wanted = logits(plain_adapted(value))
    shutil.rmtree(source)
    assert torch.equal(logits(plain_adapted(value)), wanted)
    assert (value.model.method, value.model.r, value.model.alpha) == ("rslora", 4, 8)
    assert value.model.rank_pattern == {"q_proj": 2}
    assert value.dataset is None


def test_a_base_with_fewer_layers_is_refused(tmp_path: Path) -> None:
    base = model_value(make_tiny_model(tmp_path / "small", layers=1))
    error = refused(tmp_path, base, FIXTURES / "peft-0.13")
    assert error.code == "other_base"
    assert "it changes 2 layers, and the base has 1" in error.sentence
    assert "someone/tiny-talk" in error.hint


def test_a_base_of_another_width_is_refused(tmp_path: Path) -> None:
    base = model_value(make_tiny_model(tmp_path / "wide", hidden=64))
    error = refused(tmp_path, base, FIXTURES / "peft-0.13")
    assert error.code == "other_base"
    assert "q_proj is for 32 inputs, and the layer of the base has 64" in error.sentence


def test_another_vocabulary_is_refused(tmp_path: Path) -> None:
    base = tiny_base(tmp_path)
    value = random_adapter(tmp_path, base, modules_to_save=["lm_head"])
    name = "base_model.model.lm_head.weight"
    folder = change(Path(value.path), lambda t: t.update({name: t[name][:260].contiguous()}))
    error = refused(tmp_path, base, folder)
    assert "lm_head has 260 tokens, and the vocabulary of the base has 264" in error.sentence


def test_a_layer_without_its_pair_is_refused(tmp_path: Path) -> None:
    base = tiny_base(tmp_path)
    value = random_adapter(tmp_path, base)
    folder = change(Path(value.path), lambda t: t.pop(f"{LAYER}.lora_B.weight"))
    assert "model.layers.0.self_attn.q_proj has no B" in refused(tmp_path, base, folder).sentence


def test_layers_that_the_config_names_and_the_file_lacks_are_refused(tmp_path: Path) -> None:
    base = tiny_base(tmp_path)
    value = random_adapter(tmp_path, base)

    def drop(tensors: dict[str, Any]) -> None:
        for end in ("A", "B"):
            del tensors[f"{LAYER}.lora_{end}.weight"]

    folder = change(Path(value.path), drop)
    assert (
        "tensors for layers that it names are missing" in refused(tmp_path, base, folder).sentence
    )


def test_a_layer_that_the_base_has_not_is_refused(tmp_path: Path) -> None:
    base = tiny_base(tmp_path)
    value = random_adapter(tmp_path, base)

    def rename(tensors: dict[str, Any]) -> None:
        for end in ("A", "B"):
            tensors[f"{LAYER.replace('q_proj', 'query')}.lora_{end}.weight"] = tensors.pop(
                f"{LAYER}.lora_{end}.weight"
            )

    folder = change(Path(value.path), rename)
    assert (
        "self_attn.query, which the base does not have" in refused(tmp_path, base, folder).sentence
    )


def test_an_adapter_without_effect_is_refused(tmp_path: Path) -> None:
    base = tiny_base(tmp_path)
    value = random_adapter(tmp_path, base)

    def empty(tensors: dict[str, Any]) -> None:
        tensors.update({n: t * ("lora_A" in n) for n, t in tensors.items()})

    folder = change(Path(value.path), empty)
    assert "all B matrices are zero" in refused(tmp_path, base, folder).sentence


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    base = tiny_base(tmp_path)
    value = random_adapter(tmp_path, base)

    def spoil(tensors: dict[str, Any]) -> None:
        tensors[f"{LAYER}.lora_A.weight"][0, 0] = float("nan")

    folder = change(Path(value.path), spoil)
    assert "not finite" in refused(tmp_path, base, folder).sentence


def test_an_effect_that_is_too_large_is_said(tmp_path: Path) -> None:
    base = tiny_base(tmp_path)
    recorder = Recorder()
    value = random_adapter(tmp_path, base, size=0.002)
    loaded(tmp_path / "a", base, value.path, recorder)
    assert "times as large as the weights" not in sentences(recorder)
    folder = configure(Path(value.path), lora_alpha=8000)
    loaded(tmp_path / "b", base, folder, recorder)
    assert "times as large as the weights" in sentences(recorder)


def test_settings_of_a_newer_peft_are_named(tmp_path: Path) -> None:
    base = tiny_base(tmp_path)
    value = random_adapter(tmp_path, base)
    folder = configure(Path(value.path), use_tomorrow=True, unused_tomorrow=None)
    recorder = Recorder()
    found = loaded(tmp_path, base, folder, recorder)
    assert "use_tomorrow" in sentences(recorder)
    assert "unused_tomorrow" not in sentences(recorder)
    folder = configure(Path(value.path), use_tomorrow=False)
    quiet = Recorder()
    loaded(tmp_path / "again", base, folder, quiet)
    assert "does not know" not in sentences(quiet)
    assert float((logits(plain_adapted(found)) - logits(plain_adapted(value))).abs().max()) == 0


@pytest.mark.parametrize(
    ("named", "said"), [("models/tiny-talk", False), ("other/large-talk", True), ("", False)]
)
def test_another_base_is_said(tmp_path: Path, named: str, said: bool) -> None:
    base = tiny_base(tmp_path)
    value = random_adapter(tmp_path, base)
    recorder = Recorder()
    loaded(tmp_path, base, configure(Path(value.path), base_model_name_or_path=named), recorder)
    assert ("was trained on other/large-talk" in sentences(recorder)) == said


def test_folders_that_are_no_adapter_say_what_they_are(tmp_path: Path) -> None:
    base = tiny_base(tmp_path)
    assert refused(tmp_path, base, base.path).code == "model_folder"
    empty = tmp_path / "empty"
    empty.mkdir()
    assert refused(tmp_path, base, empty).code == "not_an_adapter"
    assert refused(tmp_path, base, tmp_path / "nowhere").code == "missing_file"
    value = random_adapter(tmp_path, base)
    weights = Path(value.path) / "adapter_model.safetensors"
    configure(Path(value.path), peft_type="TOMORROW")
    assert "TOMORROW" in refused(tmp_path, base, value.path).sentence
    configure(Path(value.path), peft_type="LORA")
    weights.rename(weights.with_suffix(".bin"))
    assert refused(tmp_path, base, value.path).code == "pickle_weights"
    weights.with_suffix(".bin").rename(weights)
    weights.write_bytes(weights.read_bytes()[:-40])
    assert refused(tmp_path, base, value.path).code == "bad_weights"


def test_no_file_is_left_of_an_adapter_that_leads_out_of_its_folder(tmp_path: Path) -> None:
    base = tiny_base(tmp_path)
    value = random_adapter(tmp_path, base)
    secret = tmp_path / "secret.json"
    secret.write_text("{}", encoding="utf-8")
    (Path(value.path) / "notes.json").symlink_to(secret)
    error = refused(tmp_path, base, value.path)
    assert "notes.json" in error.sentence


@pytest.mark.parametrize("config", [{"use_dora": True}, {"modules_to_save": ["lm_head"]}, {}])
def test_what_was_trained_here_loads_again(tmp_path: Path, config: dict[str, Any]) -> None:
    base = tiny_base(tmp_path)
    value = random_adapter(tmp_path, base, **config)
    found = loaded(tmp_path, base, value.path)
    assert float((logits(plain_adapted(found)) - logits(plain_adapted(value))).abs().max()) == 0
    assert found.model.method == ("dora" if config.get("use_dora") else "lora")


def test_an_adapter_of_the_hub_is_pinned_to_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in (
        ("HF_HUB_OFFLINE", "0"),
        ("HF_HUB_CACHE", str(tmp_path / "hub-cache")),
        ("HF_HUB_DISABLE_XET", "1"),
        ("LORA_STUDIO_CACHE", str(tmp_path / "cache")),
    ):
        monkeypatch.setenv(name, text)
    base = tiny_base(tmp_path)
    with serve_hub(FIXTURES / "peft-0.15", "someone/adapter") as endpoint:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        value = loaded(tmp_path, base, "someone/adapter")
    assert (value.source, value.revision) == ("someone/adapter", COMMIT)
    assert f"someone/adapter at {COMMIT[:12]}" in model_card(value, "")
    local = loaded(tmp_path / "again", base, FIXTURES / "peft-0.15")
    assert torch.equal(logits(plain_adapted(value)), logits(plain_adapted(local)))


def test_the_weights_of_the_base_are_compared_by_hash(tmp_path: Path) -> None:
    """Another revision of the same model has the same layers: both are named. The same weights elsewhere are not."""
    base = tiny_base(tmp_path)
    first = base.model_copy(update={"weights_sha256": "a" * 64})
    value = random_adapter(tmp_path, first)
    folder = exported(tmp_path, value)
    facts = json.loads((folder / "lora-studio.json").read_text(encoding="utf-8"))
    assert facts["base"] == {"name": "tiny-talk", "revision": None, "weights_sha256": "a" * 64}
    same, other = Recorder(), Recorder()
    loaded(tmp_path / "same", first.model_copy(update={"source": "copies/renamed"}), folder, same)
    assert "was trained on" not in sentences(same)
    loaded(tmp_path / "other", base.model_copy(update={"weights_sha256": "b" * 64}), folder, other)
    said = sentences(other)
    assert (
        "trained on tiny-talk (weights aaaaaaaaaaaa), and tiny-talk (weights bbbbbbbbbbbb)" in said
    )


@pytest.mark.parametrize(
    ("revision", "said"), [("c0ffee" * 6, True), (COMMIT, False), ("main", False), (None, False)]
)
def test_another_revision_is_said(tmp_path: Path, revision: str | None, said: bool) -> None:
    base = tiny_base(tmp_path).model_copy(update={"revision": COMMIT})
    value = random_adapter(tmp_path, base)
    folder = configure(
        Path(value.path), base_model_name_or_path="models/tiny-talk", revision=revision
    )
    recorder = Recorder()
    loaded(tmp_path, base, folder, recorder)
    assert ("trained on revision" in sentences(recorder)) is said


def test_an_adapter_without_a_named_base_is_said(tmp_path: Path) -> None:
    base = tiny_base(tmp_path)
    value = random_adapter(tmp_path, base)
    recorder = Recorder()
    loaded(tmp_path, base, configure(Path(value.path), base_model_name_or_path=None), recorder)
    assert "does not name the model that it was trained on" in sentences(recorder)


@pytest.mark.parametrize("start", ["pissa", "pissa_niter_4", "olora", "loftq"])
def test_an_adapter_of_a_changed_base_is_refused(tmp_path: Path, start: str) -> None:
    """PEFT would compute the change of the base again when it loads it, and a merge would lack it."""
    base = tiny_base(tmp_path)
    value = random_adapter(tmp_path, base)
    error = refused(tmp_path, base, configure(Path(value.path), init_lora_weights=start))
    assert f"init_lora_weights {start}" in error.sentence
    assert "path_initial_model_for_weight_conversion" in error.hint


def test_adalora_of_plain_peft_becomes_a_lora(tmp_path: Path) -> None:
    """With the ranks that its training has allocated, and the same effect."""
    from peft import AdaLoraConfig, get_peft_model

    base = tiny_base(tmp_path)
    torch.manual_seed(1)
    config = AdaLoraConfig(
        task_type="CAUSAL_LM",
        init_r=6,
        target_r=2,
        total_step=8,
        tinit=1,
        tfinal=2,
        lora_alpha=12,
        target_modules=["q_proj", "v_proj", "down_proj"],
    )
    model = get_peft_model(plain_model(base.path), config)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=3e-2)
    ids = torch.arange(3, 43)[None]
    for step in range(1, 8):
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        model.base_model.update_and_allocate(step)
        optimizer.zero_grad()
    model.save_pretrained(tmp_path / "adalora")
    wanted = logits(model.eval())
    recorder = Recorder()
    value = loaded(tmp_path, base, tmp_path / "adalora", recorder)
    assert value.model.method == "lora"
    assert "converted to a LoRA with a rank for each of its" in sentences(recorder)
    assert len(set(value.model.rank_pattern.values())) > 1
    assert float((logits(plain_adapted(value)) - wanted).abs().max()) < 1e-4
