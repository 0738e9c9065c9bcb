"""One file per node type; each has a constant NODE."""
