"""How long a text a model can read at once."""

from collections.abc import Iterator
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
    bias attention by distance (ALiBi), and those that say -1. Parts of it may have a limit of their own."""
    text = model.config.get_text_config()
    limits = [_of_text(model, text), *_of_growing(model, str(text.model_type))]
    return min((limit for limit in limits if limit is not None), default=None)


def _of_text(model: nn.Module, text: Any) -> int | None:
    """Return the limit that the configuration of the part for text tells, None where it tells none."""
    own = {*(entry.name for entry in fields(text)), *text.attribute_map}  # a file may hold others, which nobody reads
    if "alibi" in own and text.alibi:
        return None
    told = [getattr(text, name, None) for name in NAMES if name in own]
    lengths = [length for length in told if isinstance(length, int) and length > 0]
    return lengths[0] - _positions_of_padding(model, lengths[0]) if lengths else None


def _of_growing(model: nn.Module, kind: str) -> Iterator[int]:
    """Yield the lengths up to which rotary positions `dynamic`, in any part of a model, are as they were made: beyond,
    their frequencies are those of the longest text so far, and a result would depend on what was read before.

    kind: of the part that reads text. Another may count something else, as BLT counts patches, of which there may be
    one more than tokens.
    """
    for module in model.modules():
        given, length = getattr(module, "rope_type", None), getattr(module, "original_max_seq_len", None)
        of_blocks = given.values() if isinstance(given, dict) else [given]
        if isinstance(length, (int, float)) and any("dynamic" in str(one) for one in of_blocks):
            own: Any = module.config
            yield max(1, int(length) - (own.model_type != kind))


def _positions_of_padding(model: nn.Module, length: int) -> int:
    """Count the positions that RoBERTa and its kin leave out: they count from the one after the padding token's id."""
    tables = (
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding) and "position" in f"{name}.{type(module).__name__}".lower()
    )
    return next((t.padding_idx + 1 for t in tables if t.num_embeddings == length and t.padding_idx is not None), 0)
