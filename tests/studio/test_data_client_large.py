"""The visible part of a large file is there at once, wherever it is: measured on the real process."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from studio.graph.project import load_project
from studio.graph.registry import load_registry
from studio.preview.client import DataClient
from studio.preview.protocol import Reply
from studio.runs.token_request import token_request
from tests.e2e.studio_cli import write_project
from tests.tiny import make_tiny_model

ROWS = 100_000
LIMIT_S = 3.0
"""The aim is 1 s (``benchmarks/data_host.py``); machines that test are slow and busy."""


def _timed(client: DataClient, what: str, **more: Any) -> tuple[float, Reply]:
    began = time.monotonic()
    *_, reply = client.replies(what, **more)
    assert reply.kind == "result", reply.data
    return time.monotonic() - began, reply


@pytest.mark.slow(seconds=8)
def test_any_page_of_100_000_rows_comes_at_once(tmp_path: Path) -> None:
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
        _timed(client, "open", **opening)
        seconds, reply = _timed(client, "open", **opening)
        assert reply.data["rows"] == ROWS
        assert seconds < LIMIT_S
        heard: list[Reply] = []
        number = client.ask("report", heard.append)
        until = time.monotonic() + 60
        while not any(r.kind == "progress" for r in heard) and time.monotonic() < until:
            time.sleep(0.05)
        assert any(r.kind == "progress" for r in heard)  # from here on both are at work
        for first in (ROWS - 49, 1, ROWS // 2):
            seconds, reply = _timed(client, "rows", first=first, limit=50)
            assert seconds < LIMIT_S
            assert [r["number"] for r in reply.data["rows"]] == list(range(first, first + 50))
        assert not any(r.kind in ("result", "error") for r in heard)
        client.cancel(number)
