"""Batches: the order of rows, collation, packing, and the attention that keeps rows apart."""
