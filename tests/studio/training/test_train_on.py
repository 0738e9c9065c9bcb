"""Training on from an adapter: it starts from its weights, and equals plain PEFT that does the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from studio.errors import Stopped, StudioError
from studio.export_folder.model_card import model_card
from studio.node_settings.lora import LoraSettings
from studio.node_settings.resize import ResizeSettings
from studio.training.loop.train import train_adapter
from studio.training.merge.resize import resize_adapter
from studio.training.tokens.encoder import load_tokenizer, tokenize_dataset
from studio.values import AdapterValue, DatasetValue
from studio.variants.lora_method import settings_after
from tests.studio.training.adapters import (
    logits,
    plain_adapted,
    plain_model,
    random_adapter,
    tiny_base,
)
from tests.studio.training.methods import METHODS, inputs_for, train_settings
from tests.studio.training.steps import (
    Recorder,
    adapted_value,
    dataset_value,
    make_context,
    make_inputs,
    settings_of,
)
from tests.studio.training.test_load_adapter import FIXTURES, loaded, sentences
from tests.studio.training.test_merge import merged
from tests.studio.training.test_portable import assert_all_agree, exported
from tests.studio.training.test_reference_loss import FLOAT32_LIMIT, in_order, plain_losses

pytestmark = [
    pytest.mark.usefixtures("quiet_transformers"),
    pytest.mark.filterwarnings("ignore::UserWarning:peft"),
]

CORE = [m for m, v in METHODS.items() if not v.payload.research and not v.payload.only_quantized]


def trained_on(
    root: Path, value: AdapterValue, recorder: Recorder, train: int = 14, **changes: Any
) -> AdapterValue:
    """A second training on other rows."""
    dataset = dataset_value(root / "more", train, 4)
    inputs = {"dataset": dataset.to_json(), "model": value.to_json()}
    return train_adapter(make_context(root, recorder), inputs, settings_of(**changes))


def test_a_chain_equals_plain_peft(tmp_path: Path) -> None:
    """Six steps, then twelve on other rows: the losses are those of PeftModel.from_pretrained(is_trainable=True)."""
    inputs = make_inputs(tmp_path, train=14)
    first = train_adapter(make_context(tmp_path, Recorder()), inputs, settings_of(max_steps=6))
    recorder = Recorder()
    second = trained_on(tmp_path / "second", first, recorder, max_steps=12)
    tokens = tokenize_dataset(
        make_context(tmp_path / "tokens", Recorder()),
        DatasetValue.model_validate(second.dataset),
        load_tokenizer(tmp_path / "model"),
        max_length=64,
        train_on="answers",
        folder=tmp_path / "tokens",
    )
    rows = [{k: list(row[k]) for k in ("input_ids", "labels")} for row in tokens.train]
    plain = plain_losses(
        tmp_path / "model",
        in_order(rows, 24),
        steps=12,
        batch=2,
        accumulation=1,
        learning_rate=5e-3,
        scratch=tmp_path / "plain",
        adapter=Path(first.path),
    )
    assert recorder.losses() == pytest.approx(plain, abs=FLOAT32_LIMIT)
    assert recorder.losses()[-1] < recorder.losses()[0]


@pytest.mark.parametrize("method", CORE)
def test_each_method_goes_on_where_it_ended(tmp_path: Path, method: str) -> None:
    """The first loss is that of the loaded adapter, and the result has its form."""
    inputs = inputs_for(tmp_path, method)
    first = train_adapter(
        make_context(tmp_path, Recorder()), inputs, train_settings(method, max_steps=4)
    )
    recorder = Recorder()
    again = {**inputs, "model": first.to_json()}
    rate = train_settings(method).learning_rate / 5
    settings = train_settings(method, max_steps=2, train_on="all", learning_rate=rate)
    second = train_adapter(make_context(tmp_path / "second", recorder), again, settings)
    assert recorder.losses()[0] == pytest.approx(loss_of(first), abs=1e-4)
    assert recorder.losses()[1] < recorder.losses()[0]
    one, two = (
        json.loads((Path(v.path) / "adapter_config.json").read_text(encoding="utf-8"))
        for v in (first, second)
    )
    for config in (one, two):
        config.pop("base_model_name_or_path")
        config["target_modules"] = sorted(config["target_modules"] or ())
    if method != "eva":  # whose start is not computed again
        assert one == two
    old, new = (load_file(Path(v.path) / "adapter_model.safetensors") for v in (first, second))
    assert {n: t.shape for n, t in old.items()} == {n: t.shape for n, t in new.items()}
    assert any(float((old[n] - new[n]).abs().max()) > 1e-4 for n in old)
    if "r" in METHODS[method].payload.uses and method not in ("adalora", "eva"):  # these choose
        made = LoraSettings(method=method, r=first.model.r, alpha=first.model.alpha)
        expected = settings_after(made, METHODS[method].payload)  # of estimate and recipe
        assert (expected.r, expected.method) == (two["r"], second.model.method)


def loss_of(value: AdapterValue) -> float:
    """The loss over all tokens of the training rows, as plain PEFT and plain transformers compute it."""
    assert value.dataset is not None
    base = value.model.model.path
    tokens = tokenize_dataset(
        make_context(Path(value.path).parent / "loss", Recorder()),
        value.dataset,
        load_tokenizer(base),
        max_length=64,
        train_on="all",
        folder=Path(value.path).parent / "loss",
    )
    model = plain_adapted(value)
    total, count = 0.0, 0
    with torch.no_grad():
        for row in tokens.train:
            ids, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
            number = int((labels[:, 1:] != -100).sum())
            total += float(model(input_ids=ids, labels=labels).loss) * number
            count += number
    return total / count


def test_other_trained_weights_go_on(tmp_path: Path) -> None:
    """Modules to save, trained tokens and biases start from their saved values, and are trained."""
    inputs = make_inputs(tmp_path, modules_to_save=["model.norm"], trained_tokens=[5, 70])
    first = train_adapter(make_context(tmp_path, Recorder()), inputs, settings_of(max_steps=3))
    recorder = Recorder()
    second = trained_on(tmp_path / "second", first, recorder, max_steps=3)
    old, new = (load_file(Path(v.path) / "adapter_model.safetensors") for v in (first, second))
    assert old.keys() == new.keys()
    for name in ("model.norm", "trainable_tokens", "lora_A", "lora_B"):
        (key, *_) = [n for n in old if name in n]
        assert 0 < float((old[key] - new[key]).abs().max()) < 0.05, name
    assert second.model.trained_tokens == [5, 70]
    assert second.model.modules_to_save == ["model.norm"]


def test_a_resumed_second_training_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    """Every loss and every byte of the adapter."""
    inputs = make_inputs(tmp_path, 15, 3, dropout=0.2)
    first = train_adapter(make_context(tmp_path, Recorder()), inputs, settings_of(max_steps=3))
    whole, one, two = Recorder(), Recorder(), Recorder()
    again = {**inputs, "model": first.to_json()}
    settings = settings_of(max_steps=8, save_steps=2)
    train_adapter(make_context(tmp_path / "whole", whole), again, settings)
    stopping = make_context(tmp_path / "again", one, lambda: len(one.losses()) >= 4)
    with pytest.raises(Stopped):
        train_adapter(stopping, again, settings)
    train_adapter(make_context(tmp_path / "again", two), again, settings)
    assert [e.get("step") for e in two.named("TrainResumed")] == [4]
    assert one.losses()[:4] + two.losses() == whole.losses()
    assert weights(tmp_path / "again") == weights(tmp_path / "whole")


def weights(root: Path) -> bytes:
    """The adapter's file."""
    return (root / "step" / "adapter" / "adapter_model.safetensors").read_bytes()


def test_checkpoints_of_another_start_are_not_used(tmp_path: Path) -> None:
    """The same rows and settings, from another adapter."""
    base = tiny_base(tmp_path)
    settings = {"max_steps": 4, "save_steps": 2}
    for number, started in enumerate((0.05, 0.02)):
        value = random_adapter(tmp_path / str(number), base, size=started)
        recorder = Recorder()
        trained_on(tmp_path / "train", value, recorder, **settings)
        assert recorder.named("TrainResumed") == []
        assert len(recorder.losses()) == 4
    assert "it belongs to other settings or data" in sentences(recorder)


@pytest.mark.parametrize("name", sorted(p.name for p in FIXTURES.iterdir()))
def test_adapters_of_other_versions_train_on_merge_and_export(tmp_path: Path, name: str) -> None:
    """The files as other versions of PEFT have written them."""
    value = loaded(tmp_path, tiny_base(tmp_path), FIXTURES / name)
    recorder = Recorder()
    second = trained_on(tmp_path / "train", value, recorder, max_steps=6, eval_steps=2, keep="best")
    assert second.model.method == value.model.method
    wanted = logits(plain_adapted(second))
    assert float((wanted - logits(plain_adapted(value))).abs().max()) > 1e-3
    model = merged(tmp_path / "merge", second)
    assert float((logits(plain_model(model.path)) - wanted).abs().max()) < 1e-3
    assert_all_agree(second, exported(tmp_path, second))
    card = model_card(second, "")
    assert f"from {name}, trained further with LoRA Studio" in card
    assert "## Stage 1\n\nLoaded from" in card
    assert "## Stage 2: Training" in card


def test_three_trainings_are_named_in_the_card(tmp_path: Path) -> None:
    """Each with its rows and settings, oldest first."""
    inputs = make_inputs(tmp_path, 8)
    value = train_adapter(make_context(tmp_path, Recorder()), inputs, settings_of(max_steps=2))
    for number, step in ((2, 3e-3), (3, 1e-3)):
        root = tmp_path / str(number)
        value = trained_on(root, value, Recorder(), 8 + number, max_steps=2, learning_rate=step)
    card = model_card(AdapterValue.model_validate(value.to_json()), "")
    places = [card.index(f"## Stage {n}: Training") for n in (1, 2, 3)]
    assert places == sorted(places)
    for place, rate in zip(places, ("0.005", "0.003", "0.001"), strict=True):
        assert f"| learning_rate | {rate} |" in card[place + 3 :].partition("\n## ")[0]
    assert [f"| rows for training | {n} |" in card for n in (8, 10, 11)] == [True] * 3


def test_a_resized_adapter_is_trained_further(tmp_path: Path) -> None:
    value = random_adapter(tmp_path, tiny_base(tmp_path))
    small = resize_adapter(
        make_context(tmp_path / "resize", Recorder()),
        value.to_json(),
        ResizeSettings(by="rank", r=2),
    )
    second = trained_on(tmp_path / "train", AdapterValue.model_validate(small), Recorder())
    assert second.model.r == 2
    assert second.model.continues is not None


def test_an_adapter_that_does_not_change_is_refused(tmp_path: Path) -> None:
    """Its B matrices are not zero, but those it started with."""
    value = random_adapter(tmp_path, tiny_base(tmp_path))
    with pytest.raises(StudioError) as caught:
        trained_on(tmp_path / "train", value, Recorder(), learning_rate=1e-30)
    assert caught.value.code == "adapter_unmoved"
    assert "are as before" in caught.value.sentence


def test_another_chat_template_is_said(tmp_path: Path) -> None:
    value = random_adapter(tmp_path, tiny_base(tmp_path))
    same, other = Recorder(), Recorder()
    trained_on(tmp_path / "same", value, same, max_steps=2)
    trained_on(tmp_path / "other", value, other, max_steps=2, chat_template="chatml")
    assert "another chat template than" not in sentences(same)
    assert "another chat template than" in sentences(other)


def test_a_missing_weight_is_refused(tmp_path: Path) -> None:
    """Files that were changed between two steps."""
    value = random_adapter(tmp_path, tiny_base(tmp_path))
    file = Path(value.path) / "adapter_model.safetensors"
    from safetensors.torch import save_file

    tensors = load_file(file)
    kept = {n: t for n, t in tensors.items() if "layers.1.mlp.up_proj" not in n}
    assert len(kept) == len(tensors) - 2
    save_file(kept, file, metadata={"format": "pt"})
    with pytest.raises(StudioError) as caught:
        trained_on(tmp_path / "train", value, Recorder())
    assert "has no weights for some of its layers" in caught.value.sentence


def test_the_value_of_a_new_adapter_has_no_start() -> None:
    """Stored values of earlier versions are read as before."""
    from tests.studio.training.steps import model_value

    plain = adapted_value(model_value(Path("x")))
    data = plain.to_json()
    data.pop("continues")
    assert type(plain).model_validate(data) == plain
