"""Exports that are killed at each of their file operations, for ``test_killed_exports``; a program of its own.

It forks, so that libraries are loaded once. In the child, the N-th call of a function that changes a file ends the
process with SIGKILL, before the call.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from studio.export_folder.folder import MANIFEST
from studio.node_settings.export import ExportSettings
from studio.training.export.make import export
from tests.studio.training.steps import Recorder, make_context

CALLS = {"mkdir", "rmdir", "rename", "replace", "unlink", "remove", "link", "fsync"}
WRITES = {"write", "tofile", "truncate"}


def attempt(place: Path, value: dict[str, Any], settings: dict[str, Any], kill_at: int) -> int:
    """Export into ``place/talk`` in a child. Returns its exit status: -9 if it was killed."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = _export(place, value, settings, kill_at)
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def _export(place: Path, value: dict[str, Any], settings: dict[str, Any], kill_at: int) -> int:
    calls: list[str] = []

    def before(frame: Any, event: str, arg: Any) -> None:
        del frame
        if event != "c_call" or isinstance(getattr(arg, "__self__", None), str):
            return
        if getattr(arg, "__name__", "") in CALLS | WRITES:
            calls.append(arg.__name__)
            if len(calls) == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    context = make_context(place.parent / "out", Recorder())
    context.title, context.project_name = "Export", "Small talk"
    chosen = ExportSettings(check_rows=0, folder=str(place / "talk"), **settings)
    sys.setprofile(before)
    export(context, value, chosen)
    sys.setprofile(None)
    (place.parent / "calls.json").write_text(json.dumps(calls), encoding="utf-8")
    return 0


def whole(folder: Path) -> bool:
    """Whether every file of the export is there with its size."""
    try:
        listed = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError):
        return False
    return bool(listed) and all(
        (folder / name).is_file() and (folder / name).stat().st_size == size
        for name, size in listed.items()
    )


def main() -> None:
    torch.set_num_threads(1)
    request = json.load(sys.stdin)
    place = Path(request["place"])
    place.mkdir(parents=True)
    value, settings = request["value"], request["settings"]
    assert attempt(place, value, settings, 0) == 0
    calls = json.loads((place.parent / "calls.json").read_text(encoding="utf-8"))
    writes = [i for i, name in enumerate(calls) if name in WRITES]
    chosen = {i for i, name in enumerate(calls) if name not in WRITES}
    chosen |= set(writes[:: max(1, len(writes) // request["writes"])])
    rows = []
    for index in sorted(chosen):
        killed = attempt(place, value, settings, index + 1)
        state = {"call": calls[index], "status": killed, "names": sorted(os.listdir(place))}
        state["whole"] = whole(place / "talk") if (place / "talk").exists() else None
        state["again"] = attempt(place, value, settings, 0)
        state["after"] = sorted(os.listdir(place))
        state["whole_after"] = whole(place / "talk")
        rows.append(state)
    print("STATES " + json.dumps(rows), flush=True)


if __name__ == "__main__":
    main()
