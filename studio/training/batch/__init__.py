"""Which rows go together, in which order, and how attention keeps them apart."""
