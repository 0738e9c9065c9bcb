"""The tabs above a node's form: the settings, pages of other rooms, and a button for the width.

It shows the selected tab; the panel shows its page. A subclass provides the pages.
"""

from __future__ import annotations

from collections.abc import Mapping

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QTabBar, QWidget

from ui.style.widgets import IconButton

SETTINGS = "settings"
NARROW, WIDE = "Restore the width of the inspector", "Widen the inspector to show rows and tokens"


class NodeTabs(QWidget):
    """``chosen`` carries the id of a tab, ``widen_wanted`` whether the inspector should be wide."""

    chosen = Signal(object)
    widen_wanted = Signal(object)

    def __init__(self, titles: Mapping[str, str], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.bar = QTabBar(self)
        self.bar.setDrawBase(False)
        self.bar.setExpanding(False)
        self.bar.setUsesScrollButtons(False)  # the inspector is never narrower than all tabs
        self.bar.setElideMode(Qt.TextElideMode.ElideNone)
        self.bar.setStyleSheet("QTabBar::tab { padding: 7px 7px; margin: 0; }")
        self._ids = [SETTINGS, *titles]
        for tab, title in {SETTINGS: "Settings", **titles}.items():
            self.bar.setTabData(self.bar.addTab(title), tab)
        self.bar.currentChanged.connect(self._changed)
        self.wide = IconButton("panel-right", WIDE, self)
        self.wide.setObjectName("widen-inspector")
        self.wide.setCheckable(True)
        self.wide.toggled.connect(self._widened)
        row = QHBoxLayout(self)
        row.setContentsMargins(4, 2, 6, 0)
        row.setSpacing(2)
        row.addWidget(self.bar, 1)
        row.addWidget(self.wide)
        self.hide()

    @property
    def tab(self) -> str:
        """The id of the chosen tab."""
        return str(self.bar.tabData(self.bar.currentIndex()))

    def choose(self, tab: str) -> None:
        """Select a tab."""
        self.bar.setCurrentIndex(self._ids.index(tab))

    def show_wide(self, wide: bool) -> None:
        """Show whether the inspector is wide."""
        self.wide.blockSignals(True)
        self.wide.setChecked(wide)
        self.wide.blockSignals(False)
        self._name_wide(wide)

    # ------------------------------------------------------------ for the subclass

    def show_node(self, node: str | None) -> bool:
        """Show the tabs of this node; False if it has none."""
        raise NotImplementedError

    def suits(self, type_id: str) -> bool:
        """Whether nodes of this type have tabs."""
        raise NotImplementedError

    def page(self, tab: str) -> QWidget | None:
        """The page of a tab; ``None`` for the settings."""
        raise NotImplementedError

    def below_settings(self) -> QWidget | None:
        """A new widget for below the settings of the node, if there is one."""
        return None

    def follow(self) -> None:
        """Update the page of the selected tab."""

    # ------------------------------------------------------------ signals

    def _changed(self) -> None:
        self.follow()
        self.chosen.emit(self.tab)

    def _widened(self, wide: bool) -> None:
        self._name_wide(wide)
        self.widen_wanted.emit(wide)

    def _name_wide(self, wide: bool) -> None:
        self.wide.setToolTip(NARROW if wide else WIDE)
        self.wide.setAccessibleName(NARROW if wide else WIDE)
