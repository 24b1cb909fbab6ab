"""The residual stream of a model that carries several side by side, as one: S = n · D channels, stream after stream.

Gemma 3n hands n versions of every token from block to block (AltUp, Baykal et al. 2023, arXiv 2301.13310), and
hyper-connections (Zhu et al. 2024, arXiv 2409.19606) hand on n streams that each block mixes anew. What a block reads
is made of all of them, so none of them alone is what the blocks hand on.
"""

from typing import Any

from torch import Tensor

from wanda_core.errors import ModelError

COUNTS = ("altup_num_inputs", "hc_mult", "hc_count")  # settings that say how many streams a model carries


def stream_count(config: Any) -> int:
    """Return n, how many streams of D channels a model carries. config: of its text part."""
    counts = [getattr(config, name, None) for name in COUNTS]
    return next((count for count in counts if isinstance(count, int) and count > 1), 1)


def side_by_side(hidden: Tensor, width: int, count: int) -> Tensor:
    """Lay the streams of every token one after the other.

    hidden: what a block gives, (B, L, S), or of one sequence (n, 1, L, D) or (1, L, n, D); width: D; count: n ->
    (B, L, S). Raises ModelError for another shape.
    """
    shape = tuple(hidden.shape)
    if hidden.dim() == 3 and shape[2] == width * count:
        return hidden
    if hidden.dim() == 4 and shape[3] == width and shape[:2] == (count, 1):
        return hidden.permute(1, 2, 0, 3).flatten(2)
    if hidden.dim() == 4 and shape[0] == 1 and shape[2:] == (count, width):
        return hidden.flatten(2)
    raise ModelError(
        f"the blocks of this model hand on hidden states of the shape {shape}, which is not known, so no channel of "
        "its residual stream can be told; choose another model"
    )


def as_given(streams: Tensor, like: Tensor) -> Tensor:
    """Undo `side_by_side`. streams (B, L, S); like: hidden states as the block gives them."""
    if like.dim() == 3:
        return streams
    if like.shape[0] == 1 and like.shape[1] == streams.shape[1]:
        return streams.reshape(like.shape)
    count, _, length, width = like.shape
    return streams.reshape(1, length, count, width).permute(2, 0, 1, 3).contiguous()
