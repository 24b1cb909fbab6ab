"""Whether a model predicts each token from those before it alone, found out by what it does with two short texts."""

import math
import random
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from wanda_core.errors import SHOWN, ModelError, WandaError, first_line, out_of_memory, shortened_path
from wanda_core.model.block_calls import hidden_states, output_of_first
from wanda_core.model.linears import blocks_config
from wanda_core.model.positions import longest_text
from wanda_core.model.watched import watched

LENGTH = 7  # tokens of a text; no other dimension of hidden states is likely to be that
TRIES = 3  # pairs of texts: where experts are chosen, rounding may choose others by chance
TOLERANCE, HALF_TOLERANCE = 1e-4, 5e-2  # of the largest value, for sums in another order; in half precision
NUMBERS_IN_SECOND = 1e8  # of the weights, for all texts together; a slow CPU takes ten times as many
REMEDY = "so it cannot write a text from left to right; choose a causal language model"


def check_not_masked(model: Any, name: str) -> None:
    """Raise ModelError for a model that its configuration shows to fill in masked tokens. No weight is read."""
    config = model.config
    # XLM calls it causal; models that are always decoders have neither, or set it themselves.
    decodes = getattr(config, "is_decoder", True) and getattr(config, "causal", True)
    if config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not decodes:
        raise ModelError(
            f"{shortened_path(name)} ({str(config.model_type)[:SHOWN]}) is a masked language model, which reads what "
            f"comes after a token too, {REMEDY}"
        )


@torch.no_grad()
def check_causal(model: Any, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Raise ModelError unless the model runs from text alone and no prediction depends on later tokens."""
    _check(lambda pair: model(pair, use_cache=False).logits, model, tokenizer, name)


@torch.no_grad()
def check_first_block_causal(model: Any, blocks: nn.ModuleList, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Raise ModelError where the model does not run from text alone up to the end of its first block, or a hidden state
    there depends on later tokens: for a model of which no more is in memory."""
    of_tokens = blocks_config(model) is model.config.get_text_config()  # BLT's patches may happen to be as many

    def run(pair: Tensor) -> list[Tensor]:  # one by one: models lay several sequences out differently
        states = [hidden_states(output_of_first(model, blocks, text[None])) for text in pair]
        return states if of_tokens else [state.flatten() for state in states]

    _check(run, model, tokenizer, name)


def _check(
    run: Callable[[Tensor], Iterable[Tensor]], model: Any, tokenizer: PreTrainedTokenizerBase, name: str
) -> None:
    """Compare what `run` gives for two texts, int64 (2, L), that differ in the last token."""
    numbers = sum(parameter.numel() for parameter in model.parameters())
    with watched(name, more=numbers / NUMBERS_IN_SECOND):
        looked_ahead = _looks_ahead(run, model, tokenizer, name)
    if looked_ahead:
        raise ModelError(
            f"{shortened_path(name)} ({str(model.config.model_type)[:SHOWN]}) reads what comes after a token too, as "
            f"masked language models do, {REMEDY}"
        )


def _looks_ahead(
    run: Callable[[Tensor], Iterable[Tensor]], model: Any, tokenizer: PreTrainedTokenizerBase, name: str
) -> bool:
    """Tell whether a prediction depends on a later token, by several pairs of texts."""
    looked_ahead = False
    for pair in _pairs(model, tokenizer):
        try:
            first, second = run(pair)
        except WandaError:
            raise
        except Exception as error:  # whatever a model raises that lacks a picture, a language or a length
            if out_of_memory(error):
                raise ModelError(
                    f"{shortened_path(name)} takes more memory for a text of {pair.shape[1]} tokens than is free; "
                    "repair its config.json, where a setting makes large tables, or choose a smaller model"
                ) from error
            raise ModelError(
                f"{shortened_path(name)} ({str(model.config.model_type)[:SHOWN]}) does not run from text alone "
                f"({first_line(error)}); choose a causal language model that reads nothing else"
            ) from error
        before, last, scale = _differences(first, second, pair.shape[1])
        if not last > 0:  # two tokens that the model does not tell apart, or what other checks have a word for
            continue
        if before <= (HALF_TOLERANCE if first.dtype.itemsize < 4 else TOLERANCE) * scale:
            return False
        looked_ahead = True
    return looked_ahead


def _differences(first: Tensor, second: Tensor, length: int) -> tuple[float, float, float]:
    """Return the largest difference of two texts before the last token and at it, and the largest value.

    first, second: (L, V) logits; hidden states (1, L, D), (L, 1, D) or with further dimensions: the first of `length`
    is that of tokens. NaN where there is none, as in a model of patches (BLT), or one that adds tokens (CPM-Ant).
    """
    if first.shape != second.shape or length not in first.shape[:-1]:
        return math.nan, math.nan, math.nan
    apart = (first.float() - second.float()).abs().movedim(first.shape.index(length), 0).flatten(1).amax(dim=1)
    return float(apart[:-1].max()), float(apart[-1]), float(first.float().abs().max())


def _pairs(model: Any, tokenizer: PreTrainedTokenizerBase) -> list[Tensor]:
    """Draw pairs of texts that differ in the last token, without tokens that stand for something else, such as padding
    or a picture. -> TRIES of int64 (2, L), on the embeddings' device; none where there are no two such tokens."""
    embeddings = model.get_input_embeddings().weight
    known = min(len(tokenizer) or len(embeddings), len(embeddings))
    special = {*tokenizer.all_special_ids, *_named_tokens(model.config), *_named_tokens(model.config.get_text_config())}
    draw = random.Random(0)
    drawn = draw.sample(range(known), min(known, 4 * LENGTH + len(special)))
    ordinary = [token for token in drawn if token not in special]
    length = min(LENGTH, longest_text(model) or LENGTH)
    if len(ordinary) < 2 or length < 2:
        return []
    pairs = []
    for _ in range(TRIES):
        text = draw.choices(ordinary, k=length - 1)
        pairs.append(
            torch.tensor(
                [[*text, last] for last in draw.sample(ordinary, 2)], dtype=torch.int64, device=embeddings.device
            )
        )
    return pairs


def _named_tokens(config: Any) -> set[int]:
    """List the token ids that a configuration names."""
    named = [value for key, value in config.to_dict().items() if key.endswith(("token_id", "token_index"))]
    tokens = [token for value in named for token in (value if isinstance(value, list) else [value])]
    return {token for token in tokens if isinstance(token, int)}
