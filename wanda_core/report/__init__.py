"""Runs: what recipes cost a model and what it then says, made, kept and checked; and how to make a recipe again."""
