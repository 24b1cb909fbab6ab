"""A matrix as tiles: single weights are the masks themselves, coarser cells the means of a plain loop."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from recipes import BY_MAGNITUDE, BY_WANDA, MAGNITUDE, WANDA, X_NORM, W, by_hand

from wanda_core.errors import InputError
from wanda_core.explain import tiles
from wanda_core.explain.masked_linear import Choice, MaskedLinear
from wanda_core.explain.tiles import MOST_LEVEL, SIDE, tile
from wanda_core.recipe import PruneSpec
from wanda_core.report.linear import tile_of

ROUNDED = 0.5 + 1e-3  # a byte lies no farther from what it stands for
SPECS = (WANDA, MAGNITUDE, PruneSpec("ria"))


def drawn(seed, rows, columns, recipes=3):
    """Weights, norms and masks by lot; a tenth of the weights are zero."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(rows, columns, generator=generator) * (torch.rand(rows, columns, generator=generator) > 0.1)
    norms = torch.rand(columns, generator=generator)
    gone = [torch.rand(rows, columns, generator=generator) < 0.3 + 0.2 * number for number in range(recipes)]
    choices = zip(SPECS, gone, strict=False)
    return MaskedLinear(weights, norms, tuple(Choice(spec, mask) for spec, mask in choices))


def sheets(linear, level, by_norm):
    """All tiles of a level laid out. -> size (H, W) and kept (N, H, W), as NumPy"""
    rows, columns = linear.W.shape
    step = SIDE << level
    grid = [
        [tile(linear, level, across, down, by_norm) for across in range(-(-columns // step))]
        for down in range(-(-rows // step))
    ]
    for line in grid[:-1]:
        assert {cut.size.shape[0] for cut in line} == {SIDE}
    for line in grid:
        assert {cut.size.shape[1] for cut in line[:-1]} <= {SIDE}
        assert all(cut.kept.shape == (len(linear.choices), *cut.size.shape) for cut in line)
    size = np.block([[cut.size.numpy() for cut in line] for line in grid])
    kept = np.stack([np.block([[cut.kept[i].numpy() for cut in line] for line in grid]) for i in range(3)])
    return size, kept


def means_by_loop(values, step):
    """Means over blocks, at the edges over what is there. (R, C) -> (⌈R / step⌉, ⌈C / step⌉) float64"""
    rows, columns = values.shape
    return np.array(
        [
            [
                sum(
                    float(values[i, j])
                    for i in range(top, min(top + step, rows))
                    for j in range(left, min(left + step, columns))
                )
                / (min(step, rows - top) * min(step, columns - left))
                for left in range(0, columns, step)
            ]
            for top in range(0, rows, step)
        ]
    )


def on_scale(size, weights):
    """A size as 0 to 255 between the quantiles of all that are not zero, logarithmically."""
    above = np.abs(weights[weights != 0])
    low, high = (float(np.quantile(above, share, method="lower")) for share in (0.02, 0.999))
    return 255 * np.clip(np.log(np.maximum(size, 1e-30) / low) / math.log(high / low), 0, 1)


@pytest.mark.parametrize(
    ("shape", "top"), [((1, 1), 0), ((96, 96), 0), ((97, 1), 1), ((5, 192), 1), ((5, 193), 2), ((1536, 576), 4)]
)
def test_the_level_at_which_one_tile_holds_all(shape, top):
    assert tiles.levels(*shape) == top
    linear = MaskedLinear(torch.ones(shape), torch.ones(shape[1]), ())
    assert tile(linear, top, 0, 0, False).size.shape == tuple(math.ceil(length / 2**top) for length in shape)
    if top:
        with pytest.raises(InputError, match="lies outside"):
            tile(linear, top, 1, 0, False)
        assert tile(linear, top - 1, int(shape[1] > shape[0]), int(shape[0] > shape[1]), False).size.numel()


def test_a_matrix_worked_by_hand():
    one = tile(by_hand(), 0, 0, 0, False)
    assert torch.equal(one.kept == 255, ~torch.stack([BY_WANDA, BY_MAGNITUDE]))
    assert set(one.kept.unique().tolist()) == {0, 255}
    faint, bright = 0.1, 3.0  # of eight sizes the lowest, and the last but one
    expected = [[255, 255, 255 * math.log(20) / math.log(30), 255 * math.log(10) / math.log(30)]]
    assert (faint, bright) == pytest.approx(by_hand().sizes)
    assert one.size[0].tolist() == pytest.approx(expected[0], abs=ROUNDED)
    assert int(one.size[1, 3]) == 0
    halved = tile(by_hand(), 1, 0, 0, False)  # two cells of 2 × 2
    assert halved.kept.flatten().tolist() == pytest.approx([255 / 4, 3 * 255 / 4, 255 / 2, 255 / 4], abs=ROUNDED)
    means = [(4 + 3 + 0.2 + 0.3) / 4, (2 + 1 + 0.4 + 0.1) / 4]
    expected = [255 * math.log(mean / faint) / math.log(bright / faint) for mean in means]
    assert halved.size[0].tolist() == pytest.approx(expected, abs=ROUNDED)


@pytest.mark.parametrize("by_norm", [False, True])
@pytest.mark.parametrize("shape", [(5, 7), (96, 97), (200, 100), (97, 193), (1, 300)])
def test_single_weights_are_the_masks_and_all_tiles_hold_each_weight_once(shape, by_norm):
    linear = drawn(3, *shape)
    size, kept = sheets(linear, 0, by_norm)
    norms = linear.X_norm.tolist()
    order = sorted(range(shape[1]), key=norms.__getitem__) if by_norm else list(range(shape[1]))
    assert kept.shape == (3, *shape)
    for choice, seen in zip(linear.choices, kept, strict=True):
        assert np.array_equal(seen, 255 * (~choice.removed.numpy())[:, order])
    weights = linear.W.numpy()
    assert np.abs(size - on_scale(np.abs(weights), weights)[:, order]).max() <= ROUNDED
    assert not size[weights[:, order] == 0].any()


@given(
    st.integers(0, 2**20),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 4),
    st.booleans(),
)
def test_coarser_cells_are_the_means_of_a_plain_loop(seed, rows, columns, level, by_norm):
    linear = drawn(seed, rows, columns)
    order = sorted(range(columns), key=linear.X_norm.tolist().__getitem__) if by_norm else list(range(columns))
    weights = linear.W.numpy()
    one = tile(linear, level, 0, 0, by_norm)
    step = 2**level
    for choice, seen in zip(linear.choices, one.kept.numpy(), strict=True):
        shares = means_by_loop(~choice.removed.numpy()[:, order], step)
        assert seen.shape == shares.shape
        assert np.abs(seen - 255 * shares).max() <= ROUNDED
    low, high = linear.sizes
    means = means_by_loop(np.abs(weights[:, order]), step)
    expected = 255 * np.clip(
        np.log(np.maximum(means, 1e-30) / max(low, 1e-30)) / math.log(high / max(low, 1e-30)), 0, 1
    )
    assert np.abs(one.size.numpy() - expected).max() <= ROUNDED + 0.01  # logarithms in float32


@pytest.mark.parametrize("level", [1, 2])
def test_tiles_side_by_side_are_one_picture_at_every_level(level):
    """Their edges lie on whole cells, so a tile's cells do not depend on where it was cut."""
    linear = drawn(8, 230, 421)
    _, kept = sheets(linear, level, True)
    order = sorted(range(421), key=linear.X_norm.tolist().__getitem__)
    for choice, seen in zip(linear.choices, kept, strict=True):
        assert np.abs(seen - 255 * means_by_loop(~choice.removed.numpy()[:, order], 2**level)).max() <= ROUNDED


def test_a_tile_of_three_recipes_is_small_as_bytes_and_as_it_is_sent():
    one = tile(drawn(1, 300, 300), 0, 1, 1, True)
    assert one.size.dtype == one.kept.dtype == torch.uint8
    assert one.size.shape == (SIDE, SIDE)
    assert one.size.numel() + one.kept.numel() <= 64 * 1024
    sent = tile_of(one)
    assert len(sent["size"]) + sum(map(len, sent["kept"])) <= 64 * 1024


def test_a_matrix_of_zeros_is_faint_and_none_of_it_is_not_a_number():
    linear = MaskedLinear(torch.zeros(5, 4), X_NORM, (Choice(WANDA, torch.zeros(5, 4, dtype=torch.bool)),))
    for level in (0, 1, 3):
        one = tile(linear, level, 0, 0, True)
        assert not one.size.any()
        assert bool((one.kept == 255).all())


def test_without_a_recipe_there_are_sizes_alone():
    one = tile(MaskedLinear(W, X_NORM, ()), 0, 0, 0, False)
    assert (one.size.shape, one.kept.shape) == ((2, 4), (0, 2, 4))


def test_a_level_far_above_the_whole_matrix_is_one_cell_and_takes_no_room():
    """A cell of the last level is a block of 65,536 × 65,536: laid out, it would be 17 GB."""
    one = tile(by_hand(), MOST_LEVEL, 0, 0, True)
    assert one.kept.flatten().tolist() == pytest.approx([255 / 2, 255 * 3 / 8], abs=ROUNDED)
    assert one.size.shape == (1, 1)


def test_half_precision_and_turned_weights_give_the_same_picture():
    linear = drawn(6, 40, 50)
    halved = MaskedLinear(linear.W.bfloat16(), linear.X_norm, linear.choices)
    whole = MaskedLinear(halved.W.float(), linear.X_norm, linear.choices)
    turned = MaskedLinear(whole.W.t().contiguous().t(), linear.X_norm, linear.choices)
    for level in (0, 2):
        one, two, three = (tile(held, level, 0, 0, True) for held in (halved, whole, turned))
        assert torch.equal(one.size, two.size)
        assert torch.equal(two.size, three.size)
        assert torch.equal(one.kept, two.kept)


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ((0, 1, 0), "tile 1, 0 lies outside of 2 × 4 weights; choose one inside"),
        ((0, 0, 1), "tile 0, 1 lies outside of 2 × 4 weights; choose one inside"),
        ((1, 4, 0), "tile 4, 0 lies outside of 2 × 4 weights; choose one inside"),
        ((-1, 0, 0), "level -1 does not exist; give a whole number from 0 to 16"),
        ((17, 0, 0), "level 17 does not exist; give a whole number from 0 to 16"),
        ((True, 0, 0), "level True does not exist; give a whole number from 0 to 16"),
        ((0.0, 0, 0), r"level 0\.0 does not exist; give a whole number from 0 to 16"),
        (("0", 0, 0), "level '0' does not exist; give a whole number from 0 to 16"),
        ((0, -1, 0), "tile -1 does not exist; give a whole number from 0 to 4"),
        ((0, 0, -1), "tile -1 does not exist; give a whole number from 0 to 2"),
        ((0, None, 0), "tile None does not exist; give a whole number from 0 to 4"),
        ((0, 0, 10**30), "tile 1000.* does not exist; give a whole number from 0 to 2"),
    ],
    ids=str,
)
def test_a_tile_that_is_not_there_is_refused_in_a_sentence(place, words):
    with pytest.raises(InputError, match=f"^{words}$"):
        tile(by_hand(), *place, False)
