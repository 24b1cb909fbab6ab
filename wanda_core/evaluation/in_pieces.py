"""A model's pass over many tokens, piece by piece, so that whoever waits or cancels waits for one piece."""

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from wanda_core.model.language_model import LanguageModel

PIECE = 256  # tokens; about a second of a small model on two cores


def pieces_of(model: Any, cache: object, length: int) -> list[tuple[int, int]]:
    """Where so many tokens may be cut: (first, last + 1) of every piece.

    cache: that the pass fills. Only plain attention gives the same for every cut; what keeps a state of its own, or
    turns its positions by how many there are, reads all at once.
    """
    plain = isinstance(cache, DynamicCache) and all(
        type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in cache.layers
    )
    rope = str(getattr(model.config.get_text_config(), "rope_parameters", None))
    if not plain or model._is_stateful or "longrope" in rope or "dynamic" in rope:
        return [(0, length)]
    return [(first, min(first + PIECE, length)) for first in range(0, length, PIECE)]


@torch.no_grad()
def logits_in_pieces(lm: LanguageModel, ids: Tensor) -> Iterator[Tensor]:
    """Yield a model's logits (l, V) of one piece after another. ids: int64 (1, L), on the model's device."""
    model = cast(Any, lm.model)
    config = model.config.get_text_config()
    if ids.shape[1] <= PIECE or not hasattr(config, "num_hidden_layers"):  # BLT's says nothing of the kind
        yield model(ids, use_cache=False).logits[0]
        return
    cache = DynamicCache(config=config)
    pieces = pieces_of(model, cache, ids.shape[1])
    if len(pieces) == 1:
        yield model(ids, use_cache=False).logits[0]
        return
    for first, last in pieces:
        # The model counts its positions itself: RoBERTa and its kin begin beyond 0.
        logits = model(ids[:, first:last], past_key_values=cache, use_cache=True).logits[0]
        if cache.get_seq_length() != last:  # told by the first piece: OpenAI's first GPT keeps no cache
            yield model(ids, use_cache=False).logits[0]
            return
        yield logits
