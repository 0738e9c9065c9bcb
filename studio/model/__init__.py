"""Models as files: facts, layers, targets, trust. No torch."""
