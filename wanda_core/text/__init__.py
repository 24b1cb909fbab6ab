"""Calibration and evaluation text: files, named data sets, and the windows of tokens drawn from them."""
