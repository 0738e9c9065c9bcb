"""Damaged content and odd files, as tests put them in place of those that the program reads."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from studio.events import EVENTS

unix = pytest.mark.skipif(os.name == "nt", reason="pipes and links")

DEEP = "[" * 100_000
TEXTS = (
    "",
    "null",
    "5",
    '"text"',
    "[]",
    "{}",
    "[1",
    DEEP,
    '{"a":' * 50_000,
    "\x00",
    "NaN",
    "1" * 5000,
)
"""Contents of a file that is expected to hold a JSON object with certain fields."""

KINDS = ("folder", "pipe", "loop", "dangling", "device")


def put(path: Path, kind: str) -> None:
    """Replace a file or folder by something of another kind."""
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    if kind == "folder":
        path.mkdir()
        (path / "content").write_text("x", encoding="utf-8")
    elif kind == "file":
        path.write_text("a file", encoding="utf-8")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "dangling":
        path.symlink_to(path.parent / "nowhere" / "x")
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        raise ValueError(kind)


FIELDS = sorted({*re.findall(r"\w+", " ".join(EVENTS.values()))} - {"event", "time", "node"})
"""Every field of every event, and the other words of their descriptions."""

VALUES: tuple[object, ...] = (
    *(None, True, -1, 0, 10**400, 1.5, float("nan"), float("inf")),
    *("", "text", "nan", "\x1b[31m\x00\u202e"),
    *([], [1], [None], ["x"], [{}], [[]], [{"id": []}], [["a", "b", "c", "d", "e"]]),
    *({}, {"a": 1}, {"a": {"before": [], "after": 10**400}}, {"a": {}}),
)
"""Values that no field of an event has, or few."""
