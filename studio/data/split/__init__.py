"""The split into training and validation rows: ``sides`` applies the rules, ``hashing`` has the arithmetic."""
