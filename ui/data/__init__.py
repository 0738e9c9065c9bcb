"""What a user sees of data: rows, tokens, the report. No tokenizer and no torch here."""
