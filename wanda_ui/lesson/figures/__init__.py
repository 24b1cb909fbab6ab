"""The lesson's figures: one thing to see in each. Pure functions from values and words to HTML and SVG."""
