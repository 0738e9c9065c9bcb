"""Padded, grouped, padding-free and packed batches: the same loss and the same gradients.

If a model cannot keep rows of one sequence apart, they are padded, with a notice.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from studio.training.batch.batches import (
    Batches,
    concatenate_rows,
    pad_rows,
    row_lengths,
    tokens_in,
)
from studio.training.batch.batching import plan_batches, rows_stay_apart
from studio.training.batch.packing import pack
from studio.training.batch.row_order import GroupedOrder, PackedOrder, RowOrder
from studio.training.loop.sft import choose_head, loss_of, summed_loss, total_weight
from studio.variants.objective import PLAIN_LOSS, LossOptions
from tests.studio.training.adapters import plain_model
from tests.studio.training.steps import Recorder, make_context, make_inputs, settings_of
from tests.studio.training.test_architectures import FAMILIES, make_model

pytestmark = pytest.mark.usefixtures("quiet_transformers")

MASKED = ("Gemma2, capped",)
"""Families whose rows only a mask keeps apart."""
LENGTHS = (8, 21, 40, 3, 17, 30)  # shorter and longer than the families' window of 16
TOLERANCE = 1e-5


def rows_of(lengths: Sequence[int] = LENGTHS, weighted: bool = False) -> Any:
    """Rows of distinct tokens; the first third of each is context. Every other row has weights."""
    from datasets import Dataset, Features, List, Value

    features = Features(
        {
            "input_ids": List(Value("int32")),
            "labels": List(Value("int32")),
            "weights": List(Value("float32")),
        }
    )
    rows = []
    for number, n in enumerate(lengths):
        ids = [3 + (number * 37 + 11 * i) % 250 for i in range(n)]
        weights = [0.25 + (i % 4) / 2 for i in range(n)] if weighted and number % 2 else None
        rows.append(
            {"input_ids": ids, "labels": [-100] * (n // 3) + ids[n // 3 :], "weights": weights}
        )
    return Dataset.from_list(rows, features=features)


@pytest.mark.parametrize(
    ("lengths", "capacity", "bins"),
    [
        ([6, 4], 10, 1),
        ([5, 5, 5, 5], 10, 2),
        ([7, 3, 8, 2, 6, 4], 10, 3),
        ([10, 10], 10, 2),
        ([6, 5], 10, 2),
    ],
)
def test_a_row_that_fills_a_bin_exactly_needs_no_other(
    lengths: list[int], capacity: int, bins: int
) -> None:
    packed = pack(lengths, range(len(lengths)), capacity)
    assert len(packed) == bins
    assert sorted(row for rows in packed for row in rows) == list(range(len(lengths)))
    assert all(sum(lengths[row] for row in rows) <= capacity for rows in packed)


def adapted(folder: Path, family: str) -> Any:
    """A random model of the family with a LoRA whose B is not zero, so that every gradient moves."""
    import torch
    from peft import LoraConfig, get_peft_model

    base = plain_model(make_model(folder, family))
    torch.manual_seed(1)
    config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(base, config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return model.eval()  # GPT-2 has dropout of its own


def step(
    model: Any,
    batches: Sequence[dict[str, Any]],
    options: LossOptions = PLAIN_LOSS,
    head: Any = None,
) -> tuple[float, list[Any]]:
    """Loss and adapter gradients of one optimizer step over these micro-batches."""
    model.zero_grad()
    head = head or choose_head(model, batches[0])
    whole = sum(float(total_weight(b)) for b in batches)
    total = 0.0
    for batch in batches:
        loss = summed_loss(model, batch, head, options) / whole
        loss.backward()
        total += float(loss.detach())
    return total, [p.grad.clone() for p in model.parameters() if p.grad is not None]


def plan(model: Any, rows: Any, recorder: Recorder, tmp_path: Path, **settings: Any) -> Any:
    return plan_batches(make_context(tmp_path, recorder), model, rows, settings_of(**settings), 0)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_way_of_batching_gives_one_loss_and_one_gradient(
    tmp_path: Path, family: str, weighted: bool
) -> None:
    """One optimizer step over the same rows, with accumulation, to 1e-5 in float32."""
    model = adapted(tmp_path / "model", family)
    rows = rows_of(weighted=weighted)
    recorder = Recorder()
    padded = plan(model, rows, Recorder(), tmp_path, batching="padded")
    plain = step(model, list(padded.batches(0, 6, 2)))
    ways = {
        "grouped": {"batching": "padded", "group_by_length": True},
        "without padding": {"batching": "padding_free"},
        "packed": {"batching": "packed", "pack_length": 64},
    }
    for name, settings in ways.items():
        batching = plan(model, rows, recorder, tmp_path, **settings)
        wanted = {"grouped": False, "without padding": family not in MASKED, "packed": True}
        assert batching.padding_free == wanted[name], name
        for size in (1, 2, 6):
            loss, gradients = step(model, list(batching.batches(0, batching.units, size)))
            assert loss == pytest.approx(plain[0], rel=TOLERANCE), (name, size)
            assert len(gradients) == len(plain[1]) > 0
            for found, wanted in zip(gradients, plain[1], strict=True):
                assert float((found - wanted).abs().max()) <= TOLERANCE, (name, size)
    told = [e.get("sentence") for e in recorder.named("Notice") if "padded" in e.get("sentence")]
    assert len(told) == (family in MASKED)
    assert all("only a mask over the whole sequence keeps rows apart" in s for s in told)


@pytest.mark.parametrize("family", ["Llama, untied", "Mistral", "Gemma2, capped"])
def test_rows_stay_apart_in_gradient_checkpointing_too(tmp_path: Path, family: str) -> None:
    """The second forward pass happens within backward, when the batch is no longer at hand."""
    model = adapted(tmp_path / "model", family)
    batching = plan(model, rows_of(), Recorder(), tmp_path, batching="packed", pack_length=40)
    assert batching.padding_free
    batches = list(batching.batches(0, batching.units, 3))
    plain = step(model, batches)
    model.enable_input_require_grads()
    model.train().gradient_checkpointing_enable({"use_reentrant": False})
    again = step(model, batches)
    assert again[0] == pytest.approx(plain[0], rel=1e-6)
    for found, wanted in zip(again[1], plain[1], strict=True):
        assert float((found - wanted).abs().max()) <= 1e-6


def test_a_model_that_remembers_across_rows_is_trained_padded(tmp_path: Path) -> None:
    """A state-space model mixes all rows of a sequence: detected, reported, and padded. That is a warning where
    packed batches were chosen, and no more than a fact where nothing was."""
    import torch
    from transformers import MambaConfig, MambaForCausalLM

    torch.manual_seed(0)
    config = MambaConfig(vocab_size=264, hidden_size=32, num_hidden_layers=2, state_size=4)
    model = MambaForCausalLM(config)
    for chosen, level in (({"batching": "packed"}, "warning"), ({}, "info")):
        recorder = Recorder()
        batching = plan(model, rows_of(), recorder, tmp_path, **chosen)
        assert not batching.padding_free
        assert batching.units == len(LENGTHS)
        (told,) = recorder.named("Notice")
        assert "would attend to each other" in told.get("sentence")
        assert "Padding is 35 % of the tokens" in told.get("sentence")
        assert told.get("level") == level


def test_a_method_that_looks_for_a_place_in_each_sequence_is_trained_padded(tmp_path: Path) -> None:
    """aLoRA begins at a phrase of its sequence, so that each row needs one of its own."""
    model = plain_model(make_model(tmp_path / "model", "Qwen3"))
    recorder = Recorder()
    context = make_context(tmp_path, recorder)
    for settings in (settings_of(batching="packed"), settings_of()):
        found = plan_batches(context, model, rows_of(), settings, 0, method="alora")
        assert not found.padding_free
    assert [e.get("level") for e in recorder.named("Notice")] == ["warning", "info"]
    assert all("looks for a place in each row" in e.get("sentence") for e in recorder.events)


def test_attention_per_row_is_used_where_it_can_be(tmp_path: Path) -> None:
    """Models with arithmetic of their own keep it; packed rows get a block-diagonal mask, others are padded."""
    from studio.training.batch.attention import NAME

    for family, wanted in (
        ("Qwen3", NAME),
        ("GPT-2, transposed", NAME),
        ("Gemma2, capped", "eager"),
    ):
        model = plain_model(make_model(tmp_path / family, family))
        assert plan(model, rows_of(), Recorder(), tmp_path).padding_free == (wanted == NAME)
        assert plan(model, rows_of(), Recorder(), tmp_path, batching="packed").padding_free
        assert model.config._attn_implementation == wanted


def test_rows_longer_than_a_window_need_no_mask_over_the_sequence(tmp_path: Path) -> None:
    """Its memory would grow with the square of the batch size: each row has a mask of its own size."""
    from studio.training.batch import attention
    from studio.training.batch.attention import Segments

    model = plain_model(make_model(tmp_path / "model", "Mistral"))
    batching = plan(model, rows_of(), Recorder(), tmp_path)
    seen: list[Any] = []
    attend = attention._attend

    def spy(module: Any, q: Any, k: Any, v: Any, mask: Any, *args: Any, **more: Any) -> Any:
        seen.append(mask)
        return attend(module, q, k, v, mask, *args, **more)

    attention.AttentionInterface.register(attention.NAME, spy)
    try:
        (batch,) = batching.batches(0, 6, 6)
        loss, _ = step(model.train(), [batch])
    finally:
        attention.AttentionInterface.register(attention.NAME, attend)
    masks = [
        mask for mask in seen if mask is not None
    ]  # none: the choice of the head, with one row
    assert masks
    assert all(isinstance(mask, Segments) for mask in masks)
    assert [tuple(m.shape) for m in masks[0].masks] == [(1, 1, n, n) for n in batch["lengths"]]
    widest = max(int(m[0, 0].sum(-1).max()) for m in masks[0].masks)
    assert widest == model.config.sliding_window == 16
    alone = plan(model, rows_of(), Recorder(), tmp_path, batching="padded").batches(0, 6, 1)
    assert loss == pytest.approx(step(model, list(alone))[0], rel=TOLERANCE)


@pytest.mark.parametrize(
    ("settings", "percent", "hint"),
    [
        ({"batch_size": 2}, 35, "Padding-free batches need none"),
        ({"batch_size": 3, "group_by_length": True}, 30, "Padding-free batches need none."),
        ({"batch_size": 1}, None, ""),
    ],
)
def test_the_share_of_padding_is_reported(
    tmp_path: Path, settings: dict[str, Any], percent: int | None, hint: str
) -> None:
    """Counted from the batches that are really made."""
    model = plain_model(make_model(tmp_path / "model", "Qwen3"))
    recorder = Recorder()
    batching = plan(model, rows_of(), recorder, tmp_path, batching="padded", **settings)
    batches = list(batching.batches(0, 6, settings["batch_size"]))
    computed = sum(b["input_ids"].numel() for b in batches)
    told = [e.get("sentence") for e in recorder.named("Notice")]
    if percent is None:
        assert (computed, told) == (sum(LENGTHS), [])
        return
    assert round(100 * (1 - sum(LENGTHS) / computed)) == percent
    assert told == [f"Padding is {percent} % of the tokens that are computed in the first epoch."]
    assert recorder.named("Notice")[0].get("hint").startswith(hint)
    assert recorder.named("Notice")[0].get("level") == "info"


def test_a_leak_is_found(tmp_path: Path) -> None:
    """Rows in one sequence that are not kept apart: the case that the test detects."""
    model = plain_model(make_model(tmp_path / "model", "Llama, untied"))
    assert rows_stay_apart(model, rows_of(), 0)
    forward = model.forward

    def leaky(**inputs: Any) -> Any:
        inputs.pop("position_ids", None)
        return forward(**inputs)

    model.forward = leaky
    assert not rows_stay_apart(model, rows_of(), 0)


def test_weights_change_the_loss_as_written(tmp_path: Path) -> None:
    """sum(w · ce) / sum(w) over the step, against the plain formula on plain logits."""
    import torch

    model = plain_model(make_model(tmp_path / "model", "Qwen3"))
    rows = rows_of(weighted=True)
    above = below = 0.0
    for row in rows:
        ids = torch.tensor([row["input_ids"]])
        with torch.no_grad():
            scores = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
        for place, label in enumerate(row["labels"][1:]):
            if label != -100:
                weight = row["weights"][place + 1] if row["weights"] else 1.0
                above -= weight * float(scores[place, label])
                below += weight
    batches = [pad_rows(rows, numbers, 0) for numbers in ([0, 1, 2, 3], [4, 5])]
    assert step_loss(model, batches) == pytest.approx(above / below, rel=1e-5)
    assert step_loss(model, batches) != pytest.approx(
        step_loss(model, [pad_rows(rows_of(), range(6), 0)]), rel=1e-4
    )


def step_loss(model: Any, batches: Sequence[dict[str, Any]]) -> float:
    import torch

    with torch.no_grad():
        summed = sum(float(summed_loss(model, b, "full")) for b in batches)
    return summed / sum(float(total_weight(b)) for b in batches)


@pytest.mark.parametrize("options", [LossOptions(), LossOptions(0.1, 1e-2)])
@pytest.mark.parametrize("family", ["Qwen3", "Phi-3, fused", "Granite, scaled", "Gemma2, capped"])
def test_a_head_in_chunks_gives_the_loss_and_gradients_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str, options: LossOptions
) -> None:
    """And never sees more rows than a chunk; capped logits are left to the model."""
    from studio.training.loop import chunked_head

    model = adapted(tmp_path / "model", family)
    rows = rows_of(weighted=True)
    for batch in (pad_rows(rows, range(6), 0), concatenate_rows(rows, range(6))):
        whole, wanted = step(model, [batch], options, "full")
        seen: list[int] = []
        head = model.get_base_model().get_output_embeddings()
        handle = head.register_forward_hook(
            lambda m, args, out, seen=seen: seen.append(out.shape[-2])
        )
        with monkeypatch.context() as patch:
            patch.setattr(chunked_head, "CHUNK_ELEMENTS", 264 * 10)
            loss, gradients = step(model, [batch], options)
        handle.remove()
        assert loss == pytest.approx(whole, rel=1e-6)
        for found, plain in zip(gradients, wanted, strict=True):
            assert float((found - plain).abs().max()) <= TOLERANCE
        labels = int((batch["shift_labels"] != -100).sum())
        chunks = [n for n in seen if n <= 10]
        assert (sum(chunks) >= labels) == (family != "Gemma2, capped")


def test_label_smoothing_and_z_loss_are_their_formulas() -> None:
    """Against the definitions, with and without weights."""
    import torch

    torch.manual_seed(0)
    logits, wanted = torch.randn(7, 11) * 3, torch.randint(0, 11, (7,))
    weights = torch.rand(7)
    scores = logits.log_softmax(-1)
    right = -scores[torch.arange(7), wanted]
    smooth = 0.9 * right - 0.1 * scores.mean(-1)
    z = logits.exp().sum(-1).log() ** 2
    cases = {
        LossOptions(): right,
        LossOptions(0.1): smooth,
        LossOptions(0.0, 1e-2): right + 1e-2 * z,
        LossOptions(0.1, 1e-2): smooth + 1e-2 * z,
    }
    for options, losses in cases.items():
        assert float(loss_of(logits, wanted, None, options)) == pytest.approx(float(losses.sum()))
        weighted = float(loss_of(logits, wanted, weights, options))
        assert weighted == pytest.approx(float((weights * losses).sum()))


# ------------------------------------------------------------------ order and bins


def test_bins_hold_every_row_once_and_never_too_much() -> None:
    import random

    lengths = [random.Random(i).randint(1, 100) for i in range(6000)]
    order = RowOrder(len(lengths), 3).numbers(0, len(lengths))
    bins = pack(lengths, order, 128)
    assert sorted(row for b in bins for row in b) == list(range(len(lengths)))
    assert max(sum(lengths[i] for i in b) for b in bins) <= 128
    assert len(bins) <= 11 / 9 * sum(lengths) / 128 + 2
    assert pack([5, 300, 5], [0, 1, 2], 128) == [[1], [0, 2]]


@pytest.mark.parametrize(
    "make",
    [
        lambda n: RowOrder(n, 1),
        lambda n: GroupedOrder([1 + i % 17 for i in range(n)], 1, 4),
        lambda n: PackedOrder([1 + i % 17 for i in range(n)], 1, 20),
    ],
)
def test_an_order_is_a_function_of_seed_epoch_and_index(make: Any) -> None:
    """Any place can be asked first; every epoch holds every row once; a half batch keeps the order."""
    n, rows = 23, rows_of([1 + i % 17 for i in range(23)])
    whole = make(n)
    units = whole.units
    sequence = [whole.numbers(i, i + 1) for i in range(3 * units)]
    for epoch in range(3):
        seen = [r for unit in sequence[epoch * units : (epoch + 1) * units] for r in unit]
        assert sorted(seen) == list(range(n))
    assert sequence[:units] != sequence[units : 2 * units]
    fresh = make(n)
    assert [fresh.numbers(i, i + 1) for i in range(units, 3 * units)] == sequence[units:]
    half, full = (
        [
            b["input_ids"][b["input_ids"] > 0].tolist()
            for b in Batches(
                rows, make(n), 4, 2 * units, size, 0, padding_free=isinstance(whole, PackedOrder)
            )
        ]
        for size in (2, 4)
    )
    assert [x for b in half for x in b] == [x for b in full for x in b]


def test_grouped_batches_hold_like_lengths_and_are_cut_where_training_cuts() -> None:
    """Also in the second epoch, whose batches begin within the last one of the first."""
    import random

    lengths = [random.Random(i).randint(1, 200) for i in range(401)]
    order, plain = GroupedOrder(lengths, 0, 4), RowOrder(401, 0)

    def padded(numbers: Any) -> int:
        return sum(4 * max(lengths[i] for i in numbers.numbers(k, k + 4)) for k in range(0, 796, 4))

    real = sum(lengths[i] for k in range(0, 796, 4) for i in order.numbers(k, k + 4))
    assert padded(order) < 1.1 * real
    assert padded(plain) > 1.3 * real
    firsts = [max(lengths[i] for i in order.numbers(k, k + 4)) for k in range(0, 200, 4)]
    assert firsts != sorted(firsts)


def test_a_laid_batch_is_what_it_says() -> None:
    rows = rows_of((3, 2), weighted=True)
    batch = concatenate_rows(rows, [0, 1])
    a, b = rows[0]["input_ids"], rows[1]["input_ids"]
    assert batch["input_ids"].tolist() == [a + b]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1]]
    assert batch["shift_labels"].tolist() == [[a[1], a[2], -100, b[1], -100]]
    assert batch["weights"].tolist() == [[1, 1, 1, 0.75, 1]]
    assert (batch["lengths"], tokens_in(batch)) == ((3, 2), 5)
    assert row_lengths(rows) == [3, 2]


# ------------------------------------------------------------------ whole trainings


def losses_of(root: Path, **settings: Any) -> list[float]:
    from studio.training.loop.train import train_adapter

    recorder = Recorder()
    inputs = make_inputs(root, 15, 4)
    train_adapter(make_context(root, recorder), inputs, settings_of(max_steps=5, **settings))
    evals = [e.get("eval_loss") for e in recorder.named("Metric") if e.get("eval_loss") is not None]
    return recorder.losses() + evals


def test_a_training_without_padding_has_the_losses_of_a_padded_one(tmp_path: Path) -> None:
    """Through the Trainer, with accumulation and validation."""
    padded = losses_of(tmp_path / "a", gradient_accumulation_steps=2)
    concatenated = losses_of(tmp_path / "b", gradient_accumulation_steps=2, batching="padding_free")
    assert concatenated == pytest.approx(padded, abs=5e-5)
    packed = losses_of(tmp_path / "c", batching="packed", pack_length=200)
    assert packed[4] < packed[0]


def test_the_shown_loss_has_the_extras_and_the_validation_loss_has_not(tmp_path: Path) -> None:
    """At the first step weights are equal, so the difference is the extra alone."""
    plain, extra = (
        losses_of(tmp_path / name, learning_rate=1e-12, **more)
        for name, more in (("a", {}), ("b", {"z_loss": 1e-2, "label_smoothing": 0.1}))
    )
    assert extra[0] > plain[0] + 0.1
    assert extra[5:] == pytest.approx(plain[5:], abs=1e-5)
