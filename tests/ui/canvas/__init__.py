"""The canvas, pressed and read as a user does."""
