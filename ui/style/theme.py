"""The look of the program: Fusion, our palette, and a short style sheet.

``apply`` may be called again at any time; custom painting reads ``colors()`` and connects to
``changed`` (a signal without arguments). This file does not depend on our widgets.
"""

from __future__ import annotations

from typing import Literal

from PySide6.QtCore import QObject, Qt, Signal
from PySide6.QtGui import QColor, QFont, QFontDatabase, QGuiApplication, QPalette
from PySide6.QtWidgets import QApplication

from studio.system.paths import assets_dir
from ui.style.theme_colors import DARK, LIGHT, Colors, blend, contrast

Scheme = Literal["dark", "light", "system"]

__all__ = ["Colors", "Scheme", "apply", "blend", "changed", "colors", "contrast", "scheme"]

_GENERIC_FONTS = ("sans serif", "sans-serif", "sans", "dejavu sans", "bitstream vera sans", "")
_BETTER_FONTS = ("Inter", "Noto Sans", "Cantarell", "Ubuntu", "DejaVu Sans")


class _Signals(QObject):
    """Holds the one signal of this module."""

    changed = Signal()

    def follow_system(self) -> None:
        """Follow a change of the desktop's scheme, if the user has selected that."""
        app = QApplication.instance()
        if _state.scheme == "system" and isinstance(app, QApplication):
            apply(app, "system")


class _State:
    """The applied scheme."""

    scheme: Scheme = "dark"
    colors: Colors = DARK
    following: QObject | None = None


_state = _State()
_signals = _Signals()
changed = _signals.changed
"""Emitted after every ``apply``: ``theme.changed.connect(widget.update)``."""


def colors() -> Colors:
    """The current colours (dark before the first ``apply``)."""
    return _state.colors


def scheme() -> Scheme:
    """The last requested scheme: ``dark``, ``light`` or ``system``."""
    return _state.scheme


def apply(app: QApplication, scheme: Scheme = "system") -> None:
    """Apply a scheme to the application; ``system`` follows the desktop, dark if unknown."""
    _state.scheme = scheme
    _tell_platform(scheme)
    _state.colors = resolve(scheme)
    if app.style().objectName().lower() != "fusion":
        app.setStyle("Fusion")
    app.setFont(_font(app.font()))
    app.setPalette(palette(_state.colors))
    app.setStyleSheet(style_sheet(_state.colors))
    if _state.following is not app:
        _state.following = app
        app.styleHints().colorSchemeChanged.connect(_signals.follow_system)
    changed.emit()


def resolve(scheme: Scheme) -> Colors:
    """The current colours of a scheme."""
    if scheme == "system":
        known = QGuiApplication.styleHints().colorScheme()
        return LIGHT if known == Qt.ColorScheme.Light else DARK
    return LIGHT if scheme == "light" else DARK


def _tell_platform(scheme: Scheme) -> None:
    """Let the platform draw its parts (title bars) in the same scheme; no effect on plain X11."""
    hints = QGuiApplication.styleHints()
    if not hasattr(hints, "setColorScheme"):  # Qt 6.7 and older
        return
    schemes = {"dark": Qt.ColorScheme.Dark, "light": Qt.ColorScheme.Light}
    hints.setColorScheme(schemes.get(scheme, Qt.ColorScheme.Unknown))


def _font(current: QFont) -> QFont:
    """The desktop's font; if it has none, a suitable installed one."""
    if current.family().lower() not in _GENERIC_FONTS:
        return current
    installed = set(QFontDatabase.families())
    found = next((f for f in _BETTER_FONTS if f in installed), None)
    if found is None:
        return current
    font = QFont(current)
    font.setFamily(found)
    font.setPointSizeF(max(font.pointSizeF(), 10.0))
    return font


def palette(c: Colors) -> QPalette:
    """The palette of a scheme."""
    role = QPalette.ColorRole
    p = QPalette()
    plain: dict[QPalette.ColorRole, QColor] = {
        role.Window: c.surface,
        role.WindowText: c.text,
        role.Base: c.background,
        role.AlternateBase: blend(c.background, c.surface_raised, 0.5),
        role.Text: c.text,
        role.Button: c.surface_raised,
        role.ButtonText: c.text,
        role.BrightText: c.danger,
        role.ToolTipBase: c.surface_raised,
        role.ToolTipText: c.text,
        role.PlaceholderText: c.text_muted,
        role.Highlight: c.accent,
        role.HighlightedText: c.text_on_accent,
        role.Link: c.accent,
        role.LinkVisited: c.accent,
        role.Light: blend(c.surface_raised, c.text, 0.12),
        role.Midlight: c.surface_raised,
        role.Mid: c.border,
        role.Dark: blend(c.surface, c.shadow, 0.4),
        role.Shadow: blend(c.surface, QColor("black"), 0.6),
        role.Accent: c.accent,
    }
    for key, color in plain.items():
        p.setColor(key, color)
    faded = blend(c.surface, c.text_muted, 0.62)
    for key in (role.WindowText, role.Text, role.ButtonText, role.HighlightedText):
        p.setColor(QPalette.ColorGroup.Disabled, key, faded)
    p.setColor(QPalette.ColorGroup.Disabled, role.Highlight, c.border)
    return p


def style_sheet(c: Colors) -> str:
    """The style sheet with ``@name`` replaced by the colours of this scheme."""
    folder = assets_dir() / "theme"
    values = {
        "assets": folder.as_posix(),
        "scheme": c.name,
        "text_on_accent": c.text_on_accent.name(),
        "text_muted": c.text_muted.name(),
        "text": c.text.name(),
        "border_strong": c.border_strong.name(),
        "border": c.border.name(),
        "surface_raised": c.surface_raised.name(),
        "surface": c.surface.name(),
        "background": c.background.name(),
        "accent": c.accent.name(),
        "hover": blend(c.surface_raised, c.text, 0.08).name(),
        "pressed": blend(c.surface_raised, c.text, 0.16).name(),
        "soft": blend(c.surface, c.accent, 0.18).name(),
        "danger": c.danger.name(),
        "accent_hover": blend(c.accent, c.text, 0.15).name(),
    }
    text = (folder / "studio.qss").read_text(encoding="utf-8")
    for name in sorted(values, key=len, reverse=True):
        text = text.replace(f"@{name}", values[name])
    return text
