"""The parity check: an export is read back by its own program and compared with the trained model."""
