"""A recipe is checked once, when made, and every refusal says what to do."""

import dataclasses
import decimal
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wanda_core.errors import InputError, WandaError
from wanda_core.presets import PRESETS, RECIPES, preset
from wanda_core.recipe import PruneSpec, Solver, parse_pattern


def test_left_out_fields_are_the_papers_setting():
    assert PruneSpec() == PruneSpec("wanda", 0.5, "unstructured", "row", "faithful")


def test_the_default_group_follows_the_method():
    assert PruneSpec(method="wanda").group == "row"
    assert PruneSpec(method="magnitude").group == "matrix"


@pytest.mark.parametrize("bad", [-1, -0.001, 1, 0.951, math.nan, math.inf, "0.5", True, False, [0.5], 1j, b"1", {}])
def test_a_sparsity_outside_the_rule_is_refused(bad):
    with pytest.raises(InputError, match=r"sparsity .* is not a number from 0 to 0\.95") as caught:
        PruneSpec(sparsity=bad)
    assert "try 0.5" in str(caught.value)


def test_a_decimal_is_no_real_number_to_python_and_is_refused():
    with pytest.raises(InputError, match="sparsity"):
        PruneSpec(sparsity=decimal.Decimal("0.5"))


@pytest.mark.parametrize("good", [0, 0.0, 0.95, np.float32(0.5), np.float64(0.25), None])
def test_a_sparsity_inside_the_rule_becomes_a_plain_float(good):
    spec = PruneSpec(sparsity=good)
    assert type(spec.sparsity) is float
    assert spec.target == (0.5 if good is None else float(good))


@pytest.mark.parametrize(
    "bad", ["4:2", "0:4", "4:4", "x", "", "2:", ":4", "2:4:8", "2/4", " 2:4", "2:4\n", "-2:4", "2:33", "1:999", 7, None]
)
def test_a_pattern_outside_the_rule_is_refused(bad):
    with pytest.raises(InputError, match="neither 'unstructured' nor N:M") as caught:
        PruneSpec(pattern=bad)
    assert "try 2:4" in str(caught.value)


@given(st.integers(1, 32), st.integers(1, 32))
def test_n_of_m_is_accepted_just_when_n_is_smaller(n, m):
    if n < m:
        spec = PruneSpec(pattern=f"{n}:{m}")
        assert spec.n_of_m == (n, m)
        assert spec.target == 1 - n / m
        assert spec.group == "row"
    else:
        with pytest.raises(InputError):
            parse_pattern(f"{n}:{m}")


def test_unstructured_has_no_n_of_m():
    assert parse_pattern("unstructured") is None
    assert PruneSpec().n_of_m is None


@pytest.mark.parametrize("bad", [0.3, 0.51, 1.5, "0.5", True, math.nan])
def test_a_sparsity_that_contradicts_the_pattern_is_refused(bad):
    with pytest.raises(InputError, match="sparsity"):
        PruneSpec(pattern="2:4", sparsity=bad)


def test_a_sparsity_that_says_the_same_as_the_pattern_is_accepted():
    assert PruneSpec(pattern="2:4", sparsity=0.5) == PruneSpec(pattern="2:4")
    assert PruneSpec(pattern="1:3", sparsity=0.6666666666666666).target == 1 - 1 / 3
    assert PruneSpec(pattern="1:32").target == 1 - 1 / 32  # more than an unstructured recipe may ask for


@pytest.mark.parametrize(
    ("method", "group", "allowed"),
    [
        ("wanda", "row", True),
        ("wanda", "matrix", True),
        ("wanda", "model", False),
        ("wanda", "column", True),
        ("wanda", "column:128", True),
        ("wanda", "row:64", False),
        ("ria", "row:128", True),
        ("wanda-variant", "matrix", False),
        ("sparsegpt", "row", False),
        ("magnitude", "row", True),
        ("magnitude", "matrix", True),
        ("magnitude", "model", True),
        ("magnitude", "", False),
        ("magnitude", 3, False),
    ],
)
def test_groups_belong_to_methods(method, group, allowed):
    if allowed:
        assert PruneSpec(method=method, group=group).group == group
    else:
        with pytest.raises(InputError, match=f"group for {method} .* choose one of"):
            PruneSpec(method=method, group=group)


@pytest.mark.parametrize("group", ["matrix", "model", "column"])
def test_a_pattern_compares_within_its_own_groups_only(group):
    with pytest.raises(InputError, match="cannot be combined with pattern 2:4"):
        PruneSpec(method="magnitude", pattern="2:4", group=group)
    assert PruneSpec(pattern="2:4", group="row") == PruneSpec(pattern="2:4")


@pytest.mark.parametrize("bad", ["Wanda", "SparseGPT", "", None, 1, ["wanda"]])
def test_an_unknown_method_is_refused_with_the_choice(bad):
    with pytest.raises(InputError, match=r"method .* is not offered; choose one of wanda, wanda-variant, magnitude"):
        PruneSpec(method=bad)


@pytest.mark.parametrize("bad", ["in flight", "oneshot", "", None])
def test_an_unknown_order_is_refused(bad):
    with pytest.raises(InputError, match=r"order .* is not offered"):
        PruneSpec(order=bad)


def test_a_recipe_cannot_be_changed_afterwards():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PruneSpec().sparsity = 0.7


def test_a_recipe_goes_through_json_and_back():
    for spec in (
        PruneSpec(),
        PruneSpec(pattern="4:8"),
        PruneSpec(method="magnitude", group="model", sparsity=0.3),
        PruneSpec(allocation=(0.4, 0.6)),
        preset("best"),
    ):
        assert PruneSpec(**json.loads(json.dumps(spec.to_dict()))) == spec
        assert hash(PruneSpec(**spec.to_dict())) == hash(spec)


def test_labels_are_for_people():
    assert PruneSpec(sparsity=0.5).label == "Wanda 50%"
    assert PruneSpec(method="magnitude", pattern="2:4").label == "Magnitude 2:4"


def test_labels_name_what_is_added():
    assert PruneSpec("sparsegpt", 0.6).label == "SparseGPT 60%"
    assert preset("best", pattern="2:4").label == "Wanda 2:4 + least squares"
    assert PruneSpec("magnitude", update="obs").label == "Magnitude 50% + OBS"
    assert PruneSpec("ria", allocation="owl").label == "RIA 50% OWL"
    assert preset("best", sparsity=0.6).label == "Wanda 60% measured + least squares"


def test_only_methods_that_look_at_weights_alone_need_no_calibration():
    assert PruneSpec().needs_calibration
    for method in ("magnitude", "random"):
        assert not PruneSpec(method).needs_calibration
        assert PruneSpec(method, update="least-squares").needs_calibration
        assert PruneSpec(method, allocation="owl").needs_calibration
        assert PruneSpec(method, allocation="measured").needs_sensitivities
        assert not PruneSpec(method, 0, allocation="measured").needs_calibration  # there is nothing to allot


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"method": "sparsegpt", "update": "none"}, "updates the kept weights as it goes"),
        ({"order": "one-shot", "update": "obs"}, "norms alone"),
        ({"order": "one-shot", "method": "sparsegpt"}, "norms alone"),
        ({"method": "magnitude", "group": "model", "update": "obs"}, "one threshold for all blocks"),
        ({"method": "magnitude", "group": "model", "allocation": "owl"}, "one threshold for all blocks"),
        ({"pattern": "2:4", "allocation": "owl"}, "fixes every block's sparsity"),
        ({"pattern": "2:4", "method": "wanda-variant"}, "cuts rows unevenly"),
        ({"allocation": "owl", "sparsity": 0}, "nothing to allot"),
        ({"allocation": "even"}, "allocation 'even' is not offered"),
        ({"allocation": [0.5, 1.2]}, "sparsity 1.2 is not a number"),
        ({"allocation": 3}, "allocation 3 is not offered"),
        ({"update": "sgd"}, "update 'sgd' is not offered"),
        ({"solver": Solver(dense_share=0.5)}, "dense_share 0.5 needs order in-flight"),
        ({"solver": Solver(stream_share=0.5)}, "stream_share 0.5 needs order in-flight"),
        ({"method": "sparsegpt", "update": "least-squares", "solver": Solver(rounds=1)}, "has its own sweep for that"),
        ({"seed": -1}, "seed -1 is not a whole number"),
    ],
)
def test_what_cannot_be_combined_is_refused_in_a_sentence(fields, words):
    with pytest.raises(InputError, match=words) as caught:
        PruneSpec(**fields)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"steps": 0},
        {"steps": 1.5},
        {"rounds": -1},
        {"damping": 0},
        {"damping": math.nan},
        {"shrinkage": -0.1},
        {"shrinkage": "0.3"},
        {"dense_share": 2},
        {"stream_share": -0.1},
    ],
)
def test_a_solver_outside_the_rule_is_refused(fields):
    with pytest.raises(InputError, match=next(iter(fields))):
        Solver(**fields)


def test_presets_of_one_recipe_differ_in_what_they_read():
    made = {name: preset(name, sparsity=0.6) for name in PRESETS}
    assert len({made[name] for name in RECIPES}) == len(RECIPES)
    for name, each in PRESETS.items():
        assert (each.like is None) == (name in RECIPES)
        if each.like is not None:
            assert made[name] == made[each.like]
            assert each.draw != PRESETS[each.like].draw
    assert (PRESETS["paper"].draw, PRESETS["best"].draw, PRESETS["finest"].draw) == ((128, 2048), (16, 256), (32, 512))


def test_presets_yield_to_what_is_given():
    assert preset("paper") == PruneSpec()
    best = preset("best", sparsity=0.6)
    assert (best.order, best.update, best.target, best.solver.rounds) == ("in-flight", "least-squares", 0.6, 2)
    assert (best.group, best.allocation, best.solver.shrinkage) == ("matrix", "measured", 0.3)
    assert preset("best", allocation="uniform").allocation == "uniform"
    assert preset("best", pattern="2:4").allocation == "uniform"  # which fixes every block's sparsity
    assert preset("best", group="row").group == "row"
    assert preset("best", pattern="2:4").group == "row"  # within its 4
    assert preset("best", method="wanda-variant").group == "row"
    assert preset("best", method="sparsegpt").group == "matrix:128"
    with pytest.raises(InputError, match=r"method .* is not offered"):
        preset("best", method=["wanda"])
    with pytest.raises(InputError, match="preset 'worst' is not offered"):
        preset("worst")


def test_an_input_error_is_a_value_error_and_a_wanda_error():
    assert issubclass(InputError, ValueError)
    assert issubclass(InputError, WandaError)


def test_how_long_a_recipe_takes_in_passes_over_the_text():
    order = [
        *(PruneSpec("magnitude"), PruneSpec(order="one-shot"), PruneSpec(order="in-flight"), PruneSpec()),
        *(PruneSpec(update="obs"), preset("best")),
    ]
    passes = [spec.passes for spec in order]
    assert passes == sorted(passes)
    assert passes[0] == passes[1] < 1 < passes[2]
    assert passes[5] == 3 * passes[4]  # the mask is chosen twice more
