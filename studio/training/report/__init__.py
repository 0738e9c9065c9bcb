"""What the data report finds over all rows: checks of one row, tallies, findings and their remedies."""
