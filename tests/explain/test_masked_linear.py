"""A linear beside its masks: by what recipes order weights and within which others, loudness, sizes, refusals."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from recipes import BY_MAGNITUDE, BY_WANDA, MAGNITUDE, WANDA, X_NORM, W, by_hand

from wanda_core.errors import InputError
from wanda_core.explain.asking import ask_weight, telling_weight
from wanda_core.explain.decision_plane import cut_of, decision_plane
from wanda_core.explain.masked_linear import MOST_CHOICES, Choice, MaskedLinear
from wanda_core.methods import METHODS
from wanda_core.recipe import PruneSpec

SHAPE = (260, 300)  # of both, blocks of 128 are two whole ones and a part
EVERY_GROUP = [
    *(PruneSpec(name, group=group) for name, row in METHODS.items() for group in row.groups if not row.sweeps),
    *(PruneSpec("wanda", pattern=pattern) for pattern in ("2:4", "1:3", "4:10")),
]


def together(spec: PruneSpec, row: int, column: int) -> np.ndarray:
    """Which weights a recipe compares one with, bool of SHAPE."""
    rows, columns = np.indices(SHAPE)
    same_row, same_column = rows == row, columns == column
    if spec.n_of_m is not None:
        return same_row & (columns // spec.n_of_m[1] == column // spec.n_of_m[1])
    rules = {
        "row": same_row,
        "column": same_column,
        "row:128": same_row & (columns // 128 == column // 128),
        "column:128": same_column & (rows // 128 == row // 128),
    }
    return rules.get(spec.group, np.ones(SHAPE, dtype=bool))


@pytest.mark.parametrize("spec", EVERY_GROUP, ids=lambda spec: f"{spec.label}, {spec.group}")
def test_a_weight_is_compared_with_those_of_its_group_and_no_other(spec):
    choice = Choice(spec, torch.zeros(SHAPE, dtype=torch.bool))
    for row, column in ((0, 0), (127, 128), (128, 127), (259, 299), (200, 255), (256, 256)):
        rows, columns = choice.compared(row, column)
        inside = np.zeros(SHAPE, dtype=bool)
        inside[rows, columns] = True
        assert np.array_equal(inside, together(spec, row, column))


@pytest.mark.parametrize(
    ("spec", "metric"),
    [
        (PruneSpec("magnitude"), "size"),
        (PruneSpec("magnitude", pattern="2:4"), "size"),
        (PruneSpec("wanda"), "score"),
        (PruneSpec("wanda-variant"), "score"),
        (PruneSpec("ria"), "importance"),
        (PruneSpec("random"), "other"),
        (PruneSpec("sparsegpt"), "other"),
        (PruneSpec("wanda", update="obs"), "other"),  # of weights that moved before the choice
        (PruneSpec("magnitude", update="least-squares"), "other"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value.label}, {value.update}",
)
def test_by_what_a_recipe_orders_weights(spec, metric):
    assert Choice(spec, BY_WANDA).metric == metric


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, 7.0, 1e4]), min_size=1, max_size=30))
def test_columns_go_from_the_quietest_to_the_loudest_and_back(norms):
    linear = MaskedLinear(torch.ones(2, len(norms)), torch.tensor(norms), ())
    assert linear.order.tolist() == sorted(range(len(norms)), key=lambda column: (norms[column], column))
    assert linear.order[linear.loudness].tolist() == list(range(len(norms)))
    assert linear.loudness[linear.order].tolist() == list(range(len(norms)))


def test_sizes_lie_between_two_quantiles_of_those_above_zero():
    generator = torch.Generator().manual_seed(2)
    weights = torch.randn(40, 60, generator=generator)
    weights[:, :20] = 0
    weights[3, 50] = 1e6
    faint, bright = MaskedLinear(weights, torch.ones(60), ()).sizes
    above = np.sort(np.abs(weights.numpy()[weights.numpy() != 0]))
    assert (above < faint).mean() == pytest.approx(0.02, abs=0.002)
    assert (above > bright).mean() == pytest.approx(0.001, abs=0.001)
    assert bright < 5


def test_sizes_of_a_large_matrix_are_taken_from_all_its_columns():
    weights = torch.full((2048, 2048), 100.0)
    weights[:, ::4] = 1  # a step of four from column to column would see nothing else
    assert MaskedLinear(weights, torch.ones(2048), ()).sizes == (1, 100)


def test_sizes_that_are_all_alike_or_zero_still_make_a_scale():
    assert MaskedLinear(torch.zeros(2, 4), X_NORM, ()).sizes == (0, 1)
    low, high = MaskedLinear(torch.full((2, 4), -3.0), X_NORM, ()).sizes
    assert low == 3 < high < 3.01


def test_scores_of_a_row_and_the_bytes_of_the_masks():
    linear = by_hand()
    assert linear.score_of_row(0).tolist() == [4, 3, 2, 100]
    assert linear.score_of_row(1).tolist() == pytest.approx([0.2, 0.3, 0.4, 10])
    assert linear.nbytes == 16
    half = MaskedLinear(W.bfloat16(), X_NORM, ())
    assert half.score_of_row(0).dtype == torch.float32
    assert half.nbytes == 0


@pytest.mark.parametrize(
    ("weights", "norms", "choices"),
    [
        (W, X_NORM[:3], ()),
        (W, X_NORM[None], ()),
        (W, X_NORM, (Choice(WANDA, BY_WANDA), Choice(MAGNITUDE, BY_MAGNITUDE[:1]))),
        (W, X_NORM, (Choice(WANDA, BY_WANDA.T),)),
        (W[0], X_NORM, ()),
    ],
    ids=["too few norms", "norms of two dimensions", "a mask too short", "a mask turned", "one row"],
)
def test_shapes_that_do_not_fit_are_refused(weights, norms, choices):
    with pytest.raises(InputError, match="give one norm a column and masks of the weights' shape"):
        MaskedLinear(weights, norms, choices)


def test_more_recipes_than_are_compared_are_refused():
    choices = (Choice(WANDA, BY_WANDA),) * (MOST_CHOICES + 1)
    assert MaskedLinear(W, X_NORM, choices[1:]).nbytes == 24
    with pytest.raises(InputError, match="4 recipes are given and 3 compared; leave some out"):
        MaskedLinear(W, X_NORM, choices)


def test_a_recipe_may_have_norms_of_its_own_and_an_expert_that_was_not_measured_goes_by_size():
    removed = torch.tensor([[True, False, False]])
    W, norms, own = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([9.0, 1.0, 1.0]), torch.tensor([0.5, 1.0, 1.0])
    spec = PruneSpec("wanda", 0.34, order="one-shot")
    usual, other, unmeasured = Choice(spec, removed), Choice(spec, removed, own), Choice(spec, removed, None, True)
    linear = MaskedLinear(W, norms, (usual, other, unmeasured))
    fates = ask_weight(linear, 0, 0).fates
    assert [(fate.rank, fate.cut) for fate in fates] == [(1, 9.0), (3, 0.5), (3, 1.0)]
    assert [choice.metric for choice in linear.choices] == ["score", "score", "size"]
    assert [cut_of(linear, choice).median for choice in linear.choices] == pytest.approx(
        [math.log10(9), math.log10(0.5), 0], abs=1e-6
    )


def test_where_no_recipe_is_laid_over_a_linear_there_is_nothing_to_compare():
    bare = MaskedLinear(torch.ones(2, 3), torch.ones(3), ())
    for ask in (decision_plane, telling_weight):
        with pytest.raises(InputError, match="no recipe is laid over this linear; give one or two"):
            ask(bare)
