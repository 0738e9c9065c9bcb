"""The curves: points arrive, the mouse reads values, files are written."""

from __future__ import annotations

import csv
import time
from pathlib import Path

import numpy as np
import pytest
from PySide6.QtCore import QPoint, QPointF, Qt, QTimer
from PySide6.QtGui import QFontMetricsF, QImage
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QFileDialog, QMenu
from pytestqt.qtbot import QtBot

from studio.cli.report import progress_line
from studio.events import Event
from studio.runs.progress import progress_of
from studio.runs.state import RunState
from tests.ui.canvas.hands import pinch, scroll
from tests.ui.monitor import fake_run
from ui.canvas.status import status_of
from ui.monitor.axes import XAxis, YAxis
from ui.monitor.panel import DRAW_EVERY_MS, EMPTY_TEXT, MANY_POINTS, MonitorPanel
from ui.monitor.plot import LivePlot
from ui.monitor.plot_menu import make_menu
from ui.style import theme
from ui.window.status import StatusStrip


def state_of(*events: Event) -> RunState:
    """The state after these events."""
    state = RunState()
    for event in events:
        state.apply(event)
    return state


@pytest.fixture
def panel(qtbot: QtBot) -> MonitorPanel:
    """A panel that can be seen."""
    made = MonitorPanel()
    qtbot.addWidget(made)
    made.resize(1200, 460)
    made.show()
    qtbot.waitExposed(made)
    return made


@pytest.fixture
def state() -> RunState:
    """A run in the middle of its training."""
    return state_of(
        *fake_run.beginning(), *fake_run.training_starts(), *fake_run.training(1, 120, 200)
    )


def test_without_a_run_it_says_what_to_do(panel: MonitorPanel) -> None:
    panel.show_state(None)
    assert panel._empty.isVisible()
    assert panel._empty.text() == EMPTY_TEXT


def test_every_plot_gets_its_points(panel: MonitorPanel, state: RunState) -> None:
    panel.show_state(state)
    assert len(panel.plot("loss").points("loss")[0]) == 120
    assert len(panel.plot("loss").points("loss_smooth")[0]) == 120
    assert len(panel.plot("loss").points("eval_loss")[0]) == 6
    for key in ("learning_rate", "grad_norm", "tokens_per_s"):
        assert len(panel.plot(key).points(key)[0]) == 120
        assert panel.plot(key).drawn(key) == 120
    assert len(panel.plot("memory").points("ram_process_gib")[0]) == 120


def test_points_come_while_training_runs(
    panel: MonitorPanel, state: RunState, qtbot: QtBot
) -> None:
    panel.show_state(state)
    for event in fake_run.training(121, 160, 200):
        state.apply(event)
    panel.refresh()
    qtbot.waitUntil(lambda: panel.plot("loss").drawn("loss") == 160)
    assert panel.header.text_of("step") == "160 / 200"
    assert panel.header.text_of("status") == "▶ Running"


def test_many_batches_are_one_drawing(
    panel: MonitorPanel, state: RunState, monkeypatch: pytest.MonkeyPatch, qtbot: QtBot
) -> None:
    panel.show_state(state)
    drawn: list[int] = []
    plain = panel.loss.redraw
    monkeypatch.setattr(panel.loss, "redraw", lambda: (drawn.append(1), plain()))
    for _ in range(50):
        panel.refresh()
    qtbot.wait(150)
    assert len(drawn) == 1


def test_points_that_come_while_the_plots_are_drawn_are_drawn_too(
    panel: MonitorPanel, state: RunState, qtbot: QtBot
) -> None:
    """The last ones of a run, on a slow machine: nothing comes after them."""
    panel.show_state(state)
    panel._next_timer.setInterval(
        3 * DRAW_EVERY_MS
    )  # the next drawing is due before the end of this one
    panel._begin_drawing()
    for event in fake_run.training(121, 125, 200):
        state.apply(event)
    panel.refresh()
    qtbot.waitUntil(lambda: len(panel.plot("loss").points("loss")[0]) == 125)


def test_a_hidden_panel_draws_when_it_is_shown(
    panel: MonitorPanel, state: RunState, qtbot: QtBot
) -> None:
    panel.hide()
    panel.show_state(state)
    assert panel.loss.drawn("loss") == 0
    panel.show()
    qtbot.waitUntil(lambda: panel.loss.drawn("loss") == 120)


def long_state(steps: int) -> RunState:
    """A finished run of so many steps that its plots are drawn one after the other."""
    state = state_of(*fake_run.beginning(), *fake_run.training_starts())
    for step in range(1, steps + 1):
        data = {"step": step, "steps": steps, "loss": 0.5, "grad_norm": 1.0, "tokens_per_s": 9.0}
        state.apply(Event("Metric", fake_run.START + step, "train", data))
    return state


def test_another_long_run_replaces_one_that_is_still_being_drawn(
    panel: MonitorPanel, qtbot: QtBot
) -> None:
    first, second = long_state(MANY_POINTS), long_state(MANY_POINTS + 1)
    panel.show_state(first)
    panel.show_state(second)
    keys = ("loss", "grad_norm", "tokens_per_s")
    qtbot.waitUntil(lambda: len(panel.plot("tokens_per_s").points("tokens_per_s")[0]) > 0)
    assert {len(panel.plot(key).points(key)[0]) for key in keys} == {MANY_POINTS + 1}


def test_points_that_arrive_while_the_plots_are_drawn_are_drawn_too(
    panel: MonitorPanel, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No other event may follow them."""
    state = state_of(*fake_run.beginning(), *fake_run.training_starts())
    panel.show_state(state)
    draw, rest = panel._draw, [*fake_run.training(1, 50, 50)]

    def draw_and_receive(plot: LivePlot, shown: RunState) -> None:
        draw(plot, shown)
        while plot is panel.loss and rest:
            shown.apply(rest.pop(0))
            if not rest:
                panel._begin_drawing()  # as the timer does: the other plots are not drawn yet

    monkeypatch.setattr(panel, "_draw", draw_and_receive)
    panel._begin_drawing()
    qtbot.waitUntil(lambda: len(panel.loss.points("loss")[0]) == 50)
    assert panel.loss.placeholder() == ""


def test_a_long_run_that_is_closed_while_it_is_drawn_is_drawn_no_further(
    panel: MonitorPanel, qtbot: QtBot
) -> None:
    panel.show_state(long_state(MANY_POINTS))
    panel.show_state(None)
    qtbot.wait(100)
    assert not panel._next_timer.isActive()
    assert panel._empty.isVisible()


def test_resumed_training_drops_the_later_points(panel: MonitorPanel, state: RunState) -> None:
    panel.show_state(state)
    resumed = Event("TrainResumed", fake_run.START + 500, "train", {"step": 80})
    state.apply(resumed)
    panel.draw_now()
    assert panel.loss.points("loss")[0][-1] == 80
    assert list(panel.loss.lines.resumes.xvals) == [80.0]
    assert list(panel.loss.lines.checkpoints.xvals) == [20.0, 40.0, 60.0, 80.0]


def test_the_best_a_recovery_and_an_early_end_are_marked(
    panel: MonitorPanel, state: RunState, qtbot: QtBot
) -> None:
    """A star, a dotted line and a named line; the mouse reads what they mean, the header the best."""
    panel.show_state(state)
    assert panel.header.text_of("best").endswith(" at 120")
    at = fake_run.START + 500
    values = {"step": 33, "batch_size": 4, "accumulation": 4, "attempt": 1, "most": 3}
    state.apply(Event("MemoryRecovered", at, "train", values))
    reason = "The validation loss has not fallen in the last 3 evaluations."
    ended = {"step": 120, "steps": 200, "reason": reason, "best_step": 80, "best_eval_loss": 1.0142}
    state.apply(Event("EarlyStopped", at, "train", ended))
    panel.draw_now()
    assert panel.header.text_of("best") == "1.014 at 80"
    assert list(panel.loss.lines.recoveries.xvals) == [33.0]
    assert panel.loss.lines.end.isVisible()
    assert panel.loss.lines.best.getOriginalDataset()[1].tolist() == [1.0142]
    for step, word in {33: "batch size 4", 120: reason, 80: "Best evaluation: 1.014 at 80"}.items():
        assert word in hover(panel.loss, step, qtbot)
    assert hover(panel.loss, 50, qtbot) == ""
    QTest.keyClick(panel.tools.axis, Qt.Key.Key_Down)
    assert not panel.loss.lines.end.isVisible()


def test_one_evaluation_is_not_yet_the_best(panel: MonitorPanel) -> None:
    state = RunState()
    for step, loss in ((10, 1.5), (20, 1.25)):
        values = {"step": step, "steps": 40, "eval_loss": loss}
        state.apply(Event("Metric", fake_run.START + step, "train", {"step": step, "loss": loss}))
        state.apply(Event("Metric", fake_run.START + step, "train", values))
        panel.show_state(state)
        panel.draw_now()
        assert panel.header.text_of("best") == ("–" if step == 10 else "1.25 at 20")


def hover(plot: LivePlot, step: int, qtbot: QtBot) -> str:
    """The tip under the mouse at a step."""
    box = plot.view.getViewBox()
    place = plot.view.mapFromScene(box.mapViewToScene(QPointF(step, 1.0)))
    qtbot.wait(30)  # pyqtgraph passes over moves that come faster
    qtbot.mouseMove(plot.view.viewport(), place)
    return plot._tip


def test_the_mouse_reads_the_values(panel: MonitorPanel, state: RunState, qtbot: QtBot) -> None:
    panel.show_state(state)
    box = panel.loss.view.getViewBox()
    place = panel.loss.view.mapFromScene(box.mapViewToScene(QPointF(60, 1.0)))
    qtbot.mouseMove(panel.loss.view.viewport(), place)
    text = panel.loss.legend.text()
    expected = panel.loss.points("eval_loss")[1][2]
    assert "step 60" in text
    assert f"{expected:.4g}" in text
    assert panel.plot("grad_norm")._cross.isVisible()
    assert not panel.plot("memory")._cross.isVisible()


def test_two_fingers_pan_a_plot_and_a_pinch_zooms_it(panel: MonitorPanel, state: RunState) -> None:
    panel.show_state(state)
    panel.draw_now()
    plot, at = panel.loss, QPoint(150, 60)
    box = plot.view.getViewBox()

    def shown() -> tuple[float, float, float, float]:
        (left, right), (low, high) = box.viewRange()
        return left, right, low, high

    before, (wide, high) = shown(), box.viewPixelSize()
    scroll(plot.view, at, QPoint(-24, 16), QPoint(-12, 8), Qt.ScrollPhase.ScrollUpdate)
    moved = [now - then for now, then in zip(shown(), before, strict=True)]
    assert moved == pytest.approx([12 * wide, 12 * wide, 8 * high, 8 * high])
    assert not plot.following
    plot.reset_view()
    left, right, *_ = before = shown()
    pinch(plot.view, at, 0.25)
    now = shown()
    assert now[1] - now[0] == pytest.approx((right - left) / 1.25)
    assert now[0] > left
    assert now[1] < right
    plot.reset_view()
    scroll(plot.view, at, QPoint(0, 120), ms=5000)  # a wheel
    assert shown()[1] - shown()[0] < right - left
    plot.reset_view()
    narrow = Qt.KeyboardModifier.ControlModifier
    scroll(plot.view, at, QPoint(0, 37), modifiers=narrow, ms=9000)  # a pinch on Windows
    assert shown()[1] - shown()[0] < right - left


def test_zoom_stops_following_and_a_double_click_resumes_it(
    panel: MonitorPanel, state: RunState, qtbot: QtBot
) -> None:
    panel.show_state(state)
    port = panel.loss.view.viewport()
    middle = port.rect().center()
    qtbot.mousePress(port, Qt.MouseButton.LeftButton, pos=middle)
    qtbot.mouseMove(port, middle + QPoint(40, 0))
    qtbot.mouseMove(port, middle + QPoint(90, 0))
    qtbot.mouseRelease(port, Qt.MouseButton.LeftButton, pos=middle + QPoint(90, 0))
    assert not panel.loss.following
    qtbot.mouseDClick(port, Qt.MouseButton.LeftButton, pos=middle)
    assert panel.loss.following


def test_log_scale_time_axis_and_smoothing(
    panel: MonitorPanel, state: RunState, qtbot: QtBot
) -> None:
    panel.show_state(state)
    qtbot.mouseClick(panel.tools.log, Qt.MouseButton.LeftButton)
    assert panel.loss.log
    low, high = panel.loss.view.viewRange()[1]
    assert -3 < low < high < 2
    QTest.keyClick(panel.tools.axis, Qt.Key.Key_Down)
    assert panel.loss.points("loss")[0][0] == pytest.approx(6.7)
    raw = panel.loss.points("loss")[1]
    QTest.keyClick(panel.tools.slider, Qt.Key.Key_Home)
    qtbot.waitUntil(lambda: np.array_equal(panel.loss.points("loss_smooth")[1], raw))


@pytest.mark.parametrize(
    ("low", "high", "height", "shown"),
    [
        (0.4, 3.0, 200, ["0.5", "1", "2"]),
        (0.4, 3.0, 70, ["0.5", "1", "2"]),
        (1e-5, 2.0, 300, ["1e-05", "0.0001", "0.001", "0.01", "0.1", "1"]),
        (1.2, 1.9, 200, ["1.2", "1.4", "1.6", "1.8"]),
        (2.3, 2.31, 200, ["2.3", "2.302", "2.304", "2.306", "2.308", "2.31"]),
    ],
)
def test_a_log_axis_has_several_ticks(
    low: float, high: float, height: float, shown: list[str]
) -> None:
    axis = YAxis()
    axis.setLogMode(y=True)
    edges = np.log10(low) - 1e-9, np.log10(high) + 1e-9
    ((_, ticks),) = axis.tickValues(*edges, height)
    assert axis.tickStrings(ticks, 1.0, 1.0) == shown
    for far in ((301.0, 305.0), (-350.0, -320.0)):  # where a plot can be moved to by hand
        assert axis.tickValues(*far, height) == [(1.0, [])]
    axis.deleteLater()


def test_gpu_memory_takes_the_place_of_ram(panel: MonitorPanel, state: RunState) -> None:
    values = {"vram_allocated_gib": 3.5, "vram_reserved_gib": 4.0, "vram_device_gib": 5.0}
    state.apply(Event("Memory", fake_run.START + 100, "train", values))
    panel.show_state(state)
    assert panel.plot("memory").spec.title == "GPU memory"
    assert panel.plot("memory").points("vram_reserved_gib")[1].tolist() == [4.0]


def test_times_have_room_under_a_narrow_plot(qapp: QApplication) -> None:
    axis = XAxis()
    axis.set_time(True)
    metrics = QFontMetricsF(qapp.font())
    for seconds in (40, 175, 5000, 400_000):
        for width in (120, 200, 900):
            ((spacing, _),) = axis.tickSpacing(0, seconds, width)
            ticks = [n * spacing for n in range(int(seconds // spacing) + 1)]
            longest = max(axis.tickStrings(ticks[-2:], 1.0, spacing), key=len)
            assert spacing / seconds * width >= metrics.horizontalAdvance(longest) + 8
    ((spacing, _),) = axis.tickSpacing(0, 160, 150)
    assert spacing == 60
    axis.deleteLater()


def test_the_time_left_reads_the_same_everywhere(
    panel: MonitorPanel, monkeypatch: pytest.MonkeyPatch, qtbot: QtBot
) -> None:
    """On the node, above the curves, in the status bar and in the terminal."""
    events = [*fake_run.beginning(), *fake_run.training_starts(), *fake_run.training(1, 120, 600)]
    state = state_of(*events)
    monkeypatch.setattr(time, "time", lambda: events[-1].time)
    panel.show_state(state)
    bar = StatusStrip()
    qtbot.addWidget(bar)
    progress = progress_of(state, events[-1].time)
    assert progress is not None
    panel.show_progress(progress)
    bar.show_run("running", state, None, progress)
    left = "over 5 min 36 s left"
    assert panel.header.text_of("progress") == f"Train 120/600 · 40 % · {left}"
    assert (bar.run.text(), bar.left.text()) == ("Train 120/600", f"40 % · {left}")
    node = status_of(state.nodes["train"], progress=progress)
    assert node is not None
    assert (node.left, node.right, node.detail) == ("Train 120/600", "40 %", left)
    line = progress_line(progress, state.nodes["train"])
    assert line.startswith("Train 120/600  [")
    assert line.endswith(f"  {left}")


def test_the_time_axis_is_labelled_with_durations(panel: MonitorPanel, state: RunState) -> None:
    panel.show_state(state)
    QTest.keyClick(panel.tools.axis, Qt.Key.Key_Down)
    assert panel.loss.x_axis.labelText == "time"
    assert panel.loss.x_axis.tickStrings([0, 30, 60, 90, 3600], 1.0, 30) == [
        "0 s",
        "30 s",
        "1 min",
        "1 min 30 s",
        "1 h",
    ]


def test_a_low_panel_shows_one_small_plot_at_a_time(
    panel: MonitorPanel, state: RunState, qtbot: QtBot
) -> None:
    panel.show_state(state)
    assert all(plot.isVisible() for plot in panel.small)
    panel.resize(900, 230)
    qtbot.waitUntil(lambda: sum(plot.isVisible() for plot in panel.small) == 1)
    assert panel.small[0].isVisible()


def test_plots_end_before_the_edge(panel: MonitorPanel, state: RunState, qtbot: QtBot) -> None:
    panel.show_state(state)
    for height in (460, 230):
        panel.resize(900, height)
        qtbot.waitUntil(lambda height=height: panel.height() == height)
        QApplication.processEvents()
        for plot in panel.plots:
            if plot.isVisible():
                box = plot.view.getViewBox()
                end = plot.view.mapFromScene(box.sceneBoundingRect().topRight()).x()
                assert 8 <= plot.width() - end <= 14


def test_the_theme_changes_with_the_curves_shown(
    panel: MonitorPanel, state: RunState, qapp: QApplication
) -> None:
    panel.show_state(state)
    theme.apply(qapp, "light")
    assert panel.loss.view.backgroundBrush().color() == theme.colors().background
    theme.apply(qapp, "dark")
    assert panel.loss.view.backgroundBrush().color() == theme.colors().background


@pytest.mark.parametrize("kind", ["PNG", "SVG", "CSV"])
def test_a_button_saves_plots(
    panel: MonitorPanel,
    state: RunState,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    qtbot: QtBot,
) -> None:
    """By mouse and keys: the button, a plot, a format."""
    panel.show_state(state)
    path = tmp_path / f"plot.{kind.lower()}"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a: (str(path), ""))
    assert panel.tools.save.isVisible()

    def choose() -> None:
        menu = QApplication.activePopupWidget()
        assert isinstance(menu, QMenu)
        titles = [a.text() for a in menu.actions() if a.text()]
        assert titles[:2] == ["Loss", "Memory"]
        assert titles[-1] == "All Plots as PNG…"
        QTest.keyClick(menu, Qt.Key.Key_Down)
        QTest.keyClick(menu, Qt.Key.Key_Right)
        part = QApplication.activePopupWidget()
        assert isinstance(part, QMenu)
        action = next(a for a in part.actions() if a.text() == f"{kind}…")
        QTest.mouseClick(part, Qt.MouseButton.LeftButton, pos=part.actionGeometry(action).center())

    QTimer.singleShot(20, choose)
    qtbot.mouseClick(panel.tools.save, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(path.exists)
    check_file(path)


@pytest.mark.parametrize(("index", "name"), [(0, "loss.png"), (1, "loss.svg"), (2, "loss.csv")])
def test_a_plot_is_saved(
    panel: MonitorPanel,
    state: RunState,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    index: int,
    name: str,
) -> None:
    panel.show_state(state)
    path = tmp_path / name
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a: (str(path), ""))
    menu = make_menu(panel.loss, panel)
    saving = [a for a in menu.actions() if a.text().startswith("Save")]
    saving[index].trigger()
    check_file(path)
    menu.deleteLater()


def check_file(path: Path) -> None:
    """The file holds what its name says."""
    if path.suffix == ".png":
        assert QImage(str(path)).width() > 200
    elif path.suffix == ".svg":
        assert "<svg" in path.read_text("utf-8")
    else:
        rows = list(csv.reader(path.read_text("utf-8").splitlines()))
        assert rows[0] == ["step", "Train", "Train, smoothed", "Validation"]
        assert len(rows) == 121
        assert rows[20][0] == "20"
        assert float(rows[20][3]) > 0
