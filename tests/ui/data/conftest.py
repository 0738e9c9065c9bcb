"""A window on a project with a tiny model, and hands for its tabs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QWidget

from studio.graph.project import load_project
from tests.e2e.studio_cli import write_project
from tests.tiny import make_tiny_model
from tests.ui.conftest import MakeSession
from ui.window.session import Session

LEFT = Qt.MouseButton.LeftButton
OpenSession = Callable[..., Session]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model."""
    return make_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def open_session(make_session: MakeSession, model: Path, tmp_path: Path) -> OpenSession:
    """Opens a window on these rows; further arguments are settings of nodes."""

    def make(rows: list[dict[str, Any]], **changes: dict[str, Any]) -> Session:
        folder = tmp_path / "work"
        folder.mkdir()
        path = folder / "rows.jsonl"
        path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
        project = write_project(folder / "talk.studio", model, path, **changes)
        session = make_session(load_project(project), project)
        session.window.canvas.fit_all()
        return session

    return make


def chats(count: int) -> list[dict[str, Any]]:
    """Rows of a question and an answer."""
    return [
        {
            "messages": [
                {"role": "user", "content": f"say {n}"},
                {"role": "assistant", "content": f"it is {n}"},
            ]
        }
        for n in range(count)
    ]


def show(session: Session, node: str, tab: str) -> Any:
    """Select a node and click a tab of the inspector; returns the tab's page."""
    session.window.canvas.select((node,))
    bar = session.tabs.bar
    at = [bar.tabData(i) for i in range(bar.count())].index(tab)
    QTest.mouseClick(bar, LEFT, Qt.KeyboardModifier.NoModifier, bar.tabRect(at).center())
    page: QWidget | None = session.tabs.page(tab)
    assert page is not None
    assert page.isVisible()
    return page
