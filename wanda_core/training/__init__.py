"""Training what pruning kept, towards the dense model: the one room whose models are not training-free."""
