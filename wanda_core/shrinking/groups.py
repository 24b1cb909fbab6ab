"""What belongs together when columns go: the matrix that reads them, and the rows elsewhere that make them.

Nothing here knows an architecture. Which sizes change is told by the model that transformers builds from the smaller
configuration; what belongs to which matrix, by where it lies in the block; how rows are laid out, by trying it.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from wanda_core.errors import ModelError
from wanda_core.model import experts
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.linears import Linear, decoder_blocks
from wanda_core.shrinking.smaller_model import Shapes, empty_model, other_shapes


@dataclass(frozen=True)
class Cut:
    """One dimension of a parameter, or of one expert's slice of it, from which rows or columns go.

    parameter: its full name; expert: whose slice it is, None for the whole parameter; dim: of the slice; size, left:
    how long it is before and after; place: where it lies, for telling what belongs together.
    """

    parameter: str
    expert: int | None
    dim: int
    size: int
    left: int
    place: tuple[str, ...]


@dataclass(frozen=True)
class Group:
    """One set of units, such as the neurons of one MLP or of one expert.

    reader: the matrix that reads them; own: the cut of its columns, equally many neighbouring ones for each; others:
    the cuts of what makes them; units: how many there are; kept: how many stay.
    """

    reader: Linear
    own: Cut
    others: tuple[Cut, ...]
    units: int
    kept: int

    def columns(self, keep: Tensor) -> Tensor:
        """Find the reader's columns of some units, int64."""
        return side_by_side(keep, self.units, self.own.size)


# How the rows of several parts of a unit follow each other. (units that stay, how many there are, rows in all, columns
# of the reader in all) -> the rows that stay.
Layout = Callable[[Tensor, int, int, int], Tensor]


def side_by_side(keep: Tensor, units: int, size: int, columns: int = 0) -> Tensor:
    """Find the rows that stay where all rows of a unit lie together, as gpt-oss has gate and up."""
    parts = size // units
    return (keep[:, None] * parts + torch.arange(parts, dtype=torch.int64)).flatten()


def one_after_the_other(keep: Tensor, units: int, size: int, columns: int = 0) -> Tensor:
    """Find the rows that stay where all first parts come first, then all second ones: gate and up of a fused matrix."""
    return torch.cat([part * units + keep for part in range(size // units)])


def queries_keys_values(keep: Tensor, units: int, size: int, columns: int) -> Tensor:
    """Find the rows that stay where all queries come first, then all keys, then all values, as Phi-3 has them."""
    if size <= columns or (size - columns) % (2 * units):
        return side_by_side(keep, units, size)
    shared = (size - columns) // 2
    parts = [(0, columns), (columns, shared), (columns + shared, shared)]
    return torch.cat([start + side_by_side(keep, units, rows) for start, rows in parts])


LAYOUTS: dict[str, tuple[Layout, ...]] = {
    "neurons": (one_after_the_other, side_by_side),
    "heads": (side_by_side, queries_keys_values),
}


def groups_under(lm: LanguageModel, settings: Mapping[str, Any], units: tuple[int, int] | None = None) -> list[Group]:
    """List the groups of all blocks that become smaller under other settings, none where there is no such model.

    units: as of `groups_of`. Raises ModelError where it cannot be told what belongs together, or more than blocks
    would change.
    """
    try:
        smaller = empty_model(lm, settings)
    except ModelError:  # a setting of another meaning
        return []
    changed = other_shapes(lm.model, smaller)
    prefix, _ = decoder_blocks(lm.model)
    outside = next((name for name in changed if not name.startswith(f"{prefix}.")), None)
    if outside is not None:
        raise ModelError(
            f"{type(lm.model).__name__} changes {outside}, which lies outside its blocks, with "
            f"{' and '.join(settings)}; choose another model"
        )
    return [
        group
        for index, linears in enumerate(lm.linears)
        for group in groups_of(lm.model, linears, changed, f"{prefix}.{index}.", units)
    ]


def groups_of(
    model: nn.Module, linears: Iterable[Linear], changed: Shapes, prefix: str, units: tuple[int, int] | None = None
) -> list[Group]:
    """Find the groups of one block. linears: of the block; changed: all parameters that become smaller; prefix: the
    block's name, with a dot; units: how many there are and how many stay, None where each column is one.

    Raises ModelError where it cannot be told which rows make which columns.
    """
    cuts = [cut for name in changed if name.startswith(prefix) for cut in _cuts(model, name, *changed[name])]
    readers: dict[Cut, Linear] = {}
    for linear in linears:
        name, index = linear.parameter
        columns = _column_dim(linear)
        readers |= {cut: linear for cut in cuts if (cut.parameter, cut.expert, cut.dim) == (name, index, columns)}
    others: dict[Cut, list[Cut]] = {cut: [] for cut in readers}
    for cut in cuts:
        if cut not in readers:
            others[_nearest(cut, others, model)].append(cut)
    groups = []
    for own, made_by in others.items():
        group = Group(readers[own], own, tuple(made_by), *(units or (own.size, own.left)))
        _check(group, model)
        groups.append(group)
    return groups


def _cuts(model: nn.Module, name: str, before: tuple[int, ...], after: tuple[int, ...]) -> list[Cut]:
    """List what goes from one parameter, slice by slice where it holds experts."""
    path = name.rpartition(".")[0]
    place = tuple(path.split("."))
    slices = experts.fused(path, model.get_submodule(path))
    count = next((len(matrices) for matrices in slices.values()), 0)
    dims = [dim for dim, (size, left) in enumerate(zip(before, after, strict=True)) if size != left]
    if len(dims) > 1:
        raise ModelError(
            f"{type(model).__name__} would lose rows and columns of {name} at once, which cannot be told apart; choose "
            "another model"
        )
    if count and before[0] == count and dims and dims[0] > 0:
        return [
            Cut(name, expert, dim - 1, before[dim], after[dim], (*place, str(expert)))
            for expert in range(count)
            for dim in dims
        ]
    return [Cut(name, None, dim, before[dim], after[dim], place) for dim in dims]


def _column_dim(linear: Linear) -> int:
    return 0 if linear.transposed else 1


def _nearest(cut: Cut, readers: Mapping[Cut, list[Cut]], model: nn.Module) -> Cut:
    """Find the matrix that reads what a cut makes: the one of the same expert that lies closest to it."""

    def shared(reader: Cut) -> int:
        pairs = zip(cut.place, reader.place, strict=False)
        return next((depth for depth, (a, b) in enumerate(pairs) if a != b), min(len(cut.place), len(reader.place)))

    fitting = [reader for reader in readers if reader.expert == cut.expert]
    closest = [reader for reader in fitting if shared(reader) == max(map(shared, fitting))]
    if len(closest) != 1:
        raise ModelError(
            f"{type(model).__name__} has {len(closest)} matrices that may read what {cut.parameter} makes, so its "
            "columns cannot be told apart; choose another model"
        )
    return closest[0]


def _check(group: Group, model: nn.Module) -> None:
    """Raise ModelError for sizes that do not hold whole units."""
    for cut in (group.own, *group.others):
        if cut.size % group.units or cut.size * group.kept != cut.left * group.units:
            raise ModelError(
                f"{type(model).__name__} would have {cut.left} instead of {cut.size} rows or columns of "
                f"{cut.parameter} where {group.kept} of {group.units} units stay, and these do not belong to each "
                "other; choose another model"
            )


def cut_parameter(value: Tensor, chosen: Mapping[Cut, Tensor]) -> Tensor:
    """Return a parameter with only the rows and columns that stay.

    value: of any shape; chosen: for each of its cuts the places that stay, int64.
    """
    by_expert: dict[int | None, dict[int, Tensor]] = {}
    for cut, places in chosen.items():
        by_expert.setdefault(cut.expert, {})[cut.dim] = places.to(value.device)

    def smaller(part: Tensor, dims: Mapping[int, Tensor]) -> Tensor:
        for dim, places in dims.items():
            part = part.index_select(dim, places)
        return part

    if None in by_expert:
        return smaller(value, by_expert[None]).contiguous()
    return torch.stack([smaller(value[expert], by_expert[expert]) for expert in range(len(value))])
