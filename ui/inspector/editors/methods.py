"""The list of LoRA methods: in groups, each with the line that says when to use it.

Nearly forty methods in one flat list help nobody to choose. What is refused with the present model is
said by the Problems at the field; nothing is hidden here.
"""

from __future__ import annotations

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, QRect, QSize, Qt
from PySide6.QtGui import QFont, QPainter, QStandardItemModel
from PySide6.QtWidgets import QComboBox, QStyledItemDelegate, QStyleOptionViewItem

from studio.graph.node_type import Variant
from ui.style import theme

WHEN = "When to use it: "
EXPERIMENTAL = "Experimental."
COMMON_BELOW = 50  # of the order that methods declare; other packages' come later by default
ROLE_WHEN = Qt.ItemDataRole.UserRole + 1
POPUP_DIGITS = 62
_VISIBLE = 14
_PADDING_PX = 8
Index = QModelIndex | QPersistentModelIndex


def group_of(variant: Variant) -> str:
    """Which heading a method stands under."""
    if EXPERIMENTAL in variant.help:
        return "Experimental"
    return "Common" if variant.order < COMMON_BELOW else "More"


def when_of(variant: Variant) -> str:
    """When to use a method, without its paper: one line."""
    _, found, rest = variant.help.partition(WHEN)
    sentence = (rest if found else variant.help).partition(". ")[0].rstrip(".")
    return sentence[:1].upper() + sentence[1:]


def in_groups(variants: list[Variant]) -> list[tuple[str, list[Variant]]]:
    """The methods under their headings, in their own order."""
    groups: dict[str, list[Variant]] = {"Common": [], "More": [], "Experimental": []}
    for variant in variants:
        groups[group_of(variant)].append(variant)
    return [(title, found) for title, found in groups.items() if found]


def fill(combo: QComboBox, variants: list[Variant]) -> None:
    """Fill a list with headings that cannot be chosen and methods that can."""
    combo.setItemDelegate(MethodDelegate(combo))
    combo.setMaxVisibleItems(_VISIBLE)
    for title, found in in_groups(variants):
        combo.addItem(title)
        model = combo.model()
        assert isinstance(model, QStandardItemModel)
        model.item(combo.count() - 1).setFlags(Qt.ItemFlag.NoItemFlags)
        for variant in found:
            combo.addItem(variant.title, variant.id)
            place = combo.count() - 1
            combo.setItemData(place, variant.help, Qt.ItemDataRole.ToolTipRole)
            combo.setItemData(place, when_of(variant), ROLE_WHEN)
            combo.setItemData(
                place, f"{variant.title}: {when_of(variant)}", Qt.ItemDataRole.AccessibleTextRole
            )
    combo.view().setMinimumWidth(combo.fontMetrics().horizontalAdvance("0") * POPUP_DIGITS)


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
