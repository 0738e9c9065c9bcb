"""The guide: the pages of ``docs/guide`` in a window, without a network.

Links lead from page to page; a link to the web opens the browser. It reads files and nothing else.
"""

from __future__ import annotations

import re
from pathlib import Path

from PySide6.QtCore import Qt, QUrl
from PySide6.QtGui import QDesktopServices, QImage, QTextDocument
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

from ui.style.widgets import IconButton, resize_on_screen, tab_order

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "guide"
INDEX = "index.md"
_FILE = Qt.ItemDataRole.UserRole
_LINK = re.compile(r"^\d+\. \[(.+?)\]\((.+?\.md)\)$", re.MULTILINE)
_SIZE = (900, 640)
_MARGIN_PX = 16


def pages() -> list[tuple[str, str]]:
    """Titles and file names of the pages, in the order of the index."""
    text = (FOLDER / INDEX).read_text(encoding="utf-8")
    return [("Guide", INDEX), *_LINK.findall(text)]


class _Browser(QTextBrowser):
    """Shows Markdown with its pictures, which are made as narrow as the page."""

    def loadResource(self, kind: int, url: QUrl | str) -> object:
        """Qt: a picture is scaled to the width of the text."""
        found = super().loadResource(kind, url)
        if kind != QTextDocument.ResourceType.ImageResource.value:
            return found
        place = self.source().resolved(QUrl(url))
        image = QImage(place.toLocalFile())
        width = self.width() - 2 * _MARGIN_PX - 2 * self.verticalScrollBar().sizeHint().width()
        if image.isNull() or image.width() <= width:
            return found
        return image.scaledToWidth(width, Qt.TransformationMode.SmoothTransformation)


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
        """Show a page of the guide, such as ``memory.md``."""
        self.browser.setSource(QUrl.fromLocalFile(str(FOLDER / name)))

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
