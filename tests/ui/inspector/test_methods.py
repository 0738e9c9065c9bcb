"""The list of LoRA methods: headings, when to use each, and the keyboard passing over headings."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QComboBox

from studio.graph.registry import load_registry
from ui.inspector.editors.methods import ROLE_WHEN, fill, in_groups, when_of


def test_every_method_says_when_to_use_it_in_one_line() -> None:
    for variant in load_registry().choices("adapter"):
        assert 8 <= len(when_of(variant)) < 160, variant.id
        assert "arXiv" not in when_of(variant), variant.id


def test_methods_stand_in_three_groups() -> None:
    groups = dict(in_groups(list(load_registry().choices("adapter"))))
    assert list(groups) == ["Common", "More", "Experimental"]
    assert [v.id for v in groups["Common"]][:2] == ["lora", "rslora"]
    assert "pissa" in {v.id for v in groups["More"]}
    assert "fourierft" in {v.id for v in groups["Experimental"]}


def test_the_keyboard_passes_over_headings(qtbot: Any) -> None:
    combo = QComboBox()
    qtbot.addWidget(combo)
    variants = list(load_registry().choices("adapter"))
    fill(combo, variants)
    combo.show()
    heading = combo.findText("More")
    assert combo.itemData(heading) is None
    combo.setCurrentIndex(heading - 1)
    QTest.keyClick(combo, Qt.Key.Key_Down)
    assert combo.currentIndex() == heading + 1
    assert combo.currentData(ROLE_WHEN)
    known = {combo.itemData(i) for i in range(combo.count())} - {None}
    assert known == {v.id for v in variants}
