"""The marks of a plot as lines and a star: checkpoints, resumes, recoveries, an early end, the best.

It draws a ``Marks``, which ``marks`` creates.
"""

from __future__ import annotations

import pyqtgraph as pg
from PySide6.QtCore import Qt

from ui.monitor import style
from ui.monitor.marks import Marks

STAR_PX = 16
OVER_CURVES = 20
END_LABEL = {"position": 0.94, "anchors": [(1.05, 0.5), (1.05, 0.5)], "movable": False}


class MarkLines:
    """Short ticks where checkpoints were saved, full lines where the run was resumed, ran out of
    memory or ended early, a star at the best evaluation."""

    def __init__(self, view: pg.PlotWidget) -> None:
        self.checkpoints = pg.VTickGroup(yrange=[0, 0.06])
        self.resumes = pg.VTickGroup(yrange=[0, 1])
        self.recoveries = pg.VTickGroup(yrange=[0, 1])
        self.end = pg.InfiniteLine(
            angle=90, movable=False, label="stopped early", labelOpts=END_LABEL
        )
        self.end.hide()
        for line in (self.checkpoints, self.resumes, self.recoveries, self.end):
            view.getPlotItem().addItem(line, ignoreBounds=True)
        self.best = view.plot([], [], pen=None, symbol="star", symbolSize=STAR_PX)
        self.best.setZValue(OVER_CURVES)

    def show(self, marks: Marks, *, large: bool) -> None:
        """Draw these marks; the star and the label at the end only on the ``large`` plot of the
        loss."""
        self.checkpoints.setXVals(list(marks.checkpoints))
        self.resumes.setXVals(list(marks.resumes))
        self.recoveries.setXVals(list(marks.recoveries))
        self.end.setVisible(marks.ended_early is not None)
        self.end.setValue(marks.ended_early or 0.0)
        self.end.label.setVisible(large)  # the small plots have no room
        starred = [[v] for v in marks.best] if marks.best is not None and large else [[], []]
        self.best.setData(*starred)

    def restyle(self) -> None:
        """Apply the colours of the theme."""
        look = style.look()
        self.checkpoints.setPen(pg.mkPen(look.success, width=2))
        self.resumes.setPen(pg.mkPen(look.warning, width=1, style=Qt.PenStyle.DashLine))
        self.recoveries.setPen(pg.mkPen(look.danger, width=1, style=Qt.PenStyle.DotLine))
        self.end.setPen(pg.mkPen(look.accent, width=1, style=Qt.PenStyle.DashDotLine))
        self.end.label.setColor(look.text_muted)
        self.best.setSymbolBrush(look.success)
        self.best.setSymbolPen(pg.mkPen(look.background, width=1))
