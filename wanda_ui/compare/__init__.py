"""Compare: one prompt, two answers."""
