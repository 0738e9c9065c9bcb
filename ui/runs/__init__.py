"""Runs in the window: start, follow, display."""
