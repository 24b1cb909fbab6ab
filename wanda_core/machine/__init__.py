"""Processors, processes and memory."""
