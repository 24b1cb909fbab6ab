"""Recording the inputs of a set of linears by hooks, while something else runs the model."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from wanda_core.calibration.input_norms import (
    InputNorms,
    check_experts_reached,
    checked_norms,
    column_products,
    column_squares,
    token_count,
)
from wanda_core.machine import distributed
from wanda_core.machine.matmul import accumulator_dtype, unwatched
from wanda_core.model.block_calls import StopForward
from wanda_core.model.linears import Linear


@dataclass
class NormRecorder:
    """Adds up the input norms of a set of linears through hooks, which `recording` puts on and takes off.

    gram: whether the products XᵀX are added up too; sequences: how many the next call carries; stats, grams: what has
    been recorded, by linear name; calls: names of the linears in the order they were called; stop_before: the name of
    the linear whose call ends a pass by StopForward, once its input is recorded.
    """

    linears: Iterable[Linear]
    gram: bool = False
    sequences: int = 1
    stats: dict[str, InputNorms] = field(default_factory=dict)
    grams: dict[str, Tensor] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    stop_before: str | None = None
    _last: tuple[Tensor, int | None, Tensor, Tensor | None] | None = None  # input, its version, squares, products

    @contextmanager
    def recording(self, sequences: int = 1) -> Iterator["NormRecorder"]:
        """Context manager: record every forward pass; the hooks are gone afterwards, whatever happens.

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

    def _hook(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def record(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            with unwatched():
                self._add(name, args[0])
            self.calls.append(name)
            if name == self.stop_before:
                raise StopForward

        return record

    def _add(self, name: str, x: Tensor) -> None:
        squares, products = self._measure(x)
        if name not in self.stats:
            self.stats[name] = InputNorms(torch.zeros_like(squares[0]))
        self.stats[name].add(squares, token_count(x))
        if products is not None:
            self.grams[name] = self.grams[name] + products if name in self.grams else products

    def _measure(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Squared norms and products of an input. q, k and v read the same tensor, which is measured once."""
        version = None if x.is_inference() else x._version  # an inference tensor keeps no count of its changes
        if self._last is None or version is None or self._last[0] is not x or self._last[1] != version:
            products = column_products(x, None, self.sequences) if self.gram else None
            self._last = (x, version, column_squares(x, self.sequences), products)
        return self._last[2], self._last[3]

    def stop_at_last_call(self) -> None:
        """After one whole pass, let later passes end at the linear that was called last, since nothing needs its
        output. Nothing changes unless every linear was called exactly once."""
        names = [linear.name for linear in self.linears]
        if sorted(self.calls) == sorted(names):
            self.stop_before = self.calls[-1]

    def join(self) -> "NormRecorder":
        """Add what the other processes recorded, linear by linear, also linears that only some of them reached."""
        if distributed.size() == 1:
            return self
        for linear in self.linears:
            device, columns = linear.weight.device, linear.shape[1]
            own = self.stats.get(linear.name, InputNorms(torch.zeros(columns, dtype=torch.float32, device=device)))
            sums = torch.cat([own.squares.double() * own.n, own.squares.new_tensor([own.n, own.tokens]).double()])
            n, tokens = distributed.total(sums)[-2:].tolist()
            if not n:
                continue
            self.stats[linear.name] = InputNorms((sums[:-2] / n).float(), int(n), int(tokens))
            if self.gram:
                products = self.grams.get(linear.name)
                zeros = torch.zeros(columns, columns, dtype=accumulator_dtype(device), device=device)
                self.grams[linear.name] = distributed.total(zeros if products is None else products.clone())
        return self

    def input_norms(self) -> dict[str, InputNorms]:
        """Return the norms of every linear by name; those of an expert that was sent no token are zeros.

        Raises ModelError naming a linear that was never reached or saw a value that is not finite.
        """
        linears = list(self.linears)
        check_experts_reached(linears, self.stats)
        return {linear.name: checked_norms(self.stats.get(linear.name), linear) for linear in linears}
