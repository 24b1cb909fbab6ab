"""The engine room: one queue for everything that runs a model, and what is kept of the results."""
