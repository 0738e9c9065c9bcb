"""The inspector: forms generated from settings models. It edits the Document and nothing else."""
