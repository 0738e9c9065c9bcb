"""The guide: opened from the Help menu, read, searched and followed; its pages, links and words are right."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PySide6.QtCore import Qt, QUrl
from PySide6.QtGui import QAction, QImage, QTextDocument
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QLineEdit, QListWidget
from pytestqt.qtbot import QtBot

from tests.e2e.studio_cli import ROOT
from tests.ui import toys
from tests.ui.conftest import MakeSession
from ui.dialogs import guide
from ui.dialogs.guide import FOLDER, GuideWindow, pages
from ui.style import theme

PAGES = [name for _, name in pages()]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)]+)\)")
SOURCES = "\n".join(
    path.read_text(encoding="utf-8")
    for room in ("ui", "studio", "assets")
    for path in (ROOT / room).rglob("*")
    if path.suffix in (".py", ".studio")
)


NOT_OURS = {"Instruct", "Chat", "CUDA out of memory", "File", "Help", "Run", "View"}
"""Parts of names of models, an error of torch, and titles of menus, which have a mnemonic."""


@pytest.fixture
def window(qtbot: QtBot) -> GuideWindow:
    made = GuideWindow()
    qtbot.addWidget(made)
    made.resize(900, 640)  # as on a screen that has room for it
    made.show()
    qtbot.waitExposed(made)
    return made


def shown(window: GuideWindow) -> str:
    return Path(window.browser.source().toLocalFile()).name


def test_every_page_is_in_the_index() -> None:
    assert sorted(PAGES) == sorted(path.name for path in FOLDER.glob("*.md"))
    assert len(PAGES) >= 15


@pytest.mark.parametrize("page", PAGES)
def test_links_and_pictures_of_a_page_exist(page: str) -> None:
    for link in LINK.findall((FOLDER / page).read_text(encoding="utf-8")):
        if not link.startswith("https://"):
            assert (FOLDER / link.partition("#")[0]).is_file(), (page, link)


@pytest.mark.parametrize("page", PAGES)
def test_words_of_the_window_are_its_words(page: str) -> None:
    """Bold words with capitals name buttons, tabs, panels and nodes: each is a text of the program."""
    text = re.sub(r"```.*?```", "", (FOLDER / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    for words in re.findall(r"\*\*([^*]+)\*\*", text):
        if all(word[0].isupper() for word in words.split()) and words[-1] not in ".:?":
            assert f'"{words}' in SOURCES, words


@pytest.mark.parametrize("page", PAGES)
def test_settings_and_menus_are_called_as_in_the_window(page: str) -> None:
    """Italic words with capitals name settings, choices and menus."""
    text = re.sub(
        r"```.*?```|\*\*", "", (FOLDER / page).read_text(encoding="utf-8"), flags=re.DOTALL
    )
    for words in re.findall(r"\*([A-Z][^*]+)\*", text):
        for part in words.replace("\n", " ").split(" → "):
            assert part in NOT_OURS or f'"{part}' in SOURCES or f"({part}" in SOURCES, part


def test_it_is_opened_from_the_menu(make_session: MakeSession) -> None:
    session = make_session(toys.toy_graph())
    action: QAction = session.window.own["guide"]
    (menu,) = (a.menu() for a in session.window.menuBar().actions() if a.text() == "&Help")
    assert action in menu.actions()
    action.trigger()
    (opened,) = session.window.findChildren(GuideWindow)
    assert opened.isVisible()
    assert shown(opened) == "index.md"
    assert not opened.isModal(), "it stays open beside the window"
    opened.close()


def test_pages_are_chosen_by_mouse_and_keyboard(window: GuideWindow) -> None:
    (pages_list,) = window.findChildren(QListWidget)
    place = pages_list.visualItemRect(pages_list.item(3)).center()
    QTest.mouseClick(
        pages_list.viewport(), Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, place
    )
    assert shown(window) == PAGES[3]
    QTest.keyClick(pages_list, Qt.Key.Key_Down)
    assert shown(window) == PAGES[4]
    window.browser.backward()
    assert shown(window) == PAGES[3]
    assert pages_list.currentRow() == 3


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_shown_with_its_pictures(window: GuideWindow, page: str) -> None:
    window.show_page(page)
    text = window.browser.toPlainText()
    title = (FOLDER / page).read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
    assert text.startswith(title)
    assert "**" not in text
    width = window.browser.document().idealWidth()
    assert width <= window.browser.viewport().width() + 1, "nothing has to be scrolled sideways"


PICTURES = re.compile(r"\((pictures/[^)]+)\)")
ILLUSTRATED = [p for p in PAGES if PICTURES.search((FOLDER / p).read_text(encoding="utf-8"))]
IMAGE = QTextDocument.ResourceType.ImageResource.value


def pictures(window: GuideWindow, page: str) -> list[tuple[QImage, QImage]]:
    """The pictures of a page as they are shown, and as files."""
    names = PICTURES.findall((FOLDER / page).read_text(encoding="utf-8"))
    document = window.browser.document()
    return [(document.resource(IMAGE, QUrl(n)), QImage(str(FOLDER / n))) for n in names]


@pytest.mark.parametrize("page", ILLUSTRATED)
def test_pictures_have_their_size_or_the_width_of_the_page(window: GuideWindow, page: str) -> None:
    for width in (900, 500, 1400):
        window.resize(width, 640)
        window.show_page(page)
        room = window.browser.viewport().width()
        for shown, file in pictures(window, page):
            natural = file.width() / guide.PICTURE_SCALE
            assert (
                0.9 * min(natural, room - 100) <= shown.deviceIndependentSize().width() <= natural
            )
            assert shown.deviceIndependentSize().width() <= room


def test_pictures_follow_the_width_of_the_window(window: GuideWindow) -> None:
    window.resize(1400, 640)
    window.show_page("templates.md")
    ((wide, _),) = pictures(window, "templates.md")
    window.resize(600, 640)
    ((narrow, _),) = pictures(window, "templates.md")
    assert narrow.deviceIndependentSize().width() < wide.deviceIndependentSize().width()


@pytest.mark.parametrize("page", ILLUSTRATED)
def test_pictures_are_sharp_at_200_percent(
    window: GuideWindow, page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window.browser, "devicePixelRatioF", lambda: 2.0)
    window.show_page(page)
    for shown, file in pictures(window, page):
        wide = shown.deviceIndependentSize().width()
        assert wide <= window.browser.viewport().width()
        assert shown.width() == min(file.width(), round(2 * wide))


def test_pictures_are_those_of_the_theme(window: GuideWindow, qapp: QApplication) -> None:
    def brightness() -> int:
        ((shown, _),) = pictures(window, "templates.md")
        return shown.pixelColor(4, 4).lightness()

    window.show_page("templates.md")
    theme.apply(qapp, "light")
    assert brightness() > 200
    theme.apply(qapp, "dark")
    assert brightness() < 60


def test_links_lead_to_pages_and_to_the_web(
    window: GuideWindow, monkeypatch: pytest.MonkeyPatch
) -> None:
    window.browser.anchorClicked.emit(QUrl("memory.md"))
    assert shown(window) == "memory.md"
    window.browser.anchorClicked.emit(QUrl("data.md#validation-rows"))
    assert window.browser.source().fragment() == "validation-rows"
    window.browser.anchorClicked.emit(QUrl("../estimate.md"))
    assert shown(window) == "estimate.md"
    opened: list[str] = []
    monkeypatch.setattr(
        guide.QDesktopServices, "openUrl", lambda url: opened.append(url.toString())
    )
    window.browser.anchorClicked.emit(QUrl("https://example.org/x"))
    assert opened == ["https://example.org/x"]
    assert shown(window) == "estimate.md"


def test_search_keeps_the_pages_with_all_words(window: GuideWindow) -> None:
    (field,) = window.findChildren(QLineEdit, "search")
    (pages_list,) = window.findChildren(QListWidget)
    field.setFocus()
    QTest.keyClicks(field, "gradient CHECKPOINTING")
    left = [pages_list.item(i) for i in range(pages_list.count())]
    names = {i.data(Qt.ItemDataRole.UserRole) for i in left if not i.isHidden()}
    assert "memory.md" in names
    assert "canvas.md" not in names
    field.clear()
    assert not any(item.isHidden() for item in left)
