"""Measuring what a model can do: perplexity, answers, tasks."""
