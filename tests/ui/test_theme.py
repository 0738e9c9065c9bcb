"""Both schemes can be read, controls have an outline, and icons follow the colours."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QAction, QColor, QImage
from PySide6.QtWidgets import QApplication, QCheckBox, QPushButton, QVBoxLayout, QWidget

from studio.graph.ports import PORT_TYPES
from studio.graph.registry import load_registry
from ui.style import icons, theme
from ui.style.theme_colors import DARK, LIGHT, Colors
from ui.training.memory_bar import color

SCHEMES = pytest.mark.parametrize("c", [DARK, LIGHT], ids=["dark", "light"])
GROUNDS = ("background", "surface", "surface_raised")


@pytest.fixture(autouse=True)
def _restore(qapp: QApplication) -> Iterator[None]:
    yield
    theme.apply(qapp, "dark")


@SCHEMES
@pytest.mark.parametrize("ground", GROUNDS)
@pytest.mark.parametrize("role", ["text", "text_muted", "accent", "success", "warning", "danger"])
def test_text_stands_out(c: Colors, ground: str, role: str) -> None:
    assert theme.contrast(getattr(c, role), getattr(c, ground)) >= 4.5


@SCHEMES
@pytest.mark.parametrize("ground", GROUNDS)
def test_outlines_and_marks_stand_out(c: Colors, ground: str) -> None:
    marks = {"border_strong": c.border_strong, **c.ports, **c.categories}
    marks.update({f"series {i}": color for i, color in enumerate(c.series)})
    weak = {n: v.name() for n, v in marks.items() if theme.contrast(v, getattr(c, ground)) < 3.0}
    assert not weak


@SCHEMES
def test_text_on_coloured_ground(c: Colors) -> None:
    for role in ("accent", "success", "warning", "danger"):
        assert theme.contrast(c.text_on_accent, getattr(c, role)) >= 4.5


@SCHEMES
def test_the_largest_parts_of_the_memory_bar_can_be_told_apart(
    qapp: QApplication, c: Colors
) -> None:
    theme.apply(qapp, c.name)
    parts = [color(title) for title in ("Weights", "Activations", "Logits")]
    for first, second in itertools.pairwise(parts):
        channels = zip(first.getRgb()[:3], second.getRgb()[:3], strict=True)
        assert sum((a - b) ** 2 for a, b in channels) ** 0.5 > 100, (first.name(), second.name())


@SCHEMES
def test_every_port_type_and_category_has_its_own_colour(c: Colors) -> None:
    assert set(c.ports) == set(PORT_TYPES)
    assert len({color.name() for color in c.ports.values()}) == len(PORT_TYPES)
    assert {t.category for t in load_registry().nodes.values()} <= set(c.categories)
    assert c.port("no such type") == c.text_muted


@SCHEMES
def test_disabled_text_is_fainter_and_selection_readable(c: Colors) -> None:
    p = theme.palette(c)
    group, role = p.ColorGroup, p.ColorRole
    disabled = p.color(group.Disabled, role.Text)
    assert theme.contrast(disabled, c.background) < theme.contrast(c.text, c.background)
    highlight = p.color(group.Active, role.Highlight)
    assert theme.contrast(p.color(group.Active, role.HighlightedText), highlight) >= 4.5


@SCHEMES
def test_style_sheet_is_short_and_complete(c: Colors) -> None:
    sheet = theme.style_sheet(c)
    assert "@" not in sheet
    assert sheet.count("\n") < 150


def test_apply_again_at_runtime(qapp: QApplication) -> None:
    seen: list[str] = []

    def note() -> None:
        seen.append(theme.colors().name)

    theme.changed.connect(note)
    theme.apply(qapp, "light")
    theme.apply(qapp, "dark")
    theme.changed.disconnect(note)
    assert seen == ["light", "dark"]
    assert qapp.palette().text().color() == DARK.text


def test_system_scheme_is_dark_when_unknown(qapp: QApplication) -> None:
    known = qapp.styleHints().colorScheme()
    theme.apply(qapp, "system")
    assert theme.scheme() == "system"
    assert theme.colors().name == ("light" if known == Qt.ColorScheme.Light else "dark")


def _picture(widget: QWidget) -> QImage:
    return widget.grab().toImage()


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_unchecked_box_has_an_outline(qtbot, qapp: QApplication, scheme: theme.Scheme) -> None:
    theme.apply(qapp, scheme)
    box = QCheckBox("Option")
    qtbot.addWidget(box)
    box.resize(120, 24)
    picture = _picture(box)
    ground = picture.pixelColor(110, 2)
    row = [picture.pixelColor(QPoint(x, 12)) for x in range(6)]
    assert max(theme.contrast(color, ground) for color in row) >= 3.0


def test_focus_is_visible(qtbot, qapp: QApplication) -> None:
    theme.apply(qapp, "dark")
    panel = QWidget()
    qtbot.addWidget(panel)
    box = QVBoxLayout(panel)
    first, second = QPushButton("One"), QPushButton("Two")
    box.addWidget(first)
    box.addWidget(second)
    with qtbot.waitExposed(panel):
        panel.show()
    panel.activateWindow()
    second.setFocus()
    without = _picture(first)
    first.setFocus()
    qtbot.waitUntil(first.hasFocus)
    assert _picture(first) != without


def test_icons_take_the_colour(qapp: QApplication) -> None:
    picture = icons.icon("square", QColor("#ff0000")).pixmap(48, 48).toImage()
    colors = {picture.pixelColor(x, 24).name() for x in range(48)}
    assert "#ff0000" in colors


def test_icons_are_sharp_at_the_device_ratio(qapp: QApplication) -> None:
    assert icons.pixmap("play", 16, ratio=2.0).width() == 32
    assert icons.pixmap("play", 16, ratio=2.0).deviceIndependentSize().width() == 16


def test_missing_icon_is_an_error(qapp: QApplication) -> None:
    with pytest.raises(KeyError):
        icons.icon("no-such-icon")
    assert icons.known("no-such-icon") == "puzzle"


def test_every_node_type_has_a_bundled_icon(qapp: QApplication) -> None:
    for node_type in load_registry().nodes.values():
        assert icons.has(node_type.icon), node_type.id
    for name in icons.names():
        assert not icons.icon(name).isNull()


def test_icon_of_an_action_follows_the_theme(qapp: QApplication) -> None:
    theme.apply(qapp, "dark")
    action = QAction("Run")
    icons.put(action, "square")
    dark = action.icon().pixmap(24, 24).toImage()
    theme.apply(qapp, "light")
    light = action.icon().pixmap(24, 24).toImage()
    assert dark != light
    icons.put(action, "play", "success")
    theme.apply(qapp, "dark")
    assert action.icon().pixmap(24, 24).toImage() != dark
