"""The data host: rows and their tokens for whoever looks at them, in a process of its own."""
