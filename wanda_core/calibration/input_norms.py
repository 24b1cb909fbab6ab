"""Input norms ‖X_j‖₂ of linears, accumulated sample by sample exactly as the published code does."""

import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from wanda_core.errors import ModelError
from wanda_core.machine import distributed
from wanda_core.machine.matmul import accumulator_dtype, matmul, unwatched
from wanda_core.model.blocks import StopForward
from wanda_core.model.linears import Linear


@dataclass
class InputNorms:
    """Running Σ‖x‖²/n of one linear, n counting sequences. squares: (C_in,) float32; tokens: rows of X seen."""

    squares: Tensor
    n: int = 0
    tokens: int = 0

    def add(self, sample_squares: Tensor, tokens: int = 0) -> None:
        """More sequences, one after the other. sample_squares (B, C_in): squared column norms of their inputs;
        tokens: of all of them together."""
        self.tokens += tokens
        if sample_squares.device.type == "cpu":  # the same operations by NumPy, which starts them faster
            running = self.squares.numpy()
            for squares in sample_squares.numpy():
                running *= np.float32(self.n / (self.n + 1))
                self.n += 1
                running += squares / np.float32(self.n)
            return
        for squares in sample_squares:
            self.squares *= self.n / (self.n + 1)
            self.n += 1
            self.squares += squares / self.n

    @property
    def norms(self) -> Tensor:
        """‖X_j‖₂ up to the common factor sqrt(N). (C_in,) float32."""
        return torch.sqrt(self.squares)


def column_squares(x: Tensor, sequences: int = 1) -> Tensor:
    """Squared L2 norm of every input column, sequence by sequence. (B, L, C_in) or (B·L, C_in) -> (B, C_in) float32.

    sequences: B, how many the call carries. float32 before squaring: float16 overflows above 256. The norm is
    squared again, not the sum of squares taken directly: the published code does so, and the last bit differs.
    """
    columns = x.reshape(sequences, -1, x.shape[-1]).to(torch.float32)  # (B, L, C_in)
    return _column_norms(columns) ** 2


def _column_norms(columns: Tensor) -> Tensor:
    """L2 norms along L, bit for bit those of `vector_norm`. (B, L, C_in) -> (B, C_in) float32.

    On a CPU NumPy adds the same squares in the same order several times faster; that it does so here is tried first.
    """
    wide = columns.shape[-1] >= 8  # else NumPy turns the loops around
    if columns.device.type == "cpu" and columns.is_contiguous() and wide and _einsum_gives_the_same_bits():
        return _einsum_norms(columns)
    return torch.linalg.vector_norm(columns, dim=1)


def _einsum_norms(columns: Tensor) -> Tensor:
    values = columns.detach().numpy()
    squares = np.einsum("blc,blc->bc", values, values)
    return torch.from_numpy(np.sqrt(squares, out=squares))  # torch.sqrt may round another way than the norm's own root


@cache
def _einsum_gives_the_same_bits() -> bool:
    generator = torch.Generator().manual_seed(0)
    sizes = ((1, 257, 33), (3, 64, 576), (2, 500, 8))
    drawn = [torch.randn(size, generator=generator, device="cpu") for size in sizes]
    return all(torch.equal(_einsum_norms(x), torch.linalg.vector_norm(x, dim=1)) for x in drawn)


@dataclass
class Moments:
    """What is known of one linear's inputs X, which come from the stream that is being pruned.

    norms: ‖X_j‖; gram: XᵀX (C_in, C_in) float32, where it is wanted; cross: XᵈᵀX, likewise, Xᵈ being the dense model's
    own inputs of that linear, where they are known too.
    """

    norms: InputNorms
    gram: Tensor | None = None
    cross: Tensor | None = None


def column_products(x: Tensor, y: Tensor | None = None, sequences: int = 1) -> Tensor:
    """XᵀY over all tokens of a call, XᵀX when y is left out. (…, C_in) -> (C_in, C_in), float64 as `accumulator_dtype` says.

    The sequences' float32 products are added up one by one: then it does not matter which call, or which process,
    carries which, and what is solved with the sum is the same. In float32 one of 1,000 masked weights was another.
    """
    left = x.reshape(sequences, -1, x.shape[-1]).to(torch.float32)  # (B, L, C_in)
    right = left if y is None or y is x else y.reshape(sequences, -1, y.shape[-1]).to(torch.float32)
    total = matmul(left[0].t(), right[0]).to(accumulator_dtype(x.device))
    for a, b in zip(left[1:], right[1:], strict=True):
        total += matmul(a.t(), b)
    return total


@dataclass
class NormRecorder:
    """Hooks that add the inputs of a set of linears to their norms; `recording` puts them on and off.

    gram: whether the products XᵀX are added up too.
    """

    linears: Iterable[Linear]
    gram: bool = False
    sequences: int = 1  # how many the next call carries
    stats: dict[str, InputNorms] = field(default_factory=dict)
    grams: dict[str, Tensor] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    stop_before: str | None = None
    _last: tuple[Tensor, int | None, Tensor, Tensor | None] | None = None

    @contextmanager
    def recording(self, sequences: int = 1) -> Iterator["NormRecorder"]:
        """Inside, every forward pass is recorded; the hooks are gone afterwards, whatever happens.

        sequences: how many each pass carries along its first dimension.
        """
        self.sequences = sequences
        handles = []
        try:
            for linear in self.linears:
                handles.append(linear.module.register_forward_pre_hook(self._hook(linear.name)))
            yield self
        finally:
            for handle in handles:
                handle.remove()
            self._last = None

    def _hook(self, name: str):
        def record(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            with unwatched():
                self._add(name, args[0])
            self.calls.append(name)
            if name == self.stop_before:
                raise StopForward

        return record

    def _add(self, name: str, x: Tensor) -> None:
        squares, products = self._measured(x)
        if name not in self.stats:
            self.stats[name] = InputNorms(torch.zeros_like(squares[0]))
        self.stats[name].add(squares, rows(x))
        if products is not None:
            self.grams[name] = self.grams[name] + products if name in self.grams else products

    def _measured(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """q, k and v read the same tensor: measure it once."""
        version = None if x.is_inference() else x._version  # an inference tensor keeps no count of its changes
        if self._last is None or version is None or self._last[0] is not x or self._last[1] != version:
            products = column_products(x, None, self.sequences) if self.gram else None
            self._last = (x, version, column_squares(x, self.sequences), products)
        return self._last[2], self._last[3]

    def stop_at_last_call(self) -> None:
        """After one whole pass: if every linear was called exactly once, later passes may end at the last one,
        whose own product nothing needs."""
        names = [linear.name for linear in self.linears]
        if sorted(self.calls) == sorted(names):
            self.stop_before = self.calls[-1]

    def join(self) -> "NormRecorder":
        """Add what the other processes saw, linear by linear, also those that only some reached."""
        if distributed.size() == 1:
            return self
        for linear in self.linears:
            place, columns = linear.weight.device, linear.shape[1]
            own = self.stats.get(linear.name, InputNorms(torch.zeros(columns, device=place)))
            sums = torch.cat([own.squares.double() * own.n, own.squares.new_tensor([own.n, own.tokens]).double()])
            n, tokens = distributed.total(sums)[-2:].tolist()
            if not n:
                continue
            self.stats[linear.name] = InputNorms((sums[:-2] / n).float(), int(n), int(tokens))
            if self.gram:
                products = self.grams.get(linear.name)
                none = torch.zeros(columns, columns, dtype=accumulator_dtype(place), device=place)
                self.grams[linear.name] = distributed.total(none if products is None else products.clone())
        return self

    def found(self) -> dict[str, InputNorms]:
        """What is known of every linear; an expert that was sent no token has norms of zero.

        Raises ModelError naming a linear that was never reached or saw a value that is not finite.
        """
        linears = list(self.linears)
        check_reached(linears, self.stats)
        return {linear.name: checked(self.stats.get(linear.name), linear) for linear in linears}


def checked(found: InputNorms | None, linear: Linear) -> InputNorms:
    """The norms of one linear. Raises ModelError when it was never reached or saw a value that is not finite.

    An expert may rightly have seen nothing: it was sent no token of the calibration text.
    """
    if found is None and linear.routed:
        return InputNorms(torch.zeros(linear.shape[1], device=linear.weight.device))
    if found is None:
        raise ModelError(
            f"{linear.name} never received an input, so it cannot be scored; its block calls it in a way "
            "that is not supported, choose another model"
        )
    if not bool(torch.isfinite(found.squares).all()):
        raise ModelError(
            f"the inputs of {linear.name} are not finite (NaN or infinity), so scores would mean nothing; "
            "load the model in float32 or choose other calibration text"
        )
    return found


def check_reached(linears: Iterable[Linear], seen: Collection[str]) -> None:
    """Raise ModelError when no expert of a layer was reached: a router sends every token somewhere, so they run in a
    way that hooks cannot see."""
    layers: dict[str, list[str]] = {}
    for linear in linears:
        if linear.routed:
            layers.setdefault(re.sub(r"(.*)\.\d+\.", r"\1.*.", linear.name), []).append(linear.name)
    for layer, names in layers.items():
        if not any(name in seen for name in names):
            raise ModelError(
                f"no expert of {layer} received an input, so none can be scored; its block calls them in a way that "
                "is not supported, choose another model"
            )


def rows(x: Tensor) -> int:
    """Tokens in the inputs of a linear (…, C_in)."""
    return x.numel() // x.shape[-1]


LEAST_TOKENS = 16  # of an expert: the norms of fewer say more about these tokens than about the expert
