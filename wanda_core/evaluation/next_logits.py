"""A model's logits for one token after another, with its cache, wholly in the caller's thread."""

from collections.abc import Generator
from contextlib import nullcontext
from typing import Any, cast

import torch
from torch import Tensor
from transformers import GenerationConfig

from wanda_core.evaluation.in_pieces import pieces_of
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.module_state import ModuleState

NextLogits = Generator[Tensor | None, Tensor, None]


def next_logits(lm: LanguageModel, ids: Tensor, length: int) -> NextLogits:
    """Start a continuation of a prompt, one pass of the model for each logits that are asked for.

    ids: int64 (1, L); length: how many tokens will follow at most. Yields None after each piece of a long prompt but
    the last; then the logits of the next token, float32 (V,), and wants that token sent, int64 of one element. Between
    two passes nothing of the model or of torch is changed, so that others may use both, and closing it is enough to
    end it. Raises what the model raises.
    """
    ids = ids.to(lm.device)
    settings = {**_plain_settings(), "attention_mask": torch.ones_like(ids), "max_new_tokens": length}
    # transformers prepares the cache that the model needs; the loop below is ours.
    return cast(NextLogits, cast(Any, lm.model).generate(ids, custom_generate=_passes, **settings))


def _plain_settings() -> dict[str, object]:
    """Every setting of transformers' `generate` as if the checkpoint had none.

    What a `generation_config.json` may ask for (penalties, beams, another cache, chunks, compilation) would change
    the tokens, or make `generate` prepare something else than one sequence.
    """
    unset = dict.fromkeys(name for name in vars(GenerationConfig()) if not name.startswith("_"))
    return {**unset, "do_sample": False, "num_beams": 1, "num_return_sequences": 1, "use_cache": True}


@torch.no_grad()  # of a generator: on within a pass, as the caller has it between two
def _passes(
    model: Any,
    input_ids: Tensor,
    logits_processor: object,
    stopping_criteria: object,
    generation_config: object,
    **arguments: Any,
) -> NextLogits:
    """The loop that `generate` calls, without its processors and criteria. input_ids: int64 (1, L)."""
    decoding = getattr(model, "_optimize_model_for_decode", nullcontext)  # faster experts on a GPU
    state = ModuleState(model)
    places = arguments.get("position_ids")
    whole = arguments.get("attention_mask") is not None or places is None  # would have to be cut as well
    pieces = pieces_of(model, arguments.get("past_key_values") if not whole else None, input_ids.shape[1])
    for first, last in pieces:
        if first:
            yield None
        cut = arguments if places is None else {**arguments, "position_ids": places[..., first:last]}
        inputs = model.prepare_inputs_for_generation(input_ids[:, first:last], is_first_iteration=True, **cut)
        with state.in_place():
            outputs = model(**inputs, return_dict=True)
    while True:
        arguments = model._update_model_kwargs_for_generation(outputs, arguments)
        logits = outputs.logits[0, -1].to(torch.float32, copy=True)  # a view would keep the logits of all positions
        del inputs, outputs
        token = yield logits
        input_ids = torch.cat([input_ids, token.reshape(1, 1).to(input_ids.device)], dim=1)
        inputs = model.prepare_inputs_for_generation(input_ids, next_sequence_length=1, **arguments)
        with decoding(), state.in_place():
            outputs = model(**inputs, return_dict=True)
