"""From prepared rows to token ids, labels and weights: chat template, mask, BOS and end token, limits, cache."""
