"""What a model is as files: facts, layers, targets, trust. No torch."""
