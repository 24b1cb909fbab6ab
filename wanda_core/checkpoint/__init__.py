"""Writing a pruned model to a folder that others can load."""
