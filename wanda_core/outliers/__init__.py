"""The outlier lab's engine: what a handful of features do, found by looking and by taking them away."""
