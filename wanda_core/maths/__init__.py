"""Scores, masks and updates: tensors in, tensors out."""
