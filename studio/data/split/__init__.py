"""The split into training and validation rows: ``sides`` decides, ``hashing`` has the arithmetic."""
