"""Loading a model, and finding what is in it."""
