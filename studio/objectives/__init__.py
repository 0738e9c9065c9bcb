"""One file per training objective; each has a constant VARIANT."""
