"""Settings, about and the shortcut sheet."""

from __future__ import annotations

import typing
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QAction, QGuiApplication, QKeySequence
from PySide6.QtTest import QTest
from PySide6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDialogButtonBox,
    QFileDialog,
    QLineEdit,
    QPushButton,
    QToolButton,
    QTreeWidget,
    QWidget,
)

from studio import __version__
from studio.graph.schema import fields_of
from studio.system.settings import AppSettings
from ui.dialogs.about import AboutDialog, versions
from ui.dialogs.settings_dialog import ProgramSettings, SettingsDialog
from ui.dialogs.shortcut_sheet import ShortcutSheet, group_of

Button = QDialogButtonBox.StandardButton


def press(dialog: QWidget, which: QDialogButtonBox.StandardButton) -> None:
    """Click a standard button."""
    box = dialog.findChild(QDialogButtonBox)
    QTest.mouseClick(box.button(which), Qt.MouseButton.LeftButton)


def test_form_and_stored_settings_agree() -> None:
    for spec in fields_of(ProgramSettings):
        info = AppSettings.model_fields[spec.name]
        assert info.default == spec.default, spec.name
        if spec.choices:
            assert set(typing.get_args(info.annotation)) == set(spec.choices), spec.name


def test_settings_are_handed_over(
    qtbot: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = AppSettings(theme="dark", recent=["/a.studio"])
    dialog = SettingsDialog(before)
    qtbot.addWidget(dialog)
    dialog.show()
    theme = dialog.findChild(QComboBox, "field:theme")
    assert theme.currentText() == "Dark"
    QTest.keyClick(theme, Qt.Key.Key_Down)
    QTest.keyClick(dialog.findChild(QCheckBox, "field:leave_core"), Qt.Key.Key_Space)
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *a: str(tmp_path))
    browse = dialog.findChild(QToolButton, "browse:runs_folder")
    QTest.mouseClick(browse, Qt.MouseButton.LeftButton)
    with qtbot.waitSignal(dialog.accepted_settings) as caught:
        press(dialog, Button.Ok)
    wanted = before.model_copy(
        update={"theme": "light", "leave_core": False, "runs_folder": str(tmp_path)}
    )
    assert caught.args == [wanted]


def test_cancel_and_defaults(qtbot: Any) -> None:
    dialog = SettingsDialog(AppSettings(theme="dark", run_in="thread"))
    qtbot.addWidget(dialog)
    dialog.show()
    handed = []
    dialog.accepted_settings.connect(handed.append)
    press(dialog, Button.RestoreDefaults)
    assert dialog.settings() == AppSettings()
    press(dialog, Button.Cancel)
    assert handed == []
    assert not dialog.isVisible()


def test_about_shows_and_copies_versions(qtbot: Any) -> None:
    dialog = AboutDialog()
    qtbot.addWidget(dialog)
    dialog.show()
    assert dialog.height() <= dialog.layout().totalHeightForWidth(dialog.width()) + 10
    QTest.mouseClick(dialog.findChild(QPushButton, "copy"), Qt.MouseButton.LeftButton)
    text = QGuiApplication.clipboard().text()
    assert f"LoRA Studio: {__version__}" in text
    assert dict(versions())["Qt"].startswith("6.")


def test_shortcut_sheet_lists_and_searches(qtbot: Any) -> None:
    owner = QWidget()
    qtbot.addWidget(owner)
    run, plain = QAction("&Run", owner), QAction("No key", owner)
    run.setShortcuts([QKeySequence("Ctrl+Return"), QKeySequence("Ctrl+Enter")])
    assert group_of("G", [run, plain]).rows == (("Run", "Ctrl+Return  or  Ctrl+Enter"),)
    sheet = ShortcutSheet({"Window": [run, plain], "Empty": [plain]})
    qtbot.addWidget(sheet)
    sheet.show()
    tree = sheet.findChild(QTreeWidget, "keys")
    tops = [tree.topLevelItem(i) for i in range(tree.topLevelItemCount())]
    assert [t.text(0) for t in tops] == [
        "Window",
        "Keys on the canvas",
        "Mouse on the canvas",
        "Mouse on a plot",
        "In a form",
    ]
    tree.expandAll()
    for top in tops:  # nothing is elided
        for row in (top.child(i) for i in range(top.childCount())):
            for column in (0, 1):
                text = tree.fontMetrics().horizontalAdvance(row.text(column))
                assert text < tree.columnWidth(column) - 2 * tree.indentation() * (column == 0)
    search = sheet.findChild(QLineEdit, "search")
    for wanted, group in (("run ctrl", 0), ("space", 1), ("alt arrow", 1), ("wheel canvas", 2)):
        search.clear()
        QTest.keyClicks(search, wanted)
        assert [top.isHidden() for top in tops].index(False) == group, wanted
    for wanted in ("ctrl+tab", "arrow keys", "drag", "double-click"):
        search.clear()
        QTest.keyClicks(search, wanted)
        assert not all(top.isHidden() for top in tops), wanted
