"""Cutting one block: which columns stay, what reads them solved anew, what makes them made smaller alike."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from wanda_core.calibration.input_norms import LEAST_TOKENS
from wanda_core.errors import ModelError, out_of_memory
from wanda_core.machine.matmul import matmul
from wanda_core.maths import columns, updates
from wanda_core.maths.scores import seed_of
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.linears import Linear, decoder_blocks, prunable_linears
from wanda_core.recipe import Solver
from wanda_core.shrinking.column_moments import ColumnMoments
from wanda_core.shrinking.groups import LAYOUTS, Cut, Group, Layout, cut_parameter, groups_of
from wanda_core.shrinking.smaller_model import Shapes, other_shapes, put
from wanda_core.shrinking.spec import SCORES, ShrinkSpec

TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-3}  # of the largest input, for sums in another order
HALF_TOLERANCE = 5e-2  # the same in half precision
FALLBACK_SCORE = "magnitude"  # of experts that were sent too few tokens to measure

Run = Callable[[nn.Module, list[Linear]], Mapping[str, Tensor]]  # runs a block, -> what these matrices of it read


class ColumnCutter:
    """Cuts the blocks of a model one by one and fills those of the smaller model.

    smaller: the model of the sizes to come, whose parameters of these sizes have no memory yet; in_all: how many units
    each matrix reads and how many stay, None where each column is one; noted: what an earlier run noted, and where this
    one does, so that it may be gone on with: how many `units` there were, are `removed`, how many experts were sent too
    few tokens (`by_magnitude`), how many `layouts` of rows turned out wrong; kept: the columns that stayed, by the name
    of the matrix that reads them.
    """

    def __init__(
        self,
        lm: LanguageModel,
        smaller: nn.Module,
        spec: ShrinkSpec,
        in_all: tuple[int, int] | None,
        noted: dict[str, Any],
    ) -> None:
        self.dense, self.smaller, self.spec, self.in_all = lm.model, smaller, spec, in_all
        self.changed = other_shapes(lm.model, smaller)
        _check_apart(lm.model, self.changed)
        self.prefix, _ = decoder_blocks(lm.model)
        _, self.blocks = decoder_blocks(smaller)
        self.linears = {linear.name: linear for block in prunable_linears(smaller) for linear in block}
        self.noted = noted
        for name in ("units", "removed", "by_magnitude", "layouts"):
            noted.setdefault(name, 0)
        self.units_kept: dict[str, Tensor] = {}
        self.kept: dict[str, Tensor] = {}

    @property
    def layouts(self) -> tuple[Layout, ...]:
        """The ways in which rows may lie that have not turned out wrong."""
        return LAYOUTS[self.spec.part][self.noted["layouts"] :]

    def groups(self, index: int, linears: list[Linear]) -> list[Group]:
        """Find what belongs together in one block. linears: of the dense block."""
        return groups_of(self.dense, linears, self.changed, f"{self.prefix}.{index}.", self.in_all)

    def cut(
        self,
        index: int,
        groups: list[Group],
        measured: Mapping[str, ColumnMoments],
        run: Run,
        first: Mapping[str, Tensor],
    ) -> nn.Module:
        """Fill one block of the smaller model and return it.

        measured: of the readers' inputs, by name; run: runs a block over the first call; first: what the readers of the
        dense block read there. The smaller block must read the same but for what is gone: how the rows of a fused
        matrix lie is told by that. Raises ModelError where it does not, whichever way they are cut.
        """
        block = self.blocks[index]
        weights: dict[str, list[Tensor]] = {}  # by parameter, of each expert
        for group in groups:
            weight, shift = self._solve(group, measured[group.reader.name])
            weights.setdefault(group.own.parameter, []).append(weight.t() if group.reader.transposed else weight)
            if shift is not None:
                bias = group.reader.module.get_parameter("bias")
                put(self.smaller, f"{group.reader.name}.bias", (bias + shift).to(bias.dtype))
        for name, parts in weights.items():
            parameter = self.dense.get_parameter(name)
            whole = torch.stack(parts) if parameter.dim() == 3 else parts[0].contiguous()
            put(self.smaller, name, whole.to(parameter.dtype))
        readers = [self.linears[group.reader.name] for group in groups]
        while True:
            self._put_rows(groups)
            wrong = self._wrong(block, readers, run, first)
            if wrong is None:
                return block
            if (
                not groups
                or len(self.layouts) == 1
                or all(cut.size == group.units for group in groups for cut in group.others)
            ):
                raise ModelError(
                    f"{type(self.dense).__name__}: with some of its units gone, {wrong} reads something else than with "
                    "all of them, so their removal is not the same as their being zero; choose another model"
                )
            self.noted["layouts"] += 1

    def _solve(self, group: Group, moments: ColumnMoments) -> tuple[Tensor, Tensor | None]:
        """Choose the columns of one matrix that stay. -> the matrix of those, (C_out, K) float32, and what is added to
        its bias, (C_out,), None where nothing is."""
        reader, spec = group.reader, self.spec
        W = reader.weight.float()
        too_few = reader.routed and moments.tokens < LEAST_TOKENS
        score = FALLBACK_SCORE if too_few and SCORES[spec.score][1] else spec.score
        self.noted["by_magnitude"] += int(score != spec.score)
        norms, variance = moments.norms.to(W.device), moments.variance.to(W.device)
        S = columns.COLUMN_SCORES[score](W, norms, variance, seed_of(spec.seed, reader.name))
        if not bool(torch.isfinite(S).all()):
            raise ModelError(
                f"{reader.name} has weights or inputs that are not finite, so it cannot be scored; check the model"
            )
        units = columns.highest(S, group.units, group.kept).cpu()
        self.units_kept[reader.name], self.kept[reader.name] = units, group.columns(units)
        keep = self.kept[reader.name].to(W.device)
        self.noted["units"] += group.units
        self.noted["removed"] += group.units - group.kept
        if moments.gram is None or too_few:
            return W[:, keep], None
        return solved(W, keep, moments, spec.solver, getattr(reader.module, "bias", None) is not None)

    def _put_rows(self, groups: list[Group]) -> None:
        """Give the smaller model what makes the columns that stay, laid out as it is thought to be."""
        chosen: dict[str, dict[Cut, Tensor]] = {}
        for group in groups:
            keep = self.units_kept[group.reader.name]
            for cut in group.others:
                rows = self.layouts[0](keep, group.units, cut.size, group.own.size)
                chosen.setdefault(cut.parameter, {})[cut] = rows
        for name, places in chosen.items():
            put(self.smaller, name, cut_parameter(self.dense.get_parameter(name), places))

    def _wrong(self, block: nn.Module, readers: list[Linear], run: Run, first: Mapping[str, Tensor]) -> str | None:
        """Name a matrix that reads something else in the smaller block, or that block where it cannot run at all."""
        try:
            return self._differing(run(block, readers), first)
        except (RuntimeError, ValueError, IndexError, TypeError) as error:  # sizes that do not go together
            if out_of_memory(error):
                raise
            return readers[0].name if readers else "a block"

    def _differing(self, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str | None:
        """Name a matrix that reads something else than what it should, None where none does."""
        if found.keys() != expected.keys():
            return min(found.keys() ^ expected.keys())
        for name, x in found.items():
            whole = expected[name]
            limit = TOLERANCE.get(x.dtype, HALF_TOLERANCE) * max(float(whole.abs().max()), 1e-6)
            if not float((x - whole[..., self.kept[name].to(x.device)]).abs().max()) <= limit:
                return name
        return None


def _check_apart(dense: nn.Module, changed: Shapes) -> None:
    """Raise ModelError where a parameter that gets another size has several names, each of which would lose others."""
    names: dict[int, str] = {}
    for name in changed:
        other = names.setdefault(id(dense.get_parameter(name)), name)
        if other != name:
            raise ModelError(
                f"{type(dense).__name__} has one matrix for {other} and {name}, and each of the blocks would lose "
                "other units; remove whole blocks or choose another model"
            )


def solved(
    W: Tensor, keep: Tensor, moments: ColumnMoments, solver: Solver, with_bias: bool
) -> tuple[Tensor, Tensor | None]:
    """Solve the columns that stay anew, by damped least squares with a share of the target from the dense stream.

    W: (C_out, C_in) float32; keep: the columns that stay, int64 (K,); moments: of the inputs, with products; solver:
    its damping, shrinkage and share; with_bias: whether a bias takes up what the columns that go add on average, which
    leaves the rest to be solved about the means.
    -> the matrix, (C_out, K) float32, and what is added to the bias, (C_out,), None without one.
    """
    assert moments.gram is not None  # the caller checked
    gram, cross, mean = moments.gram, moments.cross, moments.mean
    dense_mean = mean if moments.dense_sums is None else (moments.dense_sums / moments.tokens).float()
    if with_bias:
        gram = gram - moments.tokens * torch.outer(mean, mean).to(gram.dtype)
        cross = None if cross is None else cross - moments.tokens * torch.outer(dense_mean, mean).to(gram.dtype)
    gram = gram.float()
    H = updates.damped(gram, solver.damping, solver.shrinkage)
    R = torch.zeros_like(W) if cross is None else matmul(W, (cross.float() - gram) * solver.dense_share)
    weight = columns.resolved(W, keep, H, R)
    if not bool(torch.isfinite(weight).all()):
        raise ModelError(
            "the columns that stay could not be solved anew; give more calibration text or choose update none"
        )
    if not with_bias:
        return weight, None
    target = solver.dense_share * dense_mean + (1 - solver.dense_share) * mean if cross is not None else mean
    # Not `W @ target`: how a product with a vector is added up depends on where in memory the matrix lies.
    return weight, (W * target).sum(dim=1) - weight @ mean[keep]
