"""``check`` reads the data completely: what would stop a run is printed with its line, and blocks."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from studio.cli import commands, main
from studio.data import kept_checks


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    kept_checks.results.clear()
    yield
    kept_checks.results.clear()


def project(folder: Path, source: str) -> Path:
    data = {"id": "data", "type": "dataset", "position": [0, 0], "settings": {"source": source}}
    path = folder / "p.studio"
    found = {"format": "lora-studio", "version": 3, "name": "p", "nodes": [data], "wires": []}
    path.write_text(json.dumps(found), encoding="utf-8")
    return path


def rows(count: int, broken: int = 0) -> bytes:
    lines = [json.dumps({"prompt": f"q{n * 7919}", "completion": f"a{n}"}) for n in range(count)]
    if broken:
        lines[broken - 1] = lines[broken - 1][:-4]
    return ("\n".join(lines) + "\n").encode()


def of_data(out: str) -> list[dict[str, Any]]:
    """The printed problems, without those of a project that has only a dataset."""
    found = map(json.loads, out.splitlines())
    return [p for p in found if p["code"] not in ("unused_node", "no_training")]


def test_a_broken_line_is_printed_with_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.jsonl").write_bytes(rows(800, broken=777))
    file = project(tmp_path, "rows.jsonl")
    assert main(["check", str(file)]) == 2
    said = capsys.readouterr()
    assert not said.out
    assert f"{tmp_path / 'rows.jsonl'}:777: error: data.source: Dataset: line 777 of" in said.err
    assert main(["check", "--json", str(file)]) == 2
    (problem,) = of_data(capsys.readouterr().out)
    assert (problem["event"], problem["severity"], problem["line"]) == ("Problem", "error", 777)
    assert (problem["code"], problem["node"]) == ("corrupt_json", "data")


def test_a_cut_archive_is_not_ready_to_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packed = gzip.compress(rows(5000))
    (tmp_path / "rows.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    assert main(["check", "--json", str(project(tmp_path, "rows.jsonl.gz"))]) == 2
    (problem,) = of_data(capsys.readouterr().out)
    assert (problem["code"], problem["severity"]) == ("corrupt_gzip", "error")
    assert "after line" in problem["sentence"]


def test_settings_of_the_command_line_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.jsonl").write_bytes(rows(800, broken=777))
    file = str(project(tmp_path, "rows.jsonl"))
    for change in ("data.limit=700", "data.drop_rows=777", "data.on_bad_rows=skip"):
        assert main(["check", file, "--set", change]) == 0
        said = capsys.readouterr()
        assert "ready to run, 1 step" in said.out
        assert ("warning: data.on_bad_rows" in said.err) == (change == "data.on_bad_rows=skip")


def test_what_was_not_reached_is_stated_and_blocks_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "CHECK_S", 0.0)
    (tmp_path / "rows.jsonl").write_bytes(rows(800, broken=777))
    file = str(project(tmp_path, "rows.jsonl"))
    assert main(["check", file]) == 0
    said = capsys.readouterr()
    assert "info: data.source: Dataset: the first 1 of about " in said.err
    assert "rows were checked; a run checks the others." in said.err
    assert "ready to run" in said.out
    kept_checks.results.clear()
    assert main(["check", "--json", file]) == 0
    (problem,) = of_data(capsys.readouterr().out)
    assert (problem["severity"], problem["code"]) == ("info", "rows_not_checked")


def test_rendered_conversations_are_a_warning_with_the_way_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        json.dumps({"text": f"### Human: What is {n}+1?### Assistant: It is {n + 1}."})
        for n in range(12)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    file = str(project(tmp_path, "rows.jsonl"))
    assert main(["check", "--json", file]) == 0
    (problem,) = of_data(capsys.readouterr().out)
    assert (problem["code"], problem["severity"]) == ("rendered_chat", "warning")
    assert main(["check", "--json", file, "--set", "data.format=rendered_chat"]) == 0
    assert not of_data(capsys.readouterr().out)
