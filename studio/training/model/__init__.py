"""The base model as files and in memory: found, identified, loaded, and what happens when it does not fit."""
