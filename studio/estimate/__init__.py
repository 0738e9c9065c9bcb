"""What a training will need, told before it runs: parameters, memory by part, steps, tokens, time.

Light: it reads ``config.json``, headers of weight files and settings, never a weight, and imports no
torch. What the formulas cannot say is asked of a helper process (``studio.training.estimate.host``).
"""
