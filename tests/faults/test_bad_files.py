"""Damaged and odd files, as they come from the real world.

Each either ends with one sentence (file, true line, column, what to do), in the check while the
graph is edited or in the step, or is accepted and told. Nothing hangs.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from studio.errors import StudioError, errors_of
from studio.graph.node_type import CheckContext
from studio.graph.registry import load_registry
from studio.node_settings.dataset import DatasetSettings
from studio.nodes.dataset import check
from studio.training.data.rows import prepare_rows
from tests.studio.training.steps import Recorder, make_context

Make = bytes | Callable[[Path], object]


@dataclass(frozen=True)
class Refused:
    """What the user is told. ``deep`` where only the step can see it; ``line`` is the true one."""

    name: str
    content: Make
    code: str
    words: tuple[str, ...] = ()
    line: int | None = None
    deep: bool = False
    settings: dict[str, Any] = field(default_factory=dict)
    source: str = ""


@dataclass(frozen=True)
class Taken:
    """The lines of the rows that are read, the number of excluded rows, words of the notices, and the
    codes of the warnings before the run.
    """

    name: str
    content: Make
    lines: tuple[int, ...]
    words: tuple[str, ...] = ()
    skipped: int = 0
    settings: dict[str, Any] = field(default_factory=dict)
    source: str = ""
    warnings: tuple[str, ...] = ()


def row(text: str = "a") -> bytes:
    return json.dumps({"text": text}).encode()


def rows(count: int, **more: Any) -> bytes:
    return b"".join(json.dumps({"text": f"t{i}", **more}).encode() + b"\n" for i in range(count))


def parquet_bytes(count: int) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    data = io.BytesIO()
    table = pa.table({"text": pa.array([f"t{i}" for i in range(count)], pa.string())})
    parquet.write_table(table, data, row_group_size=1000)
    return data.getvalue()


def arrow_bytes(count: int, stream: bool = True) -> bytes:
    import pyarrow as pa

    data = io.BytesIO()
    table = pa.table({"text": pa.array([f"t{i}" for i in range(count)], pa.string())})
    make = pa.ipc.new_stream if stream else pa.ipc.new_file
    with make(data, table.schema) as writer:
        writer.write_table(table, 100)
    return data.getvalue()


def packed(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


def zipped(content: bytes) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        file.writestr("rows.jsonl", content)
    return data.getvalue()


def folder_of(**files: bytes) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        for name, content in files.items():
            file = path / name.replace("__", "/").replace("_dot_", ".")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)

    return make


def unreadable(path: Path) -> None:
    path.write_bytes(rows(2))
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")


def page(path: Path) -> None:
    path.write_text("<!DOCTYPE html>\n<html><body>404</body></html>\n", encoding="utf-8")


def pointer(path: Path) -> None:
    path.write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n", encoding="utf-8"
    )


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def loop_below(path: Path) -> None:
    folder_of(a_dot_jsonl=rows(2))(path)
    (path / "again").symlink_to(path, target_is_directory=True)


LINE_60_MB = b'{"text": "' + b"x" * 60_000_000 + b'"}\n'
SAVED_NOTHING = folder_of(
    dataset_dict_dot_json=b"{}", train__state_dot_json=b"{}", test__state_dot_json=b"{}"
)

REFUSED = [
    # letters and line ends
    Refused(
        "latin.txt",
        b"good\n\ncaf\xe9\n",
        "wrong_encoding",
        ("UTF-8", "byte 4"),
        3,
        settings={"encoding": "utf-8"},
    ),
    Refused(
        "damaged.txt", "é ü\n\n".encode() + b"caf\xe9\n", "wrong_encoding", ("UTF-8", "byte 4"), 3
    ),
    Refused(
        "deep.csv",
        b"text\n" + b"abcdefghijk\n" * 800_000 + b"caf\xe9\n",
        "wrong_encoding",
        (),
        800_002,
        True,
    ),
    Refused("utf16.csv", "text\nhello\n".encode("utf-16-be"), "wrong_encoding", ("UTF-16",)),
    Refused("utf32.jsonl", '{"text": "a"}'.encode("utf-32"), "wrong_encoding", ("UTF-32",)),
    Refused(
        "cut16.jsonl", '{"text": "a"}\n'.encode("utf-16")[:-1], "wrong_encoding", ("UTF-16",), 1
    ),
    Refused(
        "half16.jsonl",
        b"\xff\xfe" + '{"text": "'.encode("utf-16-le") + b"\x00\xd8x\x00",
        "wrong_encoding",
        ("UTF-16",),
        1,
    ),
    Refused(
        "no1252.txt",
        b"good\n\nbad \x81\n",
        "wrong_encoding",
        ("CP1252",),
        3,
        settings={"encoding": "cp1252"},
    ),
    Refused("nul.jsonl", rows(1) + b"\0" * 20, "corrupt_json", ("valid JSON",), 2),
    Refused("nul.csv", b"text\na\0b\n", "bad_character", ("NUL",), 2),
    Refused("nul.txt", b"good\n\nb\0d\n", "bad_character", ("NUL",), 3),
    Refused(
        "half.json",
        b'[\n{"text": "a"},\n{"text": "\\ud800"}\n]',
        "bad_character",
        ("surrogate",),
        3,
    ),
    # JSON that is not JSON
    Refused(
        "infinity.jsonl", rows(1) + b'{"text": -Infinity}\n', "corrupt_json", ("-Infinity",), 2
    ),
    Refused("nan.json", b'[\n{"text": NaN}]', "empty_content", ("NaN", "“text”"), 2),
    Refused("infinity.json", b'[\n{"text": "a", "n": Infinity}]', "corrupt_json", ("Infinity",), 2),
    Refused("huge.jsonl", rows(1) + b'{"text": 1e400}\n', "corrupt_json", ("1e400",), 2),
    Refused(
        "unused.jsonl", rows(2, n=1.5) + b'{"text": "a", "n": -1E999}\n', "corrupt_json", (), 3
    ),
    Refused(
        "digits.json",
        b'[{"text": "a"},\n' + b'{"n": ' + b"9" * 400 + b".0}]",
        "corrupt_json",
        ("99999999999999999... is larger",),
        2,
    ),
    Refused(
        "late.jsonl",
        rows(30_000) + b'{"text": "a", "n": [1e400]}\n',
        "corrupt_json",
        ("1e400",),
        30_001,
        True,
    ),
    Refused(
        "nangroup.jsonl",
        rows(3, topic="a") + b'{"text": "a", "topic": NaN}\n',
        "no_split_column",
        ("“topic”",),
        4,
        True,
        settings={"split_mode": "group", "group_column": "topic"},
    ),
    Refused("deep.json", b"[" * 100_000, "corrupt_json", ("deeply",), 1),
    Refused(
        "deepobject.jsonl",
        rows(1) + b'{"a":' * 100_000 + b"\n",
        "corrupt_json",
        ("deeply",),
        2,
        True,
    ),
    Refused("comment.jsonl", rows(1) + b"// two\n", "corrupt_json", ("column 1",), 2),
    Refused("trailing.jsonl", rows(1) + b'{"text": "a",}\n', "corrupt_json", ("column 14",), 2),
    Refused("newline.jsonl", b'{"text": "a\nb"}\n', "corrupt_json", ("column 12",), 1),
    Refused(
        "column.json", b'[\n{"text": "a"},\n  {"text": "b" "c"}]', "corrupt_json", ("column 16",), 3
    ),
    Refused("cut.json.gz", packed(b'[{"text": "a"},\n{"te'), "corrupt_json", ("valid JSON",), 2),
    Refused(
        "onebad.jsonl", rows(200_000) + b"{]\n" + rows(200_000), "corrupt_json", (), 200_001, True
    ),
    Refused(
        "mixed.jsonl",
        rows(60) + b'{"text": {"a": 1}}\n',
        "not_text",
        ("an object", "“text”"),
        61,
        True,
    ),
    Refused("number.jsonl", rows(1) + b"3.5\n", "not_an_object", ("a number",), 2),
    Refused("lists.jsonl", b'["a", "b"]\n["c", "d"]\n', "not_an_object", ("a list",), 1),
    Refused("object.json", b'{"text": "a",\n"title": "b"}', "no_list", ("without a list",)),
    Refused("giant.jsonl", LINE_60_MB[:-3], "corrupt_json", ("Unterminated string",), 1, True),
    # tables
    Refused("more.csv", b"text,a\nb,c\nd,e,f\n", "wrong_width", ("3 values", "2 columns"), 3),
    Refused("widths.tsv", b"text\ta\nb\tc\nd\n", "wrong_width", ("1 value,",), 3),
    Refused(
        "late.csv",
        b"text,a\n" + b'"x\ny",b\n' * 40_000 + b"alone\n",
        "wrong_width",
        (),
        80_002,
        True,
    ),
    Refused("quotes.csv", b'text,a\nb,c\n"d,e\nf,g\n', "corrupt_csv", ("not closed",), 3),
    Refused("quoteend.csv", b'text,a\n"b" c,d\n', "corrupt_csv", ("valid CSV",), 2),
    Refused("twohead.csv", b"text,text\na,b\n", "bad_header", ("twice",), 1),
    Refused(
        "nohead.csv",
        b"what is it?,a cat\nwhat now?,a dog\n",
        "unknown_format",
        ("its columns are what is it?, a cat",),
    ),
    Refused("headless.csv", b"\n\n", "no_rows", ("no rows",)),
    # packed, binary, and what only looks like it
    Refused(
        "cut.jsonl.gz", packed(rows(20_000))[:-2000], "corrupt_gzip", ("after line",), None, True
    ),
    Refused("short.jsonl.gz", packed(rows(3))[:-12], "corrupt_gzip", ("gzip",)),
    Refused("more.jsonl.gz", packed(rows(3)) + b"garbage", "corrupt_gzip", ("followed", "line 3")),
    Refused("crc.csv.gz", packed(b"text\na\n")[:-8] + b"\0" * 8, "corrupt_gzip", ("damaged",)),
    Refused("plain.jsonl", packed(rows(3)), "wrong_encoding", ("gzip", "name")),
    Refused("zip.jsonl", zipped(rows(3)), "wrong_encoding", ("ZIP",)),
    Refused("rows.jsonl.zst", b"\x28\xb5\x2f\xfdrest", "corrupt_zstd", ("zstd",)),
    Refused("cut.jsonl.xz", lzma.compress(rows(9))[:-30], "corrupt_xz", ("xz data is cut off",)),
    Refused("cut.csv.bz2", bz2.compress(b"text\na\n")[:-9], "corrupt_bzip2", ("bzip2 data",)),
    Refused("more.jsonl.bz2", bz2.compress(rows(3)) + b"more", "corrupt_bzip2", ("line 3",)),
    Refused("more.jsonl.xz", lzma.compress(rows(3)) + b"more", "corrupt_xz", ("line 3",)),
    Refused("name.jsonl", bz2.compress(rows(3)), "wrong_encoding", ("bzip2-compressed", "name")),
    Refused("rows.tar.gz", packed(rows(3)), "unknown_suffix", ("archive (“.tar.gz”)",)),
    Refused("rows.tgz", packed(rows(3)), "unknown_suffix", ("archive (“.tgz”)",)),
    Refused("rows.tar.Z", rows(3), "unknown_suffix", ("archive (“.tar.Z”)",)),
    Refused("a.tzst", rows(3), "unknown_suffix", ("archive (“.tzst”)",)),
    Refused("a.target.gz", packed(rows(3)), "unknown_suffix", ("compressed, but “.target.gz”",)),
    Refused("rows.parquet.xz", lzma.compress(rows(3)), "unknown_suffix", ("is compressed",)),
    Refused("p.parquet", b"version https://git-lfs.github.com/spec/v1\n", "lfs_pointer", ("LFS",)),
    Refused("table.csv", parquet_bytes(3), "wrong_encoding", ("Parquet",)),
    Refused("book.txt", b"%PDF-1.7 rest", "wrong_encoding", ("PDF",)),
    Refused("rows.parquet", rows(3), "corrupt_parquet", ("Parquet",)),
    Refused("cut.parquet", parquet_bytes(5000)[:-100], "corrupt_parquet", ("Parquet",)),
    Refused(
        "hole.parquet",
        lambda p: p.write_bytes(hole(parquet_bytes(5000))),
        "corrupt_parquet",
        ("damaged part",),
        2001,
        True,
    ),
    Refused("none.parquet", parquet_bytes(0), "no_rows", ("no rows",)),
    Refused("cut.arrow", arrow_bytes(3, stream=False)[:-30], "corrupt_arrow", ("Arrow",)),
    Refused("tail.arrow", arrow_bytes(1000)[:-900], "corrupt_arrow", ("Arrow",), None, True),
    Refused("text.arrow", rows(3), "corrupt_arrow", ("Arrow",)),
    Refused("old.feather", b"FEA1rest", "old_feather", ("version 1",)),
    # folders and names
    Refused("empty", lambda p: p.mkdir(), "empty_folder", ("without data files",)),
    Refused("named.jsonl", lambda p: p.mkdir(), "empty_folder", ("is a folder",)),
    Refused("hidden", folder_of(_dot_a_dot_jsonl=rows(2)), "empty_folder", ("without data files",)),
    Refused(
        "kinds",
        folder_of(a_dot_jsonl=rows(2), b_dot_parquet=parquet_bytes(2)),
        "mixed_folder",
        ("1 JSON and 1 Parquet", "twice"),
    ),
    Refused("sets", SAVED_NOTHING, "empty_folder", ("without data files",)),
    Refused("page.jsonl", page, "web_page", ("web page",)),
    Refused("pointer.jsonl", pointer, "lfs_pointer", ("Git LFS",)),
    Refused("loop.jsonl", loop, "unreadable_file", ("symbolic links",)),
    Refused("secret.jsonl", unreadable, "unreadable_file", ("ermission",)),
    Refused("page.rtf", b"{rtf}", "unknown_suffix", (".rtf",)),
    Refused(
        "pattern",
        folder_of(a_dot_jsonl=rows(2)),
        "no_match",
        ("matches no data file",),
        source="pattern/*.csv",
    ),
    Refused(
        "second",
        folder_of(a_dot_jsonl=rows(2), b_dot_jsonl=rows(1) + b"{\n"),
        "corrupt_json",
        ("line 2 of b.jsonl",),
        2,
        source="second/a.jsonl; second/b.jsonl",
    ),
]


def hole(content: bytes) -> bytes:
    """The middle overwritten, as a bad disk or a broken copy leaves it."""
    middle = len(content) // 2
    return content[:middle] + b"\xff" * 4000 + content[middle + 4000 :]


TAKEN = [
    Taken("nan.jsonl", b'{"text": "a", "score": NaN, "more": {"n": [NaN]}}\n' * 3, (1, 2, 3)),
    Taken("nan.json", b'[{"text": "a", "score": NaN},\n{"text": "b", "score": 1e308}]', (1, 2)),
    Taken(
        "nanskip.jsonl",
        rows(1) + b'{"text": NaN}\n' + rows(1),
        (1, 3),
        ("it is NaN",),
        1,
        settings={"on_bad_rows": "skip"},
    ),
    Taken("mark.jsonl", b"\xef\xbb\xbf" + rows(2), (1, 2), ("byte order mark",)),
    Taken("mark.csv", b"\xef\xbb\xbftext\na\n", (2,), ("byte order mark",)),
    Taken("wide.jsonl", '{"text": "é"}\n{"text": "雪"}\n'.encode("utf-16"), (1, 2), ("UTF-16",)),
    Taken("wide.csv", "text\n\na\n".encode("utf-16"), (3,), ("UTF-16",)),
    Taken(
        "nomark.jsonl", '{"text": "é"}\n'.encode("utf-16-be"), (1,), settings={"encoding": "utf-16"}
    ),
    Taken("latin.jsonl", b'{"text": "caf\xe9"}\n', (1,), settings={"encoding": "latin-1"}),
    Taken(
        "cafe.csv",
        b"text\n" + b"abc\n" * 90_000 + b"caf\xe9\n",
        tuple(range(2, 90_003)),
        ("not UTF-8", "Western (Windows-1252)"),
        warnings=("detected_encoding",),
    ),
    Taken("windows.txt", b"\x93quoted\x94\n", (1,), settings={"encoding": "cp1252"}),
    Taken("crlf.jsonl", b'{"text": "a"}\r\n\r\n{"text": "b"}\r\n', (1, 3)),
    Taken("mac.jsonl", b'{"text": "a"}\r{"text": "b"}\r', (1, 2), ("carriage return",)),
    Taken("mac.csv", b"text,n\ra,1\rb,2\r", (2, 3), ("carriage return",)),
    Taken("blank.jsonl", b"\n\n" + row() + b"\n \t\n" + row() + b"\n\n", (3, 5)),
    Taken("noend.jsonl", row() + b"\n" + row("b"), (1, 2)),
    Taken(
        "twice.jsonl",
        b'{"text": "a", "text": "b"}\n' * 3 + rows(1),
        (1, 2, 3, 4),
        ("3 rows contain a key twice", "line 1"),
    ),
    Taken("big.jsonl", LINE_60_MB + rows(1), (1, 2)),
    Taken("array.jsonl", b'[\n{"text": "a"},\n{"text": "b"}]\n', (2, 3), ("one JSON value",)),
    Taken("pretty.jsonl", b'{\n"data": [\n{"text": "a"}]\n}', (3,), ("one JSON value", "“data”")),
    Taken("lines.json", rows(2), (1, 2), ("JSON lines",)),
    Taken("data.json", b'{"version": 1, "data":\n[{"text": "a"}]}', (2,), ("“data”",)),
    Taken("extra.jsonl", rows(1) + b'{"text": "b", "more": [1]}\n', (1, 2)),
    Taken("lines.csv", b'text,n\n"a\n\nb",1\nc,2\n', (2, 5)),
    Taken("semicolon.csv", b"text;n\na, b;1\n", (2,)),
    Taken("excel.csv", b"sep=;\ntext;n\na, b;1\n", (3,)),
    Taken("inch.csv", b'text,n\n5" nail,1\n', (2,)),
    Taken(
        "skip.csv",
        b'text,n\na,1\nb\n"c,2\nd,3\n',
        (2, 5),
        ("2 invalid rows", "skip.csv:3"),
        2,
        settings={"on_bad_rows": "skip"},
    ),
    Taken(
        "skip.json",
        b'[\n{"text": "a"},\n7,\n{"text": null},\n{"text": "b"}]',
        (2, 5),
        ("2 invalid rows",),
        2,
        settings={"on_bad_rows": "skip"},
    ),
    Taken(
        "skip.txt",
        b"a\n\nb\xff\n\nc\n",
        (1, 5),
        ("1 invalid row was",),
        1,
        settings={"on_bad_rows": "skip", "encoding": "utf-8", "documents": "paragraph"},
    ),
    Taken("packed.jsonl.gz", packed(b"\n" + rows(2)), (2, 3)),
    Taken("packed.csv.gz", packed(b"text\na\n"), (2,)),
    Taken("packed.txt.gz", packed("\na\n\nb\n".encode("utf-16")), (2,), ("UTF-16",)),
    Taken("paragraphs.txt.gz", packed(b"a\n\nb\n"), (1, 3), settings={"documents": "paragraph"}),
    Taken("rows.zip", zipped(rows(3)), (1, 2, 3)),
    Taken("two.jsonl.gz", packed(rows(1)) + packed(rows(1)), (1, 2)),
    Taken("two.jsonl.bz2", bz2.compress(rows(1)) + bz2.compress(rows(1)), (1, 2)),
    Taken("padded.jsonl.xz", lzma.compress(rows(1)) + bytes(8) + lzma.compress(rows(1)), (1, 2)),
    Taken("ended.jsonl.xz", lzma.compress(rows(2)) + bytes(4), (1, 2)),
    Taken("false.jsonl.gz", rows(2), (1, 2), ("not compressed",)),
    Taken(
        "folder",
        folder_of(b_dot_jsonl=rows(1), a__c_dot_jsonl=rows(2), README_dot_md=b"hello"),
        (1, 1, 2),
        ("1 text file next to", "README.md"),
    ),
    Taken("loops", loop_below, (1, 2)),
    Taken(
        "glob",
        folder_of(b_dot_csv=b"text\nx\n", a_dot_csv=b"text\ny\n", c_dot_txt=b"z"),
        (2, 2),
        source="glob/*.csv",
    ),
    Taken("odd;name.jsonl", rows(1), (1,)),
    Taken("odd[1].jsonl", rows(1), (1,)),
    Taken("file.arrow", arrow_bytes(3, stream=False), (1, 2, 3)),
]


def prepare(case: Refused | Taken, root: Path) -> tuple[DatasetSettings, Path]:
    path = root / case.name
    if isinstance(case.content, bytes):
        path.write_bytes(case.content)
    else:
        case.content(path)
    settings = {"source": case.source or case.name, "split_mode": "none", **case.settings}
    return DatasetSettings(**settings), path


def problems(settings: DatasetSettings, root: Path) -> list[Any]:
    context = CheckContext("data", "Dataset", root, variants=load_registry().variants)
    return list(check(settings, context))


def whole(sentence: str, case: Refused) -> None:
    assert sentence.startswith("Dataset: ")
    assert sentence.endswith(".")
    assert "\n" not in sentence
    for word in case.words:
        assert word in sentence, sentence


@pytest.mark.parametrize("case", REFUSED, ids=lambda c: c.name)
def test_refused_with_one_sentence(case: Refused, tmp_path: Path) -> None:
    settings, _ = prepare(case, tmp_path)
    found = problems(settings, tmp_path)
    if not case.deep:
        assert [p.code for p in found] == [case.code], found
        assert found[0].line == case.line
        assert found[0].hint
        whole(found[0].sentence, case)
    context = make_context(tmp_path / "run", Recorder())
    context.title, context.project_dir = "Dataset", tmp_path
    with pytest.raises(StudioError) as caught, errors_of("Dataset"):
        prepare_rows(context, settings)
    error = caught.value
    assert (error.code, error.line) == (case.code, case.line), error.sentence
    assert error.hint
    assert error.file
    assert Path(error.file).name in error.sentence
    whole(error.sentence, case)
    if case.line is not None:
        assert f"line {case.line} " in error.sentence


@pytest.mark.parametrize(
    "name", ["a\0b.jsonl", "x" * 300 + ".jsonl", "~nobody-here/a.jsonl", ";", "*"]
)
def test_names_that_cannot_be_are_told(name: str, tmp_path: Path) -> None:
    found = problems(DatasetSettings(source=name), tmp_path)
    assert len(found) == 1
    assert found[0].hint
    assert "\n" not in found[0].sentence


@pytest.mark.parametrize("case", TAKEN, ids=lambda c: c.name)
def test_taken_and_told(case: Taken, tmp_path: Path) -> None:
    import datasets

    settings, _ = prepare(case, tmp_path)
    found = [
        p
        for p in problems(settings, tmp_path)
        if p.code != "unused_column" and p.severity != "info"
    ]
    assert [(p.code, p.severity) for p in found] == [(c, "warning") for c in case.warnings]
    told = Recorder()
    context = make_context(tmp_path / "run", told)
    context.title, context.project_dir = "Dataset", tmp_path
    value = prepare_rows(context, settings)
    lines = datasets.load_from_disk(str(Path(value.path) / "train"))["line"]
    assert tuple(lines) == case.lines
    assert value.skipped == case.skipped
    said = " ".join(str(e.get("sentence")) for e in told.named("Notice"))
    for word in case.words:
        assert word in said, said
