"""Damaged data files: each gives one sentence with the file, the true line and what to do.

The same table is put to the check while the graph is edited and to the step itself; a damage deep
in the file is for the step alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from studio.errors import Problem, StudioError, errors_of
from studio.graph.node_type import CheckContext
from studio.graph.registry import load_registry
from studio.node_settings.dataset import DatasetSettings
from studio.nodes.dataset import check

GOOD = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}


@dataclass(frozen=True)
class Bad:
    """A file, how it is read, and what the user is told: words of the sentence, line and code."""

    name: str
    content: bytes | Callable[[Path], object] | None
    code: str
    words: tuple[str, ...] = ()
    line: int | None = None
    format: str = "auto"
    field: str = "source"


def lines(*rows: Any) -> bytes:
    return "".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows).encode()


def chat(*messages: Any) -> dict[str, Any]:
    return {"messages": list(messages)}


def user(content: Any, role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": content}


ANSWER = user("b", "assistant")
TABLE = [
    Bad("gone.jsonl", None, "missing_file", ("does not exist",)),
    Bad("empty.jsonl", b"", "empty_file", ("is empty",)),
    Bad("blank.jsonl", b"\n  \n\n", "no_rows", ("no rows",)),
    Bad("folder.jsonl", lambda p: p.mkdir(), "empty_folder", ("is a folder", "without data files")),
    Bad("rows.rtf", b"abc", "unknown_suffix", (".rtf", "known file type")),
    Bad("rows", b"abc", "unknown_suffix", ("no suffix",)),
    Bad("cut.jsonl", lines(GOOD, GOOD) + b'{"messages": [', "corrupt_json", ("valid JSON",), 3),
    Bad("two.jsonl", lines(GOOD, '{"a": 1} {"b": 2}'), "corrupt_json", ("Extra data",), 2),
    Bad("single.jsonl", lines("{'text': 'a'}"), "corrupt_json", ("double quotes",), 1),
    Bad("nan.jsonl", lines('{"text": NaN}'), "empty_content", ("NaN",), 1),
    Bad("deep.jsonl", lines("[" * 100_000), "corrupt_json", ("deeply",), 1),
    Bad("list.jsonl", lines(GOOD, [1, 2]), "not_an_object", ("a list", "instead of an object"), 2),
    Bad("null.jsonl", lines(GOOD, "null"), "not_an_object", ("null",), 2),
    Bad("text.jsonl", lines(GOOD, '"hello"'), "not_an_object", ("text",), 2),
    Bad(
        "latin.jsonl",
        lines('{"text": "é ü"}') + b'{"text": "caf\xe9"}\n',
        "wrong_encoding",
        ("UTF-8",),
        2,
    ),
    Bad("utf16.jsonl", '{"text": "a"}'.encode("utf-16-le"), "wrong_encoding", ("UTF-16",)),
    Bad("zip.jsonl", b"\x1f\x8b\x08\x00rest", "wrong_encoding", ("gzip",)),
    Bad("half.jsonl", lines('{"text": "a \\ud800 b"}'), "bad_character", ("surrogate",), 1),
    Bad(
        "column.jsonl",
        lines({"instruction": "a", "answer": "b"}),
        "missing_column",
        ("“messages”", "instruction, answer"),
        1,
        "messages",
    ),
    Bad(
        "later.jsonl",
        lines({"prompt": "a", "completion": "b"}, {"prompt": "a"}),
        "missing_column",
        ("“completion”", "prompt"),
        2,
    ),
    Bad(
        "pairs.jsonl",
        lines({"good": "a", "bad": "b", "paradigm": "c"}),
        "unknown_format",
        ("no known format", "good, bad, paradigm"),
    ),
    Bad("nothing.jsonl", lines({"prompt": "a", "completion": None}), "empty_content", ("null",), 1),
    Bad("void.jsonl", lines({"prompt": "", "completion": "a"}), "empty_content", ("“prompt”",), 1),
    Bad(
        "kind.jsonl",
        lines({"prompt": {"a": 1}, "completion": "b"}),
        "not_text",
        ("an object",),
        1,
        "prompt_completion",
    ),
    Bad(
        "flag.jsonl", lines({"prompt": "a", "completion": True}), "not_text", ("true or false",), 1
    ),
    Bad(
        "role.jsonl",
        lines(GOOD, chat(user("a", "wizard"), ANSWER)),
        "unknown_role",
        ("'wizard'", "message 1"),
        2,
    ),
    Bad("silent.jsonl", lines(GOOD, chat(user("a"), user("b"))), "no_answer", ("assistant",), 2),
    Bad("none.jsonl", lines(GOOD, chat()), "no_answer", ("0 messages",), 2),
    Bad(
        "keys.jsonl",
        lines(GOOD, chat({"who": "a", "content": "b"}, ANSWER)),
        "missing_column",
        ("“role”", "who"),
        2,
    ),
    Bad("plain.jsonl", lines(GOOD, chat("hello")), "not_messages", ("message 1",), 2),
    Bad("notlist.jsonl", lines(GOOD, {"messages": "hello"}), "not_messages", ("no list",), 2),
    Bad("nullmsg.jsonl", lines(GOOD, chat(user(None), ANSWER)), "empty_content", ("message 1",), 2),
    Bad("array.json", b'[\n{"text": "a"},\n{"text": }\n]', "corrupt_json", ("valid JSON",), 3),
    Bad(
        "open.json", b'[\n{"text": "a"},\n{"text": "b"}\n', "corrupt_json", ("end of the list",), 4
    ),
    Bad("after.json", b'[{"text": "a"}]\nmore', "corrupt_json", ("after the end",), 2),
    Bad("comma.json", b'[{"text": "a"}\n{"text": "b"}]', "corrupt_json", ("comma",), 2),
    Bad("scalars.json", b'[\n{"text": "a"},\n7]', "not_an_object", ("a number",), 3),
    Bad("word.json", b"hello", "corrupt_json", ("list of rows",), 1),
    Bad("noobject.json", b'{"text": "a"}', "no_list", ("without a list",)),
    Bad(
        "lists.json",
        b'{"a": [{"text": "x"}],\n"b": [{"text": "y"}]}',
        "two_lists",
        ("two lists",),
        2,
    ),
    Bad(
        "latin.json",
        b'[{"text": "\xc3\xa9\xc3\xa9"},\n{"text": "caf\xe9"}]',
        "wrong_encoding",
        ("UTF-8",),
        2,
    ),
    Bad(
        "wide.csv", b"prompt,completion\na,b\nc,d,e\n", "wrong_width", ("3 values", "2 columns"), 3
    ),
    Bad("narrow.csv", b"prompt,completion\na\n", "wrong_width", ("1 value,",), 2),
    Bad("quote.csv", b'prompt,completion\na,b\n"c,d\ne,f\n', "corrupt_csv", ("not closed",), 3),
    Bad("stray.csv", b'prompt,completion\n"a"b,c\n', "corrupt_csv", ("valid CSV",), 2),
    Bad(
        "embedded.csv", b'prompt,completion\n"a\nb",c\nd,\n', "empty_content", ("“completion”",), 4
    ),
    Bad("twice.csv", b"text,text\na,b\n", "bad_header", ("twice",), 1),
    Bad("unnamed.csv", b"text,\na,b\n", "bad_header", ("without a name",), 1),
    Bad("header.csv", b"prompt,completion\n", "no_rows", ("no rows",)),
    Bad(
        "latin.csv",
        b"prompt,completion\n\xc3\xa9,\xc3\xa9\ncaf\xe9,d\n",
        "wrong_encoding",
        ("UTF-8",),
        3,
    ),
    Bad("torn.parquet", b"PAR1 and then nothing", "corrupt_parquet", ("Parquet",)),
    Bad(
        "deep-line.jsonl", lines(*[GOOD] * 400, '{"messages"'), "corrupt_json", ("valid JSON",), 401
    ),
    Bad(
        "deep-role.jsonl",
        lines(*[GOOD] * 400, chat(user("a", "wizard"), ANSWER)),
        "unknown_role",
        ("wizard",),
        401,
    ),
]
ONLY_THE_STEP = {"deep-line.jsonl", "deep-role.jsonl"}
pytestmark = pytest.mark.parametrize("bad", TABLE, ids=lambda b: b.name)


def make(bad: Bad, folder: Path) -> Path:
    path = folder / bad.name
    if isinstance(bad.content, bytes):
        path.write_bytes(bad.content)
    elif bad.content is not None:
        bad.content(path)
    return path


def judge(found: Problem, bad: Bad, folder: Path) -> None:
    """The sentence is about the right place, and whole."""
    assert found.code == bad.code, found
    assert found.field == bad.field
    assert found.line == bad.line, found.sentence
    assert found.file == str(folder / bad.name)
    assert found.sentence.startswith("Dataset: ")
    assert bad.name in found.sentence
    assert found.sentence.endswith(".")
    assert found.sentence.count("\n") == 0
    if bad.line is not None:
        assert f"line {bad.line} " in found.sentence
    for word in bad.words:
        assert word in found.sentence, found.sentence
    assert found.hint


def test_the_check_says_so(bad: Bad, tmp_path: Path) -> None:
    make(bad, tmp_path)
    settings = DatasetSettings(source=bad.name, format=bad.format, validation_fraction=0.0)
    context = CheckContext("data", "Dataset", tmp_path, variants=load_registry().variants)
    found = list(check(settings, context))
    if bad.name in ONLY_THE_STEP:
        assert not found
        return
    assert len(found) == 1
    judge(found[0], bad, tmp_path)


def test_the_step_says_so_and_leaves_no_rows(bad: Bad, tmp_path: Path) -> None:
    from studio.training.data.rows import prepare_rows
    from tests.studio.training.steps import Recorder, make_context

    make(bad, tmp_path)
    settings = DatasetSettings(source=bad.name, format=bad.format, validation_fraction=0.0)
    context = make_context(tmp_path, Recorder())
    context.title = "Dataset"
    with pytest.raises(StudioError) as caught, errors_of("Dataset"):
        prepare_rows(context, settings)
    judge(caught.value.problem(), bad, tmp_path)
    assert not (context.folder / "train").exists()
    assert not context.artifacts
