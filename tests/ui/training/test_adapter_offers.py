"""An adapter in the window: dropped and trained further, or chosen as a base model, with mouse and keys."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PySide6.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from PySide6.QtGui import QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import QApplication, QPushButton

from studio.graph.graph import Graph, Node, Wire
from studio.graph.problems import find_problems
from tests.e2e.studio_cli import ROOT, write_rows
from tests.tiny import make_tiny_model
from tests.ui.conftest import MakeSession
from tests.ui.training.test_new_training import click, drop_file
from ui.inspector.editors.paths import AdapterEditor
from ui.window.session import Session

FIXTURE = ROOT / "tests" / "fixtures" / "adapters" / "peft-0.13"


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FIXTURE, tmp_path / "received"))


def nodes(session: Session) -> dict[str, str]:
    """Type -> id of each node."""
    return {n.type: n.id for n in session.document.graph.nodes}


def test_a_dropped_adapter_is_trained_further_by_a_click(
    make_session: MakeSession, adapter: Path
) -> None:
    session = make_session(Graph())
    drop_file(session, adapter)
    found = nodes(session)
    assert list(found) == ["load_adapter"]
    assert session.document.graph.node(found["load_adapter"]).settings["adapter"] == str(adapter)
    offers = session.window.canvas.offers
    assert "received is an adapter" in offers.text()
    click(offers.button("Train It Further"))
    found = nodes(session)
    assert set(found) == {"load_adapter", "base_model", "train", "dataset", "export"}
    graph = session.document.graph
    assert graph.node(found["base_model"]).settings["model"] == "someone/tiny-talk"
    wires = {(w.source, w.source_port, w.target, w.target_port) for w in graph.wires}
    assert (found["load_adapter"], "adapter", found["train"], "model") in wires
    assert (found["base_model"], "model", found["load_adapter"], "model") in wires
    assert offers.isHidden()
    assert "goes on from the adapter" in session.window.status.currentMessage()
    session.document.undo()
    assert list(nodes(session)) == ["load_adapter"]


def test_data_and_base_model_of_the_project_are_used(
    make_session: MakeSession, adapter: Path, tmp_path: Path
) -> None:
    base = make_tiny_model(tmp_path / "model")
    rows = write_rows(tmp_path / "rows.jsonl")
    data = Node("data", "dataset", {"source": str(rows)}, "", (0, 0))
    session = make_session(
        Graph("g", (data, Node("base", "base_model", {"model": str(base)}, "", (0, 200))))
    )
    drop_file(session, adapter / "adapter_model.safetensors", at=QPoint(500, 300))
    click(session.window.canvas.offers.button("Train It Further"))
    assert sorted(n.type for n in session.document.graph.nodes) == sorted(
        ["dataset", "base_model", "load_adapter", "train", "export"]
    )
    found = find_problems(session.document.graph, session.registry, tmp_path)
    assert [p.code for p in found] == ["goes_on"]


def test_an_adapter_chosen_as_base_model_is_loaded_by_a_click(
    make_session: MakeSession, adapter: Path
) -> None:
    """The problem names the node, and the button under the header makes it."""
    base = Node("base", "base_model", {"model": str(adapter)}, "", (0, 0))
    train = Node("lora", "lora", {}, "", (300, 0))
    session = make_session(Graph("g", (base, train), (Wire("base", "model", "lora", "model"),)))
    problems = find_problems(session.document.graph, session.registry, adapter.parent)
    (problem,) = [p for p in problems if p.code == "adapter_folder"]
    assert "Load Adapter" in problem.hint
    session.window.canvas.select(("base",))
    QApplication.processEvents()
    button = session.window.inspector.findChild(QPushButton, "load-as-adapter")
    assert button is not None
    click(button)
    graph = session.document.graph
    load = graph.node(nodes(session)["load_adapter"])
    assert load.settings["adapter"] == str(adapter)
    assert graph.node("base").settings["model"] == "someone/tiny-talk"
    assert graph.wire_into(load.id, "model") == Wire("base", "model", load.id, "model")
    assert not button.isVisible()


def test_a_model_has_no_such_button(make_session: MakeSession, tmp_path: Path) -> None:
    base = Node("base", "base_model", {"model": str(make_tiny_model(tmp_path / "model"))})
    session = make_session(Graph("g", (base,)))
    session.window.canvas.select(("base",))
    QApplication.processEvents()
    button = session.window.inspector.findChild(QPushButton, "load-as-adapter")
    assert button is not None
    assert not button.isVisible()


def test_a_gguf_file_can_be_dropped_on_the_field(make_session: MakeSession, tmp_path: Path) -> None:
    """The file itself; of any other file its folder."""
    session = make_session(Graph("g", (Node("load", "load_adapter"),)))
    session.window.canvas.select(("load",))
    QApplication.processEvents()
    editor = session.window.inspector.findChild(AdapterEditor)
    assert editor is not None
    for name, wanted in (("a.gguf", "a.gguf"), ("adapter_config.json", "")):
        file = tmp_path / "files" / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"{}")
        data = QMimeData()
        data.setUrls([QUrl.fromLocalFile(str(file))])
        left, none = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
        copy = Qt.DropAction.CopyAction
        enter = QDragEnterEvent(QPoint(5, 5), copy, data, left, none)
        QApplication.sendEvent(editor, enter)
        assert enter.isAccepted()
        QApplication.sendEvent(editor, QDropEvent(QPointF(5, 5), copy, data, left, none))
        taken = session.document.graph.node("load").settings["adapter"]
        assert Path(str(taken)) == tmp_path / "files" / wanted
