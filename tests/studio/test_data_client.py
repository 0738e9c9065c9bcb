"""The data host as its client meets it: real processes, real rows, and every way to end."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from studio.graph.edits import set_setting
from studio.graph.problems import find_problems
from studio.graph.project import load_project
from studio.graph.registry import load_registry
from studio.node_settings.dataset import DatasetSettings
from studio.preview.client import DataClient
from studio.preview.protocol import HOST_ENDED, Reply
from studio.preview.report import report_from_json
from studio.preview.tokens import row_from_json
from studio.runs.token_request import token_request
from studio.training.batch.batches import Batches, RowOrder
from studio.training.data.rows import prepare_rows
from studio.training.tokens.encoder import load_tokenizer, tokenize_dataset
from tests.e2e.studio_cli import ROOT, write_project
from tests.studio.training.steps import Recorder, make_context
from tests.timing import WAIT_S
from tests.tiny import make_tiny_model


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, and 40 rows."""
    folder = tmp_path_factory.mktemp("desk")
    make_tiny_model(folder / "model")
    rows = [_chat(f"say {n}", f"it is {n}") for n in range(40)]
    rows[24]["messages"].append({"role": "user", "content": "and then?"})
    rows[32] = rows[2]
    (folder / "rows.jsonl").write_text(
        "".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8"
    )
    return write_project(folder / "talk.studio", "model", folder / "rows.jsonl")


def _chat(asked: str, answer: str) -> dict[str, Any]:
    turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    return {"messages": turns}


@pytest.fixture(scope="module")
def client() -> Iterator[DataClient]:
    """One host for all: that it goes on after whatever was asked is part of what is tested."""
    with DataClient() as made:
        yield made


def asked(project: Path, **train: Any) -> dict[str, Any]:
    """The fields of an ``open`` request for a project."""
    graph = load_project(project)
    request, problems = token_request(graph, load_registry(), project.parent)
    assert request is not None, problems
    return {"request": {**request.to_json(), **train}, "runs": str(project.parent / "runs")}


def last(client: DataClient, what: str, **more: Any) -> Reply:
    """The last reply to a request."""
    *_, reply = client.replies(what, **more)
    return reply


def test_chat_templates_to_choose_from(client: DataClient, project: Path) -> None:
    last(client, "open", **asked(project))
    found = {t["id"]: t for t in last(client, "templates").data["templates"]}
    assert {"model", "chatml", "llama-3", "alpaca"} <= set(found)
    assert (found["model"]["differs"], found["chatml"]["differs"]) == (False, False)
    assert found["alpaca"]["differs"]
    assert "### Instruction:" in found["alpaca"]["sample"]
    assert found["gemma"]["missing_tokens"] == ["<start_of_turn>", "<end_of_turn>"]


def test_rows_of_any_place(client: DataClient, project: Path) -> None:
    opened = last(client, "open", **asked(project))
    assert opened.kind == "result"
    assert opened.data["rows"] == 40
    assert Path(opened.data["tokenizer"]).is_dir()
    reply = last(client, "rows", first=31, limit=100)
    rows = [row_from_json(r) for r in reply.data["rows"]]
    assert [r.number for r in rows] == list(range(31, 41))
    assert rows[0].text.endswith("assistant\nit is 30<|im_end|>\n")
    assert [r.to_json() for r in rows] == reply.data["rows"]


def test_the_next_suspicious_row_and_the_report(client: DataClient, project: Path) -> None:
    last(client, "open", **asked(project))
    reply = last(client, "next_suspicious", after=0, kinds=["role_error", "duplicate"])
    assert reply.data == {"number": 25, "flags": ["role_error"]}
    assert last(client, "next_suspicious", after=25, kinds=["role_error"]).data["number"] == 0
    twin = last(client, "next_suspicious", after=25, kinds=["duplicate"])
    assert twin.data == {"number": 33, "flags": ["duplicate"]}  # no report has been made yet
    report = report_from_json(last(client, "report").data["report"])
    assert report.complete
    assert {f.code: f.rows[0].line for f in report.findings} == {"role_error": 25, "duplicate": 33}
    reply = last(client, "next_suspicious", after=25, kinds=[])
    assert reply.data == {"number": 33, "flags": ["duplicate"]}
    (row,) = last(client, "rows", first=33, limit=1).data["rows"]
    assert row["flags"] == ["duplicate"]


def test_a_report_lets_others_in_and_can_be_cancelled(
    client: DataClient, project: Path, tmp_path: Path
) -> None:
    lines = (json.dumps(_chat(f"say {n}", "words " * 40)) for n in range(20_000))
    (tmp_path / "many.jsonl").write_text("\n".join(lines), encoding="utf-8")
    graph = set_setting(load_project(project), "data", "source", str(tmp_path / "many.jsonl"))
    request, _ = token_request(graph, load_registry(), project.parent)
    assert request is not None
    opened = last(client, "open", request=request.to_json(), runs=str(tmp_path / "runs"))
    assert opened.data["rows"] == 20_000
    heard: queue.SimpleQueue[Reply] = queue.SimpleQueue()
    number = client.ask("report", heard.put)
    progress = heard.get(timeout=WAIT_S)
    assert progress.kind == "progress"
    assert 0 < progress.data["done"] < progress.data["total"] == 20_000
    assert progress.data["eta_s"] > 0
    assert last(client, "rows", first=19_000, limit=20).kind == "result"
    client.cancel(number)
    while (reply := heard.get(timeout=WAIT_S)).kind in ("progress", "partial"):
        pass
    assert reply.kind == "cancelled"  # so it was not done while the rows were read


def test_a_batch_is_the_one_that_the_trainer_makes(
    client: DataClient, project: Path, tmp_path: Path
) -> None:
    asking = asked(project)
    settings = asking["request"]["settings"]
    settings["batching"] = "padded"
    opened = last(client, "open", **asking)
    (tmp_path / "step").mkdir()
    context = make_context(tmp_path / "step", Recorder())
    data = DatasetSettings(source=str(project.parent / "rows.jsonl"), validation_fraction=0.2)
    tokens = tokenize_dataset(
        context,
        prepare_rows(context, data),
        load_tokenizer(opened.data["tokenizer"]),
        max_length=settings["max_length"],
        train_on="answers",
        folder=tmp_path / "tokens",
    )
    rows = tokens.train
    batches = list(Batches(rows, RowOrder(len(rows), 0), 0, len(rows), settings["batch_size"], 0))
    for number in (1, 5, len(batches)):
        reply = last(client, "rows", batch=number)
        assert reply.kind == "result", reply.data
        shown = [row_from_json(r) for r in reply.data["rows"]]
        expected = batches[number - 1]
        assert [[t.id for t in r.tokens] for r in shown] == expected["input_ids"].tolist()
        assert [[t.label for t in r.tokens] for r in shown] == expected["labels"].tolist()
        padding = [[t.state == "padding" for t in r.tokens] for r in shown]
        assert padding == (expected["attention_mask"] == 0).tolist()
        assert reply.data["batches"] == len(batches)
    assert last(client, "rows", batch=len(batches) + 1).data["rows"] == []


def test_rows_for_another_objective_are_shown_although_they_block_a_run(
    client: DataClient, project: Path, tmp_path: Path
) -> None:
    pair = {"prompt": "a", "chosen": "b", "rejected": "c"}
    (tmp_path / "pairs.jsonl").write_text((json.dumps(pair) + "\n") * 5, encoding="utf-8")
    other = write_project(tmp_path / "p.studio", project.parent / "model", tmp_path / "pairs.jsonl")
    found = find_problems(load_project(other), load_registry(), tmp_path)
    assert "wrong_shape" in [p.code for p in found if p.blocks]
    last(client, "open", **asked(other))
    (row,) = last(client, "rows", first=1, limit=1).data["rows"]
    assert row["flags"] == ["refused_row"]


def test_a_preview_needs_no_model(client: DataClient, tmp_path: Path) -> None:
    lines = ['{"question": "a?", "answer": "b"}', "{oops", '{"question": "c?", "answer": "d"}']
    (tmp_path / "qa.jsonl").write_text("\n".join(lines), encoding="utf-8")
    reply = last(
        client, "preview", settings={"source": "qa.jsonl"}, project_dir=str(tmp_path), limit=5
    )
    assert reply.kind == "result", reply.data
    rows = reply.data["rows"]
    assert [r["line"] for r in rows] == [1, 2, 3]
    assert "line 2 of qa.jsonl" in rows[1]["error"]
    assert rows[2]["row"]["messages"][-1]["content"] == "d"
    assert reply.data["format"] == reply.data["formats"][0]["id"]
    assert reply.data["reason"]
    assert reply.data["columns"] == ["question", "answer"]
    reply = last(client, "preview", settings={"source": "gone.jsonl"}, project_dir=str(tmp_path))
    assert reply.kind == "error"
    assert "gone.jsonl" in reply.data["sentence"]


def test_what_cannot_be_answered_says_so_and_the_host_goes_on(
    client: DataClient, project: Path
) -> None:
    reply = last(client, "open", **asked(project, dataset="gone"))
    assert reply.kind == "error"
    reply = last(client, "rows", first=1, limit=1)
    assert (reply.kind, reply.data["code"]) == ("error", "not_open")
    reply = last(client, "nonsense")
    assert reply.kind == "error"
    assert "nonsense" in reply.data["sentence"]
    reply = last(client, "open", **asked(project), nobody="minds")
    assert reply.kind == "result"


def test_a_host_that_dies_is_told_once_and_the_next_request_gets_another(
    client: DataClient, project: Path
) -> None:
    assert last(client, "open", **asked(project)).kind == "result"
    heard: queue.SimpleQueue[Reply] = queue.SimpleQueue()
    first = client.process_id
    assert first is not None
    os.kill(first, signal.SIGSTOP)
    client.ask("rows", heard.put, first=1, limit=1)
    os.kill(first, signal.SIGKILL)
    reply = heard.get(timeout=WAIT_S)
    assert (reply.kind, reply.data["code"]) == ("error", HOST_ENDED)
    assert reply.data["sentence"].endswith("exited with code -9.")
    assert heard.empty()
    assert last(client, "open", **asked(project)).kind == "result"
    assert client.process_id != first


def test_close_ends_the_host(project: Path) -> None:
    client = DataClient()
    assert last(client, "open", **asked(project)).kind == "result"
    process = psutil.Process(client.process_id)
    client.close()
    assert not process.is_running()


def test_the_host_ends_with_its_asker(project: Path, tmp_path: Path) -> None:
    (tmp_path / "asked.json").write_text(json.dumps(asked(project)), encoding="utf-8")
    script = (
        "import json, sys, time; from studio.preview.client import DataClient\n"
        "client = DataClient(); *_, reply = client.replies('open', **json.load(open(sys.argv[1])))\n"
        "print(client.process_id, flush=True); time.sleep(60)\n"
    )
    asker = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "asked.json")],
        stdout=subprocess.PIPE,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
    )
    assert asker.stdout is not None
    with asker.stdout:
        host = psutil.Process(int(asker.stdout.readline()))
        asker.kill()
        asker.wait()
        host.wait(timeout=WAIT_S)
    assert not list(tmp_path.glob("lora-studio-*"))
