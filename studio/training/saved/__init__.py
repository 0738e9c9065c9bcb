"""Checkpoints and the training state as files."""
