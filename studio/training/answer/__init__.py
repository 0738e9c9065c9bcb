"""Inference: greedy generation, questions made from rows, and the share of correct answers."""
