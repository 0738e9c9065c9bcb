"""Ollama folders: the Modelfile, and the chat template as a template of Ollama."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from studio.chat_templates import library, template
from studio.chat_templates.chats import Chat, ChatTemplate, render_chats
from studio.chat_templates.render import TemplateFailed
from studio.chat_templates.turns import Message, NotFixed, Turns, find_turns, go_template, probes
from studio.export_folder.ggml_library import find_library
from studio.export_folder.modelfile import Modelfile, model_name, sampling, stop_words
from studio.node_settings.export import ExportSettings, OllamaSettings
from studio.training.export.make import export
from studio.training.export.parity.gate import check_export
from studio.values import AdapterValue, ModelValue
from studio.variants.exporter import Readable
from tests.studio.training.adapters import random_adapter, tiny_base
from tests.studio.training.gguf_models import make_bpe_tokenizer
from tests.studio.training.go_templates import evaluate, needs_go, run_go, values
from tests.studio.training.llama_cpp import needs_llama_cpp
from tests.studio.training.modelfiles import parse
from tests.studio.training.steps import Recorder, dataset_value, make_context

pytestmark = pytest.mark.usefixtures("quiet_transformers")
needs_quantizer = pytest.mark.skipif(
    find_library() is None,
    reason="a library of llama.cpp (pip install xllamacpp) is not installed",
)
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
ALL = [t.id for t in library()]
SMOLLM = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
NO_SYSTEM = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for m in messages %}{{ '<start_of_turn>' + m.role + '\n' + m.content + '<end_of_turn>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
OTHER_FIRST = (
    "{% for m in messages %}{{ 'First: ' if loop.first else 'Then ' + m.role + ': ' }}{{ m.content + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Then assistant: ' }}{% endif %}"
)
SOURCES = {name: template(name).source for name in ALL} | {
    "default system message": SMOLLM,
    "no system message": NO_SYSTEM,
    "another first question": OTHER_FIRST,
}


def rendered(source: str, messages: Sequence[Message], ask: bool) -> str:
    """The text of a conversation with the Jinja template."""
    chat = Chat(list(messages), None, [(len(messages), ask)])
    ((found,),) = render_chats(ChatTemplate(source, TOKENS), [chat])
    if isinstance(found, TemplateFailed):
        raise NotFixed(found.why)
    return found


def turns_of(source: str) -> Turns:
    """What a Jinja template writes around messages."""
    return find_turns(lambda messages, ask: rendered(source, messages, ask))


def talks(found: Turns) -> list[list[Message]]:
    """Conversations that end with a question, with and without a system message."""
    return probes(found.before_system is not None)


@pytest.mark.parametrize("name", SOURCES)
def test_a_template_for_ollama_writes_the_text_of_the_chat_template(name: str) -> None:
    found = turns_of(SOURCES[name])
    for talk in talks(found):
        assert evaluate(go_template(found), values(talk)) == rendered(SOURCES[name], talk, True)


@needs_go
def test_go_itself_writes_the_same(tmp_path: Path) -> None:
    requests, expected = [], []
    for source in SOURCES.values():
        found = turns_of(source)
        for talk in talks(found):
            requests.append((go_template(found), values(talk)))
            expected.append(rendered(source, talk, True))
            plain = found.without_bos("<s>")
            requests.append((go_template(plain), values(talk)))
            expected.append(rendered(source, talk, True).removeprefix("<s>"))
        begun = [
            *talks(found)[0],
            {"role": "assistant", "content": "It is"},
        ]  # an answer to be continued
        requests.append((go_template(found), values(begun)))
        expected.append(found.text(begun))
    assert len(requests) > 300
    assert run_go(tmp_path, requests) == expected


@needs_go
def test_the_small_evaluator_agrees_with_go(tmp_path: Path) -> None:
    odd = Turns(
        "a\u200bb\u00a0\t", True, 'q"\\', "\n", True, "u\n", " v ", "\n\na", "z\r", "\U000e0001?"
    )
    requests = [(go_template(odd), values(talk)) for talk in probes(True)]
    assert run_go(tmp_path, requests) == [odd.text(talk) for talk in probes(True)]
    simple = [r for r in requests if "\\U" not in r[0]]
    assert [evaluate(*r) for r in simple] == run_go(tmp_path, simple)


@pytest.mark.parametrize("name", SOURCES)
def test_a_bos_token_that_llama_cpp_adds_is_not_in_the_template(name: str) -> None:
    found = turns_of(SOURCES[name]).without_bos("<s>")
    for talk in talks(found):
        text = evaluate(go_template(found), values(talk))
        assert text == rendered(SOURCES[name], talk, True).removeprefix("<s>")
        assert not text.startswith("<s>")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{% for m in messages %}{{ m.content | upper }}{% endfor %}", "every message as it is"),
        (
            "{% for m in messages %}{{ '[' ~ loop.index ~ ']' + m.content }}{% endfor %}",
            "depends on the next one|other texts around",
        ),
        (
            "{% for m in messages %}{{ m.role + ':' + m.content + ';' }}{% endfor %}"
            "{% if messages | length > 4 %}{{ 'long' }}{% endif %}",
            "a conversation of 5 messages has other texts",
        ),
        ("{{ raise_exception('no') }}", "no"),
    ],
)
def test_a_template_that_does_more_is_refused_with_the_reason(source: str, reason: str) -> None:
    with pytest.raises(NotFixed, match=reason):
        turns_of(source)


def test_stop_words_are_the_token_that_ends_a_turn_else_the_next_question() -> None:
    special = ["<|im_start|>", "<|im_end|>", "</s>", "<|eot_id|>"]
    words = {}
    for name in ALL:
        found = turns_of(template(name).source)
        words[name] = stop_words(found.after_answer, found.before_user, special)
    assert words["chatml"] == ["<|im_end|>"]
    assert words["llama-3"] == ["<|eot_id|>"]
    assert words["mistral"] == words["alpaca"] == ["</s>"]
    assert stop_words("\n\n", "### Instruction:\n", special) == ["### Instruction:"]
    assert stop_words("\n", "", special) == []


def test_sampling_parameters_are_those_that_the_model_states() -> None:
    config = {"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "eos_token_id": 2}
    assert sampling(config) == [("temperature", 0.6), ("top_p", 0.95), ("top_k", 20)]
    assert sampling({"do_sample": False, "temperature": 0.7}) == [("temperature", 0)]
    assert sampling({"repetition_penalty": 1.05}) == [("repeat_penalty", 1.05)]
    assert sampling({"temperature": None, "top_k": True}) == []


def test_a_modelfile_is_read_as_it_was_meant() -> None:
    system = 'Be "terse".\n\nNo # comments.\tEver  '
    made = Modelfile(
        "./a.gguf",
        "./b.gguf",
        go_template(turns_of(template("alpaca").source)),
        system,
        [
            ("stop", "### Instruction:"),
            ("stop", 'he said "'),
            ("stop", "two\nlines"),
            ("top_p", 0.95),
        ],
        ["A name with a\nline break"],
    )
    found = parse(made.text())
    assert found[0] == ("model", "./a.gguf")
    assert found[1] == ("adapter", "./b.gguf")
    assert dict(found)["system"] == system
    assert dict(found)["template"] == made.template
    assert [v for n, v in found if n == "stop"] == ["### Instruction:", 'he said "', "two\nlines"]
    assert dict(found)["top_p"] == "0.95"
    with pytest.raises(ValueError, match="quotation marks"):
        Modelfile("a", system='x"""y').text()


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("two words", "letters"),
        ("a/b/c", "one slash"),
        ("-a", "start"),
        ("a:b c", "tag"),
        ("a" * 81, "80"),
        ("my.space/a", "letters"),
        ("Größe", "letters"),
    ],
)
def test_a_name_that_ollama_refuses_is_refused_in_the_form(name: str, part: str) -> None:
    with pytest.raises(ValidationError, match=part):
        OllamaSettings(name=name)
    assert OllamaSettings(name="me/support-tone.v2:q8_0").name == "me/support-tone.v2:q8_0"


@pytest.mark.parametrize(
    ("project", "name"),
    [
        ("Support tone", "support-tone"),
        ("Größe/2", "gr-e-2"),
        ("你好", "my-model"),
        ("", "my-model"),
    ],
)
def test_the_name_comes_from_the_project(project: str, name: str) -> None:
    assert model_name(project) == name
    OllamaSettings(name=name)


def written(
    root: Path, value: ModelValue | AdapterValue, **settings: Any
) -> tuple[Path, list[tuple[str, str]], str]:
    """The folder of an export, its Modelfile and its notices."""
    recorder = Recorder()
    context = make_context(root / "out", recorder)
    context.project_name = "Support tone"
    export(
        context,
        value.to_json(),
        ExportSettings(check_rows=0, format="ollama", format_settings=settings),
    )
    (artifact,) = context.artifacts
    assert artifact["kind"] == "ollama_folder"
    folder = Path(artifact["path"])
    notices = " ".join(e.get("sentence") for e in recorder.named("Notice"))
    return folder, parse((folder / "Modelfile").read_text(encoding="utf-8")), notices


def small(root: Path) -> AdapterValue:
    """An adapter on a tiny model, both with a tokenizer that has merges."""
    adapter = random_adapter(root, tiny_base(root))
    for folder in (adapter.model.model.path, adapter.path):
        make_bpe_tokenizer().save_pretrained(folder)
    return adapter


def test_a_folder_of_a_model(tmp_path: Path) -> None:
    model = small(tmp_path).model.model
    config = {"do_sample": True, "temperature": 0.6, "eos_token_id": 2}
    (Path(model.path) / "generation_config.json").write_text(json.dumps(config), encoding="utf-8")
    folder, lines, notices = written(tmp_path, model, system="Be terse.", context_length=2048)
    said = dict(lines)
    assert (folder / said["model"]).is_file()
    assert said["model"] == "./Support-tone-Q8_0.gguf"
    talk: list[Message] = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hi"},
    ]
    shown = make_bpe_tokenizer().apply_chat_template(
        talk, tokenize=False, add_generation_prompt=True
    )
    assert evaluate(said["template"], values(talk)) == shown
    assert said["stop"] == "<|im_end|>"
    assert said["temperature"] == "0.6"
    assert said["num_ctx"] == "2048"
    assert said["system"] == "Be terse."
    assert "ollama create support-tone -f Modelfile" in notices
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "ollama create support-tone -f Modelfile\nollama run support-tone\n" in card
    assert str(tmp_path) not in card + (folder / "Modelfile").read_text(encoding="utf-8")


def test_a_folder_of_an_adapter_contains_its_base_or_names_one(tmp_path: Path) -> None:
    adapter = small(tmp_path)
    folder, lines, _ = written(tmp_path / "a", adapter, quantization="F16")
    said = dict(lines)
    assert said["model"] == "./Support-tone-base-F16.gguf"
    assert (folder / said["model"]).is_file()
    assert said["adapter"] == "./Support-tone-F16-LoRA.gguf"
    assert (folder / said["adapter"]).is_file()
    folder, lines, notices = written(tmp_path / "b", adapter, base="smollm2:135m")
    assert dict(lines)["model"] == "smollm2:135m"
    assert [p.name for p in folder.glob("*.gguf")] == ["Support-tone-F32-LoRA.gguf"]
    assert "smollm2:135m, which was not compared" in notices


@needs_llama_cpp
def test_an_adapter_is_read_back_on_the_base_beside_it(tmp_path: Path) -> None:
    """As Ollama runs it; without the base, or on another, the check fails."""
    adapter = small(tmp_path)
    data = dataset_value(tmp_path / "rows", train=4, validation=4)
    adapter = adapter.model_copy(update={"dataset": data})
    recorder = Recorder()
    context = make_context(tmp_path / "out", recorder)
    context.project_name = "Support tone"
    own = {"quantization": "F16"}
    settings = ExportSettings(check_rows=4, format="ollama", format_settings=own)
    export(context, adapter.to_json(), settings)
    folder = Path(context.artifacts[0]["path"])
    (checked,) = recorder.named("ExportChecked")
    assert (checked.get("title"), checked.get("verdict")) == ("F16 base with adapter", "green")
    files = sorted(folder.glob("*.gguf"))
    assert checked.get("bytes") == sum(p.stat().st_size for p in files)
    base = folder / "Support-tone-base-F16.gguf"
    part = Readable("llama.cpp", "Support-tone-F16-LoRA.gguf", checked.get("title"), base.name)
    base.unlink()
    (gone,) = check_export(make_context(tmp_path / "check", Recorder()), adapter, folder, [part], 4)
    assert (gone.verdict, gone.code) == ("red", "missing_file")


@needs_quantizer
def test_a_k_quant_in_a_folder_of_ollama(tmp_path: Path) -> None:
    folder, lines, _ = written(tmp_path, small(tmp_path).model.model, quantization="Q4_K_M")
    assert dict(lines)["model"] == "./Support-tone-Q4_K_M.gguf"
    assert [p.name for p in folder.glob("*.gguf")] == ["Support-tone-Q4_K_M.gguf"]


def test_a_template_that_cannot_be_translated_is_left_out_and_reported(tmp_path: Path) -> None:
    model = small(tmp_path).model.model
    tokenizer = make_bpe_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m.content | upper }}{% endfor %}"
    tokenizer.save_pretrained(model.path)
    _, lines, notices = written(tmp_path, model)
    assert "template" not in dict(lines)
    assert "was not translated for Ollama: it does not write every message as it is" in notices


def test_what_the_template_for_ollama_lacks_is_said(tmp_path: Path) -> None:
    model = small(tmp_path).model.model
    tokenizer = make_bpe_tokenizer()
    tokenizer.chat_template = template("qwen-3").source
    tokenizer.save_pretrained(model.path)
    _, lines, notices = written(tmp_path, model)
    assert "template" in dict(lines)
    assert "tools are not supported; reasoning in earlier answers is not removed" in notices
