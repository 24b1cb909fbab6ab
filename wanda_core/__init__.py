"""Wanda: pruning language models by |W|·‖X‖₂, without retraining. Usable without any user interface."""

__version__ = "0.1.0"
