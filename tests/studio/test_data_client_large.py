"""The visible part of a large file is there at once, wherever it is, though a report reads all rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from studio.graph.project import load_project
from studio.graph.registry import load_registry
from studio.preview.client import DataClient
from studio.preview.protocol import Reply
from studio.runs.token_request import token_request
from tests.e2e.studio_cli import write_project
from tests.timing import wait_until
from tests.tiny import make_tiny_model

ROWS = 100_000


def _result(client: DataClient, what: str, **more: Any) -> Reply:
    *_, reply = client.replies(what, **more)
    assert reply.kind == "result", reply.data
    return reply


@pytest.mark.slow(seconds=8)
def test_any_page_of_100_000_rows_comes_before_the_report(tmp_path: Path) -> None:
    make_tiny_model(tmp_path / "model")
    with (tmp_path / "rows.jsonl").open("w", encoding="utf-8") as file:
        for n in range(ROWS):
            turns = [
                {"role": "user", "content": f"say {n} please"},
                {"role": "assistant", "content": f"it is {n}, " + "of course " * (n % 9)},
            ]
            file.write(json.dumps({"messages": turns}) + "\n")
    project = write_project(tmp_path / "talk.studio", "model", tmp_path / "rows.jsonl")
    request, _ = token_request(load_project(project), load_registry(), tmp_path)
    assert request is not None
    opening = {"request": request.to_json(), "runs": str(tmp_path / "runs")}
    with DataClient() as client:
        assert _result(client, "open", **opening).data["rows"] == ROWS
        heard: list[Reply] = []
        number = client.ask("report", heard.append)
        wait_until(lambda: any(r.kind == "progress" for r in heard))  # both are at work now
        for first in (ROWS - 49, 1, ROWS // 2):
            reply = _result(client, "rows", first=first, limit=50)
            assert [r["number"] for r in reply.data["rows"]] == list(range(first, first + 50))
        assert not any(r.kind in ("result", "error") for r in heard), "the pages waited for it"
        client.cancel(number)
