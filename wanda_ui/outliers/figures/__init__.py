"""Figures of the outlier lab, a file for each section: pure functions of the engine's dataclasses, words passed in.

Bounded, whatever the model: at most 200 KB and 5,000 marks a figure.
"""
