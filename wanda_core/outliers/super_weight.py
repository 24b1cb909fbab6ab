"""One super weight: a single scalar of an MLP's last linear that makes the spike a model lives on.

After Yu et al. 2024 (arXiv 2411.07191): where one token's output y_i = Σ_j W_ij x_j of such a linear spikes, and one
term of that sum carries it, the term's W_ij is the candidate. Found by one pass over a short text; taken away alone.
The model's parameters are never written to.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from wanda_core.checks import check_whole
from wanda_core.errors import InputError, ModelError, shortened
from wanda_core.model import experts
from wanda_core.model.devices import overflow_remedy
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.linears import Linear
from wanda_core.outliers.interventions import (
    LEAST_DRAWS,
    LINE_TOKENS,
    MOST_DRAWS,
    Intervention,
    Outcome,
    interventions_steps,
    spread,
)
from wanda_core.outliers.sentence import check_token_by_token, sentence_tokens
from wanda_core.progress import Progress, Steps, finish


@dataclass(frozen=True)
class SuperWeight:
    """The weight W_ij behind the largest output of one block's last linear.

    linear: its full name, kind: inside its block; row i, column j; weight: W_ij; token: where the spike is, from 0;
    input: x_j there; spike: y_i there; share: of the spike that W_ij · x_j is; ratio: |W_ij · x_j| as a multiple of
    the median |y| of the linear over the text; largest_input: whether no other input of that token is larger.
    """

    block: int
    linear: str
    kind: str
    row: int
    column: int
    weight: float
    token: int
    input: float
    spike: float
    share: float
    ratio: float
    largest_input: bool


@dataclass(frozen=True)
class ZeroedWeight:
    """Perplexity with one weight at zero. line: what the model then writes after the prompt, None without one."""

    linear: str
    row: int
    column: int
    weight: float
    perplexity: float
    line: str | None = None


@dataclass(frozen=True)
class SuperWeightReport:
    """Untouched; the chosen weight at zero; the largest other |W| of all linears at zero; and random weights of the
    chosen one's matrix, each alone. prompt, line: what was given and how the untouched model goes on, or None."""

    untouched: float
    chosen: ZeroedWeight
    largest: ZeroedWeight
    random: tuple[ZeroedWeight, ...]
    seq_len: int
    windows: int
    prompt: str | None = None
    line: str | None = None

    @property
    def random_range(self) -> tuple[float, float]:
        """The smallest and the largest perplexity among the random draws."""
        return spread(draw.perplexity for draw in self.random)


def super_weights(
    lm: LanguageModel, text: str, on_progress: Callable[[Progress], object] | None = None
) -> tuple[SuperWeight, ...]:
    """One candidate a block on a short text, the largest ratio first.

    A block that ends in routed experts has none, and a model of such blocks gives an empty tuple. Raises InputError
    for a text that cannot be read, ModelError when values are not finite or the blocks do not read token by token.
    """
    return finish(super_weights_steps(lm, text), on_progress)


@torch.no_grad()
def super_weights_steps(lm: LanguageModel, text: str) -> Steps[tuple[SuperWeight, ...]]:
    """`super_weights` as a generator that yields progress per block; between two steps the model is as it was."""
    tokens = sentence_tokens(lm, text)
    blocks = lm.walk("read")
    ids = torch.tensor([tokens], dtype=torch.int64, device=lm.device)
    yield Progress("super-weight", 0, len(blocks), "blocks")
    calls, (hidden,) = blocks.start(ids)
    check_token_by_token(lm, lm.stream_of(hidden), tokens)
    candidates = []
    for index, block, linears in blocks:
        yield Progress("super-weight", index, len(blocks), "blocks")
        with experts.apart(lm.model), _last_linear(linears, lm.width) as last:
            (hidden,) = blocks.carry([calls[index].run(block, hidden)])
        if last and not last[0].routed:
            candidates.append(candidate(*last))
    yield Progress("super-weight", len(blocks), len(blocks), "blocks")
    return tuple(sorted(candidates, key=lambda weight: -weight.ratio))


def strongest(lm: LanguageModel, candidates: Sequence[SuperWeight]) -> SuperWeight:
    """Return the first candidate. Raises InputError where there is none."""
    if not candidates:
        raise InputError(
            f"no block of {lm.title} ends in a linear that every token passes (routed experts are passed by some), so "
            "there is no super weight to look for; choose another model"
        )
    return candidates[0]


def candidate(linear: Linear, x: Tensor, y: Tensor) -> SuperWeight:
    """The weight that carries most of a linear's largest output. x: its inputs (L, C_in), y: its outputs (L, C_out).

    Raises ModelError when they are not finite.
    """
    x, y = x.float(), y.float()
    if not bool(torch.isfinite(y).all()):
        raise ModelError(
            f"the outputs of {linear.name} are not finite (NaN or infinity); {overflow_remedy(linear.weight.dtype)}"
        )
    token, row = divmod(int(y.abs().argmax()), y.shape[1])
    terms = linear.weight[row].float() * x[token]  # (C_in,), they add up to y_i less its bias
    column = int(terms.abs().argmax())
    term, spike = float(terms[column]), float(y[token, row])
    median = float(y.abs().median())
    return SuperWeight(
        block=linear.block,
        linear=linear.name,
        kind=linear.kind,
        row=row,
        column=column,
        weight=float(linear.weight[row, column]),
        token=token,
        input=float(x[token, column]),
        spike=spike,
        share=term / spike if spike else 0.0,
        ratio=abs(term) / median if median else 0.0,
        largest_input=bool(x[token, column].abs() >= x[token].abs().max()),
    )


@contextmanager
def zeroed(lm: LanguageModel, linear: str, row: int, column: int) -> Iterator[None]:
    """Context manager: run the model as if W_ij of one linear were zero; its parameter is read, never written.

    Output i is computed anew without the weight rather than corrected: a large term taken off again would leave its
    rounding behind. Raises InputError for a weight that the model does not have.
    """
    target = _named(lm, linear)
    _check_place(target, row, column)

    def without(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        w = target.weight[row].clone()  # (C_in,)
        w[column] = 0
        changed, x = output.clone(), args[0]
        here = changed[..., row % output.shape[-1]]
        if output.shape[-1] < target.shape[0]:  # groups of rows (DeepSeek-V4), each with inputs and outputs of its own
            group = row // output.shape[-1]
            here, x = here[..., group], x[..., group, :]
        here[:] = x @ w
        if getattr(module, "bias", None) is not None:
            here += module.bias[row]  # type: ignore[index]
        return changed

    handle = target.module.register_forward_hook(without)
    try:
        yield
    finally:
        handle.remove()


def super_weight_trial(
    lm: LanguageModel,
    linear: str,
    row: int,
    column: int,
    text: str,
    *,
    draws: int = LEAST_DRAWS,
    seed: int = 0,
    seq_len: int = 512,
    windows: int = 8,
    prompt: str | None = None,
    line_tokens: int = LINE_TOKENS,
    on_progress: Callable[[Progress], object] | None = None,
) -> SuperWeightReport:
    """Perplexity untouched, with one weight at zero, with the largest other weight at zero, and with random ones.

    draws: how many random weights of the same matrix, each alone; prompt: what every setting continues, by
    line_tokens of the likeliest tokens.
    """
    settings: dict[str, Any] = {"draws": draws, "seed": seed, "seq_len": seq_len, "windows": windows}
    settings |= {"prompt": prompt, "line_tokens": line_tokens}
    return finish(super_weight_steps(lm, linear, row, column, text, **settings), on_progress)


def super_weight_steps(
    lm: LanguageModel,
    linear: str,
    row: int,
    column: int,
    text: str,
    *,
    draws: int = LEAST_DRAWS,
    seed: int = 0,
    seq_len: int = 512,
    windows: int = 8,
    prompt: str | None = None,
    line_tokens: int = LINE_TOKENS,
) -> Steps[SuperWeightReport]:
    """`super_weight_trial` as a generator that yields progress; closing it leaves the model as it was."""
    check_whole("draws", draws, LEAST_DRAWS, MOST_DRAWS)
    _check_place(_named(lm, linear), row, column)
    chosen = (linear, row, column)
    places = [chosen, largest_weight(lm, chosen)]
    places += [(linear, *place) for place in random_places(_named(lm, linear).shape, (row, column), draws, seed)]
    names = ["chosen", "largest", *["random"] * draws]
    interventions = [Intervention(name, partial(zeroed, lm, *place)) for name, place in zip(names, places, strict=True)]
    settings: dict[str, Any] = {"seq_len": seq_len, "windows": windows, "prompt": prompt, "line_tokens": line_tokens}
    untouched, *outcomes = yield from interventions_steps(
        lm, text, [Intervention("untouched"), *interventions], stage="super-weight", **settings
    )

    def measured(place: tuple[str, int, int], outcome: Outcome) -> ZeroedWeight:
        weight = float(_named(lm, place[0]).weight[place[1], place[2]])
        return ZeroedWeight(*place, weight, outcome.perplexity.perplexity, outcome.line)

    first, second, *rest = [measured(place, outcome) for place, outcome in zip(places, outcomes, strict=True)]
    return SuperWeightReport(
        untouched.perplexity.perplexity,
        first,
        second,
        tuple(rest),
        seq_len,
        untouched.perplexity.windows,
        prompt,
        untouched.line,
    )


def largest_weight(lm: LanguageModel, but: tuple[str, int, int]) -> tuple[str, int, int]:
    """The largest |W| of all linears that every token passes, one weight left out. -> linear, row, column."""
    best: tuple[float, str, int, int] | None = None
    for linear in (linear for linear in lm.all_linears if not linear.routed):
        size = linear.weight.abs()
        if linear.name == but[0]:
            size = size.clone()
            size[but[1], but[2]] = -1
        row, column = divmod(int(size.argmax()), size.shape[1])
        if best is None or float(size[row, column]) > best[0]:
            best = float(size[row, column]), linear.name, row, column
    assert best is not None  # the chosen one is such a linear
    return best[1:]


def random_places(shape: tuple[int, int], but: tuple[int, int], draws: int, seed: int) -> list[tuple[int, int]]:
    """Different places of a matrix (C_out, C_in), one left out. Raises InputError for a matrix that has too few."""
    rows, columns = shape
    if rows * columns - 1 < draws:
        raise InputError(f"{draws} other weights are to be drawn and the matrix has {rows * columns - 1}; draw fewer")
    out = but[0] * columns + but[1]
    drawn = random.Random(seed).sample(range(rows * columns - 1), draws)
    return [divmod(place + (place >= out), columns) for place in drawn]


def _named(lm: LanguageModel, name: str) -> Linear:
    linear = lm.linear(name)
    if linear is None:
        raise InputError(
            f"linear {shortened(name)} does not exist in {lm.title}; give a full name such as {lm.linears[0][-1].name}"
        )
    if linear.routed:
        raise InputError(f"{name} belongs to a routed expert, and only linears that every token passes can be changed")
    return linear


def _check_place(linear: Linear, row: int, column: int) -> None:
    for name, given, size in (("row", row, linear.shape[0]), ("column", column, linear.shape[1])):
        if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given < size:
            raise InputError(f"{name} {shortened(given)} does not exist; {linear.name} has {name}s 0 to {size - 1}")


@contextmanager
def _last_linear(linears: list[Linear], width: int) -> Iterator[list[Any]]:
    """Context manager: yield a list that comes to hold [linear, inputs (L, C_in), outputs (L, D)] of the linear called
    last among those that write D = `width` channels: an MLP's last one, or an expert's."""
    last: list[Any] = []

    def hook(linear: Linear) -> Callable[[nn.Module, Any, Tensor], None]:
        def note(module: nn.Module, args: Any, output: Tensor) -> None:
            last[:] = linear, args[0].reshape(-1, args[0].shape[-1]), output.reshape(-1, output.shape[-1])

        return note

    handles = [x.module.register_forward_hook(hook(x)) for x in linears if x.shape[0] == width]
    try:
        yield last
    finally:
        for handle in handles:
            handle.remove()
