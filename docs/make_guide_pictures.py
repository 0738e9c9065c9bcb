"""Creates the pictures of the guide by operating the window: ``python docs/make_guide_pictures.py [NAME ...]``.

The curves and results are those of real trainings, whose events are kept in ``docs/guide/recorded``; ``--train`` trains
them again on the starter model, which takes about half an hour on two cores. Everything else is made while the script
runs. No display is needed. Each picture is made in the light and in the dark theme, at two pixels per pixel of the
window, cropped to what is explained, and reduced to 256 colours.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parent.parent
GUIDE = ROOT / "docs" / "guide"
PICTURES, RECORDED = GUIDE / "pictures", GUIDE / "recorded"
TEMPLATES = ROOT / "assets" / "templates"
THEMES = ("light", "dark")
SCALE = 2
COLORS = 256
SCREEN = (1440, 1000)
WITHIN_MS, SETTLE_MS = 40_000, 300
MARGIN = 6
SIZES = {
    "adapter": 19_600_000,
    "merged": 538_000_000,
    "merged_model": 538_000_000,
    "export": 538_000_000,
}
"""Bytes of what the recorded runs made."""
sys.path.insert(0, str(ROOT))

if TYPE_CHECKING:
    from PySide6.QtCore import QRect
    from PySide6.QtWidgets import QApplication, QWidget

    from ui.window.session import Session


@dataclass(frozen=True)
class Training:
    """A recorded run of a template with other settings; ``stop_at`` is the step at which it is stopped."""

    template: str
    settings: tuple[str, ...] = ()
    stop_at: int = 0

    @property
    def project(self) -> Path:
        """The project file."""
        return TEMPLATES / f"{self.template}.studio"


TRAININGS = {
    "healthy": Training("classify-text"),
    "high-rate": Training(
        "classify-text",
        ("train.learning_rate=0.05", "train.max_steps=50", "train.eval_steps=10"),
    ),
    "overfitting": Training(
        "answer-in-my-tone", ("train.learning_rate=0.001", "train.epochs=10"), stop_at=52
    ),
}
KEPT = ("graph.studio", "plan.json", "events.jsonl")
LEFT_OUT = ("Memory", "Progress", "Phase")


# ---------------------------------------------------------------- recorded runs


def record(name: str, runs: Path) -> None:
    """Train, and keep the events of the run."""
    training = TRAININGS[name]
    options = [part for s in training.settings for part in ("--set", s)]
    command = [sys.executable, str(ROOT / "main.py")]
    program = subprocess.Popen(
        [*command, "run", str(training.project), "--runs", str(runs), "--json", *options],
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    assert program.stdout is not None
    for line in program.stdout:
        event = json.loads(line)
        if training.stop_at and event.get("step") == training.stop_at and "loss" in event:
            run = max(runs.iterdir()).name
            subprocess.run([*command, "stop", run, "--runs", str(runs)], check=True)
    program.wait()
    keep(max(runs.iterdir()), RECORDED / name)


def keep(run: Path, place: Path) -> None:
    """Copy what the window shows of a run, without the paths of this machine."""
    place.mkdir(parents=True, exist_ok=True)
    for file in KEPT:
        text = (run / file).read_text(encoding="utf-8")
        for real, written in _paths(run):
            text = text.replace(real, written)
        if file == "events.jsonl":
            lines = [k for k in text.splitlines() if json.loads(k)["event"] not in LEFT_OUT]
            text = "".join(f"{line}\n" for line in lines)
        (place / file).write_text(text, encoding="utf-8")


def _paths(run: Path) -> Iterable[tuple[str, str]]:
    from studio.system.paths import cache_dir

    yield str(run), "{RUN}"
    yield run.name, "{ID}"
    yield str(ROOT), "{ROOT}"
    yield str(cache_dir()), "{CACHE}"


def play(name: str, runs: Path) -> Path:
    """A run folder with the recorded events."""
    training = TRAININGS[name]
    run = runs / f"20261129-1000{len(list(runs.glob('*'))):02}-{training.template}"
    run.mkdir(parents=True)
    for file in KEPT:
        text = (RECORDED / name / file).read_text(encoding="utf-8")
        for real, written in _paths(run):
            text = text.replace(written, real)
        (run / file).write_text(text, encoding="utf-8")
    (run / "host.lock").touch()
    for line in (run / "events.jsonl").read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        path = Path(str(event.get("path", "")))
        if event["event"] == "ArtifactSaved" and path.is_relative_to(run):
            file = path if path.suffix else path / "model.safetensors"
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("wb") as made:  # of the size that is shown, without its content
                made.truncate(SIZES.get(event["kind"], 4000))
        if event["event"] == "CheckpointSaved":
            name = f"step-{event['step']:06}"
            (run / "checkpoints" / event["node"] / name).mkdir(parents=True, exist_ok=True)
    return run


# ---------------------------------------------------------------- the window


@dataclass
class Stage:
    """The window that is operated, and the pictures that were taken of it."""

    app: QApplication
    home: Path
    names: tuple[str, ...]
    taken: list[str] = field(default_factory=list)

    def open(
        self, project: Path | None = None, *recorded: str, size: tuple[int, int] = (1280, 800)
    ) -> Session:
        """A window with a project and the recorded runs."""
        from studio.system.paths import config_dir, data_dir
        from ui import app as program

        shutil.rmtree(data_dir() / "runs", ignore_errors=True)
        shutil.rmtree(data_dir() / "unsaved", ignore_errors=True)
        shutil.rmtree(config_dir(), ignore_errors=True)
        self.runs = {name: play(name, data_dir() / "runs") for name in recorded}
        self.session = session = program.open_session(self.app, project)
        session.window.resize(*size)
        session.window.share_space(session.window.size())
        self.until(lambda: session.window.monitor is not None)
        if project is None:
            session.project.new()
        session.window.canvas.fit_all()
        return session

    def close(self) -> None:
        """Close the window."""
        self.session.window.may_close = lambda: True
        self.session.window.close()
        self.session.window.deleteLater()
        self.wait(50)

    def wait(self, ms: int = SETTLE_MS) -> None:
        """Let timers and other processes come to their ends."""
        from settling import settle

        settle(ms)

    def until(self, holds: Callable[[], object]) -> None:
        """Wait for something that takes its time, and let the window settle."""
        from settling import until

        until(holds, WITHIN_MS)
        self.wait()

    def show_run(self, name: str, tab: int = 0) -> None:
        """Show a recorded run in the panel below the canvas."""
        from studio.runs.folder import RunFolder

        self.session.open_run(RunFolder(self.runs[name]))
        self.session.window.show_tab(tab)
        self.wait(1200)

    def take(self, name: str, widget: QWidget, area: Callable[[], QRect] | None = None) -> None:
        """A widget, or an area of it, in both themes."""
        for theme in THEMES:
            self.session.preferences.change(theme=theme)
            self.wait(600)
            self.save(name, theme, widget, area)

    def save(
        self, name: str, theme: str, widget: QWidget, area: Callable[[], QRect] | None = None
    ) -> None:
        """Write one picture, with as few colours as it needs."""
        from PIL import Image

        if self.names and name not in self.names:
            return
        shot = widget.grab(area().intersected(widget.rect())) if area else widget.grab()
        path = PICTURES / f"{name}-{theme}.png"
        shot.save(str(path))
        with Image.open(path) as image:
            small = image.convert("RGB").quantize(COLORS, dither=Image.Dither.NONE)
        small.save(path, optimize=True)
        self.taken.append(path.name)
        print(f"{path.name}: {small.width} × {small.height}, {path.stat().st_size / 1024:.0f} KiB")

    def area_of(self, parent: QWidget, *widgets: QWidget, margin: int = MARGIN) -> QRect:
        """The rectangle of ``parent`` around some of its parts."""
        from PySide6.QtCore import QPoint, QRect

        found = QRect()
        for widget in widgets:
            found = found.united(QRect(widget.mapTo(parent, QPoint(0, 0)), widget.size()))
        return found.adjusted(-margin, -margin, margin, margin)

    def click(self, words: str, parent: QWidget | None = None) -> None:
        """Click the visible button with this text."""
        from PySide6.QtCore import Qt
        from PySide6.QtTest import QTest
        from PySide6.QtWidgets import QAbstractButton

        found = (parent or self.session.window).findChildren(QAbstractButton)
        button = next(b for b in found if b.isVisible() and b.text().replace("&", "") == words)
        QTest.mouseClick(button, Qt.MouseButton.LeftButton)
        self.wait()

    def child(self, name: str, parent: QWidget | None = None) -> Any:
        """The visible part with this name."""
        from PySide6.QtWidgets import QWidget

        found = (parent or self.session.window).findChildren(QWidget, name)
        return next(w for w in found if w.isVisible())


# ---------------------------------------------------------------- the pictures


def _around(canvas: Any, nodes: Iterable[str]) -> QRect:
    """The area of the canvas around some nodes."""
    from PySide6.QtCore import QRect

    found = QRect()
    for node in nodes:
        found = found.united(canvas.node_rect_in_view(node))
    return found.adjusted(-14, -14, 14, 14)


def first_training(stage: Stage) -> None:
    """A dropped file, the list of base models, and the training around it."""
    from PySide6.QtCore import QMimeData, QPointF, Qt, QUrl
    from PySide6.QtGui import QDropEvent

    from ui.training.base_dialog import BaseCard

    session = stage.open()
    canvas = session.window.canvas
    file = stage.home / "questions.csv"
    shutil.copy(TEMPLATES / "data" / "ferry_train.jsonl", file.with_suffix(".jsonl"))
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(file.with_suffix(".jsonl")))])
    at = QPointF(canvas.viewport().width() / 4, canvas.viewport().height() / 4)
    copy, left = Qt.DropAction.CopyAction, Qt.MouseButton.LeftButton
    canvas.dropEvent(QDropEvent(at, copy, data, left, Qt.KeyboardModifier.NoModifier))
    stage.until(lambda: not canvas.offers.isHidden())
    stage.wait(1500)
    node = session.document.graph.nodes[0].id
    shown = canvas.node_rect_in_view
    stage.take(
        "offer",
        canvas,
        lambda: shown(node).united(stage.area_of(canvas, canvas.offers)).adjusted(-24, -24, 24, 24),
    )
    stage.click("Train on This File…")
    dialog = session.new_training.dialog
    assert dialog is not None
    stage.until(lambda: dialog.cards)
    dialog.resize(620, 460)
    stage.take("base-models", dialog)
    card: BaseCard = next(c for c in dialog.cards if c.isEnabled())
    card.click()
    stage.until(lambda: session.new_training.dialog is None)
    stage.wait(1500)
    canvas.fit_all()
    stage.take(
        "set-up", canvas, lambda: _around(canvas, (n.id for n in session.document.graph.nodes))
    )
    stage.close()


def data(stage: Stage) -> None:
    """Rows, tokens and a finding of the report."""
    from PySide6.QtCore import QRect

    from ui.data.tabs import REPORT, ROWS, TOKENS

    source = TEMPLATES / "data" / "tone.jsonl"
    folder = stage.home / "work"
    folder.mkdir()
    lines = source.read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "tone.jsonl").write_text("".join([*lines, *lines[:4]]), encoding="utf-8")
    text = (TEMPLATES / "answer-in-my-tone.studio").read_text(encoding="utf-8")
    project = folder / "tone.studio"
    project.write_text(text.replace("data/tone.jsonl", "tone.jsonl"), encoding="utf-8")
    session = stage.open(project)
    inspector = session.window.inspector
    session.window.docks["monitor"].hide()
    session.window.canvas.select(("data",))
    session.tabs.wide.click()
    session.tabs.choose(ROWS)
    rows: Any = session.tabs.page(ROWS)
    stage.until(lambda: rows.cards.isVisible())
    stage.wait(1000)
    stage.take("rows", inspector, lambda: QRect(0, 0, inspector.width(), 470))
    session.window.canvas.select(("train",))
    session.tabs.choose(TOKENS)
    tokens: Any = session.tabs.page(TOKENS)
    stage.until(lambda: tokens.row_view.flow.row is not None)
    stage.wait(1000)
    stage.take("tokens", inspector, lambda: stage.area_of(inspector, tokens.row_view, margin=0))
    session.tabs.choose(REPORT)
    report: Any = session.tabs.page(REPORT)
    stage.wait(2500)
    stage.until(report.button.isEnabled)
    report.button.click()
    stage.until(lambda: report.view.cards)
    stage.wait(1000)
    stage.take("report", inspector, lambda: stage.area_of(inspector, report.view.cards[0]))
    stage.close()


def settings(stage: Stage) -> None:
    """The essential settings of a LoRA node, and the estimate of a Train node."""
    from PySide6.QtCore import QRect

    session = stage.open(TEMPLATES / "classify-text.studio")
    inspector = session.window.inspector
    session.window.docks["monitor"].hide()
    session.window.docks["inspector"].setMinimumWidth(400)
    session.window.canvas.select(("lora",))
    stage.wait(1500)
    stage.take("settings", inspector, lambda: QRect(0, 0, inspector.width(), 420))
    session.window.canvas.select(("train",))
    strip = stage.child("estimate")
    stage.until(lambda: strip.bar.isVisible())
    strip.details.expand()
    stage.wait(1000)
    stage.take("memory", inspector, lambda: stage.area_of(inspector, strip))
    stage.close()


def curves(stage: Stage) -> None:
    """The loss of a good training and of two that go wrong."""
    for name in ("healthy", "overfitting", "high-rate"):
        session = stage.open(TRAININGS[name].project, *TRAININGS)
        stage.show_run(name)
        from PySide6.QtCore import Qt

        dock = session.window.docks["monitor"]
        session.window.resizeDocks([dock], [420], Qt.Orientation.Vertical)
        monitor = session.window.monitor
        assert monitor is not None
        stage.wait(1500)
        monitor.draw_now()
        stage.take(f"curve-{name}", monitor, lambda m=monitor: stage.area_of(m, m.loss, margin=0))
        stage.close()


def results(stage: Stage) -> None:
    """What a finished run says."""
    from PySide6.QtCore import Qt

    session = stage.open(TRAININGS["healthy"].project, "healthy")
    stage.show_run("healthy", 2)
    dock = session.window.docks["monitor"]
    session.window.resizeDocks([dock], [520], Qt.Orientation.Vertical)
    stage.wait(800)
    results = session.window.results
    stage.take("results", results)
    comparison = [results.bars, results.examples]
    stage.take("evaluation", results, lambda: stage.area_of(results, *comparison, margin=0))
    stage.close()


def stopping(stage: Stage) -> None:
    """The banner of a stopped run, and the question before it is resumed."""
    from PySide6.QtCore import QTimer

    from ui.window.resuming import ResumeDialog

    session = stage.open(TRAININGS["overfitting"].project, "overfitting")
    stage.until(lambda: session.window.banner.key == "resumable")
    banner = session.window.banner
    stage.take("resume", banner)

    drawn: list[bool] = []

    def draw() -> None:
        for dialog in session.window.findChildren(ResumeDialog):
            look.stop()
            stage.take("changed", dialog)
            dialog.reject()
            drawn.append(True)

    look = QTimer(session.window, interval=200)  # the dialog has a loop of its own
    look.timeout.connect(draw)
    look.start()
    session.runs.resume()
    stage.until(lambda: drawn)
    stage.close()


def canvas(stage: Stage) -> None:
    """A wire that is dragged, and the list of problems."""
    from PySide6.QtCore import QPoint, Qt
    from PySide6.QtTest import QTest

    from studio.graph.edits import disconnect, set_setting

    session = stage.open(TEMPLATES / "answer-in-my-tone.studio")
    view = session.window.canvas
    graph = session.document.graph
    wire = next(w for w in graph.wires if w.source == "data")
    session.document.edit(disconnect(graph, wire), "Disconnect")
    session.window.docks["monitor"].hide()
    stage.wait(800)
    view.fit_all()
    stage.wait()
    item = view.graph_scene.nodes["data"]
    start = view.mapFromScene(item.port_point("output", "dataset"))
    end = view.mapFromScene(view.graph_scene.nodes["train"].port_point("input", "dataset"))
    none = Qt.KeyboardModifier.NoModifier
    QTest.mousePress(view.viewport(), Qt.MouseButton.LeftButton, none, start)
    for share in (0.3, 0.6, 0.8):
        QTest.mouseMove(view.viewport(), start + (end - start) * share + QPoint(0, 20))
        stage.wait(60)

    stage.take("wire", view, lambda: _around(view, ("data", "base", "lora", "train")))
    view.cancel_gesture()
    session.document.undo()
    graph = set_setting(session.document.graph, "data", "source", "")
    session.document.edit(set_setting(graph, "train", "learning_rate", 0.1), "Break")
    view.select(())
    stage.wait(1500)
    inspector = session.window.inspector
    found = stage.child("overview-problems")
    stage.take("problems", inspector, lambda: stage.area_of(inspector, found))
    stage.close()


def templates(stage: Stage) -> None:
    """The templates in their dialog."""
    from ui.dialogs.new_from_template import NewFromTemplate

    session = stage.open()
    session.window.own["template"].trigger()
    stage.wait(800)
    (dialog,) = session.window.findChildren(NewFromTemplate)
    stage.take("templates", dialog)
    dialog.reject()
    stage.close()


MAKERS: dict[Callable[[Stage], None], tuple[str, ...]] = {
    first_training: ("offer", "base-models", "set-up"),
    data: ("rows", "tokens", "report"),
    settings: ("settings", "memory"),
    curves: ("curve-healthy", "curve-overfitting", "curve-high-rate"),
    results: ("results", "evaluation"),
    stopping: ("resume", "changed"),
    canvas: ("wire", "problems"),
    templates: ("templates",),
}
"""What makes the pictures, and their names."""


def main() -> int:
    """Make the pictures that were asked for, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="pictures; all without")
    parser.add_argument("--train", action="store_true", help="train the recorded runs again")
    options = parser.parse_args()
    known = {name for names in MAKERS.values() for name in names}
    if unknown := set(options.names) - known:
        print(f"Unknown: {', '.join(sorted(unknown))}. Known: {', '.join(sorted(known))}.")
        return 1
    with tempfile.TemporaryDirectory(prefix="lora-studio-guide-") as folder:
        if options.train:
            for name in TRAININGS:
                record(name, Path(folder) / "recorded" / name)
        return _draw(Path(folder), tuple(options.names))


def _draw(home: Path, names: tuple[str, ...]) -> int:
    from studio.system.paths import cache_dir

    width, height = SCREEN
    screen = {"name": "screen", "x": 0, "y": 0, "width": width * SCALE, "height": height * SCALE}
    config = home / "screen.json"
    config.write_text(json.dumps({"screens": [screen | {"logicalDpi": 96}]}), encoding="utf-8")
    os.environ["LORA_STUDIO_CACHE"] = str(cache_dir())
    os.environ["LORA_STUDIO_HOME"] = str(home / "home")
    os.environ["QT_QPA_PLATFORM"] = f"offscreen:configfile={config}"
    os.environ["QT_SCALE_FACTOR"] = str(SCALE)
    from ui import app as program
    from workers.task import wait_for_tasks

    app = program.make_application()
    PICTURES.mkdir(exist_ok=True)
    stage = Stage(app, home, names)
    sys.excepthook = sys.__excepthook__
    failed = 0
    for make, made in MAKERS.items():
        if not names or set(names) & set(made):
            try:
                make(stage)
            except Exception:  # the other pictures are made all the same
                traceback.print_exc()
                failed += 1
    wait_for_tasks()
    shutil.rmtree(home, ignore_errors=True)
    sys.stdout.flush()
    os._exit(1 if failed else 0)  # helper processes of a failed state would keep the program


if __name__ == "__main__":
    sys.exit(main())
