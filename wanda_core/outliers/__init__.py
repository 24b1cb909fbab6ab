"""The outlier lab's engine: what a handful of features do, found out by taking them away."""
