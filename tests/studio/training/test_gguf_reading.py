"""The quick reader of GGUF files gives transformers the same values, and so the same tokenizer."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader, GGUFWriter
from transformers import AutoTokenizer

from studio.training.fetch.gguf_reading import QuickReader, reading
from tests.studio.training.tiny_gguf import write_tiny_gguf

SCRIPTS = (
    *("abcXYZ", "äéñßø", "жйщЯ", "ελΩψ", "אבגד", "مرحبا", "漢字語", "ひらカナ", "한국어", "नमस्ते"),
    *("🙂👩🚀", "0189", " \n\t", "<|>#"),
)


def same_fields(one: GGUFReader, other: GGUFReader) -> None:
    """Raise unless both readers know the same fields and tensors."""
    assert list(one.fields) == list(other.fields)
    for name, field in one.fields.items():
        known = other.fields[name]
        assert (field.offset, field.data, field.types) == (known.offset, known.data, known.types)
        assert field.contents() == known.contents(), name
        assert [bytes(p) for p in field.parts] == [bytes(p) for p in known.parts]
    places = [(t.name, t.data_offset, t.n_bytes) for t in one.tensors]
    assert places == [(t.name, t.data_offset, t.n_bytes) for t in other.tensors]


def test_all_kinds_of_values_are_those_of_the_reader_of_gguf(tmp_path: Path) -> None:
    file = tmp_path / "values.gguf"
    writer = GGUFWriter(file, "llama")
    writer.add_array("of.texts", ["", "a", "漢字", "x" * 300])
    writer.add_array("of.whole", [1, -2, 3])
    writer.add_array("of.real", [0.5, -1.25])
    writer.add_array("of.bool", [True, False])
    writer.add_array("of.lists", [[1, 2], [3, 4]])
    writer.add_float64("real", 0.1)
    writer.add_bool("yes", True)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    same_fields(QuickReader(file), GGUFReader(file))


def test_the_tokenizer_is_the_same(tmp_path: Path) -> None:
    """Saved files, special tokens, chat template, and the ids of random texts in many scripts."""
    file = write_tiny_gguf(tmp_path / "small.gguf")
    same_fields(QuickReader(file), GGUFReader(file))
    options: dict[str, Any] = {"gguf_file": file.name, "local_files_only": True}
    usual = AutoTokenizer.from_pretrained(str(tmp_path), **options)
    seen: list[tuple[int, int, str]] = []
    with reading(lambda *count: seen.append(count)):
        quick = AutoTokenizer.from_pretrained(str(tmp_path), **options)
    assert {unit for _, _, unit in seen} == {"entries"}
    assert seen[-1][0] == seen[-1][1]
    saved = []
    for tokenizer, name in ((usual, "usual"), (quick, "quick")):
        tokenizer.save_pretrained(str(tmp_path / name))
        saved.append({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()})
    assert saved[0] == saved[1]
    assert quick.special_tokens_map == usual.special_tokens_map
    assert quick.chat_template == usual.chat_template
    rng = random.Random(0)
    for _ in range(300):
        text = "".join(rng.choice(rng.choice(SCRIPTS)) for _ in range(rng.randrange(40)))
        assert quick(text)["input_ids"] == usual(text)["input_ids"], text


def test_a_damaged_file_is_refused_by_both(tmp_path: Path) -> None:
    file = write_tiny_gguf(tmp_path / "small.gguf")
    file.write_bytes(file.read_bytes()[:400])
    for reader in (GGUFReader, QuickReader):
        with pytest.raises(Exception):  # noqa: B017
            reader(file)
