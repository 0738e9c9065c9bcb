"""Samples while training: what is asked and when, and that the training does not notice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from studio.errors import Stopped
from studio.training.loop.samples import Sampler
from studio.training.loop.train import train_adapter
from tests.studio.training.steps import Recorder, make_context, make_inputs, settings_of
from tests.studio.training.test_data import messages, write
from tests.tiny import CHAT_TEMPLATE, make_tiny_gpt2

SHEET = "cat?\n\n  very very oak?  \nbread?"
NOISY: dict[str, Any] = {"dropout": 0.3}


def sampled(**changes: Any) -> Any:
    """Six steps, samples of up to five tokens at every second one."""
    values = {
        "max_steps": 6,
        "eval_steps": 2,
        "sample_prompts": SHEET,
        "sample_max_tokens": 5,
        **changes,
    }
    return settings_of(**values)


def cells(recorder: Recorder) -> list[tuple[int, str, str]]:
    """Step, prompt and text of every sample."""
    return [(e.get("step"), e.get("prompt"), e.get("text")) for e in recorder.named("Sample")]


def test_the_sheet_is_answered_at_start_evaluations_and_end(tmp_path: Path) -> None:
    """One prompt a line, in order; rows of validation carry the right answer."""
    recorder = Recorder()
    train_adapter(
        make_context(tmp_path, recorder),
        make_inputs(tmp_path, 20, 4),
        sampled(eval_steps=4, sample_rows=2),
    )
    found = recorder.named("Sample")
    assert sorted({e.get("step") for e in found}) == [0, 4, 6]
    first = [e for e in found if e.get("step") == 0]
    assert [e.get("prompt") for e in first][:3] == ["cat?", "very very oak?", "bread?"]
    assert [e.get("index") for e in first] == [0, 1, 2, 3, 4]
    assert [bool(e.get("expected")) for e in first] == [False, False, False, True, True]
    assert all(0 <= e.get("tokens") <= 5 and e.get("seconds") >= 0 for e in found)
    assert all(e.get("cut") == (e.get("tokens") == 5) for e in found)


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_losses_are_the_same_with_and_without(tmp_path: Path, temperature: float) -> None:
    """To the last bit, dropout and drawn samples included; and the same run samples the same."""
    inputs = make_inputs(tmp_path, 20, 4, **NOISY)
    plain, first, second = Recorder(), Recorder(), Recorder()
    without = sampled(sample_prompts="")
    train_adapter(make_context(tmp_path / "a", plain), inputs, without)
    chosen = sampled(sample_temperature=temperature)
    train_adapter(make_context(tmp_path / "b", first), inputs, chosen)
    train_adapter(make_context(tmp_path / "c", second), inputs, chosen)
    assert plain.named("Sample") == []
    assert first.losses() == plain.losses()
    assert cells(first) == cells(second)
    assert len(cells(first)) == 3 * 4
    files = [tmp_path / n / "step/adapter/adapter_model.safetensors" for n in "ab"]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_resumed_run_fills_the_rest_of_the_grid(tmp_path: Path) -> None:
    """Nothing is asked twice and nothing is left out."""
    inputs = make_inputs(tmp_path, 20, 4, **NOISY)
    whole, first, second = Recorder(), Recorder(), Recorder()
    train_adapter(make_context(tmp_path / "a", whole), inputs, sampled())
    with pytest.raises(Stopped):
        train_adapter(
            make_context(tmp_path / "b", first, lambda: len(first.losses()) >= 3), inputs, sampled()
        )
    train_adapter(make_context(tmp_path / "b", second), inputs, sampled())
    assert cells(first) + cells(second) == cells(whole)
    assert first.losses() + second.losses() == whole.losses()


def test_sample_now(tmp_path: Path) -> None:
    """The sheet, or prompts of the command's own, with the weights of the last whole step."""
    recorder = Recorder()
    asked = [
        (1, {"command": "sample"}),
        (3, {"command": "sample", "prompts": ["river?"]}),
    ]

    def take(name: str) -> dict[str, Any] | None:
        due = name == "sample" and asked and len(recorder.losses()) >= asked[0][0]
        return asked.pop(0)[1] if due else None

    plain = Recorder()
    inputs = make_inputs(tmp_path, 20, 0, **NOISY)
    settings = sampled(save_steps=6)
    train_adapter(make_context(tmp_path / "a", plain), inputs, settings)
    train_adapter(make_context(tmp_path / "b", recorder, take_command=take), inputs, settings)
    extra = [(s, p) for s, p, _ in cells(recorder) if s not in (0, 6)]
    assert extra == [(1, "cat?"), (1, "very very oak?"), (1, "bread?"), (3, "river?")]
    assert recorder.losses() == plain.losses()


def test_no_prompt_to_answer_is_told(tmp_path: Path) -> None:
    recorder = Recorder()
    asked: list[dict[str, Any]] = [{"command": "sample"}]

    def take(name: str) -> dict[str, Any] | None:
        return asked.pop() if name == "sample" and asked else None

    train_adapter(
        make_context(tmp_path, recorder, take_command=take), make_inputs(tmp_path), settings_of()
    )
    assert any("no prompt to answer" in e.get("sentence") for e in recorder.named("Notice"))


def test_a_question_that_the_template_refuses_does_not_end_the_training(tmp_path: Path) -> None:
    """It is reported once, and sampling continues."""
    asked: list[dict[str, Any]] = []
    recorder = Recorder()
    inputs = make_inputs(tmp_path)
    template = (
        "{% for m in messages %}{% if 'bad' in m['content'] %}{{ raise_exception('No.') }}{% endif %}"
        + CHAT_TEMPLATE.removeprefix("{% for message in messages %}").replace("message[", "m[")
    )

    def take(name: str) -> dict[str, Any] | None:
        if name == "sample" and len(recorder.losses()) == 3 and not asked:
            asked.append({"command": "sample", "prompts": ["a bad one"]})
            return asked[0]
        return None

    train_adapter(
        make_context(tmp_path, recorder, take_command=take),
        inputs,
        sampled(chat_template="custom", custom_template=template, save_steps=6),
    )
    sentences = [e.get("sentence") for e in recorder.named("Notice")]
    assert asked
    assert sum("rejects the prompt “a bad one”" in sentence for sentence in sentences) == 1
    assert not any("no prompt to answer" in sentence for sentence in sentences)
    assert {step for step, _, _ in cells(recorder)} == {0, 6}


def test_rows_that_ask_the_same_are_told_apart(tmp_path: Path) -> None:
    """Two talks may end with the same question; each keeps its own answers in the grid."""
    talks = [
        messages("u:a?", "a:x", "u:and now?", "a:one"),
        messages("u:b?", "a:y", "u:and now?", "a:two"),
    ]
    dataset = write(tmp_path / "talks", [{"messages": m} for m in [*talks, *talks]], held_out=2)
    recorder = Recorder()
    train_adapter(
        make_context(tmp_path, recorder),
        {**make_inputs(tmp_path), "dataset": dataset.to_json()},
        sampled(sample_prompts="cat?", sample_rows=2, max_steps=2),
    )
    first = [e for e in recorder.named("Sample") if e.get("step") == 0]
    assert [(e.get("prompt"), e.get("expected")) for e in first] == [
        ("cat?", None),
        ("and now?", "one"),
        ("and now? (2)", "two"),
    ]


def test_answers_end_where_the_model_has_learned_its_last_position(tmp_path: Path) -> None:
    """Beyond it a GPU ends the whole process, and a processor the run."""
    make_tiny_gpt2(tmp_path / "model", 96)
    recorder = Recorder()
    train_adapter(
        make_context(tmp_path, recorder),
        make_inputs(tmp_path, 20, target_modules=["c_attn"]),
        sampled(sample_prompts=f"hi\n{'very ' * 30}", sample_max_tokens=300, save_steps=6),
    )
    found = recorder.named("Sample")
    assert {e.get("prompt") for e in found} == {"hi"}
    assert max(e.get("tokens") for e in found) < 96
    sentences = [e.get("sentence") for e in recorder.named("Notice")]
    assert (
        sum("1 of 2 prompts exceed the context length of the model (96" in t for t in sentences)
        == 1
    )


def test_too_little_memory_costs_samples_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First fewer at once, then none; the training goes on untouched."""
    inputs = make_inputs(tmp_path, 20, 4)
    whole, recorder = Recorder(), Recorder()
    train_adapter(make_context(tmp_path / "a", whole), inputs, sampled())
    real = Sampler._answers

    def answers(self: Any, part: Any) -> Any:
        if len(part) > 1 or self.state.step >= 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(self, part)

    monkeypatch.setattr(Sampler, "_answers", answers)
    train_adapter(make_context(tmp_path / "b", recorder), inputs, sampled())
    assert recorder.losses() == whole.losses()
    assert cells(recorder) == [c for c in cells(whole) if c[0] < 4]
    assert (
        sum("memory to generate samples" in e.get("sentence") for e in recorder.named("Notice"))
        == 1
    )


@pytest.mark.parametrize("more", [{"batching": "packed"}, {"gradient_checkpointing": True}])
def test_samples_go_with(tmp_path: Path, more: dict[str, Any]) -> None:
    """Packed rows and gradient checkpointing: the same answers as of the same weights without."""
    inputs = make_inputs(tmp_path, 20, 4)
    recorder, plain = Recorder(), Recorder()
    train_adapter(make_context(tmp_path / "a", recorder), inputs, sampled(**more))
    train_adapter(make_context(tmp_path / "b", plain), inputs, sampled(**more, sample_prompts=""))
    assert recorder.losses() == plain.losses()
    start = Recorder()
    train_adapter(make_context(tmp_path / "c", start), inputs, sampled(max_steps=1))
    assert cells(recorder)[:3] == cells(start)[:3]


@pytest.mark.filterwarnings("ignore:MatMul8bitLt")
@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_a_quantized_base_keeps_learning_after_samples(tmp_path: Path, quantization: str) -> None:
    """On some processors a pass without gradients would spoil 4-bit weights for good."""
    inputs = make_inputs(tmp_path, 2, 2)
    inputs["model"]["model"].update(quantization=quantization, dtype="bfloat16")
    plain, recorder = Recorder(), Recorder()
    chosen = sampled(max_steps=12, learning_rate=2e-2)
    without = sampled(max_steps=12, learning_rate=2e-2, sample_prompts="", eval_steps=100)
    train_adapter(make_context(tmp_path / "a", plain), inputs, without)
    train_adapter(make_context(tmp_path / "b", recorder), inputs, chosen)
    assert recorder.losses() == plain.losses()
    assert recorder.losses()[-1] < recorder.losses()[0] - 0.05
    assert {s for s, _, _ in cells(recorder)} == {0, 2, 4, 6, 8, 10, 12}
