"""Creates pictures of the window in every state and of every dialog, to look for what is clipped or untrue.

``python docs/make_states.py FOLDER`` runs short trainings first (``recorded_runs.py``; ``--runs FOLDER`` keeps them
for the next time), and then operates the window in three sizes, in the light and in the dark theme. Each picture is
named STATE-THEME-SIZE.png. ``--only NAME`` makes the states whose names begin like this, ``--list`` names them all, and
``--sheets`` adds one image per state with its six pictures. The windows are shown on a display of their own (Xvfb);
``--offscreen`` does without.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(Path(__file__).resolve().parent))

if TYPE_CHECKING:
    from PySide6.QtWidgets import QAbstractButton, QApplication, QWidget

    from ui.window.session import Session

THEMES = ("light", "dark")
NO_XVFB = (
    "Xvfb was not found. Install it (Debian and Ubuntu: apt-get install xvfb), or use --offscreen, which needs no "
    "display."
)
START_S = 20.0
SETTLE_MS = 250
WITHIN_MS = 60_000
ROWS = 80


@dataclass(frozen=True)
class Size:
    """Pixels of the display, and the factor by which it is scaled."""

    name: str
    width: int
    height: int
    factor: int = 1


SIZES = (
    Size("1280x800", 1280, 800),
    Size("1920x1080", 1920, 1080),
    Size("200-percent", 1920, 1080, 2),
)


def main() -> int:
    """Record the runs, then let one process per size make its pictures."""
    options = _options()
    if options.list:
        print("\n".join(name for name, _ in STATES))
        return 0
    if not options.offscreen and not options.size and shutil.which("Xvfb") is None:
        print(NO_XVFB, file=sys.stderr)
        return 1
    if options.size:
        return _draw(options)
    options.out.mkdir(parents=True, exist_ok=True)
    with _home(options.runs) as home:
        _use_home(home)
        import recorded_runs

        recorded_runs.record(home)
        codes = [_draw_elsewhere(options, size, home) for size in SIZES]
    if options.sheets:
        _sheets(options.out)
    return max(codes)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("out", type=Path, nargs="?", default=Path("states"))
    parser.add_argument("--only", action="append", default=[], help="states that begin like this")
    parser.add_argument("--list", action="store_true", help="name the states")
    parser.add_argument("--sheets", action="store_true", help="also one image per state")
    parser.add_argument("--offscreen", action="store_true", help="without a display")
    parser.add_argument("--runs", type=Path, help="the folder of the recorded runs, to keep them")
    parser.add_argument("--size", choices=[s.name for s in SIZES], help=argparse.SUPPRESS)
    return parser.parse_args()


@contextlib.contextmanager
def _home(wanted: Path | None) -> Iterator[Path]:
    if wanted is not None:
        yield wanted.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="lora-studio-states-") as folder:
        yield Path(folder).resolve()


def _use_home(home: Path) -> None:
    """Settings and runs of their own, and the models that are in the cache already."""
    from studio.system.paths import cache_dir

    os.environ["LORA_STUDIO_CACHE"] = str(cache_dir())
    os.environ["LORA_STUDIO_HOME"] = str(home)


def _draw_elsewhere(options: argparse.Namespace, size: Size, home: Path) -> int:
    more = [f"--only={name}" for name in options.only]
    command = [sys.executable, __file__, str(options.out), "--size", size.name, "--runs", str(home)]
    environment = dict(os.environ, QT_SCALE_FACTOR=str(size.factor), PYTHONUTF8="1")
    with _display(size, options.offscreen, home) as display:
        return subprocess.run([*command, *more], env=environment | display, check=False).returncode


@contextlib.contextmanager
def _display(size: Size, offscreen: bool, home: Path) -> Iterator[dict[str, str]]:
    """What Qt needs to know about a display of this size."""
    if offscreen:
        screen = {"name": "screen", "x": 0, "y": 0, "width": size.width, "height": size.height}
        path = home / f"screen-{size.name}.json"
        path.write_text(json.dumps({"screens": [screen | {"logicalDpi": 96}]}), encoding="utf-8")
        yield {"QT_QPA_PLATFORM": f"offscreen:configfile={path}"}
        return
    read, write = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write), "-screen", "0", f"{size.width}x{size.height}x24"],
        pass_fds=[write],
        stderr=subprocess.DEVNULL,
    )
    os.close(write)
    try:
        with os.fdopen(read, encoding="ascii") as answer:
            number = answer.readline().strip()
        if not number:
            raise SystemExit("Xvfb did not start.")
        yield {"QT_QPA_PLATFORM": "xcb", "DISPLAY": f":{number}"}
    finally:
        server.terminate()
        server.wait()


def _sheets(out: Path) -> None:
    """One image per state with its pictures in all sizes and themes."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    from PySide6.QtCore import QRect, Qt
    from PySide6.QtGui import QGuiApplication, QImage, QPainter

    application = QGuiApplication.instance() or QGuiApplication([])
    first = f"-{THEMES[0]}-{SIZES[0].name}.png"
    cell_width, cell_height, gap = 960, 600, 8
    for path in sorted(out.glob(f"*{first}")):
        state = path.name.removesuffix(first)
        sheet = QImage(
            len(THEMES) * (cell_width + gap),
            len(SIZES) * (cell_height + gap),
            QImage.Format.Format_RGB32,
        )
        sheet.fill(Qt.GlobalColor.gray)
        painter = QPainter(sheet)
        for row, size in enumerate(SIZES):
            for column, theme in enumerate(THEMES):
                image = QImage(str(out / f"{state}-{theme}-{size.name}.png"))
                image = image.scaled(
                    cell_width,
                    cell_height,
                    Qt.AspectRatioMode.KeepAspectRatio,
                    Qt.TransformationMode.SmoothTransformation,
                )
                at = QRect(image.rect())
                at.moveTo(column * (cell_width + gap), row * (cell_height + gap))
                painter.drawImage(at, image)
        painter.end()
        sheet.save(str(out / f"sheet-{state}.png"))
    del application


# ---------------------------------------------------------------- one size


class World:
    """The window on a display of one size."""

    def __init__(self, app: QApplication, home: Path, out: Path, size: Size) -> None:
        self.app, self.home, self.out, self.size = app, home, out, size
        self.screen = app.primaryScreen().availableGeometry().size()
        self.session: Session
        self.taken = 0

    # ------------------------------------------------------------ windows

    @contextlib.contextmanager
    def window(
        self, project: Path | None = None, *runs: str, recovers: bool = False
    ) -> Iterator[Session]:
        """A window that fills the display; it finds only these recorded runs."""
        import recorded_runs

        from studio.graph.project import remove_journal
        from studio.system.paths import config_dir, data_dir
        from ui import app as program

        recorded_runs.show_only(self.home, *runs)
        shutil.rmtree(config_dir(), ignore_errors=True)
        shutil.rmtree(data_dir() / "unsaved", ignore_errors=True)
        if project is not None and not recovers:
            remove_journal(project)
        session = self.session = program.open_session(self.app, project)
        session.window.setWindowState(self._no_state())
        session.window.setGeometry(self.app.primaryScreen().availableGeometry())
        session.window.share_space(session.window.size())
        self.until(lambda: session.window.monitor is not None)
        if project is None:
            session.project.new()
        session.window.canvas.fit_all()
        try:
            yield session
        finally:
            session.window.may_close = lambda: True
            session.window.close()
            session.window.deleteLater()
            self.wait(50)

    def _no_state(self) -> Any:
        from PySide6.QtCore import Qt

        return Qt.WindowState.WindowNoState

    def wait(self, ms: int = SETTLE_MS) -> None:
        """Let timers and other processes come to their ends."""
        from settling import settle

        settle(ms)

    def until(self, holds: Callable[[], object]) -> None:
        """Wait for something that takes its time, and let the window settle."""
        from settling import until

        until(holds, WITHIN_MS)
        self.wait()

    def click(self, button: QAbstractButton | QWidget) -> None:
        """Click the middle of a button."""
        from PySide6.QtCore import Qt
        from PySide6.QtTest import QTest

        QTest.mouseClick(button, Qt.MouseButton.LeftButton)
        self.wait()

    def double_click(self, widget: QWidget, at: Any) -> None:
        """Double-click a place."""
        from PySide6.QtCore import Qt
        from PySide6.QtTest import QTest

        QTest.mouseDClick(widget, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, at)

    def button(self, words: str, parent: QWidget | None = None) -> QAbstractButton:
        """The visible button with this text."""
        from PySide6.QtWidgets import QAbstractButton

        found = (parent or self.session.window).findChildren(QAbstractButton)
        return next(b for b in found if b.isVisible() and b.text().replace("&", "") == words)

    # ------------------------------------------------------------ pictures

    def take(self, name: str) -> None:
        """The window as it is, in both themes."""
        for theme in THEMES:
            self.session.preferences.change(theme=theme)
            self.wait()
            self.app.processEvents()  # labels have their sizes after the last change of a text
            self._save(f"{name}-{theme}")

    def take_opened(
        self, name: str, open_: Callable[[], object], ready: Callable[[], object] = lambda: True
    ) -> None:
        """A dialog, a menu or a tip in both themes: it is opened in each of them, and closed."""
        for theme in THEMES:
            self.session.preferences.change(theme=theme)
            self.wait()
            self._take_opened(f"{name}-{theme}", open_, ready)

    def _take_opened(
        self, name: str, open_: Callable[[], object], ready: Callable[[], object]
    ) -> None:
        from PySide6.QtCore import QTimer

        before = {id(w) for w in self._windows()}
        done: list[bool] = []

        def draw() -> None:
            self._save(name)
            for widget in reversed(self._windows()):
                if id(widget) not in before:
                    widget.close()
            done.append(True)

        def look() -> None:
            if {id(w) for w in self._windows()} - before and ready():
                timer.stop()
                QTimer.singleShot(SETTLE_MS, draw)

        timer = QTimer(interval=50)  # it also fires in the event loop of a modal dialog
        timer.timeout.connect(look)
        timer.start()
        open_()
        self.until(lambda: done)

    def _windows(self) -> list[QWidget]:
        """The visible windows, the main window first, popups last."""
        from PySide6.QtCore import Qt

        popup = (Qt.WindowType.Popup, Qt.WindowType.ToolTip)
        found = [w for w in self.app.topLevelWidgets() if w.isVisible()]
        main = self.session.window
        return sorted(found, key=lambda w: (w is not main, w.windowType() in popup))

    def _save(self, name: str) -> None:
        """The screen: every window at its place."""
        from PySide6.QtGui import QPainter, QPixmap

        picture = QPixmap(self.screen * self.size.factor)
        picture.setDevicePixelRatio(self.size.factor)
        picture.fill("#808080")
        painter = QPainter(picture)
        for widget in self._windows():
            painter.drawPixmap(widget.geometry().topLeft(), widget.grab())
            if not self.app.primaryScreen().geometry().contains(widget.geometry()):
                print(f"{name}-{self.size.name}: {type(widget).__name__} is beyond the screen")
        painter.end()
        picture.save(str(self.out / f"{name}-{self.size.name}.png"))
        self.taken += 1


STATES: list[tuple[str, Callable[[World], None]]] = []


def state(name: str) -> Callable[[Callable[[World], None]], Callable[[World], None]]:
    """Registers what makes the pictures of one state, or of several that follow each other."""

    def register(make: Callable[[World], None]) -> Callable[[World], None]:
        STATES.append((name, make))
        return make

    return register


def _draw(options: argparse.Namespace) -> int:
    """Make the pictures of one size; a state that fails does not keep the others from being shown."""
    import recorded_runs

    from ui import app as program
    from workers.run_thread import detach_all
    from workers.task import wait_for_tasks

    size = next(s for s in SIZES if s.name == options.size)
    app = program.make_application()
    sys.excepthook = sys.__excepthook__
    world = World(app, options.runs, options.out, size)
    wanted = [s for s in STATES if not options.only or s[0].startswith(tuple(options.only))]
    failed = 0
    started = time.monotonic()
    for name, make in wanted:
        try:
            make(world)
        except Exception as error:
            import traceback

            traceback.print_exc()
            print(f"{name} at {size.name}: {type(error).__name__}: {error}", file=sys.stderr)
            failed += 1
    recorded_runs.show_only(options.runs, *recorded_runs.NAMES)
    detach_all()
    wait_for_tasks()
    seconds = time.monotonic() - started
    print(f"{size.name}: {world.taken} pictures in {seconds:.0f} s, {failed} states failed")
    sys.stdout.flush()
    os._exit(1 if failed else 0)


# ---------------------------------------------------------------- before a run


@state("empty")
def _empty(world: World) -> None:
    with world.window():
        world.take("empty")


@state("template")
def _template(world: World) -> None:
    from studio.graph.templates import TEMPLATES

    for template in TEMPLATES:
        with world.window() as session:
            session.project.new_from_template(template)
            world.wait(1000)
            session.window.canvas.fit_all()
            world.take(f"template-{template.id}")


@state("new-from-template")
def _new_from_template(world: World) -> None:
    with world.window() as session:
        world.take_opened("new-from-template", session.window.own["template"].trigger)


@state("dropped")
def _dropped(world: World) -> None:
    """A file on the empty canvas, the base model chooser, and the training that is made."""
    with world.window() as session:
        _drop(world, session)
        world.wait(1500)
        world.take("dropped-file")
        world.take_opened(
            "base-chooser",
            lambda: session.new_training.train_on(session.document.graph.nodes[0].id),
            ready=lambda: session.new_training.dialog and session.new_training.dialog.cards,
        )
        world.click(world.button("Train on This File…"))
        dialog = session.new_training.dialog
        assert dialog is not None
        world.until(lambda: dialog.cards)
        starter = next(c for c in dialog.cards if c.isEnabled())
        world.click(starter)
        world.until(lambda: session.new_training.dialog is None)
        world.wait(1500)
        world.take("set-up")
        train = next(n.id for n in session.document.graph.nodes if n.type == "train")
        world.take_opened("reasons", lambda: session.training.show_recipe(train))
        _drop(world, session, "more.jsonl")
        world.take("another-file")


def _drop(world: World, session: Session, name: str = "tickets.jsonl") -> None:
    from PySide6.QtCore import QMimeData, QPointF, Qt, QUrl
    from PySide6.QtGui import QDropEvent

    path = world.home / name
    rows = [{"question": f"What is {n} and {n}?", "answer": f"It is {2 * n}."} for n in range(ROWS)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path))])
    canvas = session.window.canvas
    at = QPointF(canvas.viewport().width() / 3, canvas.viewport().height() / 3)
    canvas.dropEvent(
        QDropEvent(
            at,
            Qt.DropAction.CopyAction,
            data,
            Qt.MouseButton.LeftButton,
            Qt.KeyboardModifier.NoModifier,
        )
    )
    world.until(lambda: not canvas.offers.isHidden())


@state("ready")
def _ready(world: World) -> None:
    """The starter before a run, each of its nodes in the inspector, and what opens from there."""
    import recorded_runs

    with world.window(recorded_runs.project_of(world.home, recorded_runs.DONE)) as session:
        window = session.window
        world.wait(1500)
        world.take("ready")
        for node in ("data", "base", "lora", "train", "merge", "export", "evaluate"):
            window.canvas.select((node,))
            world.wait(1000)
            world.take(f"ready-{node}")
        window.canvas.select(("train",))
        window.inspector.show_all(True)
        world.take("ready-all-settings")
        window.inspector.show_all(False)
        window.open_panel()
        for index in range(window.tabs.count()):
            window.show_tab(index)
            world.take(f"before-run-{window.tabs.tabText(index).split()[0].lower()}")
        window.docks["monitor"].hide()
        window.canvas.select(("train",))
        world.take_opened("recipe", lambda: world.click(world.button("Recipe…")))
        world.take_opened(
            "templates-compared",
            session.tabs._choose_template,
            ready=lambda: _texts_of(session, "template-sample"),
        )
        window.canvas.select(("lora",))
        world.wait(1000)
        _layers(world, session)
        window.canvas.select(("base",))
        world.wait(1000)
        world.take_opened(
            "base-chooser-of-node",
            lambda: session.new_training.choose_base("base"),
            ready=lambda: session.new_training.dialog and session.new_training.dialog.cards,
        )


def _texts_of(session: Session, name: str) -> str:
    """What a text field says, once it is there."""
    from PySide6.QtWidgets import QWidget

    part: Any = session.window.findChild(QWidget, name)
    return str(part.toPlainText()) if part is not None else ""


def _layers(world: World, session: Session) -> None:
    from ui.inspector.editors.target_modules import TargetModulesEditor

    editor = session.window.inspector.findChild(TargetModulesEditor)
    assert editor is not None
    world.take_opened("layers", editor.choose)


@state("data")
def _data(world: World) -> None:
    """Rows, tokens and report."""
    import recorded_runs

    from ui.data.tabs import REPORT, ROWS, TOKENS

    with world.window(recorded_runs.project_of(world.home, recorded_runs.DONE)) as session:
        session.window.canvas.select(("train",))
        for wide in (False, True):
            if wide:
                session.tabs.wide.click()
            words = "-wide" if wide else ""
            session.tabs.choose(ROWS)
            world.wait(1500)
            world.take(f"data-rows{words}")
            session.tabs.choose(TOKENS)
            page: Any = session.tabs.page(TOKENS)
            world.until(lambda page=page: page.row_view.flow.row is not None)
            world.take(f"data-tokens{words}")
            session.tabs.choose(REPORT)
            report: Any = session.tabs.page(REPORT)
            if not wide:
                world.wait(1000)
                world.take("data-no-report")
                report.button.click()
            world.until(lambda report=report: report.view.isVisible())
            world.take(f"data-report{words}")


@state("problems")
def _problems(world: World) -> None:
    """Errors and warnings, and a refused run."""
    from studio.graph.edits import set_setting
    from studio.graph.templates import TEMPLATES

    with world.window() as session:
        session.project.new_from_template(TEMPLATES[0])
        graph = session.document.graph
        for node in graph.nodes:
            if node.type == "dataset":
                graph = set_setting(graph, node.id, "source", "missing.jsonl")
            if node.type == "train":
                graph = set_setting(graph, node.id, "batch_size", -3)
        session.document.edit(graph, "Break")
        session.window.canvas.add_node_at_center("dataset")
        world.wait(1500)
        session.window.canvas.fit_all()
        session.window.canvas.select(())
        world.take("problems")
        session.window.own["run"].trigger()
        world.wait(1500)
        world.take("refused")
        world.take_opened("tip-of-problem", lambda: _tip_of_node(world, session))


def _tip_of_node(world: World, session: Session) -> None:
    from PySide6.QtWidgets import QToolTip

    from ui.canvas.tips import node_tip

    canvas = session.window.canvas
    item = next(i for i in canvas.graph_scene.nodes.values() if i.problems)
    at = canvas.node_rect_in_view(item.node.id).center()
    QToolTip.showText(canvas.viewport().mapToGlobal(at), node_tip(item, item.pos()), canvas)


@state("canvas")
def _canvas(world: World) -> None:
    """What opens on the canvas."""
    import recorded_runs
    from PySide6.QtCore import QPoint, QPointF
    from PySide6.QtWidgets import QToolTip

    with world.window(recorded_runs.project_of(world.home, recorded_runs.DONE)) as session:
        canvas = session.window.canvas
        canvas.select(("train",))
        world.wait(1000)
        middle = QPointF(canvas.viewport().rect().center())
        world.take_opened("add-node", lambda: canvas.finder.open(middle))
        from ui.canvas import commands

        def menu(at: QPoint) -> None:
            commands.open_menu(canvas, QPointF(at), canvas.viewport().mapToGlobal(at), by_key=False)

        world.take_opened("menu-of-node", lambda: menu(canvas.node_rect_in_view("train").center()))
        world.take_opened("menu-of-canvas", lambda: menu(QPoint(8, 8)))
        for action in session.window.menuBar().actions():
            name = action.text().replace("&", "").lower()
            place = session.window.menuBar().actionGeometry(action).bottomLeft()
            world.take_opened(
                f"menu-{name}",
                lambda action=action, place=place: action.menu().popup(
                    session.window.menuBar().mapToGlobal(place)
                ),
            )
        canvas.begin_key_wires()
        world.take("wire-by-keys")
        canvas.cancel_gesture()
        from PySide6.QtWidgets import QLabel

        label = next(
            w
            for w in session.window.inspector.findChildren(QLabel)
            if w.isVisible() and w.text() == "Learning rate"
        )
        world.take_opened(
            "tip-of-field",
            lambda: QToolTip.showText(label.mapToGlobal(QPoint(10, 10)), label.toolTip(), label),
        )


# ---------------------------------------------------------------- dialogs


@state("dialogs")
def _dialogs(world: World) -> None:
    """The windows of the menus, questions and errors."""
    import recorded_runs

    from studio.graph.edits import set_setting
    from studio.system.paths import data_dir
    from ui.window.crash import CrashReporter

    project = recorded_runs.project_of(world.home, recorded_runs.DONE)
    with world.window(project, recorded_runs.DONE) as session:
        own = session.window.own
        for name in ("settings", "shortcuts", "guide", "about"):
            world.take_opened(name, own[name].trigger)
        world.take_opened("crash", lambda: _crash(CrashReporter(data_dir() / "crash.log")))
        world.take_opened("error", lambda: session.project.open(project.with_name("none.studio")))
        run = recorded_runs.recorded(world.home, recorded_runs.DONE)
        world.take_opened("delete-run", lambda: session.window.runs.delete(run))
        session.document.edit(set_setting(session.document.graph, "lora", "r", 8), "Rank")
        world.take_opened("unsaved", session.project.new)
        session.document.undo()
        _trust(world, session)


def _crash(reporter: Any) -> None:
    try:
        raise ValueError("the row has no text")
    except ValueError as error:
        text = "Traceback (most recent call last):\n" + "\n".join(
            f'  File "{Path(file).name}", line 12, in shown' for file in [__file__] * 12
        )
        reporter._show(error, None, f"{text}\nValueError: {error}")


def _trust(world: World, session: Session) -> None:
    from studio.graph.edits import set_setting

    folder = world.home / "own-code"
    folder.mkdir(exist_ok=True)
    config = {"model_type": "mine", "auto_map": {"AutoModelForCausalLM": "modeling_mine.Mine"}}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "modeling_mine.py").write_text("class Mine:\n    pass\n" * 40, encoding="utf-8")
    graph = set_setting(session.document.graph, "base", "model", str(folder))
    session.document.edit(graph, "Model")
    session.window.canvas.select(("base",))
    world.wait(1500)
    world.take("custom-code")
    world.take_opened("review-code", lambda: session.window.inspector.review_code("base"))


@state("recovery")
def _recovery(world: World) -> None:
    import recorded_runs

    from studio.graph.edits import set_setting
    from studio.graph.project import load_project, remove_journal, write_journal

    project = recorded_runs.project_of(world.home, recorded_runs.DONE)
    write_journal(project, set_setting(load_project(project), "lora", "r", 64))
    try:
        with world.window(project, recovers=True):
            world.wait(1000)
            world.take("recovery")
    finally:
        remove_journal(project)


# ---------------------------------------------------------------- runs


@state("running")
def _running(world: World) -> None:
    """The phases of a run, from its start to its end, and what can be done then."""
    import recorded_runs as runs

    project = runs.project_of(world.home, runs.DONE)
    folder = runs.recorded(world.home, runs.DONE)
    with (
        world.window(project, *runs.NAMES) as session,
        runs.Played(folder, runs.called("RunStarted")) as played,
    ):
        session.runs.attach(folder)
        window = session.window
        for name, until in (
            ("starting", None),
            ("preparing-data", runs.phase("tokenize")),
            ("loading", runs.phase("load")),
            ("sampling", runs.phase("sample")),
            ("training", runs.step(15)),
            ("evaluating", runs.phase("evaluate")),
            ("saving", runs.phase("save")),
            ("verifying", runs.phase("verify")),
            ("merging", runs.begins("merge")),
            ("exporting", runs.begins("export")),
            ("testing", runs.begins("evaluate")),
        ):
            if until is not None:
                played.go_on(until)
            world.wait(500)
            window.canvas.fit_all()
            if name == "evaluating":
                window.canvas.select(("train",))
            world.take(name)
            if name == "training":
                _tabs(world, session, name)
                world.take_opened("quit-while-training", window.close)
        window.canvas.select(())
        played.go_on(lambda e: e.name == "Evaluation")
        world.wait(500)
        played.go_on(runs.called("RunFinished"))
        played.release()
        world.until(lambda: session.runs.phase == "idle")
        world.take("done")
        _tabs(world, session, "done")
        _plots(world, session)
        _changed_since(world, session)


def _tabs(world: World, session: Session, name: str) -> None:
    tabs = session.window.tabs
    for index in range(1, tabs.count()):
        session.window.show_tab(index)
        world.wait()
        world.take(f"{name}-{tabs.tabText(index).split()[0].lower()}")
    session.window.show_tab(0)


def _plots(world: World, session: Session) -> None:
    """The curves above each other as high as the window allows."""
    from PySide6.QtCore import Qt

    window = session.window
    dock = window.docks["monitor"]
    height = dock.height()
    window.resizeDocks([dock], [window.height()], Qt.Orientation.Vertical)
    world.take("done-tall")
    window.show_tab(2)
    world.take("done-tall-results")
    window.show_tab(3)
    world.take("done-tall-insight")
    window.show_tab(0)
    window.resizeDocks([dock], [height], Qt.Orientation.Vertical)


def _changed_since(world: World, session: Session) -> None:
    from studio.graph.edits import set_setting

    session.document.edit(set_setting(session.document.graph, "lora", "r", 8), "Rank")
    session.window.canvas.select(("lora",))
    world.wait(1000)
    world.take("changed-since")


@state("failed")
def _failed(world: World) -> None:
    import recorded_runs as runs

    folder = runs.recorded(world.home, runs.FAILED)
    project = runs.project_of(world.home, runs.FAILED)
    with (
        world.window(project, runs.FAILED) as session,
        runs.Played(folder, runs.called("StepFailed")) as played,
    ):
        session.runs.attach(folder)
        world.wait(1000)
        played.go_on(runs.called("RunFinished"))
        played.release()
        world.until(lambda: session.runs.phase == "idle")
        world.take("failed")
        _tabs(world, session, "failed")
        rows = session.window.banner.button("Show Rows")
        session.window.banner._answered = lambda: None  # it is pressed once per theme
        world.take_opened("rows-of-a-failure", lambda: world.click(rows))


@state("stopped")
def _stopped(world: World) -> None:
    """Stopped, the question before a resume, and resumed."""
    import recorded_runs as runs

    from studio.graph.edits import set_setting

    folder = runs.recorded(world.home, runs.STOPPED)
    project = runs.project_of(world.home, runs.STOPPED)
    with (
        world.window(project, runs.STOPPED, runs.FAILED) as session,
        runs.Played(folder, runs.step(runs.STOP_AT)) as played,
    ):
        session.runs.attach(folder)
        world.wait(1000)
        session.runs.stop()
        world.take("stopping")
        played.go_on(runs.called("RunFinished"))
        played.release()
        world.until(lambda: session.runs.phase == "idle")
        world.take("stopped")
        before = session.document.graph
        session.document.edit(set_setting(before, "train", "learning_rate", 1e-3), "Rate")
        world.take_opened("resume-differs", session.runs.resume)
    with (
        world.window(project, runs.STOPPED, runs.FAILED) as session,
        runs.Played(
            folder, runs.called("RunFinished"), runs.called("TrainResumed"), runs.called("Metric")
        ) as played,
    ):
        session.runs.attach(folder)
        world.wait(1000)
        world.take("resumed")
        played.go_on(runs.called("RunFinished"))
        played.release()
        world.until(lambda: session.runs.phase == "idle")


@state("resumable")
def _resumable(world: World) -> None:
    """The project of a stopped run is opened."""
    import recorded_runs as runs

    project = runs.project_of(world.home, runs.STOPPED)
    with world.window(project, runs.STOPPED, runs.FAILED):
        world.wait(1000)
        world.take("resumable")


@state("another-project")
def _another_project(world: World) -> None:
    """A run of another project is shown."""
    import recorded_runs as runs

    from studio.graph.templates import TEMPLATES

    with world.window(None, *runs.NAMES) as session:
        session.project.new_from_template(TEMPLATES[1])
        session.open_run(runs.recorded(world.home, runs.DONE))
        world.wait(1500)
        session.window.canvas.fit_all()
        world.take("another-project")


if __name__ == "__main__":
    sys.exit(main())
