"""The arithmetic of input norms ‖X_j‖₂ and products XᵀX, summed sample by sample exactly as the published code does."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cache
from typing import cast

import numpy as np
import torch
from torch import Tensor

from wanda_core.errors import ModelError
from wanda_core.machine.matmul import accumulator_dtype, matmul
from wanda_core.model.devices import overflow_remedy
from wanda_core.model.linears import Linear

LEAST_TOKENS = 16  # of an expert: the norms of fewer say more about these tokens than about the expert
NUMPY_LEAST_COLUMNS = 8  # with fewer NumPy turns its loops around and sums in another order


@dataclass
class InputNorms:
    """Running mean Σ‖x‖²/n over n sequences of one linear's inputs, and its root, the norms.

    squares: (C_in,) float32; n: sequences added; tokens: rows of X added.
    """

    squares: Tensor
    n: int = 0
    tokens: int = 0

    def add(self, sample_squares: Tensor, tokens: int = 0) -> None:
        """Add sequences one after the other. sample_squares (B, C_in): the squared column norms of each sequence;
        tokens: of all B together."""
        self.tokens += tokens
        if sample_squares.device.type == "cpu":  # the same operations by NumPy, which has less overhead for each
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
        """‖X_j‖₂ up to the common factor sqrt(n). (C_in,) float32."""
        return torch.sqrt(self.squares)


@dataclass
class Moments:
    """Second moments of one linear's inputs X, taken from the stream that is being pruned.

    norms: ‖X_j‖; gram: XᵀX (C_in, C_in) float32, None unless the recipe updates weights; cross: XᵈᵀX, likewise, where
    Xᵈ are the dense model's own inputs of that linear, None where they are not measured; drift: EᵀX (C_out, C_in)
    float32, where E is what the dense stream holds more where the linear adds to it, None for a linear that does not.
    """

    norms: InputNorms
    gram: Tensor | None = None
    cross: Tensor | None = None
    drift: Tensor | None = None


def column_squares(x: Tensor, sequences: int = 1) -> Tensor:
    """Squared L2 norm of every input column, sequence by sequence. (B, L, C_in) or (B·L, C_in) -> (B, C_in) float32.

    sequences: B, how many the call carries. float32 before squaring: float16 overflows above 256. The norm is
    squared again, not the sum of squares taken directly: the published code does so, and the last bit differs.
    """
    columns = x.reshape(sequences, -1, x.shape[-1]).to(torch.float32)  # (B, L, C_in)
    return _column_norms(columns) ** 2


def _column_norms(columns: Tensor) -> Tensor:
    """L2 norms along L, bit for bit those of `vector_norm`. (B, L, C_in) -> (B, C_in) float32.

    On a CPU NumPy adds the same squares in the same order several times faster; whether it does so here is tried first.
    """
    enough_columns = columns.shape[-1] >= NUMPY_LEAST_COLUMNS
    if columns.device.type == "cpu" and columns.is_contiguous() and enough_columns and _einsum_gives_the_same_bits():
        return _einsum_norms(columns)
    return cast(Tensor, torch.linalg.vector_norm(columns, dim=1))


def _einsum_norms(columns: Tensor) -> Tensor:
    values = columns.detach().numpy()
    squares = np.einsum("blc,blc->bc", values, values)
    return torch.from_numpy(np.sqrt(squares, out=squares))  # torch.sqrt may round another way than the norm's own root


@cache
def _einsum_gives_the_same_bits() -> bool:
    generator = torch.Generator().manual_seed(0)
    sizes = ((1, 257, 33), (3, 64, 576), (2, 500, 8))
    samples = [torch.randn(size, generator=generator, dtype=torch.float32, device="cpu") for size in sizes]
    return all(torch.equal(_einsum_norms(x), torch.linalg.vector_norm(x, dim=1)) for x in samples)


def column_products(x: Tensor, y: Tensor | None = None, sequences: int = 1) -> Tensor:
    """XᵀY over all tokens of a call, by default XᵀX. (…, C), (…, K) -> (C, K), in `accumulator_dtype`.

    sequences: how many the call carries. Their float32 products are added up one by one in float64, so that the sum
    does not depend on which call, or which process, carries which: in float32 one masked weight in 1,000 was another.
    """
    left = x.reshape(sequences, -1, x.shape[-1]).to(torch.float32)  # (B, L, C_in)
    right = left if y is None or y is x else y.reshape(sequences, -1, y.shape[-1]).to(torch.float32)
    total = matmul(left[0].t(), right[0]).to(accumulator_dtype(x.device))
    for a, b in zip(left[1:], right[1:], strict=True):
        total += matmul(a.t(), b)
    return total


def token_count(x: Tensor) -> int:
    """Number of tokens in the inputs of a linear, (…, C_in)."""
    return x.numel() // x.shape[-1]


def checked_norms(norms: InputNorms | None, linear: Linear) -> InputNorms:
    """Return the norms of one linear, once they are known to be usable. norms: None where no input arrived.

    An expert may rightly have received no token of the calibration text; its norms are zeros. Raises ModelError for
    any other linear without inputs, and for values that are not finite.
    """
    if norms is None and linear.routed:
        return InputNorms(torch.zeros(linear.shape[1], dtype=torch.float32, device=linear.weight.device))
    if norms is None:
        raise ModelError(
            f"{linear.name} never received an input, so it cannot be scored; its block calls it in a way "
            "that is not supported, choose another model"
        )
    if not bool(torch.isfinite(norms.squares).all()):
        raise ModelError(
            f"the inputs of {linear.name} are not finite (NaN or infinity), so scores would mean nothing; "
            f"{overflow_remedy(linear.weight.dtype)}, or choose other calibration text"
        )
    return norms


def check_experts_reached(linears: Iterable[Linear], reached: Collection[str]) -> None:
    """Raise ModelError for a layer of which no expert received an input. reached: names of the linears that did.

    A router sends every token to some expert, so the layer must run its experts in a way that hooks cannot see.
    """
    layers: dict[str, list[str]] = {}
    for linear in linears:
        if linear.routed:
            layers.setdefault(re.sub(r"(.*)\.\d+\.", r"\1.*.", linear.name), []).append(linear.name)
    for layer, names in layers.items():
        if not any(name in reached for name in names):
            raise ModelError(
                f"no expert of {layer} received an input, so none can be scored; its block calls them in a way that "
                "is not supported, choose another model"
            )
