"""The link to the data host: replies come to the main thread, a crash is reported, close ends the host."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from pytestqt.qtbot import QtBot

from studio.preview.protocol import HOST_ENDED, Reply
from workers.data_link import DataLink


@pytest.fixture
def link(qapp: Any) -> Iterator[DataLink]:
    """A link that is closed at the end."""
    made = DataLink()
    yield made
    made.close()


def test_replies_reach_the_main_thread_and_a_dead_host_is_started_again(
    link: DataLink, qtbot: QtBot, tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"prompt": "Hi", "completion": "Hello"}) + "\n", encoding="utf-8")
    heard: list[tuple[Reply, int]] = []
    receive = lambda reply: heard.append((reply, threading.get_ident()))  # noqa: E731

    def ask() -> int:
        heard.clear()
        asked = {"settings": {"source": str(path)}, "project_dir": str(tmp_path)}
        return link.ask("preview", receive, lambda d: len(d["rows"]), first=1, limit=5, **asked)

    assert link.process_id is None  # nothing is started before something is asked
    ask()
    qtbot.waitUntil(lambda: bool(heard))
    reply, thread = heard[-1]
    assert (reply.kind, reply.data["read"]) == ("result", 1)
    assert thread == threading.get_ident()

    os.kill(link.process_id, signal.SIGSTOP)
    asked = ask()
    os.kill(link.process_id, signal.SIGKILL)
    qtbot.waitUntil(lambda: bool(heard))
    assert heard[-1][0].data["code"] == HOST_ENDED
    assert heard[-1][0].id == asked
    ask()
    qtbot.waitUntil(lambda: bool(heard))
    assert heard[-1][0].kind == "result"

    host = psutil.Process(link.process_id)
    asked = ask()
    link.cancel(asked)
    link.close()
    assert not host.is_running() or host.status() == psutil.STATUS_ZOMBIE
    assert link.ask("preview", receive) == 0
    qtbot.wait(50)
    assert heard == []
