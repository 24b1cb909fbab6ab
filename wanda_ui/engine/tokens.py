"""Why a token came: what each model finds likeliest at its place, and how far the variants are from the dense model."""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from wanda_core.errors import InputError, ModelError
from wanda_core.evaluation.divergence import divergence_along
from wanda_core.evaluation.generation import prompt_ids
from wanda_core.evaluation.in_pieces import logits_in_pieces
from wanda_core.model.devices import overflow_remedy
from wanda_core.model.language_model import LanguageModel
from wanda_core.progress import Progress, Steps
from wanda_core.pruning.packed import PackedVariant, laid_over
from wanda_ui.engine.recipe import Asked
from wanda_ui.engine.work import Models

MOST_LIKELY = 5  # tokens told at a place
MOST_LOGITS = 2**27  # of the dense model, held while the variants are read: half a GB

Likeliest = tuple[tuple[str, float], ...]  # (text of the token, probability), the likeliest first


@dataclass(frozen=True)
class Place:
    """A place in an answer: the tokens before it and from it on, or their text where only that is known."""

    before: tuple[int, ...] | str
    after: tuple[int, ...] | str = ""


@dataclass(frozen=True)
class Told:
    """What models say at a place. likeliest: of the dense model, then of each variant.

    pieces: the text of every token of prompt and answer; prompt: how many are the prompt's; at: index of the place, of
    the token that came there; divergence: of each variant, KL(dense ‖ variant) in nats for each piece, as it was
    foreseen by what stands before it; the first, which nothing foresees, has 0.
    """

    likeliest: tuple[Likeliest, ...]
    pieces: tuple[str, ...]
    prompt: int
    at: int
    divergence: tuple[tuple[float, ...], ...]


@torch.no_grad()
def told_at(
    models: Models, name: str, variants: Sequence[tuple[str, PackedVariant]], asked: Asked, place: Place
) -> Steps[Told]:
    """Run the dense model and some variants over a prompt and its answer.

    variants: with the name of the model that each is of, the dense one or a smaller one of the same tokens.

    Raises InputError for a token that the model does not have, and for more than it reads; ModelError for predictions
    that are not finite.
    """
    lm = models[name].lm
    question = prompt_ids(lm, asked.prompt, chat=asked.chat)
    before, after = _tokens(lm, place.before), _tokens(lm, place.after)
    ids = torch.cat([question, torch.tensor([[*before, *after]], dtype=torch.int64)], dim=1)
    lm.check_length(ids.shape[1])
    at = question.shape[1] + len(before)
    _check_room(lm, ids.shape[1])
    likeliest: list[Likeliest] = []
    apart = []
    dense: list[Tensor] = []
    for number, variant in enumerate([None, *variants]):
        step = Progress("answering", number, 1 + len(variants), "parts")
        over = laid_over(models[variant[0]].lm, variant[1]) if variant is not None else nullcontext(lm)
        divergence: list[float] = []
        read = 0
        yield step
        with over as model:
            for part, logits in enumerate(logits_in_pieces(model, ids.to(lm.device))):
                if part:
                    yield step
                if read < at <= read + len(logits):
                    likeliest.append(_likeliest(lm, logits[at - 1 - read]))
                read += len(logits)
                if variant is None:
                    dense.append(logits)
                else:
                    divergence += divergence_along(dense[part], logits).tolist()
        if variant is not None:
            if not all(map(math.isfinite, divergence)):
                raise ModelError(f"predictions are not finite, so they cannot be compared; {overflow_remedy(lm.dtype)}")
            apart.append((0.0, *divergence[:-1]))
    pieces = tuple(lm.decode([token]) for token in ids[0].tolist())
    return Told(tuple(likeliest), pieces, question.shape[1], at, tuple(apart))


def _check_room(lm: LanguageModel, length: int) -> None:
    """Raise InputError for more tokens than there is memory to compare the predictions of."""
    vocabulary = len(cast(Any, lm.model).get_input_embeddings().weight)
    most = MOST_LOGITS // vocabulary
    if length > most:
        raise InputError(
            f"the prompt and its answer have {length:,} tokens, and the predictions of at most {most:,} are compared; "
            "shorten the prompt"
        )


def _likeliest(lm: LanguageModel, logits: Tensor) -> Likeliest:
    """Tell the likeliest next tokens of logits (V,)."""
    best = logits.float().softmax(-1).topk(min(MOST_LIKELY, len(logits)))
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return tuple((lm.decode([token]), p) for token, p in pairs)


def _tokens(lm: LanguageModel, given: tuple[int, ...] | str) -> tuple[int, ...]:
    """Return tokens that are known, or those of a text."""
    if isinstance(given, str):
        return tuple(lm.encode(given, special=False)) if given else ()
    vocabulary = len(cast(Any, lm.model).get_input_embeddings().weight)
    if any(not 0 <= token < vocabulary for token in given):
        raise InputError(f"the tokens are not those of {lm.title}; ask for its answer first")
    return given
