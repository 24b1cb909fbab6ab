"""How fast models read a prompt and write after it: tokens a second, of several models in turns."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import cast

import torch
from torch import Tensor

from wanda_core.checks import MAX_SEQ_LEN, check_whole
from wanda_core.errors import InputError, ModelError, WandaError, first_line, out_of_memory
from wanda_core.evaluation.next_logits import next_logits
from wanda_core.model.language_model import LanguageModel
from wanda_core.progress import Progress, Steps

PROMPT_TOKENS, NEW_TOKENS, ROUNDS = 256, 32, 3
MAX_ROUNDS = 100


@dataclass(frozen=True)
class Speed:
    """Tokens a second, each the median of all rounds.

    prefill: of a prompt of `prompt` tokens that is read at once; decode: of the `new` tokens after it, one by one.
    """

    prefill: float
    decode: float
    prompt: int
    new: int
    rounds: int

    def to_dict(self) -> dict[str, float | int]:
        """The fields as plain values, for JSON."""
        return asdict(self)


@torch.no_grad()
def speed_steps(
    models: Sequence[LanguageModel],
    ids: Tensor,
    *,
    new: int = NEW_TOKENS,
    rounds: int = ROUNDS,
    clock: Callable[[], float] = time.perf_counter,
) -> Steps[list[Speed]]:
    """Measure the speed of some models, as a job that yields progress between two turns.

    The models take turns, so that what else the machine does meets all alike, after a turn each that does not count.
    ids: the prompt, int64 (1, L), which all models read; new: tokens after it; rounds: turns of each model; clock:
    seconds. -> in the order of the models. Raises InputError for numbers out of range and a prompt that is too long,
    ModelError for a model that cannot write.
    """
    check_whole("new", new, 1, MAX_SEQ_LEN)
    check_whole("rounds", rounds, 1, MAX_ROUNDS)
    if ids.dim() != 2 or ids.shape[0] != 1 or not ids.shape[1]:
        raise InputError(f"the prompt has the shape {tuple(ids.shape)} and one sequence is read, (1, L); give one")
    for lm in models:
        lm.check_length(ids.shape[1] + new)
    taken: list[list[tuple[float, float]]] = [[] for _ in models]
    total = (rounds + 1) * len(models)
    for turn in range(rounds + 1):
        for index, lm in enumerate(models):
            yield Progress("speed", turn * len(models) + index, total, "parts")
            try:
                seconds = _turn(lm, ids, new, clock)
            except Exception as error:
                if isinstance(error, WandaError) or out_of_memory(error):
                    raise
                raise ModelError(
                    f"the model failed while generating: {first_line(error)}; choose another model"
                ) from error
            if turn:
                taken[index].append(seconds)
    yield Progress("speed", total, total, "parts")
    return [
        Speed(
            ids.shape[1] / median(read for read, _ in each),
            new / median(wrote for _, wrote in each),
            ids.shape[1],
            new,
            rounds,
        )
        for each in taken
    ]


def _turn(lm: LanguageModel, ids: Tensor, new: int, clock: Callable[[], float]) -> tuple[float, float]:
    """Read a prompt, then write `new` likeliest tokens. -> seconds of both."""
    steps = next_logits(lm, ids, new + 1)
    began = clock()
    logits = next(steps)
    while logits is None:
        logits = next(steps)
    _wait_for(lm.device)
    read = clock()
    for _ in range(new):
        logits = cast(Tensor, steps.send(logits.argmax()))
    _wait_for(lm.device)
    ended = clock()
    steps.close()
    return read - began, ended - read


def _wait_for(device: torch.device) -> None:
    """Wait until a device has done all that it was given; a CPU has when it returns."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
