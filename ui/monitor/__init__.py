"""The panels of a run: curves, log, results and the list of runs.

The panels read a ``RunState`` and events; they never start, stop or change a run. pyqtgraph is
imported in this package only (``plot`` and what builds on it), so that the rest of the window can
be shown before it is loaded.
"""
