"""The context menu of a plot (reset, log scale), and saving plots as picture (PNG, SVG) or table
(CSV).

SVG goes through QSvgGenerator because pyqtgraph's own exporter fails on current PySide6. CSV
contains the full series, not the points downsampled for the screen.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PySide6.QtCore import QPoint, QRectF, QSize
from PySide6.QtGui import QPainter
from PySide6.QtSvg import QSvgGenerator
from PySide6.QtWidgets import QFileDialog, QGraphicsView, QMenu, QWidget

from studio.graph import guide
from studio.system.disk import disk_error
from ui.monitor.curves import Floats
from ui.monitor.plot import LivePlot
from ui.style import icons
from ui.style.choice_dialog import tell
from ui.style.guide_link import MORE, open_guide


def make_menu(plot: LivePlot, panel: QWidget) -> QMenu:
    """The menu of one plot; ``panel`` is what “all plots” means."""
    menu = QMenu(plot)
    reset = menu.addAction("Reset View", plot.reset_view)
    icons.put(reset, "maximize")
    log = menu.addAction("Logarithmic Scale")
    log.setCheckable(True)
    log.setChecked(plot.log)
    log.toggled.connect(plot.set_log)
    menu.addSeparator()
    menu.addAction("Save This Plot as PNG…", lambda: save(plot, "png", plot))
    menu.addAction("Save This Plot as SVG…", lambda: save(plot, "svg", plot))
    menu.addAction("Save the Data as CSV…", lambda: save(plot, "csv", plot))
    menu.addAction("Save All Plots as PNG…", lambda: save(plot, "png", panel))
    menu.addSeparator()
    more = menu.addAction(MORE, lambda: open_guide(guide.PARTS["curves"]))
    icons.put(more, "book-open")
    return menu


def fill_save_menu(menu: QMenu, plots: Sequence[LivePlot], panel: QWidget) -> None:
    """The menu of the Save button: each plot in each format, or all plots as one picture."""
    for part in menu.findChildren(QMenu):
        part.deleteLater()  # clear() keeps submenus
    menu.clear()
    for plot in plots:
        part = menu.addMenu(plot.spec.title)
        for kind in ("png", "svg", "csv"):
            part.addAction(f"{kind.upper()}…", partial(save, plot, kind, plot))
    menu.addSeparator()
    menu.addAction("All Plots as PNG…", partial(save, plots[0], "png", panel))


def show_menu(plot: LivePlot, panel: QWidget, position: QPoint) -> None:
    """Open the menu at a place on the screen."""
    menu = make_menu(plot, panel)
    menu.aboutToHide.connect(menu.deleteLater)
    menu.popup(position)


def save(plot: LivePlot, kind: str, widget: QWidget) -> None:
    """Ask for a path, write the file, and report an error."""
    name = f"{plot.spec.key}.{kind}" if widget is plot else f"curves.{kind}"
    chosen, _ = QFileDialog.getSaveFileName(plot, "Save", name, f"{kind.upper()} (*.{kind})")
    if not chosen:
        return
    writers: dict[str, Callable[[Path], None]] = {
        "png": lambda path: save_png(widget, path),
        "svg": lambda path: save_svg(plot.view, path, plot.spec.title),
        "csv": lambda path: write_csv(plot, path),
    }
    try:
        writers[kind](Path(chosen))
    except OSError as error:
        known = disk_error(Path(chosen).name, Path(chosen).parent, error)
        tell("The file was not saved", known.sentence, known.hint, plot.window())


def write_csv(plot: LivePlot, path: Path) -> None:
    """Every curve of the plot that has points, under its name."""
    curves = {c.label: plot.points(c.key) for c in plot.spec.curves if len(plot.points(c.key)[0])}
    save_csv(curves, "seconds" if plot.x_axis.time else "step", path)


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
