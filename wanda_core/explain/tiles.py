"""A matrix as tiles: from means over blocks of weights down to single weights, each tile a few thousand bytes."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from wanda_core.errors import InputError, shortened
from wanda_core.explain.masked_linear import MaskedLinear

SIDE = 96  # cells of a tile along either side: with three recipes 37 KB
MOST_LEVEL = 16  # a cell of that level is a block of 65,536 rows


@dataclass(frozen=True)
class Tile:
    """A piece of a matrix, on the CPU. size: (h, w) uint8, how large |W| is, 0 to 255; kept: (N, h, w) uint8, of each
    recipe the share of the cell's weights that it keeps, 255 all."""

    size: Tensor
    kept: Tensor


def levels(rows: int, columns: int) -> int:
    """Return the level at which one tile holds the whole matrix; of level 0 a cell is one weight."""
    level = 0
    while max(rows, columns) > SIDE << level:
        level += 1
    return level


def tile(linear: MaskedLinear, level: int, across: int, down: int, sorted_by_norm: bool) -> Tile:
    """Cut a tile out of a matrix.

    level: a cell stands for 2^level rows by as many columns, their mean at the edges over those that are there;
    across, down: the tile's place, from 0; sorted_by_norm: whether the columns go from the quietest input to the
    loudest, or as they are stored. |W| is told on a logarithmic scale between two quantiles of the matrix, by the mean
    of |W| where a cell has many. Raises InputError for a tile that is not there.
    """
    rows, columns = linear.W.shape
    for what, given, most in (("level", level, MOST_LEVEL), ("tile", across, columns), ("tile", down, rows)):
        if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given <= most:
            raise InputError(f"{what} {shortened(given)} does not exist; give a whole number from 0 to {most}")
    side = SIDE << level
    top, left = down * side, across * side
    if top >= rows or left >= columns:
        raise InputError(f"tile {across}, {down} lies outside of {rows} × {columns} weights; choose one inside")
    part = slice(left, min(left + side, columns))
    chosen = linear.order[part] if sorted_by_norm else torch.arange(part.start, part.stop, dtype=torch.int64)
    chosen = chosen.to(linear.W.device)
    cut = slice(top, min(top + side, rows))
    size = _means(linear.W[cut].index_select(1, chosen).abs().float(), level)
    size = _on_scale(size, *linear.sizes)
    kept = [255 * _means((~choice.removed[cut].index_select(1, chosen)).float(), level) for choice in linear.choices]
    shape = (0, *size.shape)
    stacked = torch.stack(kept).round() if kept else torch.zeros(shape, dtype=torch.float32)
    return Tile(size.round().to(torch.uint8).cpu(), stacked.to(torch.uint8).cpu())


def _on_scale(size: Tensor, low: float, high: float) -> Tensor:
    """Put sizes on a logarithmic scale from 0 to 255. low, high: sizes at its ends."""
    low = max(low, 1e-30)
    return 255 * ((size.clamp_min(low) / low).log() / torch.tensor(high / low, dtype=torch.float32).log()).clamp(0, 1)


def _means(values: Tensor, level: int) -> Tensor:
    """Take the means of blocks of 2^level by 2^level values, at the edges of those that are there."""
    if not level:
        return values
    return avg_pool2d(values[None], 1 << level, ceil_mode=True)[0]  # nothing is padded: a block may dwarf the matrix
