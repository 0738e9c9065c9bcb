"""One file per exporter; each has a constant VARIANT."""
