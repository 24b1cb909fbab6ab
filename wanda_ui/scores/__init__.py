"""Scores: what Wanda gave every weight."""
