"""Processors, processes and memory: faster products, several processes that work together, malloc's settings."""
