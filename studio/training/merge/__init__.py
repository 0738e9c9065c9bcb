"""What is made of a trained adapter: merged, resized or exported, and checked against the original."""
