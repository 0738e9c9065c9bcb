"""What every export consists of: its folder, the copied files, the model card, and which programs load it."""
