"""The session of one window: links the document, its problems, its runs and the panels.

Slots here are short and only forward; decisions are made in the controllers. The panels are
independent of each other.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, QTimer, QUrl, Slot
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QApplication, QWidget

from studio.errors import StudioError
from studio.estimate.machine import wanted_in
from studio.graph import guide
from studio.graph.document import Document
from studio.graph.graph import Graph
from studio.graph.project import is_project
from studio.graph.registry import Registry
from studio.runs.compare import Comparison
from studio.runs.folder import RunFolder
from studio.runs.status import look_of
from studio.system import device, torch_report
from studio.system.optional_packages import PACKAGES
from ui.data.controller import DataController
from ui.data.tabs import ROWS, DataTabs
from ui.inspector.tabs import SETTINGS
from ui.monitor.log_lines import LogLine
from ui.monitor.reveal import reveal
from ui.runs.controller import RunController
from ui.runs.follower import RunFollower
from ui.style import install_button, theme
from ui.style.guide_link import SCHEME, explained_at
from ui.training.adapter_offers import AdapterOffers
from ui.training.controller import TrainingController
from ui.training.new_training import NewTraining
from ui.window import actions, help_windows, resuming, run_banners
from ui.window.closing import Leaving
from ui.window.main_window import CURVES, LOG, MainWindow
from ui.window.notify import Notifier
from ui.window.opening import Opening
from ui.window.preferences import Preferences
from ui.window.problems import ProblemGuide, ProblemWatch
from ui.window.project_controller import ProjectController
from ui.window.run_display import RunDisplay
from ui.window.window_store import WindowStore
from workers.row_check import RowCheck
from workers.task import Task, run_task

if TYPE_CHECKING:
    from studio.recipe.base_models import Candidate
    from ui.window.tour import Tour
from ui.window.use_result import UseResult


class Session(QObject):
    """Owns the controllers of one ``MainWindow``."""

    def __init__(
        self,
        window: MainWindow,
        document: Document,
        registry: Registry,
        preferences: Preferences,
        store: WindowStore,
    ) -> None:
        super().__init__(window)
        self.window, self.document, self.registry = window, document, registry
        self.preferences, self.store = preferences, store
        self.project = ProjectController(document, registry, preferences, store, window)
        self.runs = RunController(document, registry, lambda: preferences.values, self)
        self.problems = ProblemWatch(document, registry, self)
        self.row_check = RowCheck(registry, self)
        self.guide = ProblemGuide(window, self.problems, document)
        self.data = DataController(document, registry, lambda: preferences.values.runs_dir(), self)
        self.tabs = DataTabs(self.data)
        self.training = TrainingController(
            document, registry, self.runs, window.canvas, window.inspector, self
        )
        self.new_training = NewTraining(document, registry, self.runs, window.canvas, self)
        self.adapters = AdapterOffers(document, registry, window.canvas, self)
        self.notifier = Notifier(window)
        self.leaving = Leaving(window, self.runs, preferences)
        self._asking: Task | None = None
        self._shown = False
        self.opening = Opening(self)
        self.tour: Tour | None = None
        self.first_start = False
        self._set_up = ""  # the Train node that was added around a data file
        self.display = RunDisplay(window, self.runs, self)
        self.use_result = UseResult(self)
        self._stop_listening = document.listen(self._document_changed)
        self._connect_actions()
        self._connect_parts()
        # The stubs ask for bytes, which PySide6 refuses.
        QDesktopServices.setUrlHandler(SCHEME, self, "open_guide")  # type: ignore[arg-type]
        QDesktopServices.setUrlHandler(install_button.SCHEME, self, "open_install")  # type: ignore[arg-type]
        self._project_opened()
        self._run_changed()

    # ------------------------------------------------------------ links

    def _connect_actions(self) -> None:
        targets: dict[str, Any] = {
            "new": self.project.new,
            "template": self.show_templates,
            "open": self.project.ask_and_open,
            "starter": self.project.open_starter,
            "save": self.project.save,
            "save_as": self.project.save_as,
            "settings": self.show_settings,
            "quit": self.window.close,
            "run": self.runs.run,
            "stop": self.runs.stop,
            "finish": self.runs.finish,
            "resume": self.runs.resume,
            "next_problem": self.guide.go_to_next,
            "runs_folder": self.show_runs_folder,
            "theme": self.switch_theme,
            "guide": self.show_guide,
            "guide_here": self.show_guide_here,
            "tour": self.show_tour,
            "shortcuts": self.show_shortcuts,
            "about": self.show_about,
        }
        for name, target in targets.items():
            self.window.own[name].triggered.connect(lambda _=False, act=target: act())

    def _connect_parts(self) -> None:
        window, runs = self.window, self.runs
        window.may_close = self.may_close
        window.closing.connect(self.close)
        window.shown_first.connect(self._after_first_paint)
        window.project_dropped.connect(self.project.open)
        window.canvas.files_dropped.connect(self._files_dropped)
        window.templates.chosen.connect(self.project.new_from_template)
        window.templates.all_wanted.connect(self.show_templates)
        window.canvas.message.connect(window.status.tell)
        window.canvas.selection_changed.connect(window.inspector.show_nodes)
        window.canvas.node_activated.connect(self._node_opened)
        window.canvas.problem_activated.connect(self.guide.go_to)
        window.canvas.data_dropped.connect(self._data_dropped)
        window.inspector.put_under_header(self._under_header)
        window.inspector.model_wanted.connect(self.new_training.choose_base)
        self.new_training.chosen.connect(self._base_chosen)
        self.new_training.message.connect(window.status.tell)
        self.adapters.message.connect(window.status.tell)
        self.new_training.set_up.connect(self._training_set_up)
        window.inspector.show_all(self.store.all_settings())
        window.inspector.extent_chosen.connect(self.store.set_all_settings)
        window.inspector.use_tabs(self.tabs)
        self.tabs.show_wide(bool(self.store.narrow_px()))
        self.tabs.widen_wanted.connect(self._widen)
        self.data.report_done.connect(self.problems.check)
        self.problems.changed.connect(self._check_rows)
        self.problems.changed.connect(self._show_device)
        self.row_check.checked.connect(self.problems.check)
        self.data.message.connect(window.status.tell)
        window.inspector.problem_activated.connect(self.guide.go_to)
        window.inspector.node_activated.connect(self._node_activated)
        window.palette_panel.node_chosen.connect(window.canvas.add_node_at_center)
        window.status.problems_clicked.connect(self.guide.go_to_next)
        window.runs.open_wanted.connect(self.open_run)
        window.docks["monitor"].toggleViewAction().triggered.connect(self.store.set_panel)
        window.runs.resume_wanted.connect(runs.resume)
        window.runs.deleted.connect(runs.forget)
        window.samples.sample_wanted.connect(runs.sample)
        window.samples.prompts_wanted.connect(self.guide.go_to_prompts)
        self.project.opened.connect(self._project_opened)
        self.project.saved.connect(self._project_saved)
        self.project.message.connect(window.status.tell)
        self.project.recovery_found.connect(self._offer_recovery)
        self.preferences.changed.connect(self._preferences_changed)
        self.preferences.save_failed.connect(self._show_error)
        window.canvas.scrolling.mode = self.preferences.values.scrolling
        runs.changed.connect(self._run_changed)
        runs.refused.connect(self.guide.refused)
        runs.start_failed.connect(self._show_error)
        runs.resume_differs.connect(self._ask_how_to_resume)
        runs.shown_changed.connect(self._shown_changed)
        runs.run_started.connect(self._run_started)
        runs.run_ended.connect(self._run_ended)

    def fold_panel(self) -> None:
        """Before the window is shown: without a run there is nothing to see below the canvas. The user's choice
        counts more."""
        self.window.docks["monitor"].setVisible(self.store.panel() == "open")

    @Slot()
    def _after_first_paint(self) -> None:
        self._shown = True
        QTimer.singleShot(0, self, self.opening.start)

    def ask_for_device(self) -> None:
        """Ask torch which device trains, in the background."""
        self._asking = run_task(torch_report.ask, self._device_known)

    def _device_known(self, report: object) -> None:
        """torch, or the cache, has answered which device trains."""
        del report
        self.problems.check()
        self.training.watch.look_soon()

    @Slot()
    def _show_device(self) -> None:
        wanted = wanted_in(self.document.graph)
        why = device.why_unused(wanted)
        tip = f"{why.sentence} {why.hint}".strip() if why is not None else ""
        self.window.status.show_device(device.current(wanted).label, tip[:1].upper() + tip[1:])

    def look_at_runs(self) -> None:
        """Follow a run that is running without a window; else offer to resume this project's
        run."""
        going_on = self.runs.running_elsewhere() if self.runs.phase == "idle" else None
        if going_on is not None:
            self.runs.attach(going_on)
            run_banners.attached(self, going_on)
            return
        self.runs.look_for_resumable()
        if self.runs.resumable is not None and not self.window.banner.key:
            run_banners.resumable(self, self.runs.resumable)

    # ------------------------------------------------------------ document

    def _document_changed(self) -> None:
        if self.window.banner.key == "set-up" and not self.document.graph.has(self._set_up):
            self.window.banner.dismiss("set-up")  # the training was undone or deleted
        self.window.setWindowModified(self.document.dirty)
        self.window.own["save"].setEnabled(self.document.dirty or self.document.path is None)

    @Slot()
    def _check_rows(self) -> None:
        self.row_check.look(self.document.graph, self.document.project_dir)

    @Slot()
    def _project_saved(self) -> None:
        self.window.setWindowTitle(f"{self.project.title()}[*] – LoRA Studio")
        self._document_changed()
        actions.fill_recent(self.window.recent_menu, self.preferences.recent(), self.project.open)

    @Slot()
    def _project_opened(self) -> None:
        self._project_saved()
        self.runs.project_opened()
        self.window.banner.dismiss("recovery")
        self.window.banner.dismiss("set-up")
        self.window.banner.dismiss("tour")
        self.window.canvas.offers.dismiss()
        self.window.canvas.fit_all()
        if self._shown:
            self.problems.check()
            self.runs.look_for_resumable()
            self.display.show_progress()

    @Slot(object)
    def _offer_recovery(self, graph: Graph) -> None:
        run_banners.recovery(self, graph)

    @Slot(object)
    def _files_dropped(self, paths: list[str]) -> None:
        project = next((Path(p) for p in paths if is_project(p)), None)
        if project is not None:
            self.project.open(project)
        elif paths:
            self.window.status.tell(
                f"{Path(paths[0]).name} is not a file type that LoRA Studio can open."
            )

    @Slot(object)
    def _data_dropped(self, node: str) -> None:
        self._node_activated(node)
        self.window.inspector.show_tab(node, ROWS)

    def _under_header(self, node: str, kind: str, parent: QWidget) -> QWidget | None:
        """What is added to the form of a node: estimates, or the offer to train."""
        for part in (
            self.training.strip_for,
            self.new_training.strip_for,
            self.adapters.strip_for,
        ):
            if (made := part(node, kind, parent)) is not None:
                return made
        return None

    @Slot(object, object)
    def _training_set_up(self, sentence: str, train: str) -> None:
        self._set_up = train
        self.window.inspector.show_tab(train, SETTINGS)
        run_banners.set_up(self, sentence, train)

    @Slot(object)
    def _base_chosen(self, candidate: Candidate) -> None:
        if not candidate.on_disk:
            self.training.known[candidate.model] = candidate.facts

    @Slot(object)
    def _widen(self, wide: bool) -> None:
        before = self.window.widen_inspector(wide, self.store.narrow_px())
        self.store.set_narrow_px(before if wide else 0)

    @Slot(object)
    def _node_activated(self, node: str) -> None:
        self.window.canvas.select((node,))
        self.window.inspector.show_nodes((node,))
        self.window.docks["inspector"].show()

    @Slot(object)
    def _node_opened(self, node: str) -> None:
        """A node was double-clicked: its settings, and for a base model the models to choose from."""
        self._node_activated(node)
        if self.document.graph.node(node).type == "base_model":
            self.new_training.choose_base(node)

    # ------------------------------------------------------------ runs

    @Slot()
    def _run_changed(self) -> None:
        own, phase = self.window.own, self.runs.phase
        own["run"].setEnabled(phase == "idle")
        self.window.inspector.set_may_run(phase == "idle")
        own["run"].setText("Preparing…" if phase == "preparing" else "Run")
        own["stop"].setEnabled(phase == "running")
        own["stop"].setText("Stopping…" if phase == "stopping" else "Stop")
        self.display.show_finish()
        own["resume"].setEnabled(self.runs.resumable is not None)
        own["resume"].setVisible(self.runs.resumable is not None)
        self.display.show_progress()

    @Slot(object)
    def _run_started(self, follower: RunFollower) -> None:
        self.window.banner.dismiss()
        run_banners.started(self, follower)
        self.window.runs.refresh()
        if self.window.tabs.currentIndex() != LOG:
            self.window.tabs.setCurrentIndex(CURVES)

    @Slot(object)
    def open_run(self, folder: RunFolder) -> None:
        """The user selects a run: its curves are what they want to see."""
        self.window.open_panel()
        self.runs.show_run(folder)

    @Slot(object, object)
    def _ask_how_to_resume(self, folder: RunFolder, found: Comparison) -> None:
        answer = resuming.ask(self.window, found)
        if answer == "new":
            self.runs.run()
        elif answer == "as_it_was":
            self.runs.resume_as_it_was(folder)

    @Slot()
    def _shown_changed(self) -> None:
        if self.runs.shown is not None and self.store.panel() != "closed":
            self.window.open_panel()
        run_banners.earlier_run(self)

    @Slot(object)
    def _run_ended(self, follower: RunFollower) -> None:
        state = follower.state
        self.window.runs.refresh()
        view = self.runs.view(follower)
        look = view.look if view is not None else look_of(follower.status)
        status = look.word.lower()
        trained = state.status != "completed" or run_banners.untrained(self, follower) is None
        self.window.status.tell(
            f"Run {status}." if trained else f"Run {status}. Nothing was trained."
        )
        name = state.name or follower.folder.id
        self.notifier.notify(f"Run {status}", name if trained else f"{name}: nothing was trained")
        if self.leaving.begun:
            QTimer.singleShot(0, self.window, self.window.close)
            return
        run_banners.ended(self, follower)

    @Slot(object)
    def _show_error(self, error: Exception) -> None:
        if not isinstance(error, StudioError):
            raise error
        hint = f" {error.hint}" if error.hint else ""
        self.window.status.tell(error.sentence + hint)
        place = guide.of_problem(error.code)
        self.window.banner.offer("error", "circle-alert", error.sentence + hint, guide=place)

    def note(self, text: str) -> None:
        """Add a line of the window itself to the log."""
        self.window.log.add_note(LogLine(time.time(), "info", text))

    # ------------------------------------------------------------ program

    @Slot()
    def _preferences_changed(self) -> None:
        values = self.preferences.values
        app = QApplication.instance()
        if isinstance(app, QApplication) and theme.scheme() != values.theme:
            theme.apply(app, values.theme)
        self.window.canvas.scrolling.mode = values.scrolling
        self.window.runs.set_runs_dir(values.runs_dir())
        actions.fill_recent(self.window.recent_menu, self.preferences.recent(), self.project.open)

    def switch_theme(self) -> None:
        """Dark to light or back."""
        self.preferences.change(theme="light" if theme.colors().dark else "dark")

    def show_settings(self) -> None:
        """The settings window."""
        help_windows.show_settings(self.window, self.preferences)

    @Slot()
    def show_templates(self) -> None:
        """The templates for a new project."""
        help_windows.show_templates(self.window, self.project.new_from_template)

    def show_shortcuts(self) -> None:
        """All keys on one sheet."""
        help_windows.show_shortcuts(self.window)

    def show_guide(self) -> None:
        """Help → Guide."""
        help_windows.show_guide(self.window, guide.INDEX)

    def show_guide_here(self) -> None:
        """F1: the page about what has the focus; on the canvas, about the selected node."""
        focus, canvas = QApplication.focusWidget(), self.window.canvas
        place = explained_at(focus)
        if focus is canvas and (node := canvas.current_id()) is not None:
            place = guide.of_node(self.document.graph.node(node).type) or place
        help_windows.show_guide(self.window, place or guide.INDEX)

    @Slot(QUrl)
    def open_guide(self, url: QUrl) -> None:
        """A link to the guide was clicked."""
        place = url.path() + (f"#{url.fragment()}" if url.hasFragment() else "")
        help_windows.show_guide(self.window, place)

    @Slot(QUrl)
    def open_install(self, url: QUrl) -> None:
        """A button to install an optional package was pressed."""
        package = PACKAGES.get(url.path())
        if package is not None:
            help_windows.show_install(self.window, package, self._installed)

    @Slot(object)
    def _installed(self, sentence: str) -> None:
        """What was missing is there: no part asks for it any more."""
        self.note(sentence)
        self.window.banner.dismiss("install")
        self.problems.check()
        self.window.results.refresh()

    def show_tour(self) -> None:
        """Help → Tour."""
        from ui.window import tour

        tour.begin(self)

    def show_about(self) -> None:
        """Version and licence."""
        help_windows.show_about(self.window)

    def show_runs_folder(self) -> None:
        """The folder of runs in the file manager."""
        self.runs.runs_dir.mkdir(parents=True, exist_ok=True)
        reveal(self.runs.runs_dir)

    # ------------------------------------------------------------ closing

    def may_close(self) -> bool:
        """Ask about unsaved changes first, then about a running run."""
        if self.leaving.begun:
            return self.runs.phase in ("idle", "preparing")
        return self.project.may_leave() and self.leaving.may_leave_run()

    @Slot()
    def close(self) -> None:
        """Handle closing: save the layout, detach runs and listeners."""
        self.store.save_layout(self.window)
        QDesktopServices.unsetUrlHandler(SCHEME)
        QDesktopServices.unsetUrlHandler(install_button.SCHEME)
        help_windows.end_installs(self.window)
        self._stop_listening()
        self.opening.stop()
        self.problems.close()
        self.row_check.cancel()
        self.window.hide()  # ending the helper process may take a second
        if self._asking is not None:
            self._asking.cancel()
            torch_report.end()
        self.data.close()
        self.training.close()
        self.new_training.close()
        self.adapters.close()
        self.project.close()
        self.runs.close()
        self.notifier.close()
