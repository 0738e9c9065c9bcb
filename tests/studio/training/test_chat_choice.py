"""A chat template other than the model's own: chosen, tested, reported, and saved with the tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from studio.chat_templates import library, template
from studio.errors import StudioError
from studio.training.loop.train import train_adapter
from studio.training.model.configs import write_stop_token
from studio.training.tokens.chat import load_tokenizer
from studio.training.tokens.chat_choice import (
    missing_tokens,
    rendered_samples,
    sample_text,
    tell_choice,
    with_template,
)
from tests.studio.training.steps import Recorder, make_context, make_inputs, settings_of
from tests.studio.training.test_merge import merged
from tests.tiny import CHAT_TEMPLATE, END_ID, make_tiny_tokenizer

GOOD = "{% for m in messages %}[{{ m.role }}] {{ m.content }}{{ eos_token }}{% endfor %}"


def custom(source: str) -> Any:
    settings = {"chat_template": "custom", "custom_template": source}
    return with_template(make_tiny_tokenizer(), settings)


def test_the_models_own_is_left_alone() -> None:
    tokenizer = make_tiny_tokenizer()
    assert with_template(tokenizer, {"chat_template": "model"}) is tokenizer
    assert with_template(tokenizer, {}) is tokenizer


def test_a_chosen_template_is_saved_and_loaded_with_the_tokenizer(tmp_path: Path) -> None:
    tokenizer = make_tiny_tokenizer()
    chosen = with_template(tokenizer, {"chat_template": "alpaca"})
    assert tokenizer.chat_template == CHAT_TEMPLATE
    chosen.save_pretrained(str(tmp_path))
    again = load_tokenizer(tmp_path)
    assert again.chat_template == template("alpaca").source
    assert "### Response:" in sample_text(again)


def test_a_template_of_the_library_begins_with_bos_where_the_tokenizer_would() -> None:
    from tokenizers import processors

    tokenizer = make_tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", 1)]
    )
    for name in ("vicuna", "gemma"):
        text = sample_text(with_template(tokenizer, {"chat_template": name}))
        assert text.startswith("<|im_start|>")
        assert text.count("<|im_start|>") == 1


def test_a_custom_template_works() -> None:
    assert sample_text(custom(GOOD)).endswith("[assistant] 4<|im_end|>")
    marked = GOOD.replace("{{ m.content }}", "{% generation %}{{ m.content }}{% endgeneration %}")
    assert sample_text(custom(marked)) == sample_text(custom(GOOD))


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
            "stopped after",
        ),
        ("{{ 'a' * 10 ** 7 }}", "more than"),
        ("{{ messages[9].content }}", "no element 9"),
        ("{{ raise_exception('Only one role.') }}", "Only one role"),
        ("{{ messages | nothing }}", "nothing"),
        ("Hello", "omits the contents of the messages"),
    ],
)
def test_a_custom_template_that_does_not_work_is_told_in_one_sentence(
    source: str, reason: str
) -> None:
    with pytest.raises(StudioError, match=reason) as caught:
        custom(source)
    assert str(caught.value).startswith("the custom chat template fails")
    assert (caught.value.code, caught.value.field) == ("bad_template", "custom_template")


def test_a_template_of_the_model_that_never_ends_is_refused() -> None:
    tokenizer = make_tiny_tokenizer()
    tokenizer.chat_template = (
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    )
    with pytest.raises(StudioError, match="does not terminate") as caught:
        with_template(tokenizer, {})
    assert (caught.value.code, caught.value.field) == ("bad_template", "chat_template")
    tokenizer.chat_template = "{{ raise_exception('Only my own rows.') }}"
    assert with_template(tokenizer, {}) is tokenizer  # its rows say what is wrong


def test_samples_show_what_differs_and_what_would_be_split() -> None:
    tokenizer = make_tiny_tokenizer()
    samples = {s["id"]: s for s in rendered_samples(tokenizer)}
    assert list(samples) == ["model", *(t.id for t in library())]
    assert not samples["model"]["differs"]
    assert samples["gemma"]["differs"]
    assert samples["gemma"]["missing_tokens"] == ["<start_of_turn>", "<end_of_turn>"]
    assert samples["chatml"]["missing_tokens"] == []
    assert all(s["text"] for s in samples.values())
    assert "add" in samples["qwen-2.5"]["text"]
    assert missing_tokens(tokenizer, template("alpaca")) == ()


def test_another_template_is_told(tmp_path: Path) -> None:
    recorder, own = Recorder(), make_tiny_tokenizer()
    context = make_context(tmp_path, recorder)
    for name in ("model", "gemma"):
        settings = {"chat_template": name}
        tell_choice(context, own, with_template(own, settings), settings)
    sentences = [e.get("sentence") for e in recorder.named("Notice")]
    assert len(sentences) == 2
    assert "a different chat template than the model's own" in sentences[0]
    assert "<start_of_turn>, <end_of_turn>" in sentences[1]


def test_a_training_saves_the_template_it_used_and_the_merge_stops_at_its_end(
    tmp_path: Path,
) -> None:
    recorder, inputs = Recorder(), make_inputs(tmp_path)
    own = load_tokenizer(tmp_path / "model")
    own.add_special_tokens({"additional_special_tokens": ["<start_of_turn>", "<end_of_turn>"]})
    own.save_pretrained(str(tmp_path / "model"))  # the tiny model has a few unused rows
    settings = settings_of(max_steps=1, chat_template="gemma", end_token="always")
    adapter = train_adapter(make_context(tmp_path, recorder), inputs, settings)
    saved = load_tokenizer(adapter.path)
    assert saved.chat_template == template("gemma").source
    assert any("a different chat template" in e.get("sentence") for e in recorder.named("Notice"))
    model = merged(tmp_path, adapter)
    assert load_tokenizer(model.path).chat_template == template("gemma").source
    generation = json.loads(
        (Path(model.path) / "generation_config.json").read_text(encoding="utf-8")
    )
    assert generation["eos_token_id"] == [END_ID, own.convert_tokens_to_ids("<end_of_turn>")]


def test_end_tokens_of_a_saved_model_keep_what_stood_there(tmp_path: Path) -> None:
    tokenizer = make_tiny_tokenizer()
    path = tmp_path / "generation_config.json"
    for before, after in ((0, [0, END_ID]), ([7, END_ID], [7, END_ID]), (None, [END_ID])):
        given = (
            {"temperature": 0.5} if before is None else {"temperature": 0.5, "eos_token_id": before}
        )
        path.write_text(json.dumps(given), encoding="utf-8")
        write_stop_token(tmp_path, tokenizer)
        assert json.loads(path.read_text(encoding="utf-8")) == {
            "temperature": 0.5,
            "eos_token_id": after,
        }
