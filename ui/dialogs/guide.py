"""The guide: the pages of ``docs/guide`` in a window, without a network.

Links lead from page to page; a link to the web opens the browser. It reads files and nothing else.
"""

from __future__ import annotations

import re
from pathlib import Path

from PySide6.QtCore import Qt, QTimer, QUrl
from PySide6.QtGui import (
    QDesktopServices,
    QImage,
    QResizeEvent,
    QShowEvent,
    QTextCharFormat,
    QTextCursor,
    QTextDocument,
)
from PySide6.QtWidgets import (
    QDialog,
    QHBoxLayout,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QTextBrowser,
    QVBoxLayout,
    QWidget,
)

from studio.graph.guide import FOLDER as FOLDER_NAME
from studio.graph.guide import INDEX
from ui.style import theme
from ui.style.widgets import IconButton, resize_on_screen, tab_order

FOLDER = Path(__file__).resolve().parents[2] / FOLDER_NAME
_FILE = Qt.ItemDataRole.UserRole
_LINK = re.compile(r"^\d+\. \[(.+?)\]\((.+?\.md)\)$", re.MULTILINE)
_SIZE = (900, 640)
_MARGIN_PX = 16
_PICTURES = "/docs/guide/pictures/"
PICTURE_SCALE = 2
"""Pixels of a picture of the guide per pixel of the window that it shows."""


def pages() -> list[tuple[str, str]]:
    """Titles and file names of the pages, in the order of the index."""
    text = (FOLDER / INDEX).read_text(encoding="utf-8")
    return [("Guide", INDEX), *_LINK.findall(text)]


class _Browser(QTextBrowser):
    """Shows Markdown. Pictures are those of the theme, at their own size or, if they are wider, as wide as the page;
    headings are the targets of links, as on code hosts."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._places: list[QUrl] = []
        self._width = 0
        theme.changed.connect(self._draw_again)

    def doSetSource(
        self,
        name: QUrl | str,
        type: QTextDocument.ResourceType = QTextDocument.ResourceType.UnknownResource,
    ) -> None:
        """Qt: load a page, and go to a section of it."""
        if QUrl(name).toLocalFile() != self.source().toLocalFile():
            self._places = []
        super().doSetSource(name, type)
        self._name_headings()
        self.go_to_section()

    def go_to_section(self) -> None:
        """Scroll to the section in the address."""
        if self.source().hasFragment():
            self.scrollToAnchor(self.source().fragment())

    def _name_headings(self) -> None:
        block = self.document().begin()
        while block.isValid():
            if block.blockFormat().headingLevel():
                named = QTextCharFormat()
                named.setAnchor(True)
                named.setAnchorNames([section_of(block.text())])
                cursor = QTextCursor(block)
                cursor.movePosition(
                    QTextCursor.MoveOperation.EndOfBlock, QTextCursor.MoveMode.KeepAnchor
                )
                cursor.mergeCharFormat(named)
            block = block.next()

    def loadResource(self, kind: int, url: QUrl | str) -> object:
        """Qt: a picture is scaled to the width of the text."""
        if kind != QTextDocument.ResourceType.ImageResource.value:
            return super().loadResource(kind, url)
        place = QUrl(url)
        if place not in self._places:
            self._places.append(place)
        return self._picture(place)

    def _picture(self, place: QUrl) -> QImage:
        path = self.source().resolved(place).toLocalFile()
        dark = path.replace("-light.", "-dark.")
        image = QImage(dark if theme.colors().dark and Path(dark).exists() else path)
        if image.isNull():
            return image
        ratio = self.devicePixelRatioF()
        natural = image.width() / (PICTURE_SCALE if _PICTURES in path else 1)
        width = min(natural, self._room())
        if width * ratio < image.width():
            image = image.scaledToWidth(
                round(width * ratio), Qt.TransformationMode.SmoothTransformation
            )
        image.setDevicePixelRatio(image.width() / width)
        return image

    def _room(self) -> float:
        document, bar = self.document(), self.verticalScrollBar().sizeHint().width()
        around = 2 * document.documentMargin() + 2 * bar + document.indentWidth()  # also in a list
        return max(self.width() - around, 1.0)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Qt: scale the pictures to the new width."""
        super().resizeEvent(event)
        if event.size().width() != self._width:
            self._width = event.size().width()
            self._draw_again()

    def _draw_again(self) -> None:
        document = self.document()
        for place in self._places:
            document.addResource(
                QTextDocument.ResourceType.ImageResource.value, place, self._picture(place)
            )
        document.markContentsDirty(0, document.characterCount())


def section_of(heading: str) -> str:
    """The name of a section in links, as code hosts make it from the heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


class GuideWindow(QDialog):
    """A list of pages at the left, the page at the right."""

    def __init__(self, page: str = INDEX, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Guide")
        resize_on_screen(self, *_SIZE)
        self._search = QLineEdit(self)
        self._search.setObjectName("search")
        self._search.setPlaceholderText("Search the guide")
        self._search.setAccessibleName("Search the guide")
        self._search.setClearButtonEnabled(True)
        self._search.textChanged.connect(self._filter)
        self._list = QListWidget(self)
        self._list.setAccessibleName("Pages")
        self._list.setWordWrap(True)
        self._list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._texts: dict[str, str] = {}
        self._page = ""
        for title, name in pages():
            item = QListWidgetItem(title, self._list)
            item.setData(_FILE, name)
            self._texts[name] = (FOLDER / name).read_text(encoding="utf-8").casefold()
        self._list.currentItemChanged.connect(self._chosen)
        self.browser = _Browser(self)
        self.browser.setAccessibleName("Page")
        self.browser.setOpenLinks(False)
        self.browser.document().setDocumentMargin(_MARGIN_PX)
        self.browser.anchorClicked.connect(self._follow)
        self._back = IconButton("chevron-left", "Back", self)
        self._back.setEnabled(False)
        self._back.clicked.connect(self.browser.backward)
        self.browser.backwardAvailable.connect(self._back.setEnabled)
        self.browser.sourceChanged.connect(self._mark)
        top = QHBoxLayout()
        top.addWidget(self._back)
        top.addWidget(self._search, 1)
        left = QVBoxLayout()
        left.addLayout(top)
        left.addWidget(self._list, 1)
        row = QHBoxLayout(self)
        row.addLayout(left, 1)
        row.addWidget(self.browser, 3)
        tab_order(self._search, self._list, self.browser)
        self.show_page(page)

    def show_page(self, name: str) -> None:
        """Show a page of the guide, such as ``memory.md``, or a section of it: ``memory.md#make-it-fit``."""
        page, _, section = name.partition("#")
        place = QUrl.fromLocalFile(str(FOLDER / page))
        if section:
            place.setFragment(section)
        self.browser.setSource(place)

    def showEvent(self, event: QShowEvent) -> None:
        """Qt: the page has its size only now."""
        super().showEvent(event)
        QTimer.singleShot(0, self.browser, self.browser.go_to_section)

    def _follow(self, url: QUrl) -> None:
        place = self.browser.source().resolved(url)
        if place.isLocalFile():
            self.browser.setSource(place)
        else:
            QDesktopServices.openUrl(place)

    def _chosen(self, item: QListWidgetItem | None) -> None:
        if item is not None and item.data(_FILE) != self._page:
            self.show_page(item.data(_FILE))

    def _mark(self, url: QUrl) -> None:
        """Select the shown page in the list; other documents have no line there. Qt sends this before
        ``source`` has the new address."""
        self._page = Path(url.toLocalFile()).name
        for at in range(self._list.count()):
            item = self._list.item(at)
            if item is not None and item.data(_FILE) == self._page:
                self._list.setCurrentItem(item)
                return
        self._list.setCurrentRow(-1)

    def _filter(self, text: str) -> None:
        """Only pages that contain all words stay in the list."""
        words = text.casefold().split()
        for at in range(self._list.count()):
            item = self._list.item(at)
            if item is not None:
                content = self._texts[item.data(_FILE)]
                item.setHidden(not all(word in content for word in words))
