"""Adapters that are combined: the same numbers as PEFT and as the sums of ΔW, and losses that others compute alike."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from studio.errors import Stopped, StudioError
from studio.node_settings.adapter_mix import AdapterMixSettings
from studio.training.loop.train import train_adapter
from studio.training.merge import check as merge_check
from studio.training.mix import make
from studio.training.mix.combine import grid
from studio.training.mix.make import mix_adapters
from studio.values import AdapterValue, ModelValue
from tests.studio.training.adapters import (
    logits,
    plain_adapted,
    plain_model,
    random_adapter,
    save_family,
    tiny_base,
)
from tests.studio.training.steps import (
    Recorder,
    dataset_value,
    make_context,
    model_value,
    settings_of,
)
from tests.studio.training.test_parity import change as change_file
from tests.tiny import VOCABULARY

pytestmark = pytest.mark.usefixtures("quiet_transformers")

Q, DOWN = "model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"


def pair(root: Path, base: ModelValue, **second: Any) -> tuple[AdapterValue, AdapterValue]:
    """Two adapters that differ in rank, alpha, scale, patterns and targets."""
    one = random_adapter(
        root / "one", base, size=0.2, rank_pattern={"q_proj": 2}, alpha_pattern={"v_proj": 3}
    )
    options = {
        "r": 3,
        "lora_alpha": 5,
        "use_rslora": True,
        "target_modules": ["q_proj", "down_proj"],
    }
    two = random_adapter(root / "two", base, size=0.3, **{**options, **second})
    return one, other_values(two)


def other_values(adapter: AdapterValue) -> AdapterValue:
    """The same adapter with other random values: both would otherwise be drawn with one seed."""
    from safetensors.torch import save_file

    file = Path(adapter.path) / "adapter_model.safetensors"
    tensors = load_file(file)
    generator = torch.Generator().manual_seed(7)
    for name in sorted(tensors):
        tensors[name] = tensors[name] + 0.1 * torch.randn(tensors[name].shape, generator=generator)
    save_file(tensors, file, metadata={"format": "pt"})
    return adapter


def mixed(
    root: Path,
    adapters: Sequence[AdapterValue],
    weights: Sequence[float],
    recorder: Recorder | None = None,
    dataset: Any = None,
    stop: Any = lambda: False,
    **settings: Any,
) -> AdapterValue:
    context = make_context(root / "mix", recorder or Recorder(), stop)
    context.title = "Adapter Mix"
    context.input_titles = {p: f"Train {p}" for p in "abcd"}
    inputs = {p: a.to_json() for p, a in zip("abcd", adapters, strict=False)}
    if dataset is not None:
        inputs["dataset"] = dataset.to_json()
    named = {f"weight_{p}": w for p, w in zip("abcd", weights, strict=False)}
    return mix_adapters(context, inputs, AdapterMixSettings(**{**named, **settings}))


def changes(adapter: AdapterValue) -> dict[str, torch.Tensor]:
    """ΔW of every layer as plain PEFT computes it."""
    model = plain_adapted(adapter)
    return {
        name.removeprefix("base_model.model."): module.get_delta_weight("default").detach().clone()
        for name, module in model.named_modules()
        if hasattr(module, "get_delta_weight")
        and "default" in {**module.lora_A, **module.lora_embedding_A}
    }


def assert_sum(
    mix: AdapterValue, adapters: Sequence[AdapterValue], weights: Sequence[float]
) -> None:
    """The change of the result is the weighted sum, within float32."""
    found, each = changes(mix), [changes(a) for a in adapters]
    assert set(found) >= {n for c in each for n in c}
    for name, change in found.items():
        terms = [w * c[name] for w, c in zip(weights, each, strict=True) if name in c]
        wanted = sum(terms, torch.zeros_like(change))
        size = max((float(t.norm()) for t in terms), default=1.0)
        assert float((change - wanted).norm()) <= 2e-6 * size, name


@pytest.mark.parametrize("method", ["linear", "cat"])
@pytest.mark.parametrize("weights", [(0.7, 0.4), (1.0, -1.0), (-0.5, 2.0)])
def test_sums_are_exact(tmp_path: Path, method: str, weights: tuple[float, float]) -> None:
    """Also subtracted, and with other ranks, alphas, patterns, rsLoRA and targets."""
    adapters = pair(tmp_path, tiny_base(tmp_path))
    mix = mixed(tmp_path, adapters, weights, method=method)
    assert_sum(mix, adapters, weights)
    config = json.loads((Path(mix.path) / "adapter_config.json").read_text(encoding="utf-8"))
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 7, 7)
    assert not {"rank_pattern", "alpha_pattern", "use_rslora"} & {k for k, v in config.items() if v}


def test_linear_needs_no_higher_rank_for_the_same_directions(tmp_path: Path) -> None:
    base = tiny_base(tmp_path)
    one = random_adapter(tmp_path / "one", base, size=0.2)
    mix = mixed(tmp_path, [one, one], (1.0, 0.5))
    assert mix.model.r == 4
    assert_sum(mix, [one], (1.5,))
    joined = mixed(tmp_path / "cat", [one, one], (1.0, 0.5), method="cat")
    assert joined.model.r == 8
    assert_sum(joined, [one], (1.5,))


@pytest.mark.parametrize("weight", [0.5, -1.0, 1.7])
def test_one_adapter_is_scaled(tmp_path: Path, weight: float) -> None:
    one = random_adapter(tmp_path / "one", tiny_base(tmp_path), size=0.2, use_rslora=True)
    assert_sum(mixed(tmp_path, [one], (weight,)), [one], (weight,))


def test_weights_of_zero_leave_an_adapter_out(tmp_path: Path) -> None:
    adapters = pair(tmp_path, tiny_base(tmp_path))
    mix = mixed(tmp_path, adapters, (0.0, 1.0))
    assert_sum(mix, adapters[1:], (1.0,))


def test_embeddings_and_transposed_weights(tmp_path: Path) -> None:
    """GPT-2 stores its weights the other way round; embeddings have A and B of their own."""
    shape = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 128, "vocab_size": VOCABULARY}
    folder = save_family(
        tmp_path / "gpt2", "GPT2Config", {**shape, "bos_token_id": 1, "eos_token_id": 2}
    )
    base = model_value(folder)
    one = random_adapter(
        tmp_path / "one", base, size=0.2, target_modules=["c_attn", "wte"], fan_in_fan_out=True
    )
    two = random_adapter(
        tmp_path / "two", base, size=0.3, r=2, target_modules=["c_attn"], fan_in_fan_out=True
    )
    adapters = (one, other_values(two))
    assert_sum(mixed(tmp_path, adapters, (0.6, -0.3)), adapters, (0.6, -0.3))


def peft_mix(
    adapters: Sequence[AdapterValue], weights: Sequence[float], kind: str, **options: Any
) -> dict[str, torch.Tensor]:
    """ΔW by ``add_weighted_adapter``."""
    from peft import PeftModel

    model = PeftModel.from_pretrained(
        plain_model(adapters[0].model.model.path), adapters[0].path, "a0"
    )
    for i, adapter in enumerate(adapters[1:], start=1):
        model.load_adapter(adapter.path, f"a{i}")
    names = [f"a{i}" for i in range(len(adapters))]
    torch.manual_seed(0)
    model.add_weighted_adapter(names, list(weights), "mix", combination_type=kind, **options)
    return {
        n.removeprefix("base_model.model."): m.get_delta_weight("mix").detach()
        for n, m in model.named_modules()
        if hasattr(m, "get_delta_weight") and "mix" in m.lora_A
    }


@pytest.mark.parametrize("method", ["svd", "ties", "magnitude_prune"])
def test_the_same_as_peft(tmp_path: Path, method: str) -> None:
    """Positive weights, truncated to the same rank."""
    base = tiny_base(tmp_path)
    kind = "svd" if method == "svd" else f"{method}_svd"
    targets = ["q_proj", "down_proj"]
    one = random_adapter(tmp_path / "one", base, size=0.2, target_modules=targets)
    two = other_values(
        random_adapter(tmp_path / "two", base, size=0.2, r=3, target_modules=targets)
    )
    weights = (0.7, 0.5)
    options = {} if method == "svd" else {"density": 0.6}
    wanted = peft_mix([one, two], weights, kind, svd_rank=4, **options)
    found = changes(mixed(tmp_path, [one, two], weights, method=method, r=4, **options))
    assert set(found) == set(wanted)
    for name, change in wanted.items():
        assert float((found[name] - change).norm()) <= 1e-4 * float(change.norm()), name


@pytest.mark.parametrize("method", ["dare_linear", "dare_ties"])
def test_dare_drops_what_peft_drops(tmp_path: Path, method: str) -> None:
    """One layer, with the random numbers of the seed; another seed drops others."""
    from peft.utils import merge_utils

    base = tiny_base(tmp_path)
    one = random_adapter(tmp_path / "one", base, size=0.2, target_modules=[Q])
    two = other_values(random_adapter(tmp_path / "two", base, size=0.2, r=3, target_modules=[Q]))
    options = {"method": method, "density": 0.6, "r": 32}
    found = changes(mixed(tmp_path, [one, two], (0.7, 0.5), seed=3, **options))[Q]
    each = [changes(a)[Q] for a in (one, two)]
    torch.manual_seed(3)
    wanted = getattr(merge_utils, method)(each, torch.tensor([0.7, 0.5]), 0.6)
    assert float((found - wanted).norm()) <= 1e-4 * float(wanted.norm())
    other = changes(mixed(tmp_path / "other", [one, two], (0.7, 0.5), seed=4, **options))[Q]
    assert float((other - found).norm()) > 0.1 * float(found.norm())


def test_ties_with_a_negative_weight_subtracts(tmp_path: Path) -> None:
    """With all weights negative the result is the opposite: signs are elected after the weights."""
    base = tiny_base(tmp_path)
    one, two = pair(tmp_path, base, use_rslora=False)
    turned = mixed(tmp_path / "x", [one, two], (-1.0, -1.0), method="ties", r=32)
    plain = mixed(tmp_path / "y", [one, two], (1.0, 1.0), method="ties", r=32)
    for name, change in changes(plain).items():
        assert float((changes(turned)[name] + change).norm()) <= 1e-3 * float(change.norm())


def test_what_a_low_rank_loses_is_said(tmp_path: Path) -> None:
    adapters = pair(tmp_path, tiny_base(tmp_path))
    recorder = Recorder()
    mix = mixed(tmp_path, adapters, (1.0, 1.0), recorder, method="svd", r=2)
    assert mix.mixture is not None
    each = [changes(a) for a in adapters]
    energy = lost = 0.0
    for name in each[0] | each[1]:
        values = torch.linalg.svdvals(sum(c[name] for c in each if name in c))
        energy += float(values.square().sum())
        lost += float(values[2:].square().sum())
    assert mix.mixture.kept == pytest.approx(1 - lost / energy, abs=1e-4)
    sentence = recorder.named("Notice")[-1].get("sentence")
    assert f"{100 * mix.mixture.kept:.2f} % of the combined change is kept" in sentence


def test_dora_is_converted_and_said(tmp_path: Path) -> None:
    base = tiny_base(tmp_path)
    one = random_adapter(tmp_path / "one", base, size=0.2)
    two = random_adapter(tmp_path / "two", base, size=0.05, use_dora=True)
    recorder = Recorder()
    mix = mixed(tmp_path, [one, two], (0.5, 1.0), recorder)
    told = [e.get("sentence") for e in recorder.named("Notice")]
    assert any("“Train b” is not a plain LoRA" in t and "% of their change" in t for t in told)
    only = mixed(tmp_path / "only", [two], (1.0,))
    difference = (logits(plain_adapted(only)) - logits(plain_adapted(two))).abs().max()
    assert float(difference) < 1e-3
    assert mix.model.method == "lora"


def test_other_bases_are_refused_by_name(tmp_path: Path) -> None:
    base = tiny_base(tmp_path)
    one = random_adapter(tmp_path / "one", base)
    other = base.model_copy(update={"weights_sha256": "1" * 64, "source": "models/other-talk"})
    two = one.model_copy(update={"model": one.model.model_copy(update={"model": other})})
    with pytest.raises(StudioError, match=r"models/tiny-talk.*models/other-talk") as caught:
        mixed(tmp_path, [one, two], (1.0, 1.0))
    assert (caught.value.code, caught.value.field) == ("other_mix_base", "b")


def test_what_no_lora_can_express_is_refused_by_name(tmp_path: Path) -> None:
    base = tiny_base(tmp_path)
    one = random_adapter(tmp_path / "one", base)
    two = random_adapter(tmp_path / "two", base, modules_to_save=["norm"])
    with pytest.raises(
        StudioError, match=r"“Train b” cannot be mixed: it changes .*norm"
    ) as caught:
        mixed(tmp_path, [one, two], (1.0, 1.0))
    assert caught.value.code == "cannot_mix"


def test_no_effect_is_refused(tmp_path: Path) -> None:
    one = random_adapter(tmp_path / "one", tiny_base(tmp_path))
    with pytest.raises(StudioError, match="all weights are 0"):
        mixed(tmp_path, [one], (0.0,))


def test_shares_and_cosines(tmp_path: Path) -> None:
    adapters = pair(tmp_path, tiny_base(tmp_path))
    mix = mixed(tmp_path, adapters, (0.5, -2.0))
    assert mix.mixture is not None
    each = [changes(a) for a in adapters]
    flat = [
        torch.cat([c.get(n, torch.zeros_like(v)).flatten() for n, v in each[0].items()])
        for c in each
    ]
    cosine = float(torch.nn.functional.cosine_similarity(flat[0], flat[1], dim=0))
    sizes = [0.5 * float(flat[0].norm()), 2.0 * float(flat[1].norm())]
    one, two = mix.mixture.sources
    assert one.cosines == pytest.approx([1.0, cosine], abs=1e-5)
    assert two.cosines == pytest.approx([cosine, 1.0], abs=1e-5)
    assert [one.share, two.share] == pytest.approx([s / sum(sizes) for s in sizes], rel=1e-5)
    assert [s.title for s in mix.mixture.sources] == ["Train a", "Train b"]
    assert AdapterValue.model_validate(two.adapter) == adapters[1]  # lineage


def plain_loss(adapters: Sequence[AdapterValue], weights: Sequence[float], folder: Path) -> float:
    """The mean loss of the answers by transformers, with ΔW added to the weights by hand."""
    from datasets import load_from_disk
    from transformers import AutoTokenizer

    model = plain_model(adapters[0].model.model.path)
    with torch.no_grad():
        for adapter, weight in zip(adapters, weights, strict=True):
            for name, change in changes(adapter).items():
                model.get_submodule(name).weight += weight * change
    tokenizer = AutoTokenizer.from_pretrained(adapters[0].path)
    total, count = 0.0, 0
    for row in load_from_disk(str(folder)):
        asked = tokenizer.apply_chat_template(
            row["messages"][:1], add_generation_prompt=True, tokenize=False
        )
        full = tokenizer.apply_chat_template(row["messages"], tokenize=False)
        ids = tokenizer(full, add_special_tokens=False, return_tensors="pt")["input_ids"]
        start = len(tokenizer(asked, add_special_tokens=False)["input_ids"])
        with torch.no_grad():
            scores = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
        target = ids[0, 1:]
        total -= float(scores[start - 1 :].gather(1, target[start - 1 :, None]).sum())
        count += len(target) - start + 1
    return total / count


def test_the_table_of_losses(tmp_path: Path) -> None:
    """Five weights and the chosen ones; each loss is that of the summed weights in plain transformers."""
    adapters = pair(tmp_path, tiny_base(tmp_path))
    data = dataset_value(tmp_path / "held-out", train=8, validation=6)
    recorder = Recorder()
    mix = mixed(tmp_path, adapters, (0.9, 0.3), recorder, data, rows=0)
    assert mix.mixture is not None
    table = [(tuple(m.weights), m.loss) for m in mix.mixture.losses]
    assert [w for w, _ in table] == [(1.2, 0.0), (0.9, 0.3), (0.6, 0.6), (0.3, 0.9), (0.0, 1.2)]
    for weights, loss in table:
        assert loss == pytest.approx(
            plain_loss(adapters, weights, tmp_path / "held-out" / "validation"), rel=1e-4
        )
    assert (mix.mixture.rows, mix.metrics["eval_loss"]) == (6, table[1][1])
    assert_sum(mix, adapters, (0.9, 0.3))  # the chosen weights stay
    assert {e.get("phase") for e in recorder.named("Progress")} >= {"evaluate"}
    best = mixed(tmp_path / "best", adapters, (0.9, 0.3), recorder, data, rows=0, choose="best")
    lowest = min(table, key=lambda t: t[1])[0]
    assert_sum(
        best, [a for a, w in zip(adapters, lowest, strict=True) if w], [w for w in lowest if w]
    )
    assert "The weights with the lowest loss are used" in "".join(
        e.get("sentence") for e in recorder.named("Notice")
    )
    left = {p.name for p in (tmp_path / "mix" / "step").iterdir()}
    assert left == {"adapter"}  # no trial is left


def test_grids() -> None:
    assert grid((1.0, 1.0), 3) == [(2.0, 0.0), (1.0, 1.0), (0.0, 2.0)]
    assert grid((0.8,), 4) == [(0.0,), (0.4,), (0.8,), (1.2,)]
    assert grid((1.0, -1.0), 2) == [(0.0, 0.0), (1.5, -1.5), (1.0, -1.0)]
    assert grid((1.0, 2.0, 3.0), 0) == [(1.0, 2.0, 3.0)]


def test_training_rows_are_said(tmp_path: Path) -> None:
    one = random_adapter(tmp_path / "one", tiny_base(tmp_path))
    recorder = Recorder()
    mixed(tmp_path, [one], (1.0,), recorder, dataset_value(tmp_path / "rows", train=4), points=0)
    assert any("no validation rows" in e.get("sentence") for e in recorder.named("Notice"))


def test_stopped_in_the_middle(tmp_path: Path) -> None:
    """A stop among the rows of the third weight ends the step; no result is registered."""
    adapters = pair(tmp_path, tiny_base(tmp_path))
    recorder = Recorder()

    def stop() -> bool:
        done = [e.get("done") for e in recorder.named("Progress") if e.get("phase") == "evaluate"]
        return any(d is not None and d > 0 for d in done)

    data = dataset_value(tmp_path / "rows", train=4, validation=4)
    with pytest.raises(Stopped):
        mixed(tmp_path, adapters, (1.0, 1.0), recorder, data, stop, batch_size=1)
    assert not (tmp_path / "mix" / "step" / "adapter").exists()


def test_the_result_is_like_a_trained_adapter(tmp_path: Path) -> None:
    """It can be resized, merged and mixed again."""
    from studio.node_settings.merge import MergeSettings
    from studio.node_settings.resize import ResizeSettings
    from studio.training.merge.make import merge_adapter
    from studio.training.merge.resize import resize_adapter

    adapters = pair(tmp_path, tiny_base(tmp_path))
    mix = mixed(tmp_path, adapters, (0.5, 0.5))
    small = resize_adapter(
        make_context(tmp_path / "resize", Recorder()), mix.to_json(), ResizeSettings(by="rank", r=2)
    )
    assert small.model.r == 2
    merged = merge_adapter(
        make_context(tmp_path / "merge", Recorder()), mix.to_json(), MergeSettings()
    )
    again = mixed(tmp_path / "again", [mix, adapters[0]], (1.0, -0.5))
    assert_sum(again, [adapters[1]], (0.5,))
    difference = (logits(plain_model(merged.path)) - logits(plain_adapted(mix))).abs().max()
    assert float(difference) < 1e-3
    assert not math.isnan(float(difference))


@pytest.mark.parametrize("method", ["linear", "svd"])
def test_the_saved_adapter_is_compared_with_its_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """As it is, and after one of its matrices was written wrongly."""
    adapters = pair(tmp_path, tiny_base(tmp_path))
    recorder = Recorder()
    mix = mixed(tmp_path, adapters, (0.7, -0.4), recorder, method=method)
    assert mix.reload_difference < 1e-4
    sentences = " ".join(e.get("sentence") for e in recorder.named("Notice"))
    of = "the sum of the adapters" if method == "linear" else "the combined changes"
    assert f"its logits differ from those of {of} on the base model by at most" in sentences
    write = make.write_plain

    def damaged(context: Any, plain: Any, *rest: Any) -> None:
        write(context, plain, *rest)
        file = context.folder / "adapter" / "adapter_model.safetensors"
        change_file(
            file,
            lambda name, t: t * 1.2 if name.endswith("0.self_attn.q_proj.lora_B.weight") else t,
        )

    monkeypatch.setattr(make, "write_plain", damaged)
    with pytest.raises(StudioError) as caught:
        mixed(tmp_path / "b", adapters, (0.7, -0.4), method=method)
    assert caught.value.code == "reload_mismatch"
    assert not (tmp_path / "b" / "mix" / "step" / "adapter").exists()


def test_a_large_base_is_read_layer_by_layer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison gives the same difference as with the model in memory."""
    adapters = pair(tmp_path, tiny_base(tmp_path))
    monkeypatch.setattr(merge_check, "is_large", lambda value: True)
    monkeypatch.setattr(merge_check, "load_base", None)
    assert mixed(tmp_path, adapters, (0.7, -0.4)).reload_difference < 1e-4


def test_a_mix_is_trained_further(tmp_path: Path) -> None:
    """The next Train node starts from the combination, and names it in the log."""
    adapters = pair(tmp_path, tiny_base(tmp_path))
    mix = mixed(tmp_path, adapters, (0.7, 0.4))
    recorder = Recorder()
    dataset = dataset_value(tmp_path / "rows", 14, 4)
    inputs = {"dataset": dataset.to_json(), "model": mix.to_json()}
    context = make_context(tmp_path / "train", recorder)
    settings = settings_of(max_steps=4, eval_at_start=True)
    trained = train_adapter(context, inputs, settings)
    assert trained.reload_difference < 1e-3
    begins, ends = logits(plain_adapted(mix)), logits(plain_adapted(trained))
    base = logits(plain_model(mix.model.model.path))
    assert float((ends - begins).abs().max()) > 0
    near, far = float((ends - begins).norm()), float((ends - base).norm())
    assert near < far  # it went on from the mix, not from the base
