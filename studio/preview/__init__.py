"""Rows, tokens and reports as plain data, and the client of the data host."""
