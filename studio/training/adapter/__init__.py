"""What is trained on a base: an adapter or the model itself, built, begun, watched, written and verified."""
