"""The tree of target modules: what a tick writes, counts, presets, the two groupings, the filter."""

from __future__ import annotations

from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QPushButton

from studio.layers import LinearModule
from ui.inspector.editors.layer_dialog import LayerDialog

LEFT = Qt.MouseButton.LeftButton
LAYERS = [
    LinearModule(f"model.layers.{n}.{part}", 8, 16 if part.startswith("mlp") else 8)
    for n in range(3)
    for part in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.up_proj")
]


@pytest.fixture
def dialog(qtbot: Any) -> LayerDialog:
    dialog = LayerDialog(LAYERS, "q,v", rank=4)
    qtbot.addWidget(dialog)
    dialog.show()
    return dialog


def press(dialog: LayerDialog, preset: str) -> None:
    QTest.mouseClick(dialog.findChild(QPushButton, f"layer-preset:{preset}"), LEFT)


def test_the_setting_is_shown_as_ticks_and_counted(dialog: LayerDialog) -> None:
    states = {
        dialog.tree.topLevelItem(i).text(0): dialog.tree.topLevelItem(i).checkState(0)
        for i in range(dialog.tree.topLevelItemCount())
    }
    ticked = {name for name, state in states.items() if state == Qt.CheckState.Checked}
    assert ticked == {"q_proj", "v_proj"}
    trained = 6 * 4 * (8 + 8)
    assert dialog.count.text() == (
        f"6 of 12 layers; plain LoRA of rank 4 trains {trained} parameters."
    )
    assert dialog.selection() == "q,v"


def test_space_ticks_a_kind_and_a_single_layer(dialog: LayerDialog, qtbot: Any) -> None:
    """A part of a kind makes it partly ticked, and is written by its full name."""
    tree = dialog.tree
    tree.setFocus()
    tree.setCurrentItem(tree.topLevelItem(3))
    QTest.keyClick(tree, Qt.Key.Key_Space)
    assert dialog.selection() == ["q_proj", "v_proj", "up_proj"]
    QTest.keyClick(tree, Qt.Key.Key_Right)
    QTest.keyClick(tree, Qt.Key.Key_Down)
    QTest.keyClick(tree, Qt.Key.Key_Space)
    assert tree.topLevelItem(3).checkState(0) == Qt.CheckState.PartiallyChecked
    rest = ["model.layers.1.mlp.up_proj", "model.layers.2.mlp.up_proj"]
    assert dialog.selection() == ["q_proj", "v_proj", *rest]
    qtbot.waitUntil(lambda: dialog.count.text().startswith("8 of 12 layers"))


def test_presets_and_groupings_keep_the_ticks(dialog: LayerDialog) -> None:
    press(dialog, "all-linear")
    assert dialog.selection() == "all-linear"
    press(dialog, "attention")
    assert dialog.selection() == "attention"
    dialog.view.setCurrentIndex(1)
    titles = [dialog.tree.topLevelItem(i).text(0) for i in range(3)]
    assert titles == ["Layer 0", "Layer 1", "Layer 2"]
    assert dialog.selection() == "attention"
    dialog.tree.topLevelItem(0).setCheckState(0, Qt.CheckState.Unchecked)
    assert len(dialog.selection()) == 6
    press(dialog, "none")
    assert dialog.selection() == []


def test_the_filter_hides_and_keeps_ticks(dialog: LayerDialog) -> None:
    QTest.keyClicks(dialog.filter, "layers.1.mlp")
    tops = [dialog.tree.topLevelItem(i) for i in range(4)]
    assert [t.text(0) for t in tops if not t.isHidden()] == ["up_proj"]
    assert sum(not tops[3].child(i).isHidden() for i in range(3)) == 1
    assert dialog.selection() == "q,v"


def test_a_pattern_and_a_full_name_are_understood(qtbot: Any) -> None:
    pattern = LayerDialog(LAYERS, r"re:model\.layers\.[12]\..*up_proj")
    name = LayerDialog(LAYERS, ["model.layers.0.mlp.up_proj", "odd_proj"])
    for dialog in (pattern, name):
        qtbot.addWidget(dialog)
    assert pattern.tree.checked() == {f"model.layers.{n}.mlp.up_proj" for n in (1, 2)}
    assert name.selection() == ["model.layers.0.mlp.up_proj", "odd_proj"]


def test_a_model_that_is_not_here_takes_names(qtbot: Any) -> None:
    dialog = LayerDialog([], ["q_proj"], "The layers of X are known once it is on this computer.")
    qtbot.addWidget(dialog)
    dialog.show()
    assert not dialog.tree.isVisible()
    assert dialog.selection() == ["q_proj"]
