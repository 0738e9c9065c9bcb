"""How fast the window is: start-up, plots of a million points, heartbeat while events arrive, long
and many earlier runs.

    python benchmarks/window.py [startup] [plots] [heartbeat] [opening] [runs]

Prints one JSON line per measurement. The heartbeat opens the real window on a run that another
process writes at 200 events a second, and looks how late a 10 ms timer comes. Targets: start-up
1.5 s, heartbeat p99 under 50 ms. Opening shows a completed run of a million events and also
estimates with it (targets: 5 s, no gap over 100 ms); runs compares the start with 1,000 earlier
runs to one without (target: 0.3 s more). Uses a home of its own; the user's settings and runs are left alone.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

STARTS = 7
POINTS = 1_000_000
REPAINTS = 30
EVENTS_PER_S = 200
HEARTBEAT_S = 20.0
BEAT_MS = 10
SETTLE_MS = 4000
LONG_EVENTS = 1_000_000
EARLIER_RUNS = 1000


def tell(name: str, **values: Any) -> None:
    """One line of JSON."""
    print(json.dumps({"benchmark": name, **values}), flush=True)


def startup() -> None:
    """From the start of the process to the first paint of the window."""
    with tempfile.TemporaryDirectory() as home:
        found = [_one_start(home) for _ in range(STARTS)]
    tell("startup", median_s=round(statistics.median(found), 3), worst_s=max(found), runs=STARTS)


def _one_start(home: str) -> float:
    log = Path(home) / "startup.json"
    log.unlink(missing_ok=True)
    environment = {**os.environ, "LORA_STUDIO_HOME": home, "LORA_STUDIO_STARTUP_LOG": str(log)}
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "main.py")], env=environment, stderr=subprocess.DEVNULL
    )
    while not (log.is_file() and log.stat().st_size):
        if process.poll() is not None:
            raise SystemExit("the window did not start")
        time.sleep(0.01)
    time.sleep(0.05)
    seconds = float(json.loads(log.read_text("utf-8"))["seconds"])
    process.terminate()
    process.wait()
    return seconds


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
        points=POINTS,
        first_ms=round(first * 1000, 1),
        loss_plot_median_ms=round(statistics.median(curve), 2),
        panel_of_five_median_ms=round(statistics.median(whole), 2),
    )
    panel.close()


def _timed(draw: Any, widget: Any) -> float:
    began = time.perf_counter()
    draw()
    widget.repaint()
    return (time.perf_counter() - began) * 1000


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
    last = [0.0]

    def beat() -> None:
        now = time.perf_counter()
        if last[0]:
            gaps.append((now - last[0]) * 1000 - BEAT_MS)
        last[0] = now

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
            found[True].append(_one_start(many))
            found[False].append(_one_start(none))
    with_, without = (statistics.median(found[key]) for key in (True, False))
    tell(
        "runs",
        runs=EARLIER_RUNS,
        start_s=round(with_, 3),
        start_without_s=round(without, 3),
        more_s=round(with_ - without, 3),
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


def main(arguments: list[str]) -> None:
    """Run what was asked for, or everything; each in a process of its own."""
    known = {
        "startup": startup,
        "plots": plots,
        "heartbeat": heartbeat,
        "opening": opening,
        "runs": runs,
    }
    if arguments[:1] == ["--write"]:
        write(Path(arguments[1]))
    elif len(arguments) == 1:
        known[arguments[0]]()
    else:
        for name in arguments or known:
            subprocess.run([sys.executable, __file__, name], check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
