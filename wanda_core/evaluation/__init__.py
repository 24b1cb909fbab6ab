"""What a model is worth: perplexity, answers, tasks."""
