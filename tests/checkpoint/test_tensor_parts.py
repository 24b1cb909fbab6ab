"""Parts of tensors: together they are the tensor, of a parameter, a view of one, or what pruning left of either."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from wanda_core.checkpoint.tensor_parts import InFile, InModel, parts_of
from wanda_core.model.stored_tensors import StoredTensor
from wanda_core.pruning.packed import PackedParameter, pack_parameter, packed_bits

SHAPES = st.lists(st.integers(0, 7), max_size=4).map(tuple)
MOST = st.integers(1, 40)


def joined(parts):
    return torch.cat([torch.as_tensor(part).reshape(-1) for part in parts])


def test_a_small_tensor_is_one_part_and_a_large_one_goes_by_rows():
    assert list(parts_of((2, 3), 6)) == [()]
    assert list(parts_of((5, 3), 7)) == [(slice(0, 2),), (slice(2, 4),), (slice(4, 5),)]
    assert list(parts_of((2, 2, 3), 3)) == [(0, slice(0, 1)), (0, slice(1, 2)), (1, slice(0, 1)), (1, slice(1, 2))]
    assert list(parts_of((1, 4), 2)) == [(0, slice(0, 2)), (0, slice(2, 4))]


@given(SHAPES, MOST)
def test_parts_follow_each_other_in_the_order_of_the_numbers_and_none_is_too_large(shape, most):
    numbers = torch.arange(math.prod(shape)).reshape(shape)
    parts = [numbers[part] for part in parts_of(shape, most)]
    assert all(part.numel() <= most for part in parts)
    assert torch.equal(joined(parts), numbers.reshape(-1))


def views(parameter):
    """Views as experts are stored one by one: a slice, a half of one, one turned round, a diagonal block of columns."""
    experts, rows, columns = parameter.shape
    half = rows // 2
    return [
        parameter,
        parameter[experts - 1],
        parameter[0, :half],
        parameter[experts - 1, half:].t(),
        parameter.transpose(1, 2),
        parameter[:, :, columns // 2 :],
        parameter[0, 0, 0],
    ]


@given(st.tuples(*[st.integers(1, 6)] * 3), MOST, st.integers(0, 2**30), st.booleans())
def test_what_pruning_left_is_read_part_by_part_also_through_a_view(shape, most, seed, changes):
    generator = torch.Generator().manual_seed(seed)
    dense = torch.randn(shape, generator=generator) + 3
    kept = torch.rand(shape, generator=generator) > 0.5
    pruned = dense * kept * (2 if changes else 1)
    packed = PackedParameter(shape, dense.dtype, None, pruned) if changes else pack_parameter(dense, pruned)
    layouts = views(torch.empty(shape, device="meta"))
    for layout, expected, plain in zip(layouts, views(pruned), views(dense), strict=True):
        parts = list(parts_of(tuple(layout.shape), most))
        for held, wanted in ((InModel(dense, layout, packed), expected), (InModel(dense, layout), plain)):
            found = list(held.read(parts))
            assert torch.equal(joined(found), wanted.reshape(-1))
            assert all(part.dtype == dense.dtype for part in found)
    assert float(InModel.whole(dense, packed).largest) >= float(pruned.abs().max())


def test_a_parameter_that_lies_in_another_order_is_read_as_it_is_seen():
    dense = torch.randn(6, 5).t()
    packed = pack_parameter(dense, dense * (dense > 0))
    parts = list(parts_of((5, 6), 7))
    assert torch.equal(joined(InModel.whole(dense, packed).read(parts)), (dense * (dense > 0)).reshape(-1))
    assert torch.equal(joined(InModel.whole(dense).read(parts)), dense.reshape(-1))


@pytest.mark.parametrize("count", [1, 7, 8, 9, 17, 64])
def test_bits_of_a_part_that_begins_inside_a_byte(count):
    kept = torch.arange(count) % 3 != 0
    packed = PackedParameter((count,), torch.float32, packed_bits(kept), None)
    layout = torch.empty(count, device="meta")
    for start in range(count):
        for stop in range(start, count + 1):
            assert torch.equal(packed.kept_at(layout[start:stop]), kept[start:stop])
    assert torch.equal(packed.kept_at(layout[::3]), kept[::3])


@given(SHAPES.filter(lambda shape: 0 not in shape), MOST)
def test_a_tensor_in_a_file_is_read_part_by_part(tmp_path_factory, shape, most):
    file = tmp_path_factory.mktemp("file") / "model.safetensors"
    numbers = torch.arange(float(math.prod(shape))).reshape(shape)
    save_file({"numbers": numbers}, file)
    stored = StoredTensor(file, "F32", shape)
    assert torch.equal(joined(InFile("numbers", stored).read(parts_of(shape, most))), numbers.reshape(-1))
