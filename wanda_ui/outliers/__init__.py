"""The outlier lab: one file a section, each with its question, controls, a figure, a sentence and a table."""
