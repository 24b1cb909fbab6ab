"""What is known of the inputs of a matrix whose columns may go, added up call by call."""

from dataclasses import dataclass

import torch
from torch import Tensor

from wanda_core.calibration.input_norms import column_products, column_squares, token_count
from wanda_core.machine.matmul import accumulator_dtype


@dataclass
class ColumnMoments:
    """Sums over the tokens of a matrix's inputs X, of C columns, and of the dense stream's inputs Xᵈ beside them.

    squares, sums: Σx², Σx (C,); gram: XᵀX (C, C), cross: XᵈᵀX, dense_sums: Σxᵈ, all in `accumulator_dtype`; tokens: how
    many. What is not asked for is None.
    """

    columns: int
    tokens: int = 0
    squares: Tensor | None = None
    sums: Tensor | None = None
    gram: Tensor | None = None
    cross: Tensor | None = None
    dense_sums: Tensor | None = None

    def add(self, x: Tensor, products: bool, dense_x: Tensor | None = None) -> None:
        """Add the inputs of one call. x: (…, C); products: whether XᵀX is asked for; dense_x: of the same tokens."""
        kind = accumulator_dtype(x.device)
        sequences = len(x) if x.dim() == 3 else 1
        self.tokens += token_count(x)
        self.squares = _added(self.squares, column_squares(x, sequences).sum(dim=0, dtype=kind))
        self.sums = _added(self.sums, x.reshape(-1, self.columns).sum(dim=0, dtype=kind))
        if products:
            self.gram = _added(self.gram, column_products(x, None, sequences))
        if products and dense_x is not None:
            self.cross = _added(self.cross, column_products(dense_x, x, sequences))
            self.dense_sums = _added(self.dense_sums, dense_x.reshape(-1, self.columns).sum(dim=0, dtype=kind))

    @property
    def norms(self) -> Tensor:
        """‖X_j‖₂, (C,) float32."""
        return torch.zeros(self.columns, dtype=torch.float32) if self.squares is None else self.squares.sqrt().float()

    @property
    def mean(self) -> Tensor:
        """Mean of each column, (C,) float32."""
        return (
            torch.zeros(self.columns, dtype=torch.float32) if self.sums is None else (self.sums / self.tokens).float()
        )

    @property
    def variance(self) -> Tensor:
        """Variance of each column over the tokens, (C,) float32."""
        if self.squares is None or self.sums is None:
            return torch.zeros(self.columns, dtype=torch.float32)
        spread = self.squares - self.sums.square() / self.tokens
        return (spread.clamp_min(0) / max(self.tokens - 1, 1)).float()


def _added(total: Tensor | None, term: Tensor) -> Tensor:
    return term if total is None else total.add_(term)
