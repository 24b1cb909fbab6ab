"""Loading a model and finding its decoder blocks, linears and experts."""
