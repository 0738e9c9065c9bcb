"""From a prepared row to ids, labels and weights: chat template, mask, ends, limits, and the cache of it."""
