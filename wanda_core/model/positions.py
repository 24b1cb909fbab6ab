"""How long a text a model can read at once."""

from dataclasses import fields
from typing import Any

from torch import nn

# What configurations call it. Names of lengths that a model was trained on and may exceed are not among them.
NAMES = (
    "max_position_embeddings",
    "max_seq_len",
    "n_positions",
    "n_ctx",
    "max_target_positions",
    "max_sequence_length",
    "seq_length",
)


def longest_text(model: Any) -> int | None:
    """Return how many tokens a model has positions for, None where there is no limit: state-space models, those that
    bias attention by distance (ALiBi), and those that say -1."""
    text = model.config.get_text_config()
    own = {*(entry.name for entry in fields(text)), *text.attribute_map}  # a file may hold others, which nobody reads
    if "alibi" in own and text.alibi:
        return None
    told = [getattr(text, name, None) for name in NAMES if name in own]
    lengths = [length for length in told if isinstance(length, int) and length > 0]
    return lengths[0] - _positions_of_padding(model, lengths[0]) if lengths else None


def _positions_of_padding(model: nn.Module, length: int) -> int:
    """Count the positions that RoBERTa and its kin leave out: they count from the one after the padding token's id."""
    tables = (
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding) and "position" in f"{name}.{type(module).__name__}".lower()
    )
    return next((t.padding_idx + 1 for t in tables if t.num_embeddings == length and t.padding_idx is not None), 0)
