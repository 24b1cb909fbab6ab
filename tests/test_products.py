"""Products by oneDNN: bit for bit torch's own, or not used at all."""

import math

import pytest
import torch
from torch.nn.functional import linear

from wanda_core import products
from wanda_core.products import Sooner, matmul


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    monkeypatch.setattr(products, "_once", set())
    monkeypatch.setattr(products, "_ends", {})


@pytest.fixture
def pays(monkeypatch):
    monkeypatch.setattr(products, "_pays", lambda threads: True)


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def known():
    (ends,) = products._ends.values()
    return ends


SHAPES = [((2, 128, 576), 192), ((300, 576), 96), ((70, 100), 30), ((64, 256), 64), ((64, 1536), 64), ((64, 201), 7)]


@pytest.mark.parametrize(("shape", "outputs"), SHAPES)
@pytest.mark.parametrize("with_bias", [False, True])
@torch.no_grad()
def test_every_product_has_torchs_own_bits_from_the_first_on(pays, shape, outputs, with_bias):
    W, bias = drawn(outputs, shape[-1], seed=1), drawn(outputs, seed=2) if with_bias else None
    for seed in range(4):
        x = drawn(*shape, seed=seed + 10)
        assert torch.equal(products.linear(x, W, bias), linear(x, W, bias))
    assert len(products._ends) == 1


SPECIAL = {
    "zeros": lambda x: x * 0,
    "few that are not zero": lambda x: x * (x > 2),
    "denormals": lambda x: x * 1e-42,
    "overflow": lambda x: x * 1e38,
    "infinities": lambda x: x.masked_fill(x > 3, math.inf),
}


@pytest.mark.parametrize("name", SPECIAL)
@torch.no_grad()
def test_numbers_at_the_edge_keep_their_bits(pays, name):
    """Shapes are tried on ordinary numbers; the others must not differ."""
    W = drawn(40, 576, seed=1)
    for seed in range(3):
        x = SPECIAL[name](drawn(100, 576, seed=seed + 10))
        found, own = products.linear(x, W), linear(x, W)
        assert torch.equal(found.isnan(), own.isnan())
        assert torch.equal(found.nan_to_num().view(torch.int32), own.nan_to_num().view(torch.int32))


@torch.no_grad()
def test_a_product_of_matrices_stored_by_columns_has_torchs_own_bits_too(pays):
    for seed in range(3):
        x, y = drawn(256, 96, seed=seed), drawn(256, 80, seed=seed + 5)
        assert torch.equal(matmul(x.t(), y), x.t() @ y)


@torch.no_grad()
def test_only_pieces_with_equal_bits_are_trusted(pays, monkeypatch):
    """A oneDNN that sums as torch does must be handed whole rows; one that sums otherwise is never used."""
    x, W = drawn(80, 640), drawn(48, 640, seed=1)
    calls = []

    def like_torch(x, W, bias, *rest):
        calls.append(x.shape[1])
        return linear(x, W, bias)

    monkeypatch.setattr(products, "_onednn", like_torch)
    for _ in range(3):
        assert torch.equal(products.linear(x, W), linear(x, W))
    assert known()[-1] == 640
    assert sum(calls[-len(known()) :]) == 640

    products._ends.clear()
    monkeypatch.setattr(products, "_onednn", lambda x, W, bias, *rest: linear(x.double(), W.double()).float())
    for _ in range(3):
        assert torch.equal(products.linear(x, W), linear(x, W))
    assert known() is None


def test_where_it_takes_as_long_torch_does_it(monkeypatch):
    monkeypatch.setattr(products, "_pays", lambda threads: False)
    monkeypatch.setattr(products, "_onednn", lambda *args: pytest.fail("not worth it"))
    x, W = drawn(80, 64), drawn(48, 64)
    assert all(torch.equal(products.linear(x, W), linear(x, W)) for _ in range(3))


def test_a_torch_whose_function_takes_other_things_multiplies_by_itself(monkeypatch):
    def other(*args):
        raise TypeError("other arguments")

    monkeypatch.setattr(products, "_onednn", other)
    products._pays.cache_clear()
    x, W = drawn(80, 64), drawn(48, 64)
    assert all(torch.equal(products.linear(x, W), linear(x, W)) for _ in range(3))
    products._pays.cache_clear()


@pytest.mark.parametrize(
    ("x", "W"),
    [
        (drawn(80, 64).double(), drawn(48, 64).double()),
        (drawn(80, 64).bfloat16(), drawn(48, 64).bfloat16()),
        (drawn(3, 64), drawn(48, 64)),
        (drawn(64), drawn(48, 64)),
        (drawn(80, 64), drawn(1, 64)),
        (drawn(80, 0), drawn(48, 0)),
        (drawn(64).expand(80, 64), drawn(48, 64)),
        (drawn(80, 64).requires_grad_(), drawn(48, 64)),
    ],
    ids=["float64", "bfloat16", "few rows", "a vector", "one output", "no inputs", "one row", "a gradient is wanted"],
)
def test_what_does_not_fit_is_left_to_torch(pays, monkeypatch, x, W):
    monkeypatch.setattr(products, "_onednn", lambda *args: pytest.fail("left to torch"))
    for _ in range(3):
        assert torch.equal(products.linear(x, W), linear(x, W))


@torch.no_grad()
def test_a_shape_is_tried_when_it_comes_again_and_only_so_many_are_remembered(pays, monkeypatch):
    monkeypatch.setattr(products, "MOST_SHAPES", 2)
    for rows in (64, 65, 66, 66):
        products.linear(drawn(rows, 32), drawn(8, 32))
    assert not products._ends
    products.linear(drawn(65, 32), drawn(8, 32))
    assert len(products._ends) == 1


@torch.no_grad()
def test_a_model_inside_gives_the_bits_it_gives_outside(pays, tiny_llama, tiny_opt):
    for lm in (tiny_llama, tiny_opt):
        ids = torch.arange(96, device=lm.device)[None] % 64
        outside = lm.model(ids, use_cache=False).logits
        for _ in range(3):
            with Sooner():
                assert torch.equal(lm.model(ids, use_cache=False).logits, outside)
        assert (lm.device.type == "cpu") == bool(products._ends)


@pytest.mark.skipif(not products._pays(torch.get_num_threads()), reason="torch's own products are as fast here")
@torch.no_grad()
def test_where_it_pays_it_is_used_for_the_built_in_models_shapes(monkeypatch):
    x = drawn(1024, 576)
    for outputs in (192, 576, 1536):
        products._once.clear()
        products._ends.clear()
        W = drawn(outputs, 576, seed=1)
        for _ in range(3):
            assert torch.equal(products.linear(x, W), linear(x, W))
        assert known() is not None
