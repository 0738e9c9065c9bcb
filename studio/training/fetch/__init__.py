"""Downloads and imports: models and data from the hub, GGUF files, starter models."""
