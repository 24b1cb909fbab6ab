"""Texts, and the windows of tokens drawn from them."""
