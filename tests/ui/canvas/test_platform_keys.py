"""Keys, menus and the identity of the program as each platform has them.

Qt writes keys as its own platform does, so that these tests compare the order of keys and not the symbols.
"""

from __future__ import annotations

import ctypes
import sys
import types

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QAction, QKeySequence
from PySide6.QtWidgets import QApplication, QMenu, QWidget

from tests.ui.canvas.hands import CTRL, click, header, key
from ui import app as app_module
from ui.style import keys
from ui.window.actions import make_actions

META = Qt.KeyboardModifier.MetaModifier
SHIFT = Qt.KeyboardModifier.ShiftModifier
K = Qt.Key


def shown(action: QAction) -> list[str]:
    return [key.toString(QKeySequence.SequenceFormat.PortableText) for key in action.shortcuts()]


@pytest.mark.parametrize(
    ("platform", "delete", "redo"),
    [
        ("linux", ["Del", "Backspace"], ["Ctrl+Shift+Z", "Ctrl+Y"]),
        ("win32", ["Del", "Backspace"], ["Ctrl+Y", "Ctrl+Shift+Z"]),
        ("darwin", ["Backspace", "Del"], ["Ctrl+Shift+Z"]),
    ],
)
def test_keys_of_the_platform(make_canvas, monkeypatch, platform, delete, redo):
    monkeypatch.setattr(sys, "platform", platform)
    actions = make_canvas().actions()
    assert shown(actions["delete"]) == delete
    assert shown(actions["redo"]) == redo
    assert f"({keys.text_of(delete[0])} or " in actions["delete"].toolTip()
    assert "Ctrl+Y" in actions["redo"].toolTip() or platform == "darwin"


@pytest.mark.parametrize(("platform", "modifier"), [("linux", CTRL), ("darwin", META)])
def test_control_tab_goes_from_node_to_node(canvas, monkeypatch, platform, modifier):
    """Cmd+Tab belongs to macOS."""
    monkeypatch.setattr(sys, "platform", platform)
    canvas.select(("data",))
    key(canvas, K.Key_Tab, modifiers=modifier)
    assert canvas.selected_ids() == ("base",)
    key(canvas, K.Key_Backtab, modifiers=modifier)
    assert canvas.selected_ids() == ("data",)


def test_command_click_adds_to_the_selection(canvas, monkeypatch):
    """Qt reports Command as Ctrl."""
    monkeypatch.setattr(sys, "platform", "darwin")
    click(canvas, header(canvas, "data"))
    click(canvas, header(canvas, "base"), CTRL)
    assert canvas.selected_ids() == ("data", "base")


@pytest.mark.parametrize(
    ("platform", "one", "modifier", "opens"),
    [
        ("linux", K.Key_F10, SHIFT, True),
        ("win32", K.Key_F10, SHIFT, True),
        ("darwin", K.Key_Return, META, True),
        ("linux", K.Key_Return, META, False),
    ],
)
def test_the_context_menu_by_keys(canvas, monkeypatch, platform, one, modifier, opens):
    monkeypatch.setattr(sys, "platform", platform)
    canvas.select(("train",))
    key(canvas, one, modifiers=modifier)
    menus = [menu for menu in canvas.findChildren(QMenu) if menu.isVisible()]
    assert bool(menus) is opens
    for menu in menus:
        assert "Rename" in [action.text() for action in menu.actions()]
        menu.close()


def test_macos_finds_quit_settings_and_about_for_its_program_menu(qtbot):
    window = QWidget()
    qtbot.addWidget(window)
    roles = {name: action.menuRole() for name, action in make_actions(window).items()}
    assert roles["quit"] == QAction.MenuRole.QuitRole
    assert roles["settings"] == QAction.MenuRole.PreferencesRole
    assert roles["about"] == QAction.MenuRole.AboutRole


@pytest.mark.parametrize(
    ("platform", "quits"), [("darwin", ["Ctrl+Q", "Ctrl+W"]), ("linux", ["Ctrl+Q"])]
)
def test_command_w_closes_the_window_on_macos(qtbot, monkeypatch, platform, quits):
    monkeypatch.setattr(sys, "platform", platform)
    window = QWidget()
    qtbot.addWidget(window)
    assert shown(make_actions(window)["quit"]) == quits


def test_sentences_name_the_command_key_of_macos(qtbot, monkeypatch):
    assert keys.command_word() == "Ctrl"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert keys.command_word() == "Cmd"


def test_the_taskbar_of_windows_shows_this_program(monkeypatch):
    asked: list[str] = []
    shell = types.SimpleNamespace(SetCurrentProcessExplicitAppUserModelID=asked.append)
    monkeypatch.setattr(ctypes, "windll", types.SimpleNamespace(shell32=shell), raising=False)
    app_module.identify_process()
    assert asked == []
    monkeypatch.setattr(sys, "platform", "win32")
    app_module.identify_process()
    assert asked == ["LoRAStudio.LoRAStudio"]
    monkeypatch.delattr(ctypes, "windll", raising=False)
    app_module.identify_process()  # an old Windows has no such function


def test_the_name_for_desktops(qapp, monkeypatch):
    monkeypatch.setattr(app_module.CrashReporter, "install", lambda self: None)
    monkeypatch.setattr(app_module.signal, "signal", lambda *_: None)
    made = app_module.make_application()
    assert made is QApplication.instance()
    assert QApplication.applicationName() == "LoRA Studio"
    assert QApplication.desktopFileName() == "lora-studio"
