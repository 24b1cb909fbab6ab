"""Turning a recipe and a dense model into a pruned variant."""
