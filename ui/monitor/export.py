"""A plot or its numbers as a file: PNG, SVG, CSV.

SVG goes through QSvgGenerator because pyqtgraph's own exporter fails on current PySide6. CSV
contains the full series, not the points downsampled for the screen. The caller chooses the path.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PySide6.QtCore import QRectF, QSize
from PySide6.QtGui import QPainter
from PySide6.QtSvg import QSvgGenerator
from PySide6.QtWidgets import QGraphicsView, QWidget

from ui.monitor.buffers import Floats


def save_png(widget: QWidget, path: Path) -> None:
    """The widget as it looks now."""
    if not widget.grab().save(str(path), "PNG"):
        raise OSError(f"{path} could not be written")


def save_svg(view: QGraphicsView, path: Path, title: str) -> None:
    """The plot's scene as vectors."""
    generator = QSvgGenerator()
    generator.setFileName(str(path))
    size = QSize(view.width(), view.height())
    generator.setSize(size)
    generator.setViewBox(QRectF(0, 0, size.width(), size.height()))
    generator.setTitle(title)
    painter = QPainter()
    if not painter.begin(generator):
        raise OSError(f"{path} could not be written")
    painter.fillRect(QRectF(0, 0, size.width(), size.height()), view.backgroundBrush())
    view.render(painter)
    painter.end()


def save_csv(curves: Mapping[str, tuple[Floats, Floats]], x_name: str, path: Path) -> None:
    """One row per x value of any curve, one column per curve; empty where unmeasured."""
    table: dict[float, dict[str, float]] = {}
    for name, (x, y) in curves.items():
        for at, value in zip(x.tolist(), y.tolist(), strict=True):
            table.setdefault(at, {})[name] = value
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([x_name, *curves])
        for at in sorted(table):
            row = [table[at].get(name) for name in curves]
            writer.writerow(
                [f"{at:g}", *("" if v is None or np.isnan(v) else repr(v) for v in row)]
            )
