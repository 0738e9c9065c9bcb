"""Estimates that only torch can make: the dry run without memory, and the probe of two real steps."""
