"""The list of LoRA methods: in groups, each method with a line that says when to use it.

Research methods are collapsed until their heading is selected or the node uses one of them. Methods
that the model does not support stay in the list; a Problem at the field gives the reason.
"""

from __future__ import annotations

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, QRect, QSize, Qt
from PySide6.QtGui import QFont, QPainter, QStandardItemModel
from PySide6.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QStyledItemDelegate,
    QStyleOptionViewItem,
)

from studio.graph.node_type import Variant
from ui.style import theme

WHEN = "When to use it: "
COMMON, MORE, RESEARCH = "Common", "More", "Research methods"
OPEN_RESEARCH = "<research methods>"
"""The data of the heading that unfolds the research methods."""
COMMON_BELOW = 50  # of the order that methods declare; other packages' come later by default
ROLE_WHEN = Qt.ItemDataRole.UserRole + 1
POPUP_DIGITS = 62
_VISIBLE = 14
_FOLDED = "▸"
_AT_TOP = QAbstractItemView.ScrollHint.PositionAtTop
_PADDING_PX = 8
Index = QModelIndex | QPersistentModelIndex


def is_research(variant: Variant) -> bool:
    """Whether a method declares that it is a research method."""
    return bool(getattr(variant.payload, "research", False))


def group_of(variant: Variant) -> str:
    """The heading of a method."""
    if is_research(variant):
        return RESEARCH
    return COMMON if variant.order < COMMON_BELOW else MORE


def when_of(variant: Variant) -> str:
    """When to use a method, without its paper: one line."""
    _, found, rest = variant.help.partition(WHEN)
    sentence = (rest if found else variant.help).partition(". ")[0].rstrip(".")
    return sentence[:1].upper() + sentence[1:]


def in_groups(variants: list[Variant]) -> list[tuple[str, list[Variant]]]:
    """The methods under their headings, in their own order."""
    groups: dict[str, list[Variant]] = {COMMON: [], MORE: [], RESEARCH: []}
    for variant in variants:
        groups[group_of(variant)].append(variant)
    return [(title, found) for title, found in groups.items() if found]


def fill(combo: QComboBox, variants: list[Variant], research_open: bool = False) -> None:
    """Fill a list with methods under headings. Only the heading of folded research methods can be
    chosen."""
    combo.setItemDelegate(MethodDelegate(combo))
    combo.setMaxVisibleItems(_VISIBLE)
    for title, found in in_groups(variants):
        if title == RESEARCH and not research_open:
            _add_folded(combo, len(found))
            continue
        combo.addItem(title)
        model = combo.model()
        assert isinstance(model, QStandardItemModel)
        model.item(combo.count() - 1).setFlags(Qt.ItemFlag.NoItemFlags)
        for variant in found:
            _add_method(combo, variant)
    combo.view().setMinimumWidth(combo.fontMetrics().horizontalAdvance("0") * POPUP_DIGITS)


def _add_method(combo: QComboBox, variant: Variant) -> None:
    combo.addItem(variant.title, variant.id)
    place, when = combo.count() - 1, when_of(variant)
    combo.setItemData(place, variant.help, Qt.ItemDataRole.ToolTipRole)
    combo.setItemData(place, when, ROLE_WHEN)
    combo.setItemData(place, f"{variant.title}: {when}", Qt.ItemDataRole.AccessibleTextRole)


def _add_folded(combo: QComboBox, count: int) -> None:
    combo.addItem(RESEARCH, OPEN_RESEARCH)
    place, words = combo.count() - 1, f"Show {count} methods with little evidence so far"
    combo.setItemData(place, words, Qt.ItemDataRole.ToolTipRole)
    combo.setItemData(place, f"{RESEARCH}: {words}", Qt.ItemDataRole.AccessibleTextRole)


def show_research(combo: QComboBox) -> None:
    """Open the list at the first research method, so that the keyboard goes on from there."""
    combo.showPopup()
    first = combo.model().index(combo.findText(RESEARCH) + 1, 0)
    combo.view().setCurrentIndex(first)
    combo.view().scrollTo(first.siblingAtRow(first.row() - 1), _AT_TOP)


class MethodDelegate(QStyledItemDelegate):
    """A method with its line below; a heading in small strong letters."""

    def sizeHint(self, option: QStyleOptionViewItem, index: Index) -> QSize:
        """Qt: two lines for a method, one for a heading."""
        lines = 2 if index.data(ROLE_WHEN) else 1
        return QSize(0, option.fontMetrics.lineSpacing() * lines + _PADDING_PX)

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: Index) -> None:
        """Qt: one entry."""
        cell = QStyleOptionViewItem(option)
        self.initStyleOption(cell, index)
        title, cell.text = cell.text, ""
        style, look = cell.widget.style(), theme.colors()
        style.drawControl(style.ControlElement.CE_ItemViewItem, cell, painter, cell.widget)
        when = index.data(ROLE_WHEN)
        painter.save()
        font = QFont(option.font)
        font.setWeight(QFont.Weight.DemiBold)
        painter.setFont(font)
        inside = option.rect.adjusted(_PADDING_PX, 0, -_PADDING_PX, 0)
        if not when:
            painter.setPen(look.text_muted)
            if index.data(Qt.ItemDataRole.UserRole) == OPEN_RESEARCH:
                title = f"{title} {_FOLDED}"
            painter.drawText(inside, Qt.AlignmentFlag.AlignVCenter, title)
            painter.restore()
            return
        height = option.fontMetrics.lineSpacing()
        first = QRect(inside.left() + _PADDING_PX, inside.top() + 4, inside.width(), height)
        painter.setPen(look.text)
        painter.drawText(first, Qt.AlignmentFlag.AlignVCenter, title)
        painter.setFont(option.font)
        painter.setPen(look.text_muted)
        second = first.translated(0, height).adjusted(0, 0, -_PADDING_PX, 0)
        line = option.fontMetrics.elidedText(when, Qt.TextElideMode.ElideRight, second.width())
        painter.drawText(second, Qt.AlignmentFlag.AlignVCenter, line)
        painter.restore()
