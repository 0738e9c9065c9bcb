"""The base model on disk and in memory: found, identified, loaded; and out-of-memory errors."""
