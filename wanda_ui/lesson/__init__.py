"""The lesson: eight questions, each guessed, tried, seen and explained, on the reader's own numbers."""
