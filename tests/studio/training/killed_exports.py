"""Exports that are killed at random moments, for ``test_killed_exports``; a program of its own.

It forks, so that libraries are loaded once. The child exports, and is killed with SIGKILL after a while.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch

from studio.node_settings.export import ExportSettings
from studio.training.export.make import export
from tests.studio.training.steps import Recorder, make_context


def attempt(request: dict[str, Any], name: str, seconds: float = 0.0) -> tuple[int, float]:
    """Export into ``place/talk`` in a child. Returns its exit status, -9 if it was killed, and how long it took."""
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            _export(request, name)
            code = 0
        finally:
            os._exit(code)
    if seconds:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), time.monotonic() - began


def _export(request: dict[str, Any], name: str) -> None:
    place = Path(request["place"])
    context = make_context(place.parent / "out", Recorder())
    context.title, context.project_name = "Export", name
    chosen = ExportSettings(check_rows=0, folder=str(place / "talk"), **request["settings"])
    export(context, request["value"], chosen)


def main() -> None:
    torch.set_num_threads(1)
    request = json.loads(sys.stdin.readline())
    place = Path(request["place"])
    place.mkdir(parents=True)
    assert attempt(request, "Old")[0] == 0
    _, whole = attempt(request, "Old")
    chance = random.Random(request["seed"])
    for number in range(request["kills"]):
        status, _ = attempt(request, "New", whole * (number + chance.random()) / request["kills"])
        print("KILLED " + json.dumps({"status": status}), flush=True)
        sys.stdin.readline()
    assert attempt(request, "New")[0] == 0
    print("DONE", flush=True)


if __name__ == "__main__":
    main()
