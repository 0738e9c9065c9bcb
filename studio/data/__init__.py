"""Data sets: reading files, recognising formats, and splitting rows. No torch."""
