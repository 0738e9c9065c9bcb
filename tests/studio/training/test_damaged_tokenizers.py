"""A tokenizer whose files are damaged, odd or newer than the libraries ends in one sentence that names the
file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studio.errors import StudioError
from studio.model.damaged import reading
from studio.training.tokens.chat import load_tokenizer
from studio.training.tokens.encoder import Encoder
from studio.training.tokens.masks import render_row
from tests.tiny import make_tiny_tokenizer

Change = Callable[[Path], object]
TOKENIZER, CONFIG = "tokenizer.json", "tokenizer_config.json"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    make_tiny_tokenizer().save_pretrained(folder)
    (folder / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    return folder


def text(name: str, content: str | bytes) -> Change:
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(data)


def cut(name: str) -> Change:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:90])


def value(name: str, *path: Any, to: Any) -> Change:
    def change(folder: Path) -> None:
        data = json.loads((folder / name).read_text(encoding="utf-8"))
        inner = data
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = to
        (folder / name).write_text(json.dumps(data), encoding="utf-8")

    return change


def without_json(*changes: Change) -> Change:
    return lambda folder: [(folder / TOKENIZER).unlink(), *(c(folder) for c in changes)]


NEWER = r"^tokenizer.json of .* cannot be read by tokenizers [\d.]+: .* newer version"
MISFIT = r"^tokenizer_config.json of .* does not fit its tokenizer, or transformers [\d.]+: "
DAMAGED: dict[str, tuple[Change, str, str]] = {
    "cut": (cut(TOKENIZER), TOKENIZER, "^tokenizer.json of .* is truncated or damaged: line 7"),
    "empty": (text(TOKENIZER, ""), TOKENIZER, "^tokenizer.json of .* is empty"),
    "list": (text(TOKENIZER, "[1]"), TOKENIZER, "does not contain a JSON object"),
    "binary": (text(TOKENIZER, b"\xff\xfe\x00"), TOKENIZER, "is not UTF-8 text"),
    "deep": (text(TOKENIZER, "[" * 99_999), TOKENIZER, "nested too deeply"),
    "digits": (text(TOKENIZER, '{"a": ' + "9" * 5000 + "}"), TOKENIZER, "is damaged: Exceeds"),
    "unknown kind": (value(TOKENIZER, "model", "type", to="Newest"), TOKENIZER, NEWER),
    "unknown part": (value(TOKENIZER, "pre_tokenizer", to={"type": "New"}), TOKENIZER, NEWER),
    "no model": (value(TOKENIZER, "model", to=None), TOKENIZER, NEWER),
    "negative id": (value(TOKENIZER, "model", "vocab", "a", to=-1), TOKENIZER, NEWER),
    "merges": (value(TOKENIZER, "model", "merges", to=[["zz", "yy"]]), TOKENIZER, NEWER),
    "added": (value(TOKENIZER, "added_tokens", to={"a": 1}), TOKENIZER, NEWER),
    "version": (value(TOKENIZER, "version", to=2), TOKENIZER, NEWER),
    "config cut": (cut(CONFIG), CONFIG, "^tokenizer_config.json of .* is truncated or damaged"),
    "config null": (text(CONFIG, "null"), CONFIG, "does not contain a JSON object"),
    "class": (value(CONFIG, "tokenizer_class", to=5), CONFIG, MISFIT),
    "pad": (value(CONFIG, "pad_token", to=5), CONFIG, MISFIT),
    "length": (value(CONFIG, "model_max_length", to="long"), CONFIG, MISFIT),
    "side": (value(CONFIG, "padding_side", to="top"), CONFIG, MISFIT),
    "decoder": (value(CONFIG, "added_tokens_decoder", to=[5]), CONFIG, MISFIT),
    "extra": (value(CONFIG, "extra_special_tokens", to=True), CONFIG, MISFIT),
    "map": (text("special_tokens_map.json", "["), "special_tokens_map.json", "truncated"),
    "map values": (
        text("special_tokens_map.json", '{"eos_token": 5}'),
        "special_tokens_map.json",
        "the value of “eos_token” is of a wrong type",
    ),
    "added.json": (
        text("added_tokens.json", '{"<a>": "b"}'),
        "added_tokens.json",
        "the value of “<a>” is of a wrong type",
    ),
    "template": (text("chat_template.jinja", b"\xff\xfe"), "chat_template.jinja", "not UTF-8"),
    "vocab": (
        without_json(text("vocab.json", "{"), text("merges.txt", "a b")),
        "vocab.json",
        "^vocab.json of .* is truncated or damaged",
    ),
    "sentencepiece": (
        without_json(text("tokenizer.model", b"\x0a\x99\x99garbage")),
        "tokenizer.model",
        "^tokenizer.model of .* (is damaged|cannot be read)",
    ),
    "nothing": (without_json(), TOKENIZER, "has no tokenizer: tokenizer.json is missing"),
    "no end": (lambda f: (f / CONFIG).unlink(), CONFIG, "names no token for the end of a text"),
    "package": (
        value(CONFIG, "tokenizer_class", to="MistralCommonBackend"),
        "",
        "needs the package mistral-common, which is not installed",
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_the_file_and_the_likely_cause_are_named(name: str, sound: Path, tmp_path: Path) -> None:
    change, file, sentence = DAMAGED[name]
    folder = tmp_path / "model"
    shutil.copytree(sound, folder)
    load_tokenizer(folder)
    change(folder)
    with pytest.raises(StudioError, match=sentence) as caught:
        load_tokenizer(folder)
    assert caught.value.code == "no_tokenizer"
    assert caught.value.hint
    assert "\n" not in caught.value.sentence
    assert caught.value.file == str(folder / file)


@pytest.mark.parametrize(
    "template", [5, {"a": 5}, ["a"], [{"name": "default"}], [{"name": "a", "template": 6}]]
)
def test_a_chat_template_that_is_not_text_is_refused(
    template: Any, sound: Path, tmp_path: Path
) -> None:
    shutil.copytree(sound, tmp_path, dirs_exist_ok=True)
    (tmp_path / "chat_template.jinja").unlink()
    value(CONFIG, "chat_template", to=template)(tmp_path)
    with pytest.raises(StudioError, match=r"is not text|does not fit its tokenizer"):
        load_tokenizer(tmp_path)


SLOW = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}


@pytest.mark.parametrize(
    "change",
    [
        value(TOKENIZER, "pre_tokenizer", to=SLOW),
        value(CONFIG, "tokenizer_class", to="BertTokenizer"),
    ],
    ids=["pattern", "no unknown token"],
)
def test_a_tokenizer_that_fails_on_a_text_only(change: Change, sound: Path, tmp_path: Path) -> None:
    shutil.copytree(sound, tmp_path, dirs_exist_ok=True)
    change(tmp_path)
    encoder = Encoder(load_tokenizer(tmp_path), 999)
    row = {"text": "ü" + "a" * 60 + "!"}
    with pytest.raises(StudioError, match="does not fit its tokenizer"):
        encoder.encode(render_row(encoder.tokenizer, row, "all"))


def test_errors_of_the_system_and_of_the_program_stay_what_they_are(tmp_path: Path) -> None:
    for error in (MemoryError(), PermissionError(13, "denied"), OSError(5, "input/output")):
        with pytest.raises(type(error)), reading(tmp_path, "tokenizer"):
            raise error
    with pytest.raises(KeyboardInterrupt), reading(tmp_path, "tokenizer"):
        raise KeyboardInterrupt
    with pytest.raises(StudioError, match="ours"), reading(tmp_path, "tokenizer"):
        raise StudioError("ours")
