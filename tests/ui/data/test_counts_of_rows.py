"""The numbers of rows and steps are the same in rows, report, recipe, estimate, log and the run itself."""

from __future__ import annotations

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QLabel, QPushButton
from pytestqt.qtbot import QtBot

from tests.ui.data.conftest import LEFT, OpenSession, chats, show
from ui.data.tabs import REPORT, TOKENS


@pytest.mark.parametrize(
    ("rows", "fraction", "training", "validation", "steps"),
    [(24, 0.25, "18 rows", 6, 9), (2, 0.5, "1 row", 1, 1)],
)
def test_the_rows_of_a_file_are_counted_alike(
    open_session: OpenSession,
    qtbot: QtBot,
    rows: int,
    fraction: float,
    training: str,
    validation: int,
    steps: int,
) -> None:
    session = open_session(
        chats(rows),
        data={"validation_fraction": fraction},
        train={"max_steps": 0, "epochs": 1, "eval_steps": 0, "save_steps": 0},
    )
    window = session.window
    page = show(session, "data", TOKENS)
    qtbot.waitUntil(lambda: page.bar.total.text() == f"of {rows}")
    report = show(session, "train", REPORT)
    qtbot.waitUntil(lambda: session.data.report is not None and session.data.report.complete)
    texts = [label.text() for label in report.findChildren(QLabel)]
    for title, number in (
        ("Rows", rows),
        ("Training", int(training.split()[0])),
        ("Validation", validation),
    ):
        assert texts[texts.index(title) + 1] == str(number), title
    bar = session.tabs.bar
    QTest.mouseClick(bar, LEFT, pos=bar.tabRect(0).center())

    def estimated() -> str:
        label = window.inspector.findChild(QLabel, "estimate:Steps")
        return label.text() if label is not None else ""

    qtbot.waitUntil(lambda: estimated() == str(steps))
    recipe = window.inspector.findChild(QPushButton, "recipe")
    assert recipe is not None
    QTest.mouseClick(recipe, LEFT)
    qtbot.waitUntil(lambda: session.training.dialog is not None)
    dialog = session.training.dialog
    assert dialog is not None
    reasons = " ".join(label.text() for label in dialog.findChildren(QLabel))
    assert f"enough capacity for {training};" in reasons
    QTest.keyClick(dialog, Qt.Key.Key_Escape)
    QTest.mouseClick(window.tool_bar.widgetForAction(window.own["run"]), LEFT)
    qtbot.waitUntil(lambda: window.banner.key == "ended")
    assert window.monitor is not None
    assert window.monitor.header.text_of("step") == f"{steps} / {steps}"
    log = "\n".join(window.log.lines())
    assert f"{training.replace('row', 'training row')} with " in log
