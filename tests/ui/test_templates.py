"""Templates on the empty canvas and in the dialog, by mouse and by keyboard, and what Save makes of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from PySide6.QtCore import QMimeData, QPointF, QSize, Qt, QUrl
from PySide6.QtGui import QDragEnterEvent, QDropEvent, QFontMetrics
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QFileDialog
from pytestqt.qtbot import QtBot

from studio.graph.graph import Graph
from studio.graph.project import load_project
from studio.graph.registry import load_registry
from studio.graph.templates import TEMPLATES
from studio.system.paths import assets_dir
from tests.ui.conftest import MakeSession
from ui.canvas.template_cards import TemplateCard, picture
from ui.dialogs.new_from_template import NewFromTemplate
from ui.style import theme
from ui.window import project_controller
from ui.window.session import Session

CTRL, SHIFT = Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.ShiftModifier
Key = Qt.Key


@pytest.fixture
def empty(make_session: MakeSession) -> Session:
    """An empty project in a window of 1280 × 800."""
    session = make_session(Graph())
    session.window.activateWindow()
    session.window.canvas.setFocus()
    return session


def cards(session: Session) -> list[TemplateCard]:
    """The cards on the canvas."""
    grid = session.window.templates.grid
    assert grid is not None
    return grid.cards


def dialog_of(session: Session, qtbot: QtBot) -> NewFromTemplate:
    """The open dialog."""
    found = session.window.findChild(NewFromTemplate, "new-from-template")
    assert found is not None
    qtbot.waitUntil(found.isActiveWindow)
    return found


def focused() -> str:
    """The accessible name of the widget with the keyboard."""
    widget = QApplication.focusWidget()
    return widget.accessibleName() if widget is not None else ""


def test_a_click_on_a_card_makes_its_project(empty: Session, qtbot: QtBot) -> None:
    strip = empty.window.templates
    assert strip.isVisible()
    assert [card.accessibleName() for card in cards(empty)] == [t.title for t in TEMPLATES]
    qtbot.mouseClick(cards(empty)[1], Qt.MouseButton.LeftButton)
    assert empty.document.graph.name == "Classify text"
    assert empty.document.path is None
    assert empty.window.windowTitle() == "Classify text[*] – LoRA Studio"
    assert not strip.isVisible()
    assert set(empty.window.canvas.graph_scene.nodes) >= {"data", "base", "lora", "train"}
    shown = empty.window.status.currentMessage()
    assert shown == (
        "New project “Classify text”. Its sample data is copied beside it when you save it."
    )


def test_the_keyboard_reaches_every_card(empty: Session, qtbot: QtBot) -> None:
    canvas = empty.window.canvas
    qtbot.keyClick(canvas, Key.Key_Down)
    seen = [focused()]
    for _ in TEMPLATES[1:]:
        qtbot.keyClick(QApplication.focusWidget(), Key.Key_Right)
        seen.append(focused())
        card = QApplication.focusWidget()
        assert card.visibleRegion().boundingRect() == card.rect(), focused()
    assert seen == [t.title for t in TEMPLATES]
    qtbot.keyClick(QApplication.focusWidget(), Key.Key_Escape)
    assert QApplication.focusWidget() is canvas
    qtbot.keyClick(canvas, Key.Key_Down)
    qtbot.keyClick(QApplication.focusWidget(), Key.Key_Up)
    assert QApplication.focusWidget() is canvas
    qtbot.keyClick(canvas, Key.Key_Down)
    qtbot.keyClick(QApplication.focusWidget(), Key.Key_Return)
    assert empty.document.graph.name == TEMPLATES[0].title
    assert QApplication.focusWidget() is canvas


def test_the_cards_come_back_with_the_empty_canvas(empty: Session, qtbot: QtBot) -> None:
    canvas = empty.window.canvas
    canvas.add_node_at_center("train")
    assert not empty.window.templates.isVisible()
    qtbot.keyClick(canvas, Key.Key_Delete)
    assert empty.window.templates.isVisible()


def test_a_file_can_be_dropped_on_the_cards(empty: Session, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "a", "completion": "b"}\n' * 4, encoding="utf-8")
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(rows))])
    window = empty.window
    card = cards(empty)[0]
    at = card.mapTo(window, card.rect().center())
    copy, button = Qt.DropAction.CopyAction, Qt.MouseButton.LeftButton
    none = Qt.KeyboardModifier.NoModifier
    handle = window.windowHandle()
    QApplication.sendEvent(handle, QDragEnterEvent(at, copy, data, button, none))
    drop = QDropEvent(QPointF(at), copy, data, button, none)
    QApplication.sendEvent(handle, drop)
    assert drop.isAccepted()
    (node,) = empty.document.graph.nodes
    assert node.type == "dataset"
    assert node.settings["source"] == str(rows)
    view = window.canvas.viewport().mapFrom(window, at)
    assert window.canvas.node_rect_in_view(node.id).contains(view)


def test_the_menu_opens_all_templates(empty: Session, qtbot: QtBot) -> None:
    file = empty.window.menuBar().actions()[0].menu()
    assert "New from Template…" in [action.text() for action in file.actions()]
    qtbot.keyClick(empty.window.canvas, Key.Key_N, CTRL | SHIFT)
    dialog = dialog_of(empty, qtbot)
    assert focused() == TEMPLATES[0].title
    qtbot.keyClick(QApplication.focusWidget(), Key.Key_Right)
    qtbot.keyClick(QApplication.focusWidget(), Key.Key_Right)
    assert focused() == "Extract JSON"
    qtbot.keyClick(QApplication.focusWidget(), Key.Key_Space)
    assert empty.document.graph.name == "Extract JSON"
    assert not dialog.isVisible()


def test_escape_closes_the_dialog_and_changes_nothing(empty: Session, qtbot: QtBot) -> None:
    qtbot.keyClick(empty.window.canvas, Key.Key_N, CTRL | SHIFT)
    dialog = dialog_of(empty, qtbot)
    qtbot.keyClick(QApplication.focusWidget(), Key.Key_Escape)
    assert not dialog.isVisible()
    assert empty.document.graph == Graph()


@pytest.mark.parametrize("answer", ["discard", "cancel"])
def test_unsaved_changes_are_asked_about(
    empty: Session, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    empty.window.canvas.add_node_at_center("train")
    monkeypatch.setattr(project_controller, "ask_unsaved", lambda name, parent: answer)
    qtbot.keyClick(empty.window.canvas, Key.Key_N, CTRL | SHIFT)
    qtbot.mouseClick(dialog_of(empty, qtbot).grid.cards[3], Qt.MouseButton.LeftButton)
    assert empty.document.graph.name == ("QLoRA on 8 GB" if answer == "discard" else "Untitled")


def test_save_copies_the_data_and_says_so(
    empty: Session, qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    qtbot.mouseClick(cards(empty)[1], Qt.MouseButton.LeftButton)
    proposed: list[str] = []

    def choose(*arguments: object) -> tuple[str, str]:
        proposed.append(Path(str(arguments[2])).name)
        return str(tmp_path / "mails.studio"), ""

    monkeypatch.setattr(QFileDialog, "getSaveFileName", choose)
    qtbot.keyClick(empty.window.canvas, Key.Key_S, CTRL)
    assert proposed == ["Classify text.studio"]
    assert empty.window.status.currentMessage() == (
        "Saved mails.studio. Its sample data was copied to the folder mails-data."
    )
    saved = load_project(tmp_path / "mails.studio")
    for name in ("data", "test"):
        source = saved.node(name).settings["source"]
        assert source.startswith("mails-data/")
        assert (tmp_path / source).is_file()
    assert empty.document.graph == saved
    assert str(assets_dir()) not in (tmp_path / "mails.studio").read_text("utf-8")


def test_a_low_canvas_has_a_button_for_the_dialog(empty: Session, qtbot: QtBot) -> None:
    strip = empty.window.templates
    empty.window.docks["monitor"].hide()

    def low() -> bool:
        # The least height of the window counts the panel until Qt has laid the window out again.
        empty.window.resize(1000, 300)
        return strip.all.isVisible()

    qtbot.waitUntil(low)
    inside = empty.window.canvas.rect()
    assert inside.contains(strip.geometry())
    assert not any(card.isVisible() for card in cards(empty))
    qtbot.keyClick(empty.window.canvas, Key.Key_Down)
    assert QApplication.focusWidget() is strip.all
    qtbot.mouseClick(strip.all, Qt.MouseButton.LeftButton)
    assert dialog_of(empty, qtbot).isVisible()


@pytest.mark.parametrize("size", [(1280, 800), (1920, 1080), (900, 700)])
def test_no_text_of_a_card_is_clipped(empty: Session, qtbot: QtBot, size: tuple[int, int]) -> None:
    empty.window.resize(*size)
    QApplication.processEvents()
    strip = empty.window.templates
    assert empty.window.canvas.rect().contains(strip.geometry())
    for card in cards(empty):
        title, sentence = card._texts(card.width())
        assert card.height() >= sentence.bottom()
        assert not title.intersects(sentence)
        words = f"{card.template.title} {card.template.sentence}".split()
        longest = max(words, key=lambda word: card.fontMetrics().horizontalAdvance(word))
        bold = QFontMetrics(card._bold()).horizontalAdvance(longest)
        assert bold <= title.width()


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda t: t.id)
def test_the_picture_shows_every_node_in_the_colors_of_the_theme(
    template: object, qapp: QApplication
) -> None:
    graph = load_project(template.path)  # type: ignore[attr-defined]
    seen = []
    for scheme in ("light", "dark"):
        theme.apply(qapp, scheme)  # type: ignore[arg-type]
        image = picture(graph, load_registry(), QSize(400, 160), 1.0).toImage()
        colors = {
            image.pixelColor(x, y).name()
            for x in range(image.width())
            for y in range(image.height())
            if image.pixelColor(x, y).alpha() == 255
        }
        look = theme.colors()
        for category in ("Data", "Model", "Training", "Result"):
            tint = theme.blend(look.surface_raised, look.category(category), 0.35)
            assert tint.name() in colors, category
        seen.append(colors)
    assert seen[0] != seen[1]


def test_the_cards_follow_the_theme(empty: Session, qtbot: QtBot) -> None:
    card = cards(empty)[0]
    for _ in range(2):
        image, look = card.grab().toImage(), theme.colors()
        seen = {
            image.pixelColor(x, y).name()
            for x in range(image.width())
            for y in range(image.height())
        }
        tint = theme.blend(look.surface_raised, look.category("Training"), 0.35)
        assert {look.surface.name(), tint.name()} <= seen
        QTest.keyClick(empty.window.canvas, Key.Key_L, CTRL | SHIFT)
