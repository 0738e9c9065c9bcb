"""The data host: a process that serves rows and their tokens for display."""
