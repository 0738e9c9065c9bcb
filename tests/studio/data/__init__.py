"""Tests of data files, formats and the split."""
