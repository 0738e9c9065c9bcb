"""One editor per kind of field. ``editor_for`` picks it; nothing here knows nodes or documents."""

from ui.inspector.editors.pick import editor_for

__all__ = ["editor_for"]
