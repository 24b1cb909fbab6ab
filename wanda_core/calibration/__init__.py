"""Running calibration text through the blocks, and what is measured there."""
