"""How fast the data host answers about a large file: `python benchmarks/data_host.py [rows]`.

Prints seconds for a file of 100,000 conversations with a tiny tokenizer: opening it when the data
host is warm, a page of 50 rows at the start, the middle and the end, the same page while a report
runs, and the whole report; and the host's memory. What is shown is held to one second.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import psutil

from studio.graph.project import load_project
from studio.graph.registry import load_registry
from studio.preview.client import DataClient
from studio.preview.protocol import Reply
from studio.runs.token_request import token_request
from tests.e2e.studio_cli import write_project
from tests.tiny import make_tiny_model

PAGE = 50


def lines(rows: int) -> Iterator[str]:
    """Conversations of 20 to 60 words, no two alike."""
    for n in range(rows):
        asked = f"What is {n} in words, and why is that so? Tell me in {n % 37} steps."
        answer = f"It is {n}. " + "This is so because of reasons. " * (n % 7)
        turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
        yield json.dumps({"messages": turns}) + "\n"


def timed(client: DataClient, what: str, **more: Any) -> tuple[float, Reply]:
    """Seconds until the last reply, and that reply."""
    began = time.perf_counter()
    *_, reply = client.replies(what, **more)
    assert reply.kind == "result", reply.data
    return time.perf_counter() - began, reply


def report(client: DataClient, rows: int) -> tuple[float, float]:
    """Seconds of a report, and the slowest page of rows meanwhile."""
    ended = threading.Event()
    began = time.perf_counter()
    client.ask("report", lambda reply: ended.set() if reply.last else None)
    slowest = 0.0
    while not ended.wait(0.5):
        slowest = max(slowest, timed(client, "rows", first=rows // 2, limit=PAGE)[0])
    return time.perf_counter() - began, slowest


def main() -> None:
    """Measure and print."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as folder, DataClient() as client:
        place = Path(folder)
        make_tiny_model(place / "model")
        with (place / "rows.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(lines(rows))
        project = write_project(place / "talk.studio", "model", place / "rows.jsonl")
        request, _ = token_request(load_project(project), load_registry(), place)
        assert request is not None
        opening = {"request": request.to_json(), "runs": str(place / "runs")}
        print(f"open, first time           {timed(client, 'open', **opening)[0]:6.2f} s")
        print(f"open, host warm            {timed(client, 'open', **opening)[0]:6.2f} s")
        for first in (1, rows // 2, rows - PAGE + 1):
            seconds = timed(client, "rows", first=first, limit=PAGE)[0]
            print(f"{PAGE} rows from {first:<13} {seconds:9.2f} s")
        whole, page = report(client, rows)
        print(f"report                     {whole:6.1f} s, {rows / whole:.0f} rows a second")
        print(f"{PAGE} rows while it runs       {page:7.2f} s at most")
        assert client.process_id is not None
        print(
            f"memory of the host         {psutil.Process(client.process_id).memory_info().rss / 1e6:6.0f} MB"
        )


if __name__ == "__main__":
    main()
