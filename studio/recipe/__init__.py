"""Proposed values for a training, with reasons."""
