"""A long text that is split, as the token view shows it: its pieces, and the figures of the whole."""

from __future__ import annotations

from dataclasses import replace

from pytestqt.qtbot import QtBot

from tests.ui.data.rows import chat_row
from ui.data.row_view import RowView
from ui.data.rows_model import TRAINED, cell, entry_of


def test_pieces_are_named_and_the_whole_text_is_counted(qtbot: QtBot) -> None:
    shown = tuple(
        replace(chat_row(), part=n, parts=40, divided=True, whole_tokens=900, whole_trained=899)
        for n in (1, 2, 40)
    )
    entry = entry_of(3, shown)
    view = RowView()
    qtbot.addWidget(view)
    view.show_entry(entry, "")
    names = [view.part.itemText(i) for i in range(view.part.count())]
    assert names == ["Piece 1 of 40", "Piece 2 of 40", "Piece 40 of 40"]
    view.part.setCurrentIndex(2)
    view.part.activated.emit(2)
    assert "piece 40 of 40" in view.headline.text()
    assert cell(entry, TRAINED) == "899/900"  # also of the pieces that are not here
