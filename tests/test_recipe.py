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
from wanda_core.recipe import PruneSpec, parse_pattern


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
        ("wanda", "column", False),
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


@pytest.mark.parametrize("bad", ["Wanda", "sparsegpt", "", None, 1, ["wanda"]])
def test_an_unknown_method_is_refused_with_the_choice(bad):
    with pytest.raises(InputError, match=r"method .* is not offered; choose one of wanda, magnitude"):
        PruneSpec(method=bad)


@pytest.mark.parametrize("bad", ["in-flight", "one-shot", "", None])
def test_an_unknown_order_is_refused(bad):
    with pytest.raises(InputError, match=r"order .* is not offered"):
        PruneSpec(order=bad)


def test_a_recipe_cannot_be_changed_afterwards():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PruneSpec().sparsity = 0.7


def test_a_recipe_goes_through_json_and_back():
    for spec in (PruneSpec(), PruneSpec(pattern="4:8"), PruneSpec(method="magnitude", group="model", sparsity=0.3)):
        assert PruneSpec(**json.loads(json.dumps(spec.to_dict()))) == spec
        assert hash(PruneSpec(**spec.to_dict())) == hash(spec)


def test_labels_are_for_people():
    assert PruneSpec(sparsity=0.5).label == "Wanda 50%"
    assert PruneSpec(method="magnitude", pattern="2:4").label == "Magnitude 2:4"


def test_only_magnitude_needs_no_calibration():
    assert PruneSpec().needs_calibration
    assert not PruneSpec(method="magnitude").needs_calibration


def test_an_input_error_is_a_value_error_and_a_wanda_error():
    assert issubclass(InputError, ValueError)
    assert issubclass(InputError, WandaError)
