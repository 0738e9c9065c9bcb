"""ZIP archives and zstd files: read like a folder and like gzip, refused where they cannot be."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from studio.data.reading.reader import read_rows
from studio.data.window import open_window
from studio.errors import StudioError
from studio.node_settings.dataset import DatasetSettings
from studio.nodes.dataset import files
from studio.training.data.rows import prepare_rows
from tests.studio.formats.everyday import ROWS, VARIANTS, everywhere, problems, table_of, write_xlsx
from tests.studio.formats.test_sqlite import write as write_sqlite
from tests.studio.training.steps import Recorder, make_context


def jsonl(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(r) + "\n" for r in rows).encode()


def csv(rows: list[dict[str, Any]]) -> bytes:
    return "".join(",".join(map(str, r)) + "\n" for r in table_of(rows)).encode()


def parquet_of(rows: list[dict[str, Any]]) -> bytes:
    data = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows), data)
    return data.getvalue()


def arrow_of(rows: list[dict[str, Any]]) -> bytes:
    data = io.BytesIO()
    table = pa.Table.from_pylist(rows)
    with pa.ipc.new_stream(data, table.schema) as stream:
        stream.write_table(table)
    return data.getvalue()


def sheet_of(rows: list[dict[str, Any]], folder: Path) -> bytes:
    return write_xlsx(folder / "sheet.tmp", {"S": table_of(rows)}).read_bytes()


def sqlite_of(rows: list[dict[str, Any]], folder: Path) -> bytes:
    return write_sqlite(folder / "sqlite.tmp", {"t": rows}).read_bytes()


def zstd(content: bytes) -> bytes:
    target = pa.BufferOutputStream()
    with pa.CompressedOutputStream(target, "zstd") as stream:
        stream.write(content)
    return target.getvalue().to_pybytes()


def pack(path: Path, members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


MEMBERS: dict[str, Any] = {
    "rows.jsonl": lambda folder: jsonl(ROWS),
    "rows.csv": lambda folder: csv(ROWS),
    "inner/rows.json": lambda folder: json.dumps(ROWS).encode(),
    "rows.parquet": lambda folder: parquet_of(ROWS),
    "rows.arrow": lambda folder: arrow_of(ROWS),
    "rows.xlsx": lambda folder: sheet_of(ROWS, folder),
    "rows.db": lambda folder: sqlite_of(ROWS, folder),
    "rows.jsonl.zst": lambda folder: zstd(jsonl(ROWS)),
    "rows.jsonl.xz": lambda folder: lzma.compress(jsonl(ROWS)),
    "rows.csv.bz2": lambda folder: bz2.compress(csv(ROWS)),
    "a b/rows ü.jsonl": lambda folder: jsonl(ROWS),
}


@pytest.mark.parametrize("name", MEMBERS)
def test_a_member_of_any_kind_is_read_everywhere(name: str, tmp_path: Path) -> None:
    pack(tmp_path / "data.zip", {name: MEMBERS[name](tmp_path)})
    found = everywhere(tmp_path, source="data.zip")
    assert (found.rows, found.warnings) == (ROWS, [])
    chosen = everywhere(tmp_path, source=f"data.zip/{name}")
    assert chosen.rows == ROWS


def test_several_members_are_read_like_a_folder(tmp_path: Path) -> None:
    members = {
        "data/b.jsonl": jsonl(ROWS[3:]),
        "data/a.jsonl": jsonl(ROWS[:3]),
        "README.md": b"read me",
        "picture.png": b"png",
        "inner.zip": b"zip",
        ".hidden.jsonl": b"no rows",
        "__MACOSX/._a.jsonl": b"no rows",
    }
    pack(tmp_path / "data.zip", members)
    found = everywhere(tmp_path, source="data.zip")
    assert (found.rows, found.lines) == (ROWS, [1, 2, 3, 1, 2, 3])
    assert "README.md" in found.notices
    assert "Ignored 2 files in data.zip of types that are not read:" in found.notices
    assert everywhere(tmp_path, source="data.zip/data/b.jsonl").rows == ROWS[3:]


def test_members_named_after_splits_fill_the_sides(tmp_path: Path) -> None:
    members = {"d/train.jsonl": ROWS[:3], "d/validation.jsonl": ROWS[3:5], "d/test.jsonl": ROWS[5:]}
    pack(tmp_path / "data.zip", {name: jsonl(rows) for name, rows in members.items()})
    context = make_context(tmp_path / "run", Recorder())
    context.project_dir = tmp_path
    value = prepare_rows(context, DatasetSettings(source="data.zip"))
    assert (value.train_rows, value.validation_rows) == (3, 2)


def test_a_saved_data_set_in_an_archive(tmp_path: Path) -> None:
    members = {
        "s/data-0.arrow": arrow_of(ROWS),
        "s/state.json": b"{}",
        "s/dataset_info.json": b"{}",
    }
    pack(tmp_path / "data.zip", members)
    assert everywhere(tmp_path, source="data.zip").rows == ROWS


def test_an_archive_in_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    pack(tmp_path / "f" / "data.zip", {"a.jsonl": jsonl(ROWS)})
    (found,) = problems(tmp_path, source="f")
    assert (found.code, "1 ZIP" in found.sentence) == ("empty_folder", True)
    (tmp_path / "f" / "b.jsonl").write_bytes(jsonl(ROWS[:2]))
    read = everywhere(tmp_path, source="f")
    assert read.rows == ROWS[:2]
    assert "1 ZIP" in read.notices


def test_a_changed_archive_is_read_anew_and_changes_the_fingerprint(tmp_path: Path) -> None:
    archive = pack(tmp_path / "data.zip", {"a.jsonl": jsonl(ROWS), "b.jsonl": jsonl(ROWS)})
    assert list(files(DatasetSettings(source="data.zip"), tmp_path)) == [archive]
    assert len(everywhere(tmp_path, source="data.zip").rows) == 12
    pack(archive, {"a.jsonl": jsonl(ROWS[:4])})
    assert everywhere(tmp_path, source="data.zip").rows == ROWS[:4]


def test_errors_name_the_member_and_its_line(tmp_path: Path) -> None:
    pack(tmp_path / "data.zip", {"in/a.jsonl": jsonl(ROWS) + b"{broken\n"})
    (found,) = problems(tmp_path, source="data.zip")
    assert (found.code, found.line) == ("corrupt_json", 7)
    assert "line 7 of a.jsonl" in found.sentence
    assert found.file == str(tmp_path / "data.zip" / "in" / "a.jsonl")
    rows = list(read_rows(tmp_path / "data.zip" / "in" / "a.jsonl", strict=False))
    assert rows[-1].error is not None
    (missing,) = problems(tmp_path, source="data.zip/b.jsonl")
    assert missing.code == "missing_file"


def encrypted(path: Path) -> None:
    pack(path, {"a.jsonl": jsonl(ROWS)})
    content = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + offset] |= 1
    path.write_bytes(bytes(content))


def unknown_method(path: Path) -> None:
    pack(path, {"a.jsonl": jsonl(ROWS)})
    content = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        content[content.index(mark) + offset] = 97
    path.write_bytes(bytes(content))


def bomb(path: Path) -> None:
    pack(path, {"a.jsonl": b" " * 120_000_000})


def damaged(path: Path) -> None:
    pack(path, {"a.jsonl": jsonl(ROWS)}, zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes().replace(b"What is 3", b"What is X"))


def cut(path: Path) -> None:
    pack(path, {"a.jsonl": jsonl(ROWS)})
    path.write_bytes(path.read_bytes()[:-30])


@pytest.mark.parametrize(
    ("make", "code", "words"),
    [
        (encrypted, "encrypted_file", "data.zip is encrypted"),
        (bomb, "zip_bomb", "times its size"),
        (unknown_method, "corrupt_zip", "a.jsonl cannot be unpacked"),
        (damaged, "corrupt_zip", "a.jsonl cannot be unpacked"),
        (cut, "corrupt_zip", "data.zip is not a valid ZIP archive"),
        (lambda p: p.write_bytes(b"text"), "corrupt_zip", "data.zip is not a valid ZIP archive"),
        (lambda p: p.write_bytes(b""), "corrupt_zip", "data.zip is not a valid ZIP archive"),
        (lambda p: pack(p, {}), "empty_folder", "without data files"),
        (lambda p: pack(p, {"a.png": b"x", "b.zip": b"y"}), "empty_folder", "without data files"),
        (
            lambda p: pack(p, {"a.jsonl": jsonl(ROWS), "b.csv": csv(ROWS)}),
            "mixed_folder",
            "several",
        ),
    ],
)
def test_an_archive_that_cannot_be_read_is_refused(
    make: Any, code: str, words: str, tmp_path: Path
) -> None:
    make(tmp_path / "data.zip")
    (found,) = problems(tmp_path, source="data.zip")
    assert found.code == code
    assert words in found.sentence
    assert found.hint


def lines(count: int) -> list[dict[str, str]]:
    return [
        {"prompt": f"q{n}", "completion": hashlib.sha256(str(n).encode()).hexdigest()}
        for n in range(count)
    ]


@pytest.mark.parametrize(
    "name", ["a.jsonl.zst", "a.csv.zst", "a.json.zst", "a.txt.zst", "a.tsv.zst"]
)
def test_zstd_is_read_everywhere(name: str, tmp_path: Path) -> None:
    contents = {
        "a.jsonl.zst": jsonl(ROWS),
        "a.csv.zst": csv(ROWS),
        "a.json.zst": json.dumps(ROWS).encode(),
        "a.txt.zst": b"one\n\ntwo\n",
        "a.tsv.zst": csv(ROWS).replace(b",", b"\t"),
    }
    (tmp_path / name).write_bytes(zstd(contents[name]))
    found = everywhere(tmp_path, source=name, documents="paragraph")
    assert found.rows == ([{"text": "one"}, {"text": "two"}] if "txt" in name else ROWS)


def test_several_frames_and_another_encoding_in_zstd(tmp_path: Path) -> None:
    first, second = jsonl(ROWS[:2]), jsonl(ROWS[2:])
    (tmp_path / "a.jsonl.zst").write_bytes(zstd(first) + zstd(second))
    assert everywhere(tmp_path, source="a.jsonl.zst").rows == ROWS
    (tmp_path / "b.csv.zst").write_bytes(
        zstd("prompt,completion\nкак дела,хорошо\n".encode("cp1251"))
    )
    found = everywhere(tmp_path, source="b.csv.zst")
    assert found.rows == [{"prompt": "как дела", "completion": "хорошо"}]
    assert found.warnings == ["detected_encoding"]


def test_zstd_that_is_cut_off_shows_what_is_complete(tmp_path: Path) -> None:
    packed = zstd(jsonl(lines(5000)))
    (tmp_path / "a.jsonl.zst").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(StudioError, match="its zstd data is cut off") as refused:
        list(read_rows(tmp_path / "a.jsonl.zst"))
    assert refused.value.code == "corrupt_zstd"
    settings = DatasetSettings(source="a.jsonl.zst", on_bad_rows="skip")
    with open_window(settings, tmp_path, VARIANTS["format"]) as window:
        count = window.count()
        assert 500 < count < 4000
        assert window.rows(1, 1)[0].data == lines(1)[0]
        last = window.rows(count, count)[0].error
    assert last is not None
    assert f"after line {count - 1}" in last.sentence


@pytest.mark.parametrize(
    ("name", "content", "code", "words"),
    [
        ("a.jsonl", zstd(jsonl(ROWS)), "wrong_encoding", "a.jsonl is zstd-compressed"),
        ("a.jsonl.gz", zstd(jsonl(ROWS)), "wrong_encoding", "is zstd-compressed, but its name"),
        ("a.zst", zstd(jsonl(ROWS)), "unknown_suffix", "is compressed"),
        ("a.tar.zst", zstd(jsonl(ROWS)), "unknown_suffix", "archive"),
        ("a.jsonl.zst", zstd(b""), "no_rows", "no rows"),
    ],
)
def test_zstd_that_is_refused(
    name: str, content: bytes, code: str, words: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    (found,) = problems(tmp_path, source=name)
    assert found.code == code
    assert words in found.sentence


PACK: dict[str, Callable[[bytes], bytes]] = {
    "zst": zstd,
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": partial(lzma.compress, preset=0),
}


@pytest.mark.parametrize("suffix", PACK)
def test_a_bomb_of_one_file_is_refused(suffix: str, tmp_path: Path) -> None:
    content = b'{"text": "' + b"a" * 120_000_000 + b'"}\n'
    (tmp_path / f"a.jsonl.{suffix}").write_bytes(PACK[suffix](content))
    with pytest.raises(StudioError, match="times its size"):
        list(read_rows(tmp_path / f"a.jsonl.{suffix}"))


@pytest.mark.parametrize("name", ["rows.jsonl.xz", "rows.csv.bz2", "rows.json.bz2", "rows.tsv.xz"])
def test_other_compressions_are_read_everywhere(name: str, tmp_path: Path) -> None:
    plain = {"jsonl": jsonl(ROWS), "csv": csv(ROWS), "json": json.dumps(ROWS).encode()}
    plain["tsv"] = csv(ROWS).replace(b",", b"\t")
    pack_with = lzma.compress if name.endswith(".xz") else bz2.compress
    (tmp_path / name).write_bytes(pack_with(plain[name.split(".")[1]]))
    assert everywhere(tmp_path, source=name).rows == ROWS


def test_a_zip_archive_in_a_folder_is_to_be_chosen_itself(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    pack(tmp_path / "set" / "a.zip", {"rows.jsonl": jsonl(ROWS)})
    (found,) = problems(tmp_path, source="set")
    assert (found.code, found.hint) == ("empty_folder", "Choose the ZIP archive itself.")
    (tmp_path / "set" / "rows.jsonl").write_bytes(jsonl(ROWS[:3]))
    (found,) = problems(tmp_path, source="set")
    assert found.code == "files_skipped"
    assert "A ZIP archive is read when it is chosen itself" in found.hint
