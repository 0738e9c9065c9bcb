"""Estimates of a training before it runs: parameters, memory by part, steps, tokens, time.

They need only ``config.json``, the headers of weight files and the settings, and never import
torch. A helper process (``studio.training.estimate.host``) computes what the formulas cannot.
"""
