"""Estimates that need torch: the dry run without memory, and the probe of two real steps."""
