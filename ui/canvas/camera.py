"""The view of the canvas: zoom at a point, pan, fit."""

from __future__ import annotations

from PySide6.QtCore import QPoint, QPointF, QRectF
from PySide6.QtGui import QTransform
from PySide6.QtWidgets import QGraphicsView

from ui.canvas.node_paint import Detail

MIN_SCALE = 0.05
MAX_SCALE = 3.0
STEP = 1.2
WHEEL = 1.0015
PLAIN_BELOW = 0.2
TITLES_BELOW = 0.5
"""Device pixels per scene pixel below which less is drawn: small text can be read on a screen with many."""
FIT_MARGIN = 0.05
MOST_MARGIN_PX = 48


class Camera:
    """Zoom and pan of one view. ``fitted`` while the entire graph is shown and the view has not
    been moved; ``covered_px`` at the top are hidden by a banner, and not used when a rectangle is fitted."""

    def __init__(self, view: QGraphicsView) -> None:
        self._view = view
        self.fitted = False
        self.covered_px = 0

    @property
    def scale(self) -> float:
        """View pixels per scene pixel."""
        return self._view.transform().m11()

    @property
    def detail(self) -> Detail:
        """The level of detail at this scale, on this screen."""
        device = self.scale * self._view.devicePixelRatioF()
        if device < PLAIN_BELOW:
            return "plain"
        return "titles" if device < TITLES_BELOW else "full"

    def zoom_to(self, scale: float, anchor: QPointF | None = None) -> None:
        """Set the scale within the limits; the scene stays put below ``anchor`` (view pixels)."""
        self.fitted = False
        target = min(MAX_SCALE, max(MIN_SCALE, scale))
        at = anchor if anchor is not None else QPointF(self._view.viewport().rect().center())
        fixed = self.to_scene(at)
        self._view.setTransform(QTransform.fromScale(target, target))
        moved = self._view.viewportTransform().map(fixed) - at
        self.pan(QPointF(-moved).toPoint())

    def zoom_by(self, factor: float, anchor: QPointF | None = None) -> None:
        """Zoom in (factor above 1) or out."""
        self.zoom_to(self.scale * factor, anchor)

    def pan(self, delta: QPoint) -> None:
        """Shift the picture by view pixels."""
        self.fitted = False
        across, down = self._view.horizontalScrollBar(), self._view.verticalScrollBar()
        across.setValue(across.value() - delta.x())
        down.setValue(down.value() - delta.y())

    def fit(self, rect: QRectF, most: float = 1.0) -> None:
        """Fit a rectangle of the scene into the view, centred, at a scale of at most ``most``. The margin is a
        share of the view: a small one has no room to give away."""
        if rect.isEmpty():
            self.zoom_to(1.0)
            self._view.centerOn(0, 0)
            return
        room = self._view.viewport().size()
        margin = min(MOST_MARGIN_PX, round(FIT_MARGIN * min(room.width(), room.height())))
        wide = max(1, room.width() - 2 * margin) / rect.width()
        high = max(1, room.height() - self.covered_px - 2 * margin) / rect.height()
        self.zoom_to(min(wide, high, most))
        self._view.centerOn(rect.center() - QPointF(0, self.covered_px / 2 / self.scale))

    def to_scene(self, at: QPointF | QPoint) -> QPointF:
        """A view point in scene coordinates, not rounded."""
        inverse, _ = self._view.viewportTransform().inverted()
        return inverse.map(QPointF(at))
