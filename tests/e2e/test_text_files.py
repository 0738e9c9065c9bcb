"""A project on one Markdown file, as a user runs it: checked, reported, shown as tokens, trained; and a
project of an earlier version, which reads paragraphs as before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from studio.preview.report import report_from_json
from tests.e2e.studio_cli import studio, write_project
from tests.tiny import make_tiny_model

TEXT = "# Birds\n\n" + "\n\n".join(f"Bird {n} sings and flies away." for n in range(30)) + "\n"
SIZE = len(TEXT.strip("\n")) + 1  # the tiny tokenizer has a token per byte; and the end token
PIECES = -(-(SIZE - 1) // 127)


@pytest.mark.slow(seconds=30)
def test_one_file_is_trained_in_pieces_and_an_earlier_project_reads_paragraphs(
    tmp_path: Path,
) -> None:
    (tmp_path / "birds.md").write_text(TEXT, encoding="utf-8")
    project = write_project(
        tmp_path / "p.studio",
        make_tiny_model(tmp_path / "model"),
        tmp_path / "birds.md",
        train={"max_steps": 0, "epochs": 1, "batch_size": 4, "eval_steps": 0, "save_steps": 0},
    )
    checked = studio("check", project, "--json")
    assert checked.code == 0
    assert [(e["code"], e["severity"], e["node"]) for e in checked.events] == [
        ("no_validation_rows", "warning", "data")
    ]
    report = report_from_json(studio("report", project, "--json").events[-1])
    assert (report.train_rows, report.train_pieces, report.validation_rows) == (1, PIECES, 0)
    assert report.trained_tokens == SIZE - 1
    shown = [json.loads(line) for line in studio("tokens", project, "--json").out.splitlines()]
    assert [(r["part"], r["parts"]) for r in shown] == [(n, PIECES) for n in range(1, PIECES + 1)]
    assert "".join(t for r in shown for t in r["tokens"][r["part"] > 1 :]).startswith(TEXT[:-1])
    ran = studio("run", project, "--runs", tmp_path / "runs", "--json")
    assert ran.status == "completed", ran.err[-2000:]
    said = [e["sentence"] for e in ran.of("Notice")]
    assert any("no row is left for validation" in s for s in said)
    assert any(f"the loss is computed on {SIZE - 1} of them" in s for s in said)
    assert [e["step"] for e in ran.of("Metric") if "loss" in e][-1] == -(-PIECES // 4)
    assert not [e for e in ran.of("Metric") if e.get("eval_loss") is not None]

    data = json.loads(project.read_text(encoding="utf-8"))
    project.write_text(json.dumps({**data, "version": 1}), encoding="utf-8")
    before = report_from_json(studio("report", project, "--json").events[-1])
    assert before.train_rows + before.validation_rows == before.rows == 31
    project.write_text(json.dumps(data), encoding="utf-8")
    stated = report_from_json(
        studio("report", project, "--json", "--set", "data.documents=paragraph").events[-1]
    )
    assert (stated.rows, stated.validation_rows) == (31, before.validation_rows)
