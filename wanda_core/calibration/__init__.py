"""Running calibration text through the blocks and measuring what each linear reads."""
