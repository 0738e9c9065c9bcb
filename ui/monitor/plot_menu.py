"""The context menu of a plot: reset, log scale, and saving as picture or table.

It asks for the path and reports errors; ``export`` writes the files.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QPoint
from PySide6.QtWidgets import QFileDialog, QMenu, QMessageBox, QWidget

from ui.monitor import export
from ui.monitor.plot import LivePlot
from ui.style import icons


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
    return menu


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
        "png": lambda path: export.save_png(widget, path),
        "svg": lambda path: export.save_svg(plot.view, path, plot.spec.title),
        "csv": lambda path: write_csv(plot, path),
    }
    try:
        writers[kind](Path(chosen))
    except OSError as error:
        QMessageBox.warning(plot, "The file was not saved", str(error))


def write_csv(plot: LivePlot, path: Path) -> None:
    """Every curve of the plot that has points, under its name."""
    curves = {c.label: plot.points(c.key) for c in plot.spec.curves if len(plot.points(c.key)[0])}
    export.save_csv(curves, "seconds" if plot.x_axis.time else "step", path)
