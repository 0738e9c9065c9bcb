"""Rows, tokens and reports as descriptions, and the client of the data host."""
