"""Why a weight is kept: a matrix worked by hand, every group against plain loops, the built-in model's telling case.

An oracle of plain loops says with which others a weight was compared, and where it stood among them.
"""

import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from recipes import MAGNITUDE, WANDA, X_NORM, W, by_hand, masked

from wanda_core.errors import InputError
from wanda_core.explain import asking
from wanda_core.explain.asking import ColumnTold, Fate, RowTold
from wanda_core.explain.masked_linear import Choice, MaskedLinear
from wanda_core.maths import scores
from wanda_core.methods import METHODS
from wanda_core.pruning.one_linear import removed_of
from wanda_core.recipe import PruneSpec

SCORED = [
    *(PruneSpec("wanda", 0.4, group=group) for group in ("row", "matrix", "column", "row:128", "column:128")),
    *(PruneSpec("magnitude", 0.4, group=group) for group in ("row", "matrix", "column", "row:128", "column:128")),
    PruneSpec("magnitude", 0.4, group="model"),
    PruneSpec("wanda-variant", 0.4),
    *(PruneSpec("ria", 0.4, group=group) for group in METHODS["ria"].groups),
    PruneSpec("ria", pattern="2:4"),
    PruneSpec("wanda", pattern="2:4"),
    PruneSpec("magnitude", pattern="1:4"),
]


def drawn(seed, rows, columns, levels=0):
    """Weights and norms by lot; levels: of how few values, so that many are equal, some of them zero."""
    generator = torch.Generator().manual_seed(seed)
    if levels:
        weights = torch.randint(-levels, levels + 1, (rows, columns), generator=generator).float()
        return weights, torch.randint(0, levels + 1, (columns,), generator=generator).float()
    weights = torch.randn(rows, columns, generator=generator)
    return weights, torch.rand(columns, generator=generator) * 3 + 0.1


def ordered_by(choice, weights, norms):
    """What a recipe orders the weights by."""
    by = {"size": lambda: weights.abs(), "score": lambda: weights.abs() * norms}
    return by.get(choice.metric, lambda: scores.ria(weights, norms))()


def rank_by_loop(values, own):
    """1 for the largest; equal ones share a place."""
    return 1 + sum(value > own for value in values)


# By hand


def test_a_weight_that_is_small_and_hears_a_loud_input():
    told = asking.ask_weight(by_hand(), 0, 3)
    assert (told.row, told.column, told.columns) == (0, 3, 4)
    assert (told.value, told.norm, told.score) == (1, 100, 100)
    assert (told.loudness, told.median) == (1, 1)
    assert (told.by_size, told.by_score) == (4, 1)
    wanda, magnitude = told.fates
    assert wanda == Fate(False, "score", "row", of=4, removed_there=2, rank=1, cut=3)
    assert magnitude == Fate(True, "size", "matrix", of=8, removed_there=5, rank=4, cut=1)  # 4, 3 and 2 are larger


def test_a_weight_below_zero_keeps_its_sign_and_is_ranked_by_its_size():
    told = asking.ask_weight(by_hand(), 0, 1)
    assert (told.value, told.score) == (-3, 3)
    assert (told.by_size, told.by_score) == (2, 3)
    assert told.loudness == 2  # three columns share the place after the loudest
    wanda, magnitude = told.fates
    assert wanda == Fate(True, "score", "row", 4, 2, rank=3, cut=3)
    assert magnitude == Fate(False, "size", "matrix", 8, 5, rank=2, cut=1)


def test_a_column_and_a_row_by_hand():
    assert asking.ask_column(by_hand(), 3) == ColumnTold(3, 4, 2, 100, 1, 1, kept=(1, 0))
    assert asking.ask_column(by_hand(), 1) == ColumnTold(1, 4, 2, 1, 2, 1, kept=(0, 0.5))
    first = asking.ask_row(by_hand(), 0)
    assert first == RowTold(0, 4, size=2, score=3, kept=(0.5, 0.75), size_cuts=(3, 1), score_cuts=(3, 100))
    second = asking.ask_row(by_hand(), 1)
    assert (second.size, second.score) == pytest.approx((0.2, 0.3))
    assert second.kept == (0.5, 0)
    assert second.size_cuts == pytest.approx((0.3, 0.4))
    assert second.score_cuts == pytest.approx((0.3, 10))


def test_where_nothing_goes_there_is_no_cut():
    linear = masked(W, X_NORM, PruneSpec("wanda", 0.0), PruneSpec("magnitude", 0.0))
    by_wanda, by_magnitude = asking.ask_weight(linear, 0, 3).fates
    assert by_wanda == Fate(False, "score", "row", 4, removed_there=0, rank=1, cut=0)
    assert by_magnitude == Fate(False, "size", "matrix", 8, removed_there=0, rank=4, cut=0)
    told = asking.ask_row(linear, 1)
    assert (told.kept, told.size_cuts, told.score_cuts) == ((1, 1), (0, 0), (0, 0))


@pytest.mark.parametrize(
    "spec", [PruneSpec("random"), PruneSpec("wanda", update="least-squares")], ids=lambda s: s.label
)
def test_a_recipe_by_another_metric_shows_what_went_and_no_place(spec):
    gone = by_hand().choices[0].removed
    (fate,) = asking.ask_weight(MaskedLinear(W, X_NORM, (Choice(spec, gone),)), 0, 1).fates
    assert fate == Fate(True, "other", "row", 4, 2, None, None)


def test_relative_importance_counts_against_its_row_and_its_column():
    W, X_norm = torch.tensor([[1.0, 3.0], [1.0, 1.0]]), torch.tensor([4.0, 1.0])
    (fate,) = asking.ask_weight(masked(W, X_norm, PruneSpec("ria", group="row")), 0, 0).fates
    # (1/2 + 1/4) · √4 = 1.5 against (3/4 + 3/4) · 1 = 1.5: equal ones share a place, and one of the two goes
    assert (fate.metric, fate.rank, fate.of, fate.removed_there) == ("importance", 1, 2, 1)
    assert fate.cut == pytest.approx(1.5)
    (fate,) = asking.ask_weight(masked(W, X_norm, PruneSpec("ria", group="row")), 1, 1).fates
    # (1/2 + 1/2) · √4 = 2 against (1/4 + 1/2) · 1 = 0.75
    assert (fate.removed, fate.rank) == (True, 2)
    assert fate.cut == pytest.approx(0.75)


# Every group


def members(spec, row, column, rows, columns):
    """The places that a recipe compares a weight with, by loop."""
    found = []
    for i in range(rows):
        for j in range(columns):
            if spec.n_of_m is not None:
                together = i == row and j // spec.n_of_m[1] == column // spec.n_of_m[1]
            elif spec.group.startswith("row"):
                together = i == row and (":" not in spec.group or j // 128 == column // 128)
            elif spec.group.startswith("column"):
                together = j == column and (":" not in spec.group or i // 128 == row // 128)
            else:
                together = True
            if together:
                found.append((i, j))
    return found


@pytest.mark.parametrize("shape", [(6, 200), (200, 4)])
@pytest.mark.parametrize("spec", SCORED, ids=lambda spec: f"{spec.label}, {spec.group}")
def test_ranks_and_cuts_are_those_of_a_plain_loop_in_every_group(spec, shape):
    rows, columns = shape
    weights, norms = drawn(5, rows, columns)
    linear = masked(weights, norms, spec)
    values = ordered_by(linear.choices[0], weights, norms)
    gone = linear.choices[0].removed
    for row, column in ((0, 0), (rows - 1, columns - 1), (rows // 2, columns // 2)):
        told = asking.ask_weight(linear, row, column)
        places = members(spec, row, column, rows, columns)
        cut = [float(values[place]) for place in places if gone[place]]
        assert told.fates == (
            Fate(
                bool(gone[row, column]),
                linear.choices[0].metric,
                spec.group if spec.n_of_m is None else spec.pattern,
                len(places),
                len(cut),
                rank_by_loop([float(values[place]) for place in places], float(values[row, column])),
                max(cut, default=0.0),
            ),
        )
        assert told.by_size == rank_by_loop(weights[row].abs().tolist(), abs(float(weights[row, column])))
        assert told.by_score == rank_by_loop((weights[row].abs() * norms).tolist(), told.score)
        assert told.loudness == rank_by_loop(norms.tolist(), float(norms[column]))


@given(
    st.sampled_from(SCORED),
    st.integers(0, 2**20),
    st.sampled_from([(3, 8), (7, 12), (3, 132), (132, 4)]),
    st.sampled_from([0, 2]),
    st.data(),
)
def test_only_what_lies_lowest_in_its_group_is_removed(spec, seed, shape, levels, data):
    weights, norms = drawn(seed, *shape, levels)
    linear = masked(weights, norms, spec)
    (choice,) = linear.choices
    place = data.draw(st.tuples(*(st.integers(0, length - 1) for length in shape)))
    (fate,) = asking.ask_weight(linear, *place).fates
    values = ordered_by(choice, weights, norms)
    own = float(values[place])
    group = members(spec, *place, *shape)
    kept = [float(values[other]) for other in group if not choice.removed[other]]
    removed = [float(values[other]) for other in group if choice.removed[other]]
    assert fate.of == len(group)
    assert fate.removed_there == len(removed)
    assert max(removed, default=0) <= min(kept, default=math.inf)  # equal ones may part
    equal = sum(float(values[other]) == own for other in group)
    if fate.removed:
        assert own <= fate.cut
        assert fate.rank + equal - 1 > fate.of - fate.removed_there
    else:
        assert own >= fate.cut
        assert fate.rank <= fate.of - fate.removed_there


# Finding weights


def disagreements(linear):
    """All weights on which the first two recipes differ: row by row, the loudest column first."""
    first, second = (choice.removed for choice in linear.choices[:2])
    norms = linear.X_norm.tolist()
    loudest = sorted(range(len(norms)), key=lambda column: (norms[column], column), reverse=True)
    rows = range(linear.W.shape[0])
    return [(row, column) for row in rows for column in loudest if first[row, column] != second[row, column]]


def test_the_next_disagreement_by_hand():
    linear = by_hand()
    walk = [(0, 3), (0, 2), (0, 1), (1, 3), (1, 2)]  # 2 before 1: of equal norms the order of columns, turned round
    assert disagreements(linear) == walk
    for here, then in zip(walk, [*walk[1:], walk[0]], strict=True):
        assert asking.next_disagreement(linear, *here) == then
    assert asking.next_disagreement(linear, 1, 0) == (0, 3)  # nothing is quieter there, nor below


@given(st.integers(0, 2**20), st.integers(1, 7), st.integers(1, 9), st.sampled_from([0.02, 0.3, 0.9]), st.data())
def test_from_any_weight_on_the_walk_meets_every_disagreement_in_order(seed, rows, columns, share, data):
    weights, norms = drawn(seed, rows, columns, 3)
    generator = torch.Generator().manual_seed(seed)
    one = torch.rand(rows, columns, generator=generator) < 0.5
    other = one ^ (torch.rand(rows, columns, generator=generator) < share)
    linear = MaskedLinear(weights, norms, (Choice(WANDA, one), Choice(MAGNITUDE, other), Choice(WANDA, ~one)))
    start = data.draw(st.tuples(st.integers(0, rows - 1), st.integers(0, columns - 1)))
    walk = disagreements(linear)
    if not walk:
        assert asking.next_disagreement(linear, *start) is None
        return
    place = {column: -int(linear.loudness[column]) for column in range(columns)}
    after = [at for at in walk if (at[0], place[at[1]]) > (start[0], place[start[1]])]
    expected = after + walk[: len(walk) - len(after)]
    here, met = start, []
    for _ in walk:
        here = asking.next_disagreement(linear, *here)
        met.append(here)
    assert met == expected


def test_recipes_that_agree_and_one_alone_have_no_disagreement():
    wanda, _ = by_hand().choices
    assert asking.next_disagreement(MaskedLinear(W, X_NORM, (wanda, wanda)), 0, 0) is None
    assert asking.next_disagreement(MaskedLinear(W, X_NORM, (wanda,)), 0, 0) is None


@given(st.integers(0, 2**20), st.integers(1, 12), st.integers(1, 12), st.sampled_from([0, 2]))
def test_the_telling_weight_is_first_by_score_and_last_by_size(seed, rows, columns, levels):
    weights, norms = drawn(seed, rows, columns, levels)
    specs = (dataclasses.replace(WANDA, sparsity=0.4), PruneSpec("magnitude", 0.4), PruneSpec("random"))
    linear = masked(weights, norms, *specs)
    row, column = asking.telling_weight(linear)
    assert column == norms.tolist().index(max(norms.tolist()))
    keeps, removes, _ = (choice.removed[:, column] for choice in linear.choices)

    def worth(i):
        told = asking.ask_weight(linear, i, column)
        return told.by_score, -told.by_size

    telling = [worth(i) for i in range(rows) if not keeps[i] and removes[i]]
    assert 0 <= row < rows
    assert not telling or worth(row) == min(telling)
    assert not telling or (not keeps[row] and removes[row])


def test_the_telling_weight_by_hand():
    """By score the last of each row is its first; by size 1 is third, 0.1 second, and 6 magnitude keeps."""
    weights = torch.tensor([[9.0, 8, 6], [9, 8, 1], [9, 0.01, 0.1]])
    linear = masked(weights, torch.tensor([1.0, 1.0, 100.0]), WANDA, PruneSpec("magnitude", 0.3))
    assert asking.telling_weight(linear) == (1, 2)


@pytest.mark.parametrize(
    ("norm", "size", "place"),
    [
        (2.0, 0.2, (0, 3)),
        (2.0, math.log10(0.2), (1, 3)),  # -0.7 lies nearer to 0.1 than to 1
        (99.0, -99.0, (1, 3)),
        (-5.0, math.log10(4), (0, 0)),  # of equal norms any, here the first
    ],
)
def test_the_weight_nearest_to_a_place_of_the_plane_by_hand(norm, size, place):
    assert asking.weight_near(by_hand(), norm, size) == place


@given(st.integers(0, 2**20), st.floats(-3, 3), st.floats(-3, 3), st.sampled_from([0, 3]))
def test_the_nearest_weight_is_that_of_a_plain_search(seed, norm, size, levels):
    weights, norms = drawn(seed, 9, 11, levels)
    row, column = asking.weight_near(MaskedLinear(weights, norms, ()), norm, size)
    far = [abs(math.log10(max(value, 1e-30)) - norm) for value in norms.tolist()]
    assert far[column] == pytest.approx(min(far), abs=1e-5)
    far = [abs(math.log10(max(value, 1e-30)) - size) for value in weights[:, column].abs().tolist()]
    assert far[row] == pytest.approx(min(far), abs=1e-5)


@pytest.mark.parametrize("ask", [asking.ask_weight, asking.next_disagreement])
@pytest.mark.parametrize(
    ("place", "words"),
    [
        ((-1, 0), "row -1 does not exist; this linear has rows 0 to 1"),
        ((2, 0), "row 2 does not exist; this linear has rows 0 to 1"),
        ((True, 0), "row True does not exist; this linear has rows 0 to 1"),
        ((0, 4), "column 4 does not exist; this linear has columns 0 to 3"),
        ((0, 1.0), r"column 1\.0 does not exist; this linear has columns 0 to 3"),
        ((0, None), "column None does not exist; this linear has columns 0 to 3"),
        ((0, "1"), "column '1' does not exist; this linear has columns 0 to 3"),
        ((0, "x" * 10_000), r"column 'x+….* does not exist; this linear has columns 0 to 3"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_place_that_is_not_there_is_refused_in_a_sentence(ask, place, words):
    with pytest.raises(InputError, match=f"^{words}$") as refused:
        ask(by_hand(), *place)
    assert len(str(refused.value)) < 300


def test_a_row_and_a_column_that_are_not_there_are_refused():
    with pytest.raises(InputError, match=r"^row 2 does not exist; this linear has rows 0 to 1$"):
        asking.ask_row(by_hand(), 2)
    with pytest.raises(InputError, match=r"^column 4 does not exist; this linear has columns 0 to 3$"):
        asking.ask_column(by_hand(), 4)


# The real model


@pytest.fixture(scope="module")
def up_projection(builtin_lm, builtin_profile):
    """Block 11's, where massive activations begin, at 45%."""
    linear = builtin_lm.of_kind("mlp.up_proj")[11]
    specs = [PruneSpec("wanda", 0.45, order="one-shot"), PruneSpec("magnitude", 0.45)]
    choices = tuple(Choice(spec, removed_of(linear, spec, 0.45, builtin_profile)) for spec in specs)
    return MaskedLinear(linear.weight, builtin_profile.norms[linear.name], choices)


@pytest.mark.builtin
def test_in_the_built_in_model_a_small_weight_is_its_rows_first_by_score(up_projection):
    wanda, magnitude = (choice.removed for choice in up_projection.choices)
    assert float((wanda != magnitude).float().mean()) == pytest.approx(0.058, abs=0.001)
    told = asking.ask_weight(up_projection, 710, 247)
    assert (told.columns, told.by_size, told.by_score, told.loudness) == (576, 372, 1, 1)
    by_wanda, by_magnitude = told.fates
    assert (by_wanda.removed, by_wanda.scope, by_wanda.of, by_wanda.rank) == (False, "row", 576, 1)
    assert (by_magnitude.removed, by_magnitude.scope, by_magnitude.of) == (True, "matrix", 1536 * 576)
    assert abs(told.value) <= by_magnitude.cut
    assert told.score > by_wanda.cut
    assert told.norm > 10 * told.median
    assert by_wanda.removed_there == int(576 * 0.45)
    assert by_magnitude.rank > by_magnitude.of - by_magnitude.removed_there


@pytest.mark.builtin
def test_in_the_built_in_model_the_loudest_column_is_kept_by_one_and_removed_by_the_other(up_projection):
    told = asking.ask_column(up_projection, 247)
    assert (told.loudness, told.columns, told.rows) == (1, 576, 1536)
    assert told.kept == pytest.approx((0.90, 0.09), abs=0.005)
    row, column = asking.telling_weight(up_projection)
    assert column == 247
    telling = asking.ask_weight(up_projection, row, column)
    assert telling.by_score == 1
    assert telling.by_size >= 372
    assert [fate.removed for fate in telling.fates] == [False, True]
