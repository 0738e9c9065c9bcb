"""One editor per kind of field. ``pick.editor_for`` picks it; nothing here knows nodes or documents."""
