"""How much memory a training takes, counted before it begins."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from wanda_core.model.block_calls import forwards, hidden_states
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.linears import decoder_blocks

FLOAT = 4  # bytes
LOGITS = 3  # tensors of the size of a window's logits: of both models and the gradient


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes that a training takes beside the two models.

    weights: of the weights that are trained, their gradients and Adam's means; plain, checkpointed: of what a forward
    pass keeps for the way back, in full, or with each block computed a second time on the way back.
    """

    weights: int
    plain: int
    checkpointed: int


def training_memory(lm: LanguageModel, ids: Tensor) -> TrainingMemory:
    """Count the memory of a training of `lm` by running one window through it. ids: int64 (1, L), on its device."""
    parameters = {id(p): p for p in (lm.model.get_parameter(each.parameter[0]) for each in lm.all_linears)}
    kept = sum(int((parameter != 0).sum()) for parameter in parameters.values())
    sizes = [parameter.numel() for parameter in parameters.values()]
    # The weights themselves, one byte for each to tell which stay, three vectors of those, one gradient as a whole.
    weights = (FLOAT + 1) * sum(sizes) + 3 * FLOAT * kept + FLOAT * max(sizes)
    blocks, hidden, logits = _of_blocks(lm, parameters, ids)
    between = hidden * len(blocks)  # what enters each block is kept in either case
    return TrainingMemory(weights, between + sum(blocks) + LOGITS * logits, between + max(blocks) + LOGITS * logits)


def _of_blocks(lm: LanguageModel, parameters: dict[int, Any], ids: Tensor) -> tuple[list[int], int, int]:
    """Run a window block by block as in training. -> bytes each block keeps, of the hidden states, of the logits."""
    _, blocks = decoder_blocks(lm.model)
    kept: list[int] = []
    hidden: list[int] = []

    def instead(index: int, forward: Callable[..., Any]) -> Callable[..., Any]:
        def count(*args: Any, **kwargs: Any) -> Any:
            seen: dict[int, int] = {}

            def pack(tensor: Tensor) -> Tensor:
                storage = tensor.untyped_storage()
                if storage.data_ptr() not in held:
                    seen[storage.data_ptr()] = storage.nbytes()
                return tensor

            with torch.enable_grad(), saved_tensors_hooks(pack, lambda tensor: tensor):
                output = forward(*args, **kwargs)
            kept.append(sum(seen.values()))
            hidden.append(hidden_states(output).nbytes)
            return _detached(output)

        return count

    held = {parameter.untyped_storage().data_ptr() for parameter in lm.model.parameters()}
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    try:
        with torch.no_grad(), forwards(blocks, instead):
            logits = lm.model(ids, use_cache=False).logits
    finally:
        for parameter in parameters.values():
            parameter.requires_grad_(False)
    return kept, max(hidden), int(logits.nbytes)


def _detached(output: Any) -> Any:
    if isinstance(output, tuple):
        return tuple(part.detach() if isinstance(part, Tensor) else part for part in output)
    return output.detach() if isinstance(output, Tensor) else output


def checkpoint_blocks(blocks: nn.ModuleList) -> Any:
    """Context manager: forget what happens inside each block and compute it again on the way back."""
    from torch.utils.checkpoint import checkpoint

    def instead(index: int, forward: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **kwargs: checkpoint(forward, *args, use_reentrant=False, **kwargs)

    return forwards(blocks, instead)
