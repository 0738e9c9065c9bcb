"""Results of a trained adapter: merged, resized and exported models, verified against the original."""
