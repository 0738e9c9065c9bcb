"""Qt widgets only; no engine code, no torch."""
