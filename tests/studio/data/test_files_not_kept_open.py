"""Files whose rows are shown can be replaced, renamed and deleted by other programs, also on Windows."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from studio.data.reading.reader import read_rows
from studio.data.reading.source import ReadOptions
from studio.data.window import open_window
from studio.graph.registry import load_registry
from studio.node_settings.dataset import DatasetSettings
from studio.preview.client import DataClient
from studio.preview.protocol import DATA_CHANGED
from studio.training.data.by_number import PreparedRows
from tests.e2e.studio_cli import write_project
from tests.studio.test_data_client import asked, last
from tests.studio.training.steps import dataset_value
from tests.tiny import make_tiny_model
from tests.windows_files import windows_files

ROWS = [{"prompt": f"say {n}", "completion": f"it is {n}"} for n in range(40)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


def table() -> pa.Table:
    return pa.Table.from_pylist(ROWS)


def write_arrow(path: Path) -> None:
    with pa.ipc.new_stream(str(path), table().schema) as stream:
        stream.write_table(table(), 8)


def write_csv(path: Path) -> None:
    lines = ["prompt,completion", *(f"{r['prompt']},{r['completion']}" for r in ROWS)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_sqlite(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE t (prompt, completion)")
        database.executemany("INSERT INTO t VALUES (:prompt, :completion)", ROWS)


def write_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("rows.jsonl", LINES)


WRITERS: dict[str, Callable[[Path], Any]] = {
    "rows.jsonl": lambda path: path.write_text(LINES, encoding="utf-8"),
    "rows.json": lambda path: path.write_text(json.dumps(ROWS), encoding="utf-8"),
    "rows.csv": write_csv,
    "latin.csv": lambda path: path.write_text(
        "prompt,completion\n" + "é,è\n" * 40, encoding="latin-1"
    ),
    "rows.parquet": lambda path: pyarrow.parquet.write_table(table(), path, row_group_size=7),
    "rows.arrow": write_arrow,
    "rows.sqlite": write_sqlite,
    "rows.zip": write_zip,
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_between_two_looks(tmp_path: Path, name: str) -> None:
    """It is closed, can be moved away and back, and the rows are the same afterwards."""
    file = tmp_path / name
    WRITERS[name](file)
    settings = DatasetSettings(source=str(file))
    with open_window(settings, tmp_path, load_registry().variants["format"]) as window:
        assert window.count() == 40
        before = [row.data for row in window.rows(5, 30)]
        window.release()
        with windows_files(tmp_path) as files:
            os.rename(file, tmp_path / "elsewhere")
            os.rename(tmp_path / "elsewhere", file)
        assert files.refused == []
        assert not window.has_changed()
        assert [row.data for row in window.rows(5, 30)] == before
        file.write_bytes(b"something else")
        assert window.has_changed()


@pytest.mark.parametrize("name", ["rows.parquet", "rows.arrow", "rows.sqlite", "rows.csv"])
def test_copies_of_members_are_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Libraries read a copy; nothing of it is in use when it is deleted, also after a look at the first rows."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    WRITERS[name](tmp_path / name)
    archive = tmp_path / "data.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.write(tmp_path / name, name)
    settings = DatasetSettings(source=str(archive))
    with windows_files(tmp_path) as files:
        with open_window(settings, tmp_path, load_registry().variants["format"]) as window:
            assert len(window.rows(1, 12)) == 12
        assert len(list(islice(read_rows(archive / name, ReadOptions()), 3))) == 3
        archive.unlink()
    assert files.refused == []
    assert os.listdir(tmp_path / "temporary") == []


def test_prepared_rows_let_their_run_be_deleted(tmp_path: Path) -> None:
    rows = PreparedRows(dataset_value(tmp_path / "run", 6, 2), None)
    before = rows.rows(1, 8)
    rows.release()
    assert rows.rows(1, 8) == before
    rows.release()
    with windows_files(tmp_path) as files:
        shutil.rmtree(tmp_path / "run")
    assert files.refused == []


def test_the_data_host_keeps_no_file_and_notices_a_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program replaces the file while its rows are shown, and it leaves nothing behind."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    make_tiny_model(tmp_path / "model")
    rows = tmp_path / "rows.jsonl"
    rows.write_text(LINES, encoding="utf-8")
    project = write_project(tmp_path / "p.studio", "model", rows)
    with windows_files(tmp_path) as files:
        with DataClient() as client:
            assert last(client, "open", **asked(project)).kind == "result"
            assert last(client, "rows", first=1, limit=5).data["count"] == 40
            assert last(client, "report").kind == "result"
            (tmp_path / "new").write_text(LINES + LINES, encoding="utf-8")
            os.replace(tmp_path / "new", rows)
            reply = last(client, "rows", first=1, limit=5)
            assert (reply.kind, reply.data["code"]) == ("error", DATA_CHANGED)
            assert last(client, "open", **asked(project)).kind == "result"
            assert last(client, "rows", first=1, limit=5).data["count"] == 80
        rows.unlink()
        assert os.listdir(temporary) == []
    assert files.refused == []
