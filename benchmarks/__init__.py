"""The measurements behind README's figures: `make bench` and `make soak`."""
