"""Measuring what arrives at the linears of a block, and having each visited before it is used."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from wanda_core.calibration.input_norms import (
    InputNorms,
    Moments,
    check_experts_reached,
    checked_norms,
    column_products,
    column_squares,
    token_count,
)
from wanda_core.errors import ModelError
from wanda_core.machine import distributed
from wanda_core.machine.matmul import accumulator_dtype
from wanda_core.model.linears import Linear

Visit = Callable[[Linear, Moments], object]  # (linear, moments of its inputs)


class Arrivals:
    """Measures the inputs that arrive at each linear and has the linear visited, whichever way the block is run.

    norms: by linear name, (C_in,) float32 on the CPU, of all linears visited so far.
    """

    def __init__(self, visit: Visit, sequences: int, gram: bool) -> None:
        self.norms: dict[str, Tensor] = {}
        self._visit, self._sequences, self._gram = visit, sequences, gram
        self.begin_block()

    def begin_block(self) -> None:
        """Release the inputs of the block before."""
        self._meter = InputMeter(self._sequences, self._gram)

    def arrive(
        self,
        linear: Linear,
        inputs: list[Tensor],
        dense_inputs: list[Tensor] | None,
        drifts: list[Tensor] | None = None,
    ) -> None:
        """Measure the inputs of a linear and visit it, before it is used.

        inputs, dense_inputs: tensors (…, C_in), one per call, of the pruned and of the dense stream; drifts: of the
        same tokens, (…, C_out), how far the streams are apart where the linear adds to them, None where it does not.
        """
        if linear.name in self.norms:
            raise ModelError(
                f"{linear.name} is used more than once in a pass, so it cannot be pruned before it is used; "
                "choose order faithful"
            )
        moments = self._meter.measure(linear, inputs, dense_inputs)
        if drifts is not None:
            zeros = [torch.zeros(1, count, dtype=torch.float32, device=linear.weight.device) for count in linear.shape]
            moments = replace(moments, drift=_products(drifts or zeros[:1], inputs or zeros[1:]))
        self.norms[linear.name] = checked_norms(moments.norms, linear).norms.cpu()
        self._visit(linear, moments)

    def finish_block(self, linears: list[Linear]) -> None:
        """Visit the experts that were sent no token. Raises ModelError for any other linear that was not reached."""
        check_experts_reached(linears, self.norms)
        for linear in linears:
            if linear.name not in self.norms:
                zeros = checked_norms(None, linear)
                self.norms[linear.name] = zeros.norms.cpu()
                self._visit(linear, Moments(zeros))


@dataclass
class InputMeter:
    """Measures linears' inputs, once for several linears that read the same tensors, as q, k and v do.

    sequences: in the whole calibration set; gram: whether XᵀX is measured too; inputs, moments: the latest measured.
    """

    sequences: int
    gram: bool
    inputs: list[Tensor] = field(default_factory=list)
    moments: Moments = field(default_factory=lambda: Moments(InputNorms(torch.zeros(0, dtype=torch.float32))))

    def measure(self, linear: Linear, inputs: list[Tensor], dense_inputs: list[Tensor] | None) -> Moments:
        """Return the moments of all processes' inputs. inputs: of this process, [] where only others have some."""
        same = len(inputs) == len(self.inputs) and all(a is b for a, b in zip(inputs, self.inputs, strict=True))
        if distributed.least(int(same)):
            return self.moments
        self.inputs = inputs
        zeros = torch.zeros(1, linear.shape[1], dtype=torch.float32, device=linear.weight.device)
        # Sequence by sequence, then in float64: one float32 sum over all tokens would depend on how they are shared.
        per_sequence = torch.cat([column_squares(x, _sequences(x)) for x in inputs] or [zeros])  # (B, C_in)
        squares = distributed.total(per_sequence.sum(dim=0, dtype=accumulator_dtype(zeros.device))) / self.sequences
        norms = InputNorms(squares.float(), self.sequences, distributed.sum_of(sum(token_count(x) for x in inputs)))
        gram = _products(inputs or [zeros], inputs or [zeros]) if self.gram else None
        cross = _products(dense_inputs or [zeros], inputs or [zeros]) if dense_inputs is not None else None
        self.moments = Moments(norms, gram, cross)
        return self.moments


def _products(left: list[Tensor], right: list[Tensor]) -> Tensor:
    """Sum XᵀY over the calls of all processes. left, right: X, Y of each call, (…, C), (…, K) -> (C, K) float32."""
    total = column_products(left[0], right[0], _sequences(left[0]))
    for a, b in zip(left[1:], right[1:], strict=True):
        total += column_products(a, b, _sequences(a))
    return distributed.total(total).float()


def _sequences(x: Tensor) -> int:
    """Number of sequences in a linear's inputs: B of (B, L, C_in); 1 for (T, C_in), tokens of any number of them."""
    return len(x) if x.dim() == 3 else 1
