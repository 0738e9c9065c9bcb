"""Data sets: reading files, detecting formats, and splitting rows. No torch."""
