"""From a recipe and a model to a pruned variant."""
