"""The mathematics of pruning, tensors in, tensors out: scores, masks, updates of kept weights, and OWL's allocation."""
