"""The banners about runs and recovery: sentences and buttons, as functions of a session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from studio.errors import StudioError
from studio.events import Event
from studio.export_folder import llama_cpp
from studio.graph import guide
from studio.graph.graph import Graph
from studio.graph.unused import Untrained, without_training
from studio.runs.folder import RunFolder
from studio.runs.outcome import ended_words, outcome_of
from studio.runs.status import RunView, look_of
from studio.runs.summary import summarize
from studio.system.optional_packages import LLAMA_CPP
from ui.dialogs.rows_dialog import RowsDialog
from ui.monitor import words
from ui.monitor.marks import recovery_words
from ui.runs.follower import RunFollower
from ui.style.install_button import open_install
from ui.window.banner import Offer
from ui.window.main_window import CURVES, LOG, RESULTS, MainWindow

if TYPE_CHECKING:
    # Import cycle: the session shows these banners, and their buttons act on the session.
    from ui.window.session import Session


def attached(session: Session, run: RunFolder) -> None:
    """A run was found that is running without a window."""
    found = summarize(run)
    # The sentence stays while the run goes on, and its preparation takes only seconds of that.
    status = "running" if found.status == "preparing" else found.status
    session.window.banner.offer(
        "attached",
        "activity",
        f"{found.name} {look_of(status).happened}.",
        [("Show Curves", lambda: session.window.show_tab(CURVES))],
    )


def resumable(session: Session, run: RunFolder) -> None:
    """This project's newest run can be resumed."""
    found = summarize(run)
    look = look_of(found.status)
    when = words.day_and_time(found.started).lower()
    session.window.banner.offer(
        "resumable",
        look.icon,
        f"{found.name}: {found.ended.rstrip('.')} ({when}). {run.remains().sentence()}",
        [
            ("Resume", lambda: session.runs.resume(run)),
            ("Show Curves", lambda: session.open_run(run)),
        ],
        guide=guide.PARTS["resume"],
    )


def recovery(session: Session, graph: Graph) -> None:
    """A crash left unsaved changes."""
    session.window.banner.offer(
        "recovery",
        "history",
        "LoRA Studio ended before the changes to this project were saved.",
        [
            ("Recover", lambda: session.project.recover(graph)),
            ("Discard", session.project.discard_recovery),
        ],
        must_answer=True,
    )


def set_up(session: Session, sentence: str, train: str) -> None:
    """A training was added around a data file: the reasons for its values are one click away."""
    session.window.banner.offer(
        "set-up",
        "sparkles",
        sentence,
        [("Show Reasons", lambda: session.training.show_recipe(train))],
        guide=guide.PARTS["set-up"],
    )


def earlier_run(session: Session) -> None:
    """The panels show a run other than the live one."""
    live, shown = session.runs.live, session.runs.shown
    session.window.banner.dismiss("earlier")
    if shown is not live:
        session.window.banner.dismiss("ended")  # its buttons belong to the run that ended
    if live is None or not live.alive or shown is None or shown is live:
        return
    session.window.banner.offer(
        "earlier",
        "history",
        f"You are viewing an earlier run: {shown.folder.id}.",
        [("Back to Current Run", lambda: session.runs.show_run(live.folder))],
    )


def untrained(session: Session, follower: RunFollower) -> Untrained | None:
    """What to say about this run if it trains nothing."""
    try:
        graph = follower.folder.graph()
    except StudioError:  # a damaged or deleted run folder
        return None
    return without_training(graph, session.registry)


def started(session: Session, follower: RunFollower) -> None:
    """A run began that trains nothing, or whose exports nothing can read back: say so, and what to do."""
    found = untrained(session, follower)
    if found is None:
        missing_reader(session)
    else:
        session.window.banner.offer(
            "untrained",
            "info",
            f"{found.before} {found.hint}",
            guide=guide.of_problem("no_training"),
        )
        session.note(f"{found.before} {found.hint}")


def missing_reader(session: Session) -> None:
    """The GGUF files of the run will not be proven: there is time to install llama.cpp until they are written."""
    warned = any(p.code == "no_llama_cpp" for p in session.runs.warnings)
    if warned and not llama_cpp.is_installed():
        session.window.banner.offer(
            "install",
            "triangle-alert",
            "llama.cpp is not installed, so that the GGUF files of this run will count as not proven. It can be "
            "installed while the run goes on.",
            [(LLAMA_CPP.button, lambda: open_install(LLAMA_CPP))],
            guide=guide.PARTS["install"],
        )


def ended(session: Session, follower: RunFollower) -> None:
    """The run of this window ended: offer the next actions."""
    state, window = follower.state, session.window
    window.banner.dismiss("attached")
    window.banner.dismiss("untrained")
    window.banner.dismiss("install")
    view = session.runs.view(follower)
    if state.status == "completed":
        nothing = untrained(session, follower)
        sentence = outcome_of(state, follower.folder.id).sentence()
        window.banner.offer(
            "ended",
            "info" if nothing else _icon(view),
            f"{sentence} {nothing.after} {nothing.hint}" if nothing else sentence,
            [
                ("Show Results", lambda: window.show_tab(RESULTS)),
                *([] if nothing else [("Use In…", session.use_result.choose)]),
            ],
            guide=guide.of_problem("no_training") if nothing else guide.PARTS["results"],
        )
    elif state.failure is not None:
        hint = str(state.failure.get("hint") or "")
        why = state.failure.get("sentence") or "The run failed."
        sentence = f"{ended_words(state)} {why} {hint}".strip()
        node = state.failure.get("node")
        offers: list[Offer] = [("Show Log", lambda: window.show_tab(LOG))]
        if node is not None and session.document.graph.has(str(node)):
            field = state.failure.get("field")
            offers.insert(0, ("Show Node", lambda: show_node(window, str(node), field)))
            if state.failure.get("code") == "needs_own_code":
                offers.insert(0, ("Review Code…", lambda: review_code(window, str(node))))
        if state.non_finite is not None and state.non_finite.get("rows"):
            rows = state.non_finite
            offers.insert(0, ("Show Rows", lambda: RowsDialog(rows, window).open()))
        place = guide.of_problem(state.failure.get("code"))
        window.banner.offer("ended", "circle-x", sentence, offers, guide=place)
    elif view is not None:
        remains = follower.folder.remains()
        may = remains.offered(view.status)
        then = remains.sentence() if may else "It has nothing to resume from: no step had finished."
        resume: Offer = ("Resume", lambda: session.runs.resume(follower.folder))
        window.banner.offer(
            "ended",
            view.look.icon,
            f"{view.name}: {ended_words(state)} {then}",
            [resume] if may else [],
            guide=guide.PARTS["resume"],
        )


def _icon(view: RunView | None) -> str:
    """The icon of a completed run, by the checks of its exports."""
    verdict = view.verdict if view is not None else ""
    icons = {"red": "circle-x", "amber": "triangle-alert", "not_proven": "triangle-alert"}
    return icons.get(verdict, "circle-check")


def show_node(window: MainWindow, node: str, field: str | None) -> None:
    """Select a node, and give one of its fields the focus."""
    window.canvas.select((node,))
    window.inspector.focus_field(node, field)


def review_code(window: MainWindow, node: str) -> None:
    """Select a node, and review the custom code of its model."""
    window.canvas.select((node,))
    window.inspector.review_code(node)


def recovered(window: MainWindow, event: Event) -> None:
    """Memory ran out, and the run continues with smaller batches."""
    window.banner.offer(
        "memory",
        "memory-stick",
        f"{recovery_words(event.data)}.",
        [("Show Curves", lambda: window.show_tab(CURVES))],
        guide=guide.PARTS["out-of-memory"],
    )
