"""How fast the window is: start, a project of 500 nodes, plots of a million points, idling, events of a run, long and
many earlier runs.

    python benchmarks/window.py [startup] [nodes] [plots] [idle] [heartbeat] [opening] [runs]

Prints a JSON line per measurement, and at the end a table of the figures that have a target. CPU time
is that of the main thread (of the process for start and idling): on a shared machine it is the figure to
compare, since the wall time includes other programs. Without arguments everything is measured, each in a
process of its own. Uses a home of its own; the user's settings and runs are left alone.

startup: from the start of the process until all parts of the window are painted, and until the curves are made.
nodes: opening a project of 500 nodes, then panning and dragging a node with the mouse at two sizes.
plots: a repaint of the curves with a new point among a million.
idle: 30 s with a project open, and with a completed run shown as well.
heartbeat: how late a 10 ms timer comes while another process writes 200 events a second.
opening: a completed run of a million events is shown, without one and beside ``main.py estimate``.
runs: the start with 1,000 earlier runs, and without.
"""

from __future__ import annotations

import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PySide6.QtCore import QPointF, Qt
    from PySide6.QtWidgets import QWidget

    from ui.window.session import Session

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

Row = tuple[str, str, float | None, float | None, float]
"""What, its unit, wall time, CPU time, target."""

STARTS = 7
NODES = 500
OPENINGS = 7
FRAMES = 120
ROUNDS = 5
SETTLED_S = 1.5
IDLE_AFTER_S = 8.0
IDLE_S = 30.0
POINTS = 1_000_000
REPAINTS = 30
EVENTS_PER_S = 200
HEARTBEAT_S = 20.0
BEAT_MS = 10
SETTLE_MS = 4000
LONG_EVENTS = 1_000_000
EARLIER_RUNS = 1000


def tell(name: str, rows: Sequence[Row] = (), **values: Any) -> None:
    """One line of JSON; ``rows`` are those of the table."""
    print(json.dumps({"benchmark": name, **values, "rows": rows}), flush=True)


def row(what: str, unit: str, wall: float | None, cpu: float | None, target: float) -> Row:
    """A row of the table. The target is compared with the CPU time where there is one."""
    return what, unit, wall, cpu, target


def startup() -> None:
    """From the start of the process until the window is painted."""
    with tempfile.TemporaryDirectory() as home:
        _one_start(home)  # compiles, and brings the files into the page cache
        found = [_one_start(home) for _ in range(STARTS)]
    wall, cpu = (statistics.median(values) for values in zip(*found, strict=True))
    tell(
        "startup",
        [row("start to first paint", "s", round(wall, 2), round(cpu, 2), 1.0)],
        wall_s=round(wall, 3),
        cpu_s=round(cpu, 3),
        worst_wall_s=round(max(wall for wall, _ in found), 3),
        starts=STARTS,
    )


def _one_start(home: str) -> tuple[float, float]:
    """Wall and CPU seconds until the first paint."""
    log = Path(home) / "startup.json"
    log.unlink(missing_ok=True)
    environment = {**os.environ, "LORA_STUDIO_HOME": home, "LORA_STUDIO_STARTUP_LOG": str(log)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # a start of a user finds compiled files
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "main.py")], env=environment, stderr=subprocess.DEVNULL
    )
    while not (log.is_file() and log.stat().st_size):
        if process.poll() is not None:
            raise SystemExit("the window did not start")
        time.sleep(0.01)
    time.sleep(0.05)
    noted = json.loads(log.read_text("utf-8"))
    process.terminate()
    process.wait()
    return noted["monotonic_s"] - began, noted["cpu_s"]


def nodes() -> None:
    """Open a project of 500 nodes in the window; then pan, and drag a node, at two sizes."""
    from PySide6.QtCore import QPointF, Qt
    from PySide6.QtWidgets import QApplication

    from benchmarks.canvas import chains
    from studio.graph.project import save_project

    with tempfile.TemporaryDirectory() as home:
        session = _window(home)
        window, project = session.window, Path(home) / "many.studio"
        save_project(project, chains(NODES))
        opened = []
        for _ in range(OPENINGS):
            opened.append(_spent(lambda: (session.project.open(project), _paint_all())))
            _idle(SETTLED_S)
            session.project.new()
        session.project.open(project)
        _idle(SETTLED_S)
        wall, cpu = (statistics.median(values) for values in zip(*opened, strict=True))
        rows = [row(f"open {NODES} nodes", "ms", round(wall), round(cpu), 300.0)]
        for size in ((1280, 800), (1920, 1080)):
            window.setWindowState(Qt.WindowState.WindowNoState)
            window.resize(*size)
            QApplication.processEvents()
            for zoom in ("100 %", "all"):
                canvas = window.canvas
                canvas.fit_all() if zoom == "all" else canvas.zoom_to(1.0)
                QApplication.processEvents()
                middle = QPointF(canvas.viewport().rect().center())
                near = min(
                    (canvas.node_rect_in_view(n) for n in canvas.graph_scene.nodes),
                    key=lambda r: (QPointF(r.center()) - middle).manhattanLength(),
                )
                title = QPointF(near.center().x(), near.top() + max(2, near.height() / 8))
                for what, place, button in (
                    ("pan", middle, Qt.MouseButton.MiddleButton),
                    ("drag", title, Qt.MouseButton.LeftButton),
                ):
                    wall, cpu = _frames(canvas.viewport(), place, button)
                    _idle(SETTLED_S)
                    name = f"frame p95, {what}, {size[0]} x {size[1]}, zoom {zoom}"
                    rows.append(row(name, "ms", round(wall, 1), round(cpu, 1), 16.0))
        tell("nodes", rows, nodes=NODES, openings=OPENINGS, frames=FRAMES)
        _close(session)


def _window(home: str) -> Session:
    """The window with the starter, complete."""
    os.environ["LORA_STUDIO_HOME"] = home
    from PySide6.QtWidgets import QApplication

    from ui import app as program

    session = program.open_session(program.make_application())
    session.window.may_close = lambda: True
    while session.window.monitor is None:
        QApplication.processEvents()
        time.sleep(0.002)
    _idle(SETTLED_S)
    return session


def _close(session: Session) -> None:
    from workers.run_thread import detach_all
    from workers.task import wait_for_tasks

    session.window.close()
    detach_all()
    wait_for_tasks()


def _idle(seconds: float) -> None:
    """Let the event loop run."""
    from PySide6.QtCore import QEventLoop, QTimer

    loop = QEventLoop()
    QTimer.singleShot(round(seconds * 1000), loop.quit)
    loop.exec()


def _paint_all() -> None:
    from PySide6.QtWidgets import QApplication

    QApplication.processEvents()


def _spent(work: Callable[[], object]) -> tuple[float, float]:
    """Milliseconds of wall time, and of CPU time of this thread."""
    wall, cpu = time.perf_counter(), time.thread_time()
    work()
    return (time.perf_counter() - wall) * 1000, (time.thread_time() - cpu) * 1000


def _frames(view: QWidget, start: QPointF, button: Qt.MouseButton) -> tuple[float, float]:
    """p95 of wall and CPU milliseconds of a frame: a move of the mouse with a button held, and the paint after it;
    medians of several rounds."""
    from PySide6.QtCore import QEvent, QPointF, Qt
    from PySide6.QtGui import QMouseEvent
    from PySide6.QtWidgets import QApplication

    def send(kind: QEvent.Type, at: QPointF, pressed: Qt.MouseButton, held: Qt.MouseButton) -> None:
        none = Qt.KeyboardModifier.NoModifier
        event = QMouseEvent(kind, at, view.mapToGlobal(at), pressed, held, none)
        QApplication.sendEvent(view, event)
        QApplication.processEvents()

    none = Qt.MouseButton.NoButton
    rounds = []
    for _ in range(ROUNDS):
        send(QEvent.Type.MouseMove, start, none, none)
        send(QEvent.Type.MouseButtonPress, start, button, button)
        turns = (2 * math.pi * (k + 1) / FRAMES for k in range(FRAMES))
        path = [start + QPointF(80 * math.sin(3 * a), 60 * math.sin(2 * a)) for a in turns]
        spent = [_spent(lambda at=at: send(QEvent.Type.MouseMove, at, none, button)) for at in path]
        send(QEvent.Type.MouseButtonRelease, path[-1], button, none)
        walls, cpus = (sorted(values) for values in zip(*spent, strict=True))
        rounds.append((walls[int(FRAMES * 0.95)], cpus[int(FRAMES * 0.95)]))
    wall, cpu = (statistics.median(values) for values in zip(*rounds, strict=True))
    return wall, cpu


def idle() -> None:
    """CPU of the process while nothing happens: with a project open, and with a completed run shown."""
    with tempfile.TemporaryDirectory() as home:
        session = _window(home)
        rows = []
        for what in ("idle, project open", "idle, run shown"):
            if what == "idle, run shown":
                folder = _make_run()
                _fill(folder.events_path, 4000)
                session.open_run(folder)
            _idle(IDLE_AFTER_S)
            cpu, began = time.process_time(), time.perf_counter()
            _idle(IDLE_S)
            share = 100 * (time.process_time() - cpu) / (time.perf_counter() - began)
            rows.append(row(what, "% of a core", None, round(share, 2), 1.0))
        memory = _resident_mib()
        tell("idle", rows, seconds=IDLE_S, resident_mib=memory)
        _close(session)


def _resident_mib() -> int:
    import psutil

    return round(psutil.Process().memory_info().rss / 2**20)


def plots() -> None:
    """Set a million points and repaint; then the whole panel with a run of a million steps."""
    import numpy as np
    from PySide6.QtWidgets import QApplication

    from studio.runs.series import Series, column
    from studio.runs.state import RunState
    from ui.monitor.panel import MonitorPanel
    from ui.style import theme

    app = QApplication.instance() or QApplication([])
    theme.apply(app, "dark")  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    losses = (2 * np.exp(-np.arange(POINTS) / POINTS * 5) + rng.normal(0, 0.1, POINTS)).tolist()
    steps = [float(i) for i in range(POINTS)]
    columns = [column(values) for values in (steps, steps, losses, losses, losses, losses)]
    series = Series(*columns, steps=POINTS)
    state = RunState(status="running", name="Long", started=0.0, metrics={"train": series})
    panel = MonitorPanel()
    panel.resize(1280, 420)
    panel.show()
    app.processEvents()
    began = time.perf_counter()
    panel.show_state(state)
    panel.repaint()
    first = time.perf_counter() - began
    curve = [_timed(panel.loss.redraw, panel.loss.view.viewport()) for _ in range(REPAINTS)]
    whole = []
    for _ in range(REPAINTS):
        series.add(float(len(series.step)), {"step": len(series.step), "loss": 0.5})
        whole.append(_timed(panel.draw_now, panel))
    tell(
        "plots",
        [
            row(
                "repaint of the curves, a million points",
                "ms",
                round(statistics.median(wall for wall, _ in whole), 1),
                round(statistics.median(cpu for _, cpu in whole), 1),
                30.0,
            )
        ],
        points=POINTS,
        first_ms=round(first * 1000, 1),
        loss_plot_median_cpu_ms=round(statistics.median(cpu for _, cpu in curve), 2),
    )
    panel.close()


def _timed(draw: Any, widget: Any) -> tuple[float, float]:
    return _spent(lambda: (draw(), widget.repaint()))


def heartbeat() -> None:
    """How late a timer comes while a run writes events and every panel follows it."""
    with tempfile.TemporaryDirectory() as home:
        os.environ["LORA_STUDIO_HOME"] = home
        folder = _make_run()
        writer = subprocess.Popen([sys.executable, __file__, "--write", str(folder.path)])
        while not folder.is_running():
            time.sleep(0.05)
        try:
            _measure_heartbeat()
        finally:
            writer.terminate()
            writer.wait()


def _make_run() -> Any:
    from studio.graph.project import load_project
    from studio.graph.registry import load_registry
    from studio.runs.folder import RunFolder
    from studio.runs.plan import compile_plan
    from studio.system.paths import runs_dir
    from ui.window.project_controller import starter_path

    graph = load_project(starter_path())
    compiled = compile_plan(graph, load_registry(), starter_path().parent)
    assert compiled.plan is not None, compiled.problems
    return RunFolder.create(runs_dir(), compiled.plan, graph)


def _measure_heartbeat() -> None:
    from PySide6.QtCore import Qt, QTimer

    from ui import app as program
    from workers.run_thread import detach_all

    app = program.make_application()
    session = program.open_session(app)
    session.window.may_close = lambda: True
    gaps: list[float] = []
    cpus: list[float] = []
    last = [0.0, 0.0]

    def beat() -> None:
        now, cpu = time.perf_counter(), time.thread_time()
        if last[0]:
            gaps.append((now - last[0]) * 1000 - BEAT_MS)
            cpus.append((cpu - last[1]) * 1000)
        last[:] = now, cpu

    timer = QTimer(interval=BEAT_MS, timerType=Qt.TimerType.PreciseTimer)
    timer.timeout.connect(beat)
    QTimer.singleShot(SETTLE_MS, timer.start)
    QTimer.singleShot(SETTLE_MS + round(HEARTBEAT_S * 1000), app.quit)
    app.exec()
    timer.stop()
    gaps.sort()
    shown = session.runs.shown
    tell(
        "heartbeat",
        [row("worst gap while a run trains", "ms", round(gaps[-1], 1), round(max(cpus), 1), 50.0)],
        events_per_s=EVENTS_PER_S,
        seconds=HEARTBEAT_S,
        points=len(shown.state.metrics["train"].step) if shown else 0,
        median_ms=round(statistics.median(gaps), 2),
        p99_ms=round(gaps[int(len(gaps) * 0.99)], 2),
        worst_ms=round(gaps[-1], 2),
    )
    session.window.close()
    detach_all()


def opening() -> None:
    """Show a completed run of a million events: until all are shown, and the longest gap."""
    from PySide6.QtCore import Qt, QTimer

    with tempfile.TemporaryDirectory() as home:
        os.environ["LORA_STUDIO_HOME"] = home
        folder = _make_run()
        _fill(folder.events_path, LONG_EVENTS)
        estimating = _cpu_of("estimate", str(ROOT / "assets/starter.studio"), "--json")
        from ui import app as program
        from workers.run_thread import detach_all

        app = program.make_application()
        session = program.open_session(app)
        session.window.may_close = lambda: True
        found: dict[str, float] = {}
        gaps: list[float] = []
        last = [0.0]

        def begin() -> None:
            found["cpu"], found["began"] = time.process_time(), time.perf_counter()
            session.runs.show_run(folder)
            timer.start()

        def beat() -> None:
            now = time.perf_counter()
            if last[0]:
                gaps.append((now - last[0]) * 1000 - BEAT_MS)
            last[0] = now
            shown = session.runs.shown
            if shown is not None and shown.over:
                found["ended"], found["cpu"] = now, time.process_time() - found["cpu"]
                found["points"] = len(shown.state.metrics["train"].step)
                timer.stop()
                QTimer.singleShot(1000, app.quit)

        timer = QTimer(interval=BEAT_MS, timerType=Qt.TimerType.PreciseTimer)
        timer.timeout.connect(beat)
        QTimer.singleShot(SETTLE_MS, begin)
        app.exec()
        gaps.sort()
        tell(
            "opening",
            events=LONG_EVENTS,
            points=found["points"],
            seconds=round(found["ended"] - found["began"], 2),
            cpu_s=round(found["cpu"], 2),
            p99_ms=round(gaps[int(len(gaps) * 0.99)], 1),
            worst_ms=round(gaps[-1], 1),
            estimate_cpu_s=estimating,
        )
        session.window.close()
        detach_all()


def _cpu_of(*arguments: str) -> float:
    """CPU seconds of a command of the program."""
    before = os.times()
    subprocess.run([sys.executable, str(ROOT / "main.py"), *arguments], stdout=subprocess.DEVNULL)
    after = os.times()
    spent = after.children_user + after.children_system
    return round(spent - before.children_user - before.children_system, 2)


def runs() -> None:
    """The start of the window with many earlier runs, and without."""
    found: dict[bool, list[float]] = {True: [], False: []}
    with tempfile.TemporaryDirectory() as many, tempfile.TemporaryDirectory() as none:
        os.environ["LORA_STUDIO_HOME"] = many
        for _ in range(EARLIER_RUNS):
            _fill(_make_run().events_path, 40)
        for _ in range(STARTS):
            found[True].append(_one_start(many)[1])
            found[False].append(_one_start(none)[1])
    with_, without = (statistics.median(found[key]) for key in (True, False))
    tell(
        "runs",
        runs=EARLIER_RUNS,
        start_cpu_s=round(with_, 3),
        start_without_cpu_s=round(without, 3),
        more_cpu_s=round(with_ - without, 3),
    )


def _fill(path: Path, count: int) -> None:
    """Write the events of a completed run, a quarter of them optimizer steps."""
    from studio.events import Event

    memory = {"ram_process_gib": 1.5, "ram_system_gib": 6.0}
    steps = count // 4
    with path.open("w", encoding="utf-8") as file:

        def line(at: float, name: str, node: str | None = None, /, **data: Any) -> None:
            file.write(Event(name, 1.7e9 + at, node, data).to_line())

        nodes = [{"id": "train", "type": "train", "title": "Train"}]
        line(0, "RunStarted", run="x", name="Starter", nodes=nodes, device="CPU")
        line(0, "StepStarted", "train", title="Train", index=1, count=1)
        line(0, "Phase", "train", phase="train", title="Training")
        for step in range(1, steps + 1):
            values = {"loss": 2 / step**0.2, "learning_rate": 1e-4, "grad_norm": 0.5}
            speed = {"tokens": 600, "tokens_per_s": 600.0, "eta_s": 9.0, **memory}
            line(step, "Metric", "train", step=step, steps=steps, epoch=0.5, **values, **speed)
            progress = {"done": step, "total": steps, "unit": "steps", "eta_s": 9.0}
            line(step, "Progress", "train", phase="train", **progress)
            line(step, "Memory", "train", **memory)
            line(step + 0.5, "Memory", "train", **memory)
        line(steps, "StepFinished", "train", seconds=float(steps), cached=False, outputs={})
        line(steps, "RunFinished", status="completed", seconds=float(steps))


def write(path: Path) -> None:
    """In another process: hold the run's lock and append events until this is ended."""
    from studio.events import event
    from studio.runs.folder import RunFolder
    from studio.runs.lock import HostLock

    folder, rng = RunFolder(path), random.Random(0)
    HostLock(folder.lock_path).acquire()
    nodes = [{"id": n.id, "type": n.type, "title": n.id} for n in folder.graph().nodes]
    folder.append(event("RunStarted", run=folder.id, name="Starter", nodes=nodes, device="CPU"))
    folder.append(event("StepStarted", "train", title="Train", index=0, count=1))
    folder.append(event("Phase", "train", phase="train", title=""))
    started, step = time.monotonic(), 0
    while True:
        step += 1
        folder.append(
            event(
                "Metric",
                "train",
                step=step,
                steps=100_000,
                loss=2 / step**0.2 + rng.gauss(0, 0.05),
                learning_rate=1e-4,
                grad_norm=rng.random(),
                tokens_per_s=600 + rng.random() * 30,
                ram_process_gib=1.5,
                ram_system_gib=6.0,
                eta_s=1000.0,
            )
        )
        if step % 20 == 0:
            folder.append(
                event(
                    "Progress",
                    "train",
                    phase="train",
                    done=step,
                    total=100_000,
                    unit="steps",
                    eta_s=1000.0,
                )
            )
        if step % 200 == 0:
            folder.append(event("Metric", "train", step=step, steps=100_000, eval_loss=1.0))
            folder.append(event("CheckpointSaved", "train", step=step, path="x", reason="cadence"))
        time.sleep(max(0.0, started + step / EVENTS_PER_S - time.monotonic()))


MEASUREMENTS = {
    "startup": startup,
    "nodes": nodes,
    "plots": plots,
    "idle": idle,
    "heartbeat": heartbeat,
    "opening": opening,
    "runs": runs,
}


def table(rows: Sequence[Row]) -> str:
    """The figures that have a target."""
    lines = [f"{'':46}{'wall':>8}{'CPU':>8}{'target':>8}"]
    for what, unit, wall, cpu, target in rows:
        value = cpu if cpu is not None else wall
        over = "  OVER" if value is not None and value > target else ""
        shown = ["" if v is None else f"{v:g}" for v in (wall, cpu, target)]
        lines.append(f"{f'{what}, {unit}':46}" + "".join(f"{s:>8}" for s in shown) + over)
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """Measure what was asked for, or everything; each in a process of its own."""
    if arguments[:1] == ["--write"]:
        write(Path(arguments[1]))
    elif arguments[:1] == ["--one"]:
        MEASUREMENTS[arguments[1]]()
    else:
        rows: list[Row] = []
        for name in arguments or MEASUREMENTS:
            command = [sys.executable, __file__, "--one", name]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8")
            found = json.loads(done.stdout.splitlines()[-1])
            rows += found.pop("rows")
            print(json.dumps(found), flush=True)
        print(table(rows))


if __name__ == "__main__":
    main(sys.argv[1:])
