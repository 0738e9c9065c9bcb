"""Plan, execute, run host, events, run folder, run state. No Qt, and no torch at import."""
