"""The window learns which device trains in the background, and shows it before a run."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from pytestqt.qtbot import QtBot

from studio.graph.graph import Graph, Node
from studio.system import hardware, torch_report
from studio.system.device import CHECKING
from tests.gpus import ADA, AMPERE, computer_with
from tests.ui.conftest import MakeSession

__all__ = ["computer_with"]


def graph_of(**train: Any) -> Graph:
    return Graph("p", (Node("train", "train", train),))


def sentences(session: Any) -> list[str]:
    """The problems of the device."""
    return [p.sentence for p in session.problems.problems if p.field == "device"]


def estimated_for(session: Any) -> str | None:
    """The device of the newest estimate."""
    found = session.training.watch.found.get("train")
    return found.device if found is not None else None


def test_the_window_does_not_wait_for_torch(
    qtbot: QtBot,
    make_session: MakeSession,
    computer_with: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    computer = computer_with(ADA, ask=False, supports=(12, 2))
    answers, listed = threading.Event(), hardware.gpus

    def slow() -> Any:
        answers.wait(30)
        return computer.report()

    def only_in_the_background() -> Any:
        assert threading.current_thread() is not threading.main_thread()
        return listed()

    monkeypatch.setattr(torch_report, "_run", slow)
    monkeypatch.setattr(hardware, "gpus", only_in_the_background)
    session = make_session(graph_of())
    qtbot.waitUntil(lambda: session.window.status.device.text() == CHECKING)
    qtbot.waitUntil(lambda: estimated_for(session) == CHECKING)
    assert sentences(session) == []
    answers.set()
    qtbot.waitUntil(lambda: bool(sentences(session)))
    assert "NVIDIA L4 is not used: its driver" in sentences(session)[0]
    qtbot.waitUntil(lambda: estimated_for(session) == hardware.describe_cpu())
    assert session.window.status.device.text() == hardware.describe_cpu()
    assert "driver 580" in session.window.status.device.toolTip()


def test_the_status_bar_follows_the_setting(
    qtbot: QtBot, make_session: MakeSession, computer_with: Any
) -> None:
    computer_with(ADA, AMPERE)
    session = make_session(graph_of())
    shown = session.window.status.device
    qtbot.waitUntil(lambda: shown.text() == "NVIDIA L4, 22 GiB")
    session.document.edit(graph_of(device=AMPERE.name), "Edit")
    qtbot.waitUntil(lambda: shown.text() == "NVIDIA RTX A2000, 6 GiB")
    qtbot.waitUntil(lambda: estimated_for(session) == "NVIDIA RTX A2000, 6 GiB")
    assert sentences(session) == []


def test_closing_ends_the_process_that_is_asked(
    qtbot: QtBot,
    make_session: MakeSession,
    computer_with: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Any,
) -> None:
    """A first start of torch can take a minute, and its answer is not kept."""
    computer_with(ADA, ask=False)
    started = tmp_path / "started"
    folder = tmp_path / "site" / "torch"
    folder.mkdir(parents=True)
    waits = f"import pathlib, time; pathlib.Path({str(started)!r}).touch(); time.sleep(60)"
    (folder / "__init__.py").write_text(waits, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(folder.parent))
    monkeypatch.setattr(torch_report, "_run", REAL_RUN)
    session = make_session(graph_of())
    qtbot.waitUntil(started.exists)
    session.window.may_close = lambda: True
    session.window.close()
    qtbot.waitUntil(lambda: not torch_report._children)
    assert not torch_report._file().exists()


REAL_RUN = torch_report._run
