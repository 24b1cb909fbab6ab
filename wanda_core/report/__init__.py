"""What a run of a model leaves to look at without it: the stored run of the built-in model."""
