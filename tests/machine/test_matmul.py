"""Products by oneDNN: bit for bit torch's own, or not used at all."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import linear

from wanda_core.machine import matmul as matmul_module
from wanda_core.machine.matmul import FasterLinear, matmul


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    monkeypatch.setattr(matmul_module, "_ends", {})


@pytest.fixture
def pays(monkeypatch):
    if matmul_module._onednn is None:
        pytest.skip("this torch carries no oneDNN")
    monkeypatch.setattr(matmul_module, "_pays", lambda threads: True)


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def known():
    (ends,) = matmul_module._ends.values()
    return ends


SHAPES = [((2, 128, 576), 192), ((300, 576), 96), ((70, 100), 30), ((64, 256), 64), ((64, 1536), 64), ((64, 201), 7)]


@pytest.mark.parametrize(("shape", "outputs"), SHAPES)
@pytest.mark.parametrize("with_bias", [False, True])
@torch.no_grad()
def test_every_product_has_torchs_own_bits_from_the_first_on(pays, shape, outputs, with_bias):
    W, bias = drawn(outputs, shape[-1], seed=1), drawn(outputs, seed=2) if with_bias else None
    for seed in range(4):
        x = drawn(*shape, seed=seed + 10)
        assert torch.equal(matmul_module.linear(x, W, bias), linear(x, W, bias))
    assert len(matmul_module._ends) == 1


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
        found, own = matmul_module.linear(x, W), linear(x, W)
        assert torch.equal(found.isnan(), own.isnan())
        assert torch.equal(found.nan_to_num().view(torch.int32), own.nan_to_num().view(torch.int32))


@torch.no_grad()
def test_a_product_of_matrices_stored_by_columns_has_torchs_own_bits_too(pays):
    for seed in range(3):
        x, y = drawn(256, 96, seed=seed), drawn(256, 80, seed=seed + 5)
        assert torch.equal(matmul_module.linear(x.t(), y.t()), x.t() @ y)


@torch.no_grad()
@pytest.mark.parametrize(("m", "k", "n"), [(200, 576, 96), (64, 1, 2), (3, 50, 70), (100, 700, 1)])
def test_what_is_solved_is_multiplied_the_same_way_every_time(m, k, n):
    A, B = drawn(m, k), drawn(k, n, seed=1)
    found = matmul(A, B)
    assert torch.allclose(found.double(), A.double() @ B.double(), atol=1e-4 * k**0.5)
    assert all(torch.equal(matmul(A, B), found) for _ in range(2))
    assert torch.equal(matmul(A.double(), B.double()), A.double() @ B.double())


@torch.no_grad()
def test_only_pieces_with_equal_bits_are_trusted(pays, monkeypatch):
    """A oneDNN that takes whole rows alone is given whole rows; one that sums otherwise is never used."""
    x, W = drawn(80, 640), drawn(48, 640, seed=1)

    def whole_rows(x, W, bias, *rest):
        return linear(x, W, bias) if x.shape[1] == 640 else torch.zeros(len(x), len(W))

    monkeypatch.setattr(matmul_module, "_onednn", whole_rows)
    for _ in range(3):
        assert torch.equal(matmul_module.linear(x, W), linear(x, W))
    assert known() == [640]

    matmul_module._ends.clear()
    monkeypatch.setattr(matmul_module, "_onednn", lambda x, W, bias, *rest: linear(x.double(), W.double()).float())
    for _ in range(3):
        assert torch.equal(matmul_module.linear(x, W), linear(x, W))
    assert known() is None


def test_where_it_takes_as_long_torch_does_it(monkeypatch):
    monkeypatch.setattr(matmul_module, "_pays", lambda threads: False)
    monkeypatch.setattr(matmul_module, "_onednn", lambda *args: pytest.fail("not worth it"))
    x, W = drawn(80, 64), drawn(48, 64)
    assert all(torch.equal(matmul_module.linear(x, W), linear(x, W)) for _ in range(3))


def test_a_product_that_onednn_refuses_is_torchs(pays, monkeypatch):
    def refuses(*args):
        raise RuntimeError("not such a layout")

    monkeypatch.setattr(matmul_module, "_onednn", refuses)
    x, W = drawn(80, 64), drawn(48, 64)
    assert all(torch.equal(matmul_module.linear(x, W), linear(x, W)) for _ in range(3))


@pytest.mark.parametrize("function", [None, lambda x, W: x, lambda *args: args[0] * 2])
def test_a_torch_without_this_function_multiplies_by_itself(monkeypatch, function):
    default = None if function is None else SimpleNamespace(default=function)
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", default)
    assert matmul_module._onednn_linear() is None


def test_the_environment_can_leave_everything_to_torch(monkeypatch):
    monkeypatch.setenv("WANDA_ONEDNN", "0")
    assert matmul_module._onednn_linear() is None
    monkeypatch.setattr(matmul_module, "_onednn", None)
    matmul_module._pays.cache_clear()
    assert not matmul_module._pays(torch.get_num_threads())
    matmul_module._pays.cache_clear()
    x, W = drawn(80, 64), drawn(48, 64)
    assert torch.equal(matmul(x, W.t()), x @ W.t())
    assert all(torch.equal(matmul_module.linear(x, W), linear(x, W)) for _ in range(3))


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
    monkeypatch.setattr(matmul_module, "_onednn", lambda *args: pytest.fail("left to torch"))
    for _ in range(3):
        assert torch.equal(matmul_module.linear(x, W), linear(x, W))


@torch.no_grad()
def test_a_shape_is_tried_when_it_comes_again_and_the_latest_are_remembered(pays, monkeypatch):
    monkeypatch.setattr(matmul_module, "MOST_SHAPES", 2)

    def tried():
        return [shape[0][0] for shape, ends in matmul_module._ends.items() if ends != []]

    for rows in (64, 65, 65):
        matmul_module.linear(drawn(rows, 32), drawn(8, 32))
    assert tried() == [65]
    for rows in (66, 67):
        matmul_module.linear(drawn(rows, 32), drawn(8, 32))
    assert [shape[0][0] for shape in matmul_module._ends] == [66, 67]
    assert tried() == []


@torch.no_grad()
def test_what_begins_inside_a_cache_line_is_tried_on_what_does_so_too(pays, monkeypatch):
    shown = []
    draw = matmul_module._random_like
    monkeypatch.setattr(
        matmul_module, "_random_like", lambda x, generator: shown.append(draw(x, generator)) or shown[-1]
    )
    W = drawn(40 * 96 + 16)[10 : 10 + 40 * 96].view(40, 96)
    for seed in range(3):
        x = drawn(96, 80, seed=seed).t()
        assert torch.equal(matmul_module.linear(x, W), linear(x, W))
    assert [one.stride() for one in shown] == [(1, 80), (96, 1)]
    assert shown[1].data_ptr() % 64 == W.data_ptr() % 64 == 40


@torch.no_grad()
def test_other_defaults_of_torch_change_nothing(pays):
    x, W = drawn(80, 64), drawn(48, 64)
    own = linear(x, W)
    torch.set_default_dtype(torch.float64)
    try:
        assert all(torch.equal(matmul_module.linear(x, W), own) for _ in range(3))
    finally:
        torch.set_default_dtype(torch.float32)


@torch.no_grad()
def test_a_model_inside_gives_the_bits_it_gives_outside(pays, tiny_llama, tiny_opt):
    for lm in (tiny_llama, tiny_opt):
        ids = torch.arange(96, device=lm.device)[None] % 64
        outside = lm.model(ids, use_cache=False).logits
        for _ in range(3):
            with FasterLinear():
                assert torch.equal(lm.model(ids, use_cache=False).logits, outside)
        assert (lm.device.type == "cpu") == any(ends != [] for ends in matmul_module._ends.values())


@torch.no_grad()
def test_where_it_pays_it_is_used_for_the_built_in_models_shapes():
    if not matmul_module._pays(torch.get_num_threads()):
        pytest.skip("torch's own products are as fast here")
    x = drawn(1024, 576)
    for outputs in (192, 576, 1536):
        matmul_module._ends.clear()
        W = drawn(outputs, 576, seed=1)
        for _ in range(3):
            assert torch.equal(matmul_module.linear(x, W), linear(x, W))
        if known() is None:
            pytest.skip("no pieces that are tried give torch's bits here")
