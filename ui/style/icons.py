"""Icons: the bundled Lucide drawings (ISC, see assets/icons/LICENSE), in the colours of the theme.

Why: the same look at every size and in both schemes, without network access. A name that is not
bundled raises ``KeyError``.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from PySide6.QtCore import QByteArray, QObject, QRectF, QSize, Qt
from PySide6.QtGui import QAction, QColor, QIcon, QPainter, QPixmap
from PySide6.QtSvg import QSvgRenderer
from PySide6.QtWidgets import QAbstractButton, QPushButton, QStyle

from studio.system.paths import assets_dir
from ui.style import theme

SIZES_PX = (16, 20, 24, 32, 48)
_WITH_GAP = 1.25
FALLBACK = "puzzle"


@lru_cache(maxsize=1)
def _files() -> dict[str, Path]:
    return {path.stem: path for path in (assets_dir() / "icons").glob("*.svg")}


def names() -> tuple[str, ...]:
    """Every bundled icon."""
    return tuple(sorted(_files()))


def has(name: str) -> bool:
    """Whether an icon of this name is bundled."""
    return name in _files()


def known(name: str) -> str:
    """``name``, or a neutral icon where an extension asks for one that is not bundled."""
    return name if has(name) else FALLBACK


@lru_cache(maxsize=512)
def _renderer(name: str, color: str) -> QSvgRenderer:
    text = _files()[name].read_text(encoding="utf-8").replace("currentColor", color)
    return QSvgRenderer(QByteArray(text.encode()))


@lru_cache(maxsize=2048)
def _pixmap(name: str, pixels: int, color: str, alpha: float, width: float = 1.0) -> QPixmap:
    pixmap = QPixmap(round(pixels * width), pixels)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    if alpha < 1.0:  # drawing the pixmap is faster than rendering the file again
        painter.setOpacity(alpha)
        painter.drawPixmap(0, 0, _pixmap(name, pixels, color, 1.0, width))
    else:
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        _renderer(name, color).render(painter, QRectF(0, 0, pixels, pixels))
    painter.end()
    return pixmap


def pixmap(name: str, size: int, color: QColor | None = None, ratio: float = 1.0) -> QPixmap:
    """An icon of ``size`` logical pixels, sharp at the device pixel ratio ``ratio``."""
    picked = color or theme.colors().text
    found = _pixmap(name, max(1, round(size * ratio)), picked.name(), picked.alphaF())
    if ratio == 1.0:
        return found
    copy = QPixmap(found)
    copy.setDevicePixelRatio(ratio)
    return copy


def icon(name: str, color: QColor | str | None = None, *, gap: bool = False) -> QIcon:
    """An icon in ``color`` (the theme's text if ``None``), fainter when disabled.

    It keeps the current colours; use ``put`` for icons that follow theme changes. With ``gap`` it is
    wider, with a transparent right edge: Qt puts the text of a push button with a style sheet two
    pixels beside its icon.
    """
    if name not in _files():
        raise KeyError(name)
    picked = QColor(color) if color is not None else theme.colors().text
    return _icon(name, picked.name(), _WITH_GAP if gap else 1.0)


@lru_cache(maxsize=512)
def _icon(name: str, color: str, width: float) -> QIcon:
    made = QIcon()
    for size in SIZES_PX:
        made.addPixmap(_pixmap(name, size, color, 1.0, width), QIcon.Mode.Normal)
        made.addPixmap(_pixmap(name, size, color, 0.4, width), QIcon.Mode.Disabled)
    return made


class _Repainter(QObject):
    """Renews one target's icon after a theme change; a child of the target."""

    def __init__(self, target: QAction | QAbstractButton, name: str, role: str | None) -> None:
        super().__init__(target)
        self.setObjectName("icon")
        self._name, self._role = name, role
        theme.changed.connect(self.renew)
        self.renew()

    def renew(self) -> None:
        """Set the icon in the current colours."""
        color = getattr(theme.colors(), self._role) if self._role else None
        target = self.parent()
        if isinstance(target, QPushButton):
            target.setIcon(icon(self._name, color, gap=True))
            side = target.style().pixelMetric(QStyle.PixelMetric.PM_ButtonIconSize)
            target.setIconSize(QSize(round(side * _WITH_GAP), side))
        elif isinstance(target, (QAction, QAbstractButton)):
            target.setIcon(icon(self._name, color))


def put(target: QAction | QAbstractButton, name: str, role: str | None = None) -> None:
    """Give ``target`` an icon that follows the theme.

    ``role`` names a colour of ``theme.Colors`` such as ``success``; ``None`` means text.
    """
    old = target.findChild(QObject, "icon", Qt.FindChildOption.FindDirectChildrenOnly)
    if isinstance(old, _Repainter):
        theme.changed.disconnect(old.renew)
        old.deleteLater()
        old.setObjectName("")
    _Repainter(target, name, role)
