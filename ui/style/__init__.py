"""Theme, colours and icons."""
