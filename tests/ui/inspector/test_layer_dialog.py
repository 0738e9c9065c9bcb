"""The tree of target modules: what a tick writes, counts, presets, the two groupings, the filter."""

from __future__ import annotations

from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QDialogButtonBox, QPushButton, QWidget

from studio.model.layers import LinearModule
from studio.model.targets import FullyTrainedModule
from ui.inspector.editors.layer_dialog import LayerDialog
from ui.inspector.editors.layer_tree import ALPHA, COUNT, RANK, TRAINED

LEFT = Qt.MouseButton.LeftButton
PARTS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.up_proj")
LAYERS = [
    LinearModule(f"model.layers.{n}.{part}", 8, 16 if part.startswith("mlp") else 8)
    for n in range(4)
    for part in PARTS
]
NODE: dict[str, Any] = {
    "target_modules": "q,v",
    "r": 4,
    "alpha": 8,
    "layers": "",
    "exclude": "",
    "rank_pattern": "",
    "alpha_pattern": "",
    "modules_to_save": "",
    "method": "lora",
    "method_settings": {},
}
WHOLE = [
    FullyTrainedModule("embed_tokens", 2_000_000, True),
    FullyTrainedModule("lm_head", 2_000_000, True),
]


def shown(qtbot: Any, modules: list[LinearModule] | None = None, **changes: Any) -> LayerDialog:
    dialog = LayerDialog(LAYERS if modules is None else modules, {**NODE, **changes}, parts=WHOLE)
    qtbot.addWidget(dialog)
    dialog.show()
    qtbot.waitExposed(dialog)
    return dialog


@pytest.fixture
def dialog(qtbot: Any) -> LayerDialog:
    return shown(qtbot)


def part(dialog: LayerDialog, name: str) -> Any:
    found = dialog.findChild(QWidget, name)
    assert found is not None, name
    return found


def press(dialog: LayerDialog, name: str) -> None:
    QTest.mouseClick(part(dialog, name), LEFT)


def write(dialog: LayerDialog, name: str, text: str, qtbot: Any) -> None:
    """Type into a line from the keyboard, and wait until it is judged."""
    line = part(dialog, name)
    line.setFocus()
    line.selectAll()
    QTest.keyClick(line, Qt.Key.Key_Delete)
    QTest.keyClicks(line, text)
    qtbot.waitUntil(lambda: not dialog._soon.isActive())


def wrong(dialog: LayerDialog, name: str) -> str:
    label = part(dialog, f"wrong:{name}")
    return str(label.text()) if label.isVisible() else ""


def ok(dialog: LayerDialog) -> QPushButton:
    box = dialog.findChild(QDialogButtonBox)
    assert box is not None
    return box.button(QDialogButtonBox.StandardButton.Ok)


def kind(dialog: LayerDialog, title: str) -> Any:
    tree = dialog.tree
    items = [tree.topLevelItem(i) for i in range(tree.topLevelItemCount())]
    return next(i for i in items if i.text(0) == title)


def pick(dialog: LayerDialog, *titles: str) -> None:
    """Select rows with the mouse, the second and further ones with Ctrl."""
    for n, title in enumerate(titles):
        keys = Qt.KeyboardModifier.ControlModifier if n else Qt.KeyboardModifier.NoModifier
        place = dialog.tree.visualItemRect(kind(dialog, title)).center()
        QTest.mouseClick(dialog.tree.viewport(), LEFT, keys, place)


def test_the_setting_is_shown_as_ticks_and_counted(dialog: LayerDialog) -> None:
    states = {
        dialog.tree.topLevelItem(i).text(0): dialog.tree.topLevelItem(i).checkState(0)
        for i in range(dialog.tree.topLevelItemCount())
    }
    ticked = {name for name, state in states.items() if state == Qt.CheckState.Checked}
    assert ticked == {"q_proj", "v_proj"}
    assert dialog.count.text() == f"8 of 16 layers; {8 * 4 * 16} trainable parameters."
    row = kind(dialog, "q_proj")
    assert [row.text(c) for c in (COUNT, RANK, ALPHA, TRAINED)] == ["4 of 4", "4", "8", "256"]
    assert kind(dialog, "k_proj").text(TRAINED) == "–"
    assert dialog.selection() == "q,v"
    assert dialog.changes() == {}


def test_space_ticks_a_kind_a_single_layer_and_several(dialog: LayerDialog, qtbot: Any) -> None:
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
    rest = [f"model.layers.{n}.mlp.up_proj" for n in (1, 2, 3)]
    assert dialog.selection() == ["q_proj", "v_proj", *rest]
    assert dialog.count.text().startswith("11 of 16 layers")
    QTest.keyClick(tree, Qt.Key.Key_Down, Qt.KeyboardModifier.ShiftModifier)
    QTest.keyClick(tree, Qt.Key.Key_Space)
    assert dialog.selection() == ["q_proj", "v_proj", "up_proj"]
    QTest.keyClick(tree, Qt.Key.Key_Space)
    assert dialog.selection() == ["q_proj", "v_proj", *rest[1:]]


def test_presets_and_groupings_keep_the_ticks(dialog: LayerDialog) -> None:
    press(dialog, "layer-preset:all-linear")
    assert dialog.selection() == "all-linear"
    press(dialog, "layer-preset:attention")
    assert dialog.selection() == "attention"
    dialog.view.setCurrentIndex(1)
    titles = [dialog.tree.topLevelItem(i).text(0) for i in range(4)]
    assert titles == ["Layer 0", "Layer 1", "Layer 2", "Layer 3"]
    assert dialog.selection() == "attention"
    dialog.tree.topLevelItem(0).setCheckState(0, Qt.CheckState.Unchecked)
    assert len(dialog.selection()) == 9
    press(dialog, "layer-preset:feed-forward")
    assert dialog.selection() == ["up_proj"]
    press(dialog, "layer-preset:none")
    assert dialog.selection() == []
    assert wrong(dialog, "target_modules") == "Select at least one layer."
    assert not ok(dialog).isEnabled()


def test_the_filter_hides_and_keeps_ticks(dialog: LayerDialog) -> None:
    QTest.keyClicks(dialog.filter, "layers.1.mlp")
    tops = [dialog.tree.topLevelItem(i) for i in range(4)]
    assert [t.text(0) for t in tops if not t.isHidden()] == ["up_proj"]
    assert sum(not tops[3].child(i).isHidden() for i in range(4)) == 1
    assert dialog.selection() == "q,v"


def test_an_expression_is_followed_while_it_is_typed(dialog: LayerDialog, qtbot: Any) -> None:
    """A broken one is told in one sentence and cannot be taken; a tick by hand goes on from there."""
    write(dialog, "layer-expression", r".*\.[12]\.mlp\.up_proj", qtbot)
    assert part(dialog, "layer-use-expression").isChecked()
    assert dialog.count.text().startswith("2 of 16 layers")
    assert kind(dialog, "up_proj").checkState(0) == Qt.CheckState.PartiallyChecked
    assert dialog.changes() == {"target_modules": r"re:.*\.[12]\.mlp\.up_proj"}
    write(dialog, "layer-expression", "up_proj", qtbot)
    assert "matches no linear layer" in wrong(dialog, "target_modules")
    write(dialog, "layer-expression", ".*(", qtbot)
    assert "is not a regular expression" in wrong(dialog, "target_modules")
    assert not ok(dialog).isEnabled()
    write(dialog, "layer-expression", ".*k_proj", qtbot)
    assert wrong(dialog, "target_modules") == ""
    press(dialog, "layer-use-expression")
    assert dialog.selection() == ["k_proj"]
    press(dialog, "layer-use-expression")
    assert dialog.selection() == "re:.*k_proj", "the text was kept"


def test_a_range_from_to_and_every_second(dialog: LayerDialog, qtbot: Any) -> None:
    """The numbers write the text, the text sets the numbers, and the tree counts what is left."""
    start, end, every = (part(dialog, f"layer-{n}") for n in ("from", "to", "every"))
    start.setFocus()
    QTest.keyClick(start, Qt.Key.Key_Up)
    qtbot.waitUntil(lambda: dialog.count.text().startswith("6 of 16"))
    assert dialog.changes() == {"layers": "1-3"}
    assert kind(dialog, "q_proj").text(COUNT) == "3 of 4"
    QTest.keyClick(every, Qt.Key.Key_Up)
    assert dialog.changes() == {"layers": "1-3/2"}
    write(dialog, "layer-range", "0-2", qtbot)
    assert (start.value(), end.value(), every.value()) == (0, 2, 1)
    write(dialog, "layer-range", "0, 3", qtbot)
    assert dialog.changes() == {"layers": "0, 3"}
    write(dialog, "layer-range", "2-9", qtbot)
    assert "has no layer 4" in wrong(dialog, "layers")
    assert not ok(dialog).isEnabled()
    write(dialog, "layer-range", "", qtbot)
    assert dialog.changes() == {}


def test_exceptions_are_grey_and_not_trained(dialog: LayerDialog, qtbot: Any) -> None:
    write(dialog, "layer-exclude", "v_proj", qtbot)
    assert dialog.count.text().startswith("4 of 16 layers")
    assert dialog.changes() == {"exclude": "v_proj"}
    write(dialog, "layer-exclude", "w_proj", qtbot)
    assert "“w_proj” matches none of the chosen layers." in wrong(dialog, "exclude")


def test_ranks_and_alphas_of_selected_rows(dialog: LayerDialog, qtbot: Any) -> None:
    """A kind is written by its name; a layer of it that differs comes before, by its own."""
    pick(dialog, "q_proj", "v_proj")
    write(dialog, "rows-rank", "16", qtbot)
    assert not kind(dialog, "v_proj").font(ALPHA).bold()
    write(dialog, "rows-alpha", "32", qtbot)
    assert kind(dialog, "v_proj").text(RANK) == "16"
    assert kind(dialog, "v_proj").font(RANK).bold()
    assert dialog.count.text() == f"8 of 16 layers; {8 * 16 * 16:,} trainable parameters."
    both = {"rank_pattern": "q_proj=16, v_proj=16", "alpha_pattern": "q_proj=32, v_proj=32"}
    assert dialog.changes() == both
    kind(dialog, "q_proj").setExpanded(True)
    dialog.tree.setCurrentItem(kind(dialog, "q_proj").child(2))
    assert part(dialog, "rows-rank").text() == "16"
    write(dialog, "rows-rank", "2", qtbot)
    assert kind(dialog, "q_proj").text(RANK) == "several"
    assert dialog.changes()["rank_pattern"] == (
        "model.layers.2.self_attn.q_proj=2, q_proj=16, v_proj=16"
    )
    pick(dialog, "q_proj")
    assert part(dialog, "rows-rank").placeholderText() == "several"
    press(dialog, "rows-reset")
    assert dialog.changes() == {"rank_pattern": "v_proj=16", "alpha_pattern": "v_proj=32"}


def test_what_the_settings_say_is_shown_again(qtbot: Any) -> None:
    """What the dialog writes it reads: nothing has changed then."""
    settings = {
        "target_modules": "re:.*(q|v)_proj",
        "layers": "0-2/2",
        "exclude": "model.layers.0.self_attn.v_proj",
        "rank_pattern": "model.layers.2.self_attn.q_proj=2, q_proj=16",
        "alpha_pattern": "v_proj=5",
        "modules_to_save": "lm_head, norm",
    }
    dialog = shown(qtbot, **settings)
    assert dialog.changes() == {}
    assert dialog.count.text() == (
        f"3 of 16 layers; {16 * (16 + 2 + 4)} trainable parameters in adapters, 2,000,000 in fully trained modules."
    )
    assert part(dialog, "fully-trained:lm_head").isChecked()
    assert part(dialog, "layer-every").value() == 2
    press(dialog, "fully-trained:embed_tokens")
    assert dialog.changes() == {"modules_to_save": "embed_tokens, lm_head, norm"}


def test_parts_that_are_trained_whole_with_size_and_warning(
    dialog: LayerDialog, qtbot: Any
) -> None:
    box = part(dialog, "fully-trained:lm_head")
    assert box.text() == "Head (lm_head): 2.0 M, 4 to 8 MB"
    box.setFocus()
    QTest.keyClick(box, Qt.Key.Key_Space)
    assert "ties its input" in part(dialog, "fully-trained-note").text()
    qtbot.waitUntil(lambda: "2,000,000 in fully trained modules" in dialog.count.text())
    assert dialog.changes() == {"modules_to_save": "lm_head"}


def test_experts_are_one_row_a_block(qtbot: Any) -> None:
    """They are joined in one weight, which is chosen whole; ranks are those of one expert."""
    layers = LAYERS + [
        LinearModule(f"model.layers.{n}.mlp.experts.{e}.{p}", 8, 6)
        for n in range(4)
        for e in range(3)
        for p in ("w1", "w2", "w3")
    ]
    dialog = shown(qtbot, layers)
    row = kind(dialog, "experts.gate_up_proj")
    assert row.child(0).text(0) == "model.layers.0.mlp.experts.gate_up_proj"
    assert row.text(2) == "8 → 12 × 3"
    row.child(1).setCheckState(0, Qt.CheckState.Checked)
    name = "model.layers.1.mlp.experts.gate_up_proj"
    assert dialog.selection() == ["q_proj", "v_proj", name]
    qtbot.waitUntil(lambda: row.child(1).text(TRAINED) == f"{4 * 2 * 3 * (8 + 12)}")
    press(dialog, "layer-preset:all-linear")
    assert dialog.selection() == "all-linear"
    pick(dialog, "experts.gate_up_proj")
    write(dialog, "rows-rank", "2", qtbot)
    assert dialog.changes()["rank_pattern"] == "experts.gate_up_proj=2"


def test_a_full_name_and_a_strange_one_are_kept(qtbot: Any) -> None:
    dialog = shown(qtbot, target_modules=["model.layers.0.mlp.up_proj", "odd_proj"])
    assert dialog.selection() == ["model.layers.0.mlp.up_proj", "odd_proj"]
    assert "“odd_proj” matches no linear layer" in wrong(dialog, "target_modules")
    write(dialog, "layer-names", "", qtbot)
    assert ok(dialog).isEnabled()
    assert dialog.changes() == {"target_modules": ["model.layers.0.mlp.up_proj"]}


@pytest.mark.parametrize("value", [["q_proj"], r"re:.*(q|v)_proj{1,2}"])
def test_a_model_that_is_not_here_takes_names(qtbot: Any, value: Any) -> None:
    dialog = LayerDialog([], {**NODE, "target_modules": value}, "Known once it is here.")
    qtbot.addWidget(dialog)
    dialog.show()
    assert not dialog.tree.isVisible()
    assert not part(dialog, "layer-range").isVisible()
    assert dialog.selection() == value
    assert dialog.changes() == {}
    write(dialog, "layer-names", "k_proj, o_proj", qtbot)
    assert ok(dialog).isEnabled()
    assert dialog.changes() == {"target_modules": ["k_proj", "o_proj"]}


def test_the_tab_key_reaches_every_control_in_order(dialog: LayerDialog) -> None:
    dialog.tree.setFocus()
    seen = []
    for _ in range(14):
        QTest.keyClick(dialog.focusWidget(), Qt.Key.Key_Tab)
        seen.append(dialog.focusWidget().objectName())
    assert seen[:3] == ["rows-rank", "rows-alpha", "layer-use-expression"]
    assert seen[3:8] == ["layer-expression", "layer-range", "layer-from", "layer-to", "layer-every"]
    assert seen[8:11] == ["layer-exclude", "fully-trained:embed_tokens", "fully-trained:lm_head"]
