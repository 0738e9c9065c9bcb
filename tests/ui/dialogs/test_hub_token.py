"""The dialog for the token of the Hub."""

from __future__ import annotations

from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QDialogButtonBox, QLabel, QLineEdit, QPushButton

from studio.errors import StudioError
from studio.system import hub_token
from ui.dialogs.hub_token import HubTokenDialog

Button = QDialogButtonBox.StandardButton


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What the keyring holds."""
    place: dict[str, str] = {}

    def find() -> hub_token.Token | None:
        return hub_token.Token(place["token"], "the keyring") if place else None

    monkeypatch.setattr(hub_token, "find_token", find)
    monkeypatch.setattr(hub_token, "kept_token", lambda: place.get("token", ""))
    monkeypatch.setattr(hub_token, "keep_token", lambda text: place.update(token=text))
    monkeypatch.setattr(hub_token, "remove_token", place.clear)
    return place


def shown(dialog: HubTokenDialog) -> str:
    return "\n".join(label.text() for label in dialog.findChildren(QLabel) if label.isVisible())


def buttons(dialog: HubTokenDialog) -> tuple[QPushButton, QPushButton]:
    box = dialog.findChild(QDialogButtonBox)
    remove = next(b for b in box.buttons() if b.text() == "Remove")
    return box.button(Button.Save), remove


def test_a_token_is_stored_and_removed(qtbot: Any, kept: dict[str, str]) -> None:
    dialog = HubTokenDialog()
    qtbot.addWidget(dialog)
    dialog.show()
    save, remove = buttons(dialog)
    qtbot.waitUntil(lambda: "There is no token on this computer" in shown(dialog))
    assert not save.isEnabled()
    assert not remove.isEnabled()
    line = dialog.findChild(QLineEdit)
    assert line.echoMode() == QLineEdit.EchoMode.Password
    QTest.keyClicks(line, "hf_mine")
    with qtbot.waitSignal(dialog.stored) as said:
        QTest.mouseClick(save, Qt.MouseButton.LeftButton)
    assert said.args == ["The token was stored in the keyring."]
    assert kept == {"token": "hf_mine"}
    qtbot.waitUntil(lambda: "comes from the keyring" in shown(dialog))
    assert line.text() == ""
    assert "hf_mine" not in shown(dialog)
    with qtbot.waitSignal(dialog.stored):
        QTest.mouseClick(remove, Qt.MouseButton.LeftButton)
    assert kept == {}
    qtbot.waitUntil(lambda: "There is no token" in shown(dialog))
    dialog.reject()


def test_a_refusal_is_shown_and_the_text_is_kept(
    qtbot: Any, kept: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(text: str) -> None:
        raise StudioError("The token was not stored: there is no keyring.", hint="Set HF_TOKEN.")

    monkeypatch.setattr(hub_token, "keep_token", refuse)
    dialog = HubTokenDialog()
    qtbot.addWidget(dialog)
    dialog.show()
    qtbot.waitUntil(lambda: "There is no token" in shown(dialog))
    QTest.keyClicks(dialog.findChild(QLineEdit), "hf_mine")
    QTest.mouseClick(buttons(dialog)[0], Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: "there is no keyring. Set HF_TOKEN." in shown(dialog))
    assert dialog.findChild(QLineEdit).text() == "hf_mine"
    dialog.reject()
