"""Small windows: settings, about, shortcuts, unsaved changes, recovery, crash. No engine work."""
