"""The settings model of each node type."""
