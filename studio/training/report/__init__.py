"""The data report over all rows: checks of single rows, totals, findings and fixes."""
