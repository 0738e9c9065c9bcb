"""Models that answer: greedy generation, questions from rows, and how many answers are right."""
