"""Log, results and list of runs: what a user reads and does there."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from PySide6.QtCore import Qt, QTimer
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QFileDialog, QPushButton
from pytestqt.qtbot import QtBot

from studio.events import Event
from studio.runs.folder import RunFolder
from studio.runs.state import RunState
from tests.ui.monitor import fake_run
from ui.monitor import plot_menu, words
from ui.monitor.artifact_list import ArtifactList, path_of
from ui.monitor.log import LogPanel
from ui.monitor.panel import MonitorPanel
from ui.monitor.results import ResultsPanel
from ui.monitor.runs_list import RunsPanel

FAILED = Event(
    "StepFailed",
    fake_run.START + 9,
    "train",
    {
        "title": "A file is missing",
        "sentence": "Dataset: rows.jsonl is not there.",
        "hint": "Choose another file.",
        "field": "source",
    },
)


def run_on_disk(runs: Path, name: str, events: list[Event]) -> RunFolder:
    """A folder that looks like a run of these events."""
    folder = RunFolder(runs / name)
    folder.path.mkdir(parents=True)
    folder.plan_path.write_text("{}", "utf-8")
    for event in events:
        folder.append(event)
    return folder


@pytest.fixture
def log(qtbot: QtBot) -> LogPanel:
    """An empty log."""
    made = LogPanel()
    qtbot.addWidget(made)
    made.show()
    return made


def test_the_log_tells_the_run_in_plain_words(log: LogPanel, tmp_path: Path) -> None:
    log.add_events(fake_run.whole_run(tmp_path))
    text = "\n".join(log.lines())
    assert "Run “Starter” started on CPU." in text
    assert "Train: validation loss" in text
    assert "Train: checkpoint saved at step 20." in text
    assert "Evaluate: exact match 0 % before and 86 % after fine-tuning." in text
    assert f"Adapter saved: {tmp_path / 'adapter'}" in text
    assert text.endswith("Run completed after 2 min 37 s.")


def test_an_early_end_and_the_rows_of_a_loss_that_is_none(log: LogPanel) -> None:
    """Why it ended, and where the rows are that a user should look at."""
    rows = [{"file": "rows.jsonl", "line": 7, "text": "user: cat?…"}]
    log.add_events(
        [
            Event(
                "EarlyStopped",
                1.0,
                "train",
                {"step": 16, "steps": 20, "reason": "The validation loss has not fallen."},
            ),
            Event("NonFinite", 2.0, "train", {"step": 17, "what": "loss", "rows": rows}),
            Event("CheckpointSaved", 3.0, "train", {"step": 10, "path": "x", "reason": "best"}),
        ]
    )
    first, second, third = log.lines()
    assert first.endswith(
        "train stopped early after step 16 of 20. The validation loss has not fallen."
    )
    assert second.endswith("Error: In this step: rows.jsonl:7: user: cat?…")
    assert third.endswith("checkpoint saved at step 10: the best evaluation so far.")


def test_a_failure_comes_with_its_remedy(log: LogPanel) -> None:
    log.add_events([FAILED])
    error = "Error: Dataset: rows.jsonl is not there. Choose another file."
    assert log.lines()[0].endswith(error)
    QTest.keyClick(log.level, Qt.Key.Key_End)
    assert log.level.currentText() == "Errors"
    for wanted in ("rows.jsonl", "another file"):
        log.search.clear()
        QTest.keyClicks(log.search, wanted)
        assert [line.split("  ", 1)[1] for line in log.lines()] == [error]


def test_the_log_is_filtered_searched_and_copied(
    log: LogPanel, tmp_path: Path, qtbot: QtBot
) -> None:
    log.add_events([*fake_run.whole_run(tmp_path), FAILED])
    qtbot.keyClick(log.level, Qt.Key.Key_End)
    assert len(log.lines()) == 1
    qtbot.keyClick(log.level, Qt.Key.Key_Home)
    qtbot.keyClicks(log.search, "checkpoint")
    assert len(log.lines()) == 10
    qtbot.mouseClick(log.copy, Qt.MouseButton.LeftButton)
    assert QApplication.clipboard().text().count("\n") == 9


def test_a_hundred_thousand_events_do_not_fill_the_log(log: LogPanel) -> None:
    notice = Event("Notice", fake_run.START, "train", {"level": "info", "sentence": "Hello."})
    for _ in range(100):
        log.add_events([notice] * 1000)
    assert log.text.blockCount() <= 20_000


def test_results_show_artifacts_and_what_tuning_changed(qtbot: QtBot, tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "weights").write_bytes(b"x" * 2_500_000)
    panel = ResultsPanel()
    qtbot.addWidget(panel)
    panel.show()
    state = RunState()
    panel.show_state(state)
    assert not panel.artifacts.isVisible()
    for event in fake_run.whole_run(tmp_path):
        state.apply(event)
    panel.refresh()
    first = panel.artifacts.tree.topLevelItem(0)
    assert [first.text(i) for i in range(3)] == ["Adapter", "2.5 MB", str(tmp_path / "adapter")]
    assert panel.bars.text() == "Exact match: 0 % before, 86 % after"
    assert panel.examples.rowCount() == 3
    assert panel.examples.item(0, 3).text() == "✓  bird"
    assert panel.examples.item(2, 3).text() == "✕  frog"
    panel.artifacts.tree.setCurrentItem(first)
    qtbot.mouseClick(panel.artifacts.copy_button, Qt.MouseButton.LeftButton)
    assert QApplication.clipboard().text() == str(tmp_path / "adapter")


def evaluated(node: str, share: float, **example: object) -> Event:
    """An evaluation of one question by an Evaluate node."""
    row = {"prompt": "cat?", "expected": "Yes", "before": "no", "after": "yes", **example}
    measures = {"exact_match": {"before": 0.0, "after": share}}
    return Event("Evaluation", 5.0, node, {"rows": 1, "examples": [row], "measures": measures})


def test_each_evaluate_node_has_its_own_table(qtbot: QtBot) -> None:
    """The newest is shown first; the others are a click away, also when a further one arrives."""
    nodes = [{"id": n, "type": "evaluate", "title": t} for n, t in (("a", "Easy"), ("b", "Hard"))]
    panel, state = ResultsPanel(), RunState()
    qtbot.addWidget(panel)
    panel.resize(900, 400)
    panel.show()
    panel.show_state(state)
    state.apply(Event("RunStarted", 1.0, None, {"run": "r", "name": "R", "nodes": nodes}))
    state.apply(evaluated("a", 0.5))
    panel.refresh()
    assert not panel.evaluations.isVisible()
    assert panel.bars.text() == "Exact match: 0 % before, 50 % after"
    state.apply(evaluated("b", 1.0, after="Yes"))
    panel.refresh()
    tabs = panel.evaluations
    assert [tabs.tabText(i) for i in range(tabs.count())] == ["Easy", "Hard"]
    assert panel.bars.text() == "Exact match: 0 % before, 100 % after"
    qtbot.mouseClick(tabs, Qt.MouseButton.LeftButton, pos=tabs.tabRect(0).center())
    assert panel.bars.text() == "Exact match: 0 % before, 50 % after"
    assert panel.examples.item(0, 3).text() == "✕  yes"
    panel.refresh()
    assert panel.bars.text() == "Exact match: 0 % before, 50 % after"
    panel.show_state(RunState())
    assert tabs.count() == 0


def test_an_answer_is_judged_as_it_was_counted_and_a_cut_one_is_marked(qtbot: QtBot) -> None:
    panel, state = ResultsPanel(), RunState()
    qtbot.addWidget(panel)
    panel.show_state(state)
    state.apply(evaluated("a", 1.0, right=["after"], cut=["before"]))
    panel.refresh()
    assert panel.examples.item(0, 3).text() == "✓  yes"
    assert panel.examples.item(0, 2).text() == "✕  no … (cut)"
    assert "Cut at the maximum number" in panel.examples.item(0, 2).toolTip()


def test_what_was_made_is_chosen_before_what_was_prepared(qtbot: QtBot, tmp_path: Path) -> None:
    """Unless the user has chosen another row."""
    results = ArtifactList()
    qtbot.addWidget(results)
    kinds = ("dataset", "adapter", "merged_model")
    saved = [{"kind": kind, "path": str(tmp_path / kind)} for kind in kinds]
    results.show()
    for count, kind in ((1, "dataset"), (2, "adapter"), (3, "merged_model")):
        results.show_artifacts(saved[:count])
        assert results.chosen() == tmp_path / kind
    row = results.tree.visualItemRect(results.tree.topLevelItem(1)).center()
    QTest.mouseClick(results.tree.viewport(), Qt.MouseButton.LeftButton, pos=row)
    results.show_artifacts([*saved, {"kind": "gguf", "path": str(tmp_path / "gguf")}])
    assert results.chosen() == tmp_path / "adapter"


def test_an_uploaded_artifact_shows_its_page(
    qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = ArtifactList()
    qtbot.addWidget(results)
    url, folder = "https://huggingface.co/me/tone", tmp_path / "export"
    folder.mkdir()
    local = {"kind": "adapter", "path": str(tmp_path / "adapter")}
    uploaded = {"kind": "adapter", "path": str(folder), "url": url, "exported": True}
    results.show_artifacts([local, uploaded, {**local, "path": "/x", "url": "file:///etc/passwd"}])
    rows = {str(path_of(r)): r for r in (results.tree.topLevelItem(i) for i in range(3))}
    assert rows[str(folder)].text(2) == f"{url} ({folder})"
    assert rows[local["path"]].text(2) == local["path"]
    assert rows["/x"].text(2) == "/x", "only pages of the web are opened"
    results.tree.setCurrentItem(rows[str(folder)])
    assert results.chosen() == folder
    results.use_menu.aboutToShow.emit()
    actions = {a.text(): a for a in results.use_menu.actions()}
    actions["Copy Link"].trigger()
    assert QApplication.clipboard().text() == url
    opened: list[str] = []
    monkeypatch.setattr(
        "ui.monitor.artifact_list.QDesktopServices.openUrl", lambda u: opened.append(u.toString())
    )
    actions["Open in the Browser"].trigger()
    assert opened == [url]
    results.tree.setCurrentItem(rows[local["path"]])
    results.use_menu.aboutToShow.emit()
    assert "Copy Link" not in [a.text() for a in results.use_menu.actions()]


def test_a_reused_artifact_says_so(qtbot: QtBot, tmp_path: Path) -> None:
    panel = ResultsPanel()
    qtbot.addWidget(panel)
    state = RunState()
    saved = {"kind": "merged_model", "path": str(tmp_path), "cached": True}
    state.apply(Event("ArtifactSaved", 1.0, "merge", saved))
    panel.show_state(state)
    assert panel.artifacts.tree.topLevelItem(0).text(0) == "Merged model (reused)"


def answer_with(name: str) -> None:
    """Click a button of the question that is open; it is labelled as the menu is."""
    dialog = QApplication.activeModalWidget()
    buttons = {b.text().replace("&", ""): b for b in dialog.findChildren(QPushButton)}
    assert set(buttons) == {"Cancel", "Delete"}
    assert buttons["Cancel"].isDefault()
    QTest.mouseClick(buttons[name], Qt.MouseButton.LeftButton)


def test_the_list_of_runs(qtbot: QtBot, tmp_path: Path) -> None:
    events = fake_run.whole_run(tmp_path)
    run_on_disk(tmp_path, "20261121-100000-starter", events)
    run_on_disk(tmp_path, "20261122-100000-starter", events[:200])
    panel = RunsPanel(tmp_path)
    qtbot.addWidget(panel)
    panel.show()
    qtbot.waitUntil(lambda: panel.summary("20261121-100000-starter") is not None)
    shown = [panel.list.item(i).text() for i in range(2)]
    assert shown[0].startswith("Starter: Interrupted")
    assert shown[1].startswith("Starter: Completed")
    assert "Completed, loss" in shown[1]  # a narrow list cuts the end of the line
    first = panel.list.item(0).data(Qt.ItemDataRole.UserRole)
    second = panel.list.item(1).data(Qt.ItemDataRole.UserRole)

    def may_resume(run: RunFolder) -> bool:
        return {a.text(): a.isEnabled() for a in panel.menu_for(run).actions()}["Resume"]

    step = {"node": "train", "type": "train", "version": 1, "title": "Train", "settings": {}}
    plan = {"steps": [{**step, "inputs": {}, "fingerprint": "f"}], "name": "S", "project_dir": "."}
    for run in (first, second):
        run.plan_path.write_text(json.dumps({**plan, "version": 1}), "utf-8")
    assert not may_resume(first)  # there is nothing to resume from
    for run in (first, second):
        (run.checkpoints("train") / "step-000010").mkdir(parents=True)
    assert may_resume(first)
    assert not may_resume(second)  # it is completed
    with qtbot.waitSignal(panel.open_wanted) as opened:
        place = panel.list.visualItemRect(panel.list.item(1)).center()
        qtbot.mouseClick(panel.list.viewport(), Qt.MouseButton.LeftButton, pos=place)
    assert opened.args[0].id == "20261121-100000-starter"
    panel.choose(opened.args[0].id)
    with qtbot.assertNotEmitted(panel.open_wanted):  # it is already shown
        qtbot.keyClick(panel.list, Qt.Key.Key_Return)
    for answer, left in (("Cancel", 2), ("Delete", 1)):
        QTimer.singleShot(20, lambda answer=answer: answer_with(answer))
        panel.delete(second)
        assert panel.list.count() == left
        assert second.path.exists() == (answer == "Cancel")


def test_files_that_cannot_be_written_or_deleted_are_reported(
    qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what to do, and without the notation of Python."""
    said: list[str] = []

    def read() -> None:
        dialog = QApplication.activeModalWidget()
        (button,) = dialog.findChildren(QPushButton)
        assert button.text() == "Close"
        said.append(dialog.accessibleDescription())
        QTest.mouseClick(button, Qt.MouseButton.LeftButton)

    panel = RunsPanel(tmp_path)
    qtbot.addWidget(panel)
    QTimer.singleShot(20, lambda: (QTimer.singleShot(20, read), answer_with("Delete")))
    panel.delete(RunFolder(tmp_path / "nowhere"))
    monitor = MonitorPanel()
    qtbot.addWidget(monitor)
    target = str(tmp_path / "nowhere" / "loss.csv")
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a: (target, ""))
    QTimer.singleShot(20, read)
    plot_menu.save(monitor.plots[0], "csv", monitor)
    assert len(said) == 2
    assert all("moved or deleted" in text and str(tmp_path) in text for text in said)
    assert all("Errno" not in text for text in said)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (float("nan"), "–"), (-1.0, "–"), (187, "3 min 07 s")],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert words.duration(seconds) == text


def test_figures_sizes_and_shares() -> None:
    assert words.number_text(0.37185) == "0.3718" or words.number_text(0.37185) == "0.3719"
    assert words.number_text(1.91e-5) == "1.91e-05"
    assert words.number_text(12345.0) == "12,345"
    assert words.number_text(5.0003) == "5.000"
    assert words.number_text(0.5) == "0.5"
    assert words.size(98_200_000) == "98.2 MB"


def test_days_are_named_by_the_calendar() -> None:
    """Not by hours: five past midnight, ten minutes ago was yesterday."""
    now = time.mktime((2026, 3, 10, 0, 5, 0, 0, 0, -1))
    shown = [words.day_and_time(now - 60 * minutes, now) for minutes in (1, 10, 60 * 24 + 10)]
    assert shown == ["Today 00:04", "Yesterday 23:55", "2026-03-08 23:55"]
