"""Pruning and shrinking a model that is larger than memory, from the disk to the disk, block by block."""
