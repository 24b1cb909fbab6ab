"""A piece of a real matrix, small enough to prune by hand: its weights, what its inputs do together, and the best mask.

Removing weights R of a row w changes that row's output on all tokens X by ‖X_R w_R‖₂, whose square is w_Rᵀ G w_R with
G = XᵀX: what the norms ‖X_j‖ = √G_jj alone cannot see is how inputs move together (the entries beside the diagonal).
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from wanda_core.errors import InputError
from wanda_core.maths import scores
from wanda_core.maths.masks import removal_mask
from wanda_core.model import experts
from wanda_core.model.block_calls import StopForward
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.linears import Linear
from wanda_core.progress import Progress, Steps
from wanda_core.recipe import PruneSpec
from wanda_core.text.windows import Calibration

ROWS, COLUMNS, BUDGET = 4, 8, 4  # of a piece; weights to remove in each row
LOUDEST = 3  # of its columns; the others are drawn, so that the quiet ones are there too
DIGITS = 4  # of a weight, so that a hand can be checked by hand
DRAWN = 200  # sets of rows and columns among which the piece is chosen
SCORE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "magnitude": lambda W, X_norm: scores.magnitude(W),
    "wanda": scores.wanda,
}
METHODS = tuple(SCORE)


@dataclass(frozen=True)
class Piece:
    """A piece of one linear.

    rows, columns: their indices; W: (R, C) float32 weights, rounded to DIGITS; gram: (C, C) float64, XᵀX of these
    inputs in a window of `seq_len` tokens, the mean of `windows`: on the scale of a profile's norms; budget: how many
    weights of each row are to go.
    """

    linear: str
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    W: Tensor
    gram: Tensor
    windows: int
    seq_len: int
    budget: int = BUDGET


def norms_of(piece: Piece) -> Tensor:
    """‖X_j‖₂ of each column. -> (C,) float32."""
    return piece.gram.diagonal().sqrt().float()


def mask_by(piece: Piece, method: str) -> Tensor:
    """What a method removes of each row. -> (R, C) bool. Raises InputError for a method other than METHODS."""
    if method not in METHODS:
        raise InputError(f"method {method!r} is not one of {', '.join(METHODS)}; choose one of them")
    S = SCORE[method](piece.W, norms_of(piece))
    spec = PruneSpec(method="wanda", sparsity=piece.budget / piece.W.shape[1])  # its rule for both: so many a row
    return removal_mask(S, spec.target, group="row", rule=spec.definition.mask_rule)


def best_mask(piece: Piece) -> Tensor:
    """Which weights of each row change its output least, of all ways to remove so many. -> (R, C) bool.

    All are tried, C over budget of them a row; rows do not touch each other's outputs. Ties go to the first columns.
    """
    ways = list(itertools.combinations(range(piece.W.shape[1]), piece.budget))
    masks = torch.zeros(len(ways), piece.W.shape[1], dtype=torch.bool)
    for way, columns in enumerate(ways):
        masks[way, list(columns)] = True
    removed = piece.W.double()[:, None, :] * masks  # (R, ways, C)
    squares = ((removed @ piece.gram) * removed).sum(dim=2)  # (R, ways)
    return masks[squares.argmin(dim=1)]


def output_error(piece: Piece, removed: Tensor) -> Tensor:
    """How much each row's output changes in a window, ‖X_R w_R‖₂. removed: (R, C) bool -> (R,) float64."""
    gone = piece.W.double() * removed
    return ((gone @ piece.gram) * gone).sum(dim=1).clamp_min(0).sqrt()


def total_error(piece: Piece, removed: Tensor) -> float:
    """The rows' errors together, the root of the sum of their squares (Frobenius). removed: (R, C) bool."""
    return float(output_error(piece, removed).norm())


@torch.no_grad()
def piece_steps(lm: LanguageModel, linear: Linear, calibration: Calibration, seed: int = 0) -> Steps[Piece]:
    """Cut a piece out of a linear, as a generator that yields progress.

    Of DRAWN sets of rows and columns, the loudest LOUDEST columns in each, the one in which magnitude, Wanda and the
    best mask differ most: the least ratio of Wanda's error to magnitude's and of the best one's to Wanda's counts.
    Raises InputError for a linear that is too small.
    """
    rows, columns = linear.shape
    if rows < ROWS or columns < COLUMNS:
        raise InputError(
            f"{linear.name} has {rows} × {columns} weights, and a piece has {ROWS} × {COLUMNS}; choose a larger one"
        )
    ids = calibration.ids.to(lm.device)
    gram = torch.zeros(columns, columns, dtype=torch.float64)
    with experts.apart(lm.model):
        for window in range(len(ids)):
            yield Progress("profile", window, len(ids), "windows")
            gram += _products(lm, linear, ids[window : window + 1])
    yield Progress("profile", len(ids), len(ids), "windows")
    return _chosen(linear, gram / len(ids), ids, seed)


def _products(lm: LanguageModel, linear: Linear, ids: Tensor) -> Tensor:
    """XᵀX of a linear's inputs in one window. ids: (1, L) -> (C_in, C_in) float64 on the CPU."""
    seen: list[Tensor] = []

    def look(module: object, args: tuple[Tensor, ...]) -> None:
        seen.append(args[0].reshape(-1, args[0].shape[-1]))
        raise StopForward

    handle = linear.module.register_forward_pre_hook(look)
    try:
        lm.model(ids, use_cache=False)
    except StopForward:
        pass
    finally:
        handle.remove()
    x = seen[0].double().cpu()
    return x.T @ x


def _chosen(linear: Linear, gram: Tensor, ids: Tensor, seed: int) -> Piece:
    """Draw pieces and take the one in which the three masks differ most."""
    generator = torch.Generator().manual_seed(seed)
    W = linear.weight.float().cpu()
    loud = gram.diagonal().argsort(descending=True, stable=True)
    best: tuple[float, Piece] | None = None
    for _ in range(DRAWN):
        others = loud[LOUDEST:][torch.randperm(len(loud) - LOUDEST, generator=generator)[: COLUMNS - LOUDEST]]
        columns = torch.cat([loud[:LOUDEST], others])
        rows = torch.randperm(len(W), generator=generator)[:ROWS]
        small = torch.round(W[rows][:, columns], decimals=DIGITS)
        piece = Piece(
            linear.name, tuple(rows.tolist()), tuple(columns.tolist()), small, gram[columns][:, columns], *ids.shape
        )
        size, wanda = (max(total_error(piece, mask_by(piece, method)), 1e-30) for method in METHODS)
        parting = min(size / wanda, wanda / max(total_error(piece, best_mask(piece)), 1e-30))
        if best is None or parting > best[0]:
            best = parting, piece
    assert best is not None  # DRAWN is more than none
    return best[1]
