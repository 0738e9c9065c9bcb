"""The offer to train on a dropped file, the base model chooser and the question what more data is for, with mouse and
keys."""

from __future__ import annotations

from pathlib import Path

import pytest
from PySide6.QtCore import QMimeData, QPoint, QSettings, Qt, QUrl
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QLabel, QPushButton, QToolButton, QWidget
from pytestqt.qtbot import QtBot

from studio.graph.edits import disconnect
from studio.graph.graph import Graph, Node
from studio.system.paths import config_dir
from tests.e2e.studio_cli import write_rows
from tests.studio.training.hub_server import serve_hub
from tests.tiny import make_tiny_model
from tests.ui.canvas.hands import double_click, drag_to, drop, header, release, starter
from tests.ui.conftest import MakeSession
from ui.inspector.editors.model import remember
from ui.training.base_dialog import BaseCard, BaseModelDialog
from ui.window.session import Session

LEFT = Qt.MouseButton.LeftButton


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "rows.jsonl", 60)


@pytest.fixture
def tiny(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model that was used before, and no other one."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "no-hub"))
    folder = make_tiny_model(tmp_path / "models" / "tiny")
    remember(str(folder))
    return folder


def drop_file(session: Session, *paths: Path, at: QPoint = QPoint(250, 150)) -> None:  # noqa: B008
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    drop(session.window.canvas, data, at)
    QApplication.processEvents()


def click(button: QWidget) -> None:
    assert button.isVisible()
    QTest.mouseClick(button, LEFT)
    QApplication.processEvents()


def chooser(session: Session, qtbot: QtBot) -> BaseModelDialog:
    """The open chooser with its cards."""
    dialog = session.new_training.dialog
    assert dialog is not None
    qtbot.waitUntil(lambda: bool(dialog.cards))
    return dialog


def card(dialog: BaseModelDialog, title: str) -> BaseCard:
    return next(c for c in dialog.cards if c.choice.candidate.title == title)


def kinds(session: Session) -> list[str]:
    return [n.type for n in session.document.graph.nodes]


def train_on(session: Session, qtbot: QtBot, rows: Path) -> None:
    """Drop, choose the tiny model."""
    drop_file(session, rows)
    click(session.window.canvas.offers.button("Train on This File…"))
    click(card(chooser(session, qtbot), "tiny"))
    qtbot.waitUntil(lambda: session.new_training.dialog is None)


# ------------------------------------------------------------------ the offer


def test_the_offer_lies_beside_its_node_and_follows_it(
    make_session: MakeSession, qtbot: QtBot, rows: Path
) -> None:
    session = make_session(Graph())
    view = session.window.canvas
    drop_file(session, rows)
    offers = view.offers
    (node,) = session.document.graph.ids()
    assert not offers.geometry().intersects(view.node_rect_in_view(node))
    before = offers.pos()
    start = view.node_rect_in_view(node).center()
    drag_to(view, start, start + QPoint(-60, -40))
    release(view, start + QPoint(-60, -40))
    qtbot.waitUntil(lambda: offers.pos() != before)
    assert not offers.geometry().intersects(view.node_rect_in_view(node))
    view.camera.pan(QPoint(-5000, 0))
    qtbot.waitUntil(lambda: view.viewport().rect().contains(offers.geometry()))


def test_the_offer_ends_with_escape_or_when_the_file_is_used(
    make_session: MakeSession, rows: Path
) -> None:
    session = make_session(Graph())
    offers = session.window.canvas.offers
    drop_file(session, rows)
    offers.buttons[0].setFocus()
    QTest.keyClick(offers.buttons[0], Qt.Key.Key_Escape)
    assert offers.isHidden()
    assert session.window.canvas.hasFocus()
    session.document.undo()
    drop_file(session, rows)
    assert not offers.isHidden()
    session.document.undo()
    assert offers.isHidden()


def test_a_train_node_without_data_is_offered_the_file(
    make_session: MakeSession, rows: Path
) -> None:
    graph = starter()
    wire = graph.wire_into("train", "dataset")
    graph = disconnect(graph, wire)
    graph = Graph(nodes=tuple(n for n in graph.nodes if n.id != "data"), wires=graph.wires)
    session = make_session(graph)
    drop_file(session, rows)
    click(session.window.canvas.offers.button("Use It in “Train”"))
    assert session.document.graph.wire_into("train", "dataset") is not None
    assert session.window.canvas.offers.isHidden()


def test_the_warning_of_an_unused_dataset_has_the_same_offer(
    make_session: MakeSession, qtbot: QtBot, rows: Path, tiny: Path
) -> None:
    session = make_session(Graph(nodes=(Node("data", "dataset", {"source": str(rows)}),)))
    session.problems.check()
    QTest.mouseClick(session.window.status.problems, LEFT)
    button = session.window.inspector.findChild(QPushButton, "train-on-it")
    qtbot.waitUntil(button.isVisible)
    warning = session.window.inspector.findChild(QLabel, "problem")
    assert warning.text() == "Dataset: not used by any training."
    click(button)
    click(card(chooser(session, qtbot), "tiny"))
    assert kinds(session)[1:] == ["base_model", "lora", "train", "merge", "export", "evaluate"]
    session.window.canvas.select(("data",))
    again = session.window.inspector.findChild(QPushButton, "train-on-it")
    assert again.isHidden()


def test_the_values_are_the_recipe_s_and_their_reasons_are_shown(
    make_session: MakeSession, qtbot: QtBot, rows: Path, tiny: Path
) -> None:
    session = make_session(Graph())
    train_on(session, qtbot, rows)
    window = session.window
    assert window.canvas.selected_ids() == ("train",)
    assert "rows.jsonl with tiny is ready to run; 14 values were set" in window.banner.text()
    settings = session.document.graph.node("train").settings
    assert settings["epochs"] == 5.0  # 54 rows for training
    click(window.banner.button("Show Reasons"))
    qtbot.waitUntil(lambda: session.training.dialog is not None)
    dialog = session.training.dialog
    assert not dialog.rows  # nothing to change
    values = [label.text() for label in dialog.findChildren(QLabel, "kept-value")]
    assert "Train, Epochs: 5" in values
    reasons = [label.text() for label in dialog.findChildren(QLabel)]
    assert "54 rows are few: 5 epochs give 68 steps." in reasons
    dialog.reject()
    session.document.undo()
    assert window.banner.key == ""


# ------------------------------------------------------------------ the chooser


def test_the_chooser_by_keyboard_alone(
    make_session: MakeSession, qtbot: QtBot, rows: Path, tiny: Path
) -> None:
    session = make_session(Graph())
    drop_file(session, rows)
    first = session.window.canvas.offers.buttons[0]
    first.setFocus()
    QTest.keyClick(first, Qt.Key.Key_Return)
    dialog = chooser(session, qtbot)
    qtbot.waitUntil(lambda: isinstance(dialog.focusWidget(), BaseCard))
    assert dialog.focusWidget() is dialog.cards[0]
    QTest.keyClick(dialog.cards[0], Qt.Key.Key_Down)
    assert dialog.focusWidget() is dialog.cards[1]
    dialog.search.setFocus()
    QTest.keyClicks(dialog.search, "smol 135")
    assert [c.choice.candidate.title for c in dialog.cards if c.isVisible()] == [
        "SmolLM2 135M Instruct"
    ]
    QTest.keyClick(dialog.search, Qt.Key.Key_Down)
    QTest.keyClick(dialog.focusWidget(), Qt.Key.Key_Return)
    assert session.document.graph.node("base_model").settings["model"] == "starter:smollm2-135m"


def test_a_card_says_what_a_user_decides_by(
    make_session: MakeSession,
    qtbot: QtBot,
    rows: Path,
    tiny: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(
        "LORA_STUDIO_CACHE", str(tmp_path / "empty")
    )  # the starter may be in a shared one
    session = make_session(Graph())
    drop_file(session, rows)
    click(session.window.canvas.offers.buttons[0])
    dialog = chooser(session, qtbot)
    spoken = card(dialog, "SmolLM2 135M Instruct").accessibleName()
    for part in (
        "135 M parameters",
        "context 8,192 tokens",
        "Apache-2.0",
        "chat template",
        "Fits: about ",
        "Downloaded at the first run",
    ):
        assert part in spoken
    assert "On this computer" in card(dialog, "tiny").accessibleName()
    dialog.search.setText("135")
    QApplication.processEvents()
    bar = dialog.cards[0].parentWidget().parentWidget().parentWidget().verticalScrollBar()
    assert not bar.isVisible()  # one card needs no scroll bar
    QTest.keyClick(dialog, Qt.Key.Key_Escape)
    qtbot.waitUntil(lambda: session.new_training.dialog is None)
    assert kinds(session) == ["dataset"]


def test_widely_used_models_are_listed_before_they_are_downloaded(
    make_session: MakeSession, qtbot: QtBot, rows: Path, tiny: Path
) -> None:
    session = make_session(Graph())
    drop_file(session, rows)
    click(session.window.canvas.offers.buttons[0])
    dialog = chooser(session, qtbot)
    spoken = card(dialog, "Qwen3 0.6B").accessibleName()
    for part in ("596 M parameters", "context 40,960 tokens", "Apache-2.0", ", chat template."):
        assert part in spoken
    assert "Fits: about " in spoken
    assert spoken.endswith(" 1.5 GB to download.")
    gated = card(dialog, "Llama 3.2 1B Instruct").accessibleName()
    assert gated.endswith("; needs an account on the Hub that has accepted its terms.")
    order = ["fits", "4 bits", "no"]
    fits = [order.index(c.choice.fit) for c in dialog.cards]
    assert fits == sorted(fits)
    qtbot.waitUntil(lambda: isinstance(dialog.focusWidget(), BaseCard))
    for _ in range(8):
        QTest.keyClick(dialog.focusWidget(), Qt.Key.Key_Down)
        qtbot.waitUntil(lambda: in_view(dialog.focusWidget()))
    assert dialog.focusWidget() is dialog.cards[8]
    dialog.search.setFocus()
    QTest.keyClicks(dialog.search, "qwen3 0.6")
    click(card(dialog, "Qwen3 0.6B"))
    base = session.document.graph.node("base_model")
    assert base.settings["model"] == "Qwen/Qwen3-0.6B"
    session.window.canvas.select((base.id,))
    facts = session.window.inspector.findChildren(QLabel)
    assert "596 M" in {label.text() for label in facts}


def in_view(widget: QWidget) -> bool:
    """Whether none of it is scrolled out of view."""
    return widget.visibleRegion().boundingRect() == widget.rect()


def test_a_folder_to_look_in_is_remembered_and_a_damaged_model_says_why(
    make_session: MakeSession, qtbot: QtBot, rows: Path, home: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "no-hub"))
    make_tiny_model(tmp_path / "models" / "good")
    (make_tiny_model(tmp_path / "models" / "bad") / "model.safetensors").unlink()
    session = make_session(Graph())
    drop_file(session, rows)
    click(session.window.canvas.offers.buttons[0])
    dialog = chooser(session, qtbot)
    monkeypatch.setattr(
        "ui.training.base_dialog.QFileDialog.getExistingDirectory",
        lambda *a: str(tmp_path / "models"),
    )
    click(dialog.findChild(QPushButton, "base-look"))
    qtbot.waitUntil(lambda: "bad" in {c.choice.candidate.title for c in dialog.cards})
    bad = card(dialog, "bad")
    assert not bad.isEnabled()
    assert "Cannot be used" in bad.accessibleName()
    store = QSettings(str(config_dir() / "inspector.ini"), QSettings.Format.IniFormat)
    assert str(tmp_path / "models") in str(store.value("model_folders"))
    monkeypatch.setattr(
        "ui.training.base_dialog.QFileDialog.getExistingDirectory", lambda *a: str(tmp_path)
    )
    click(dialog.findChild(QPushButton, "base-folder"))
    assert "contains no model" in dialog.status.text()
    click(card(dialog, "good"))
    model = session.document.graph.node("base_model").settings["model"]
    assert model == str(tmp_path / "models" / "good")


def test_the_hub_is_searched_from_the_chooser(
    make_session: MakeSession, qtbot: QtBot, rows: Path, tiny: Path, tmp_path: Path, monkeypatch
) -> None:
    session = make_session(Graph())
    drop_file(session, rows)
    click(session.window.canvas.offers.buttons[0])
    dialog = chooser(session, qtbot)
    assert not dialog.hub.isEnabled()
    dialog.search.setFocus()
    QTest.keyClicks(dialog.search, "small")
    QTest.keyClick(dialog.search, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: "The Hub cannot be searched" in dialog.status.text())
    monkeypatch.delenv("HF_HUB_OFFLINE")
    (tmp_path / "served").mkdir()
    with serve_hub(tmp_path / "served", "maker/small-talk") as endpoint:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        click(dialog.hub)
        qtbot.waitUntil(lambda: dialog.status.text() == "1 model on the Hub for “small”.")
    found = card(dialog, "maker/small-talk")
    assert "1 MB to download" in found.accessibleName()
    click(found)
    assert session.document.graph.node("base_model").settings["model"] == "maker/small-talk"
    reasons = session.training.known["maker/small-talk"]
    assert reasons.parameters == 27_000


def test_the_model_field_opens_the_chooser(
    make_session: MakeSession, qtbot: QtBot, tiny: Path
) -> None:
    session = make_session(starter())
    session.window.canvas.select(("base",))
    button = session.window.inspector.findChild(QToolButton, "choose:model")
    click(button)
    dialog = chooser(session, qtbot)
    click(card(dialog, "tiny"))
    qtbot.waitUntil(lambda: session.new_training.dialog is None)
    assert session.document.graph.node("base").settings["model"] == str(tiny)
    session.document.undo()
    assert session.document.graph == starter()


def test_a_double_click_on_a_base_model_opens_the_chooser(
    make_session: MakeSession, qtbot: QtBot, tiny: Path
) -> None:
    """On another node it shows the settings only."""
    session = make_session(starter())
    view = session.window.canvas
    view.fit_all()
    for node in ("lora", "base"):
        double_click(view, header(view, node))
        assert view.selected_ids() == (node,)
        assert (session.new_training.dialog is not None) == (node == "base")
    dialog = chooser(session, qtbot)
    click(card(dialog, "tiny"))
    qtbot.waitUntil(lambda: session.new_training.dialog is None)
    assert session.document.graph.node("base").settings["model"] == str(tiny)


# ------------------------------------------------------------------ more data


@pytest.fixture
def more(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "more.jsonl", 30)


def with_file(graph: Graph, rows: Path) -> Graph:
    nodes = [
        Node("data", "dataset", {"source": str(rows)}) if n.id == "data" else n for n in graph.nodes
    ]
    return Graph(nodes=tuple(nodes), wires=graph.wires)


def asked(session: Session, more: Path) -> list[str]:
    """Drop another file; the answers that are offered."""
    view = session.window.canvas
    room = view.viewport().rect()
    places = (
        QPoint(x, y) for y in range(10, room.height(), 20) for x in range(10, room.width(), 20)
    )
    free = next(p for p in places if view.graph_scene.node_at(view.camera.to_scene(p)) is None)
    drop_file(session, more, at=free)
    offers = session.window.canvas.offers
    assert offers.text() == f"What is {more.name} for?"
    return [b.text() for b in offers.buttons]


def test_another_file_asks_what_it_is_for(
    make_session: MakeSession, rows: Path, more: Path
) -> None:
    session = make_session(with_file(starter(), rows))
    before = session.document.graph
    assert asked(session, more) == [
        "Replace rows.jsonl",
        "Add to the Training Data (Mix)",
        "Use as Test Rows (Evaluate)",
        "Add a Separate Dataset",
    ]
    offers = session.window.canvas.offers
    assert offers.buttons[0].hasFocus()
    QTest.keyClick(offers.buttons[0], Qt.Key.Key_Escape)
    assert offers.isHidden()
    assert session.document.graph == before


def test_replace_keeps_the_node(make_session: MakeSession, rows: Path, more: Path) -> None:
    session = make_session(with_file(starter(), rows))
    asked(session, more)
    click(session.window.canvas.offers.button("Replace rows.jsonl"))
    graph = session.document.graph
    assert graph.node("data").settings["source"] == str(more)
    assert len(graph.nodes) == len(starter().nodes)


def test_mix_trains_on_both_files(make_session: MakeSession, rows: Path, more: Path) -> None:
    session = make_session(with_file(starter(), rows))
    before = session.document.graph
    asked(session, more)
    click(session.window.canvas.offers.button("Add to the Training Data (Mix)"))
    graph = session.document.graph
    assert graph.wire_into("train", "dataset").source == "mix"
    sources = {graph.wire_into("mix", port).source for port in "ab"}
    files = {Path(graph.node(n).settings["source"]).name for n in sources}
    assert files == {"rows.jsonl", "more.jsonl"}
    asked(session, rows)  # a third one joins the same mix
    assert "Replace rows.jsonl" not in [b.text() for b in session.window.canvas.offers.buttons]
    click(session.window.canvas.offers.button("Add to the Training Data (Mix)"))
    assert session.document.graph.wire_into("mix", "c") is not None
    session.document.undo()
    session.document.undo()
    assert session.document.graph == before


def test_test_rows_are_evaluated_and_not_trained_on(
    make_session: MakeSession, rows: Path, more: Path
) -> None:
    session = make_session(with_file(starter(), rows))
    asked(session, more)
    click(session.window.canvas.offers.button("Use as Test Rows (Evaluate)"))
    graph = session.document.graph
    test = graph.node(graph.wire_into("evaluate", "dataset").source)
    assert dict(test.settings) == {"source": str(more), "validation_fraction": 0.0}
    assert graph.wire_into("evaluate", "model").source == "merge"
    assert graph.wire_into("train", "dataset").source == "data"


def test_a_separate_dataset_is_offered_a_training_of_its_own(
    make_session: MakeSession, rows: Path, more: Path
) -> None:
    session = make_session(with_file(starter(), rows))
    asked(session, more)
    click(session.window.canvas.offers.button("Add a Separate Dataset"))
    assert kinds(session).count("dataset") == 2
    offers = session.window.canvas.offers
    assert [b.text() for b in offers.buttons] == ["Train on This File…"]


def test_without_a_model_nothing_can_be_evaluated(
    make_session: MakeSession, rows: Path, more: Path
) -> None:
    session = make_session(Graph(nodes=(Node("data", "dataset", {"source": str(rows)}),)))
    assert asked(session, more) == [
        "Replace rows.jsonl",
        "Add to the Training Data (Mix)",
        "Add a Separate Dataset",
    ]
    click(session.window.canvas.offers.button("Add to the Training Data (Mix)"))
    graph = session.document.graph
    assert {w.target for w in graph.wires} == {"mix"}
