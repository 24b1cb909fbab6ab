"""Sequences share a call only where no bit changes."""

import pytest
import torch
from torch import nn

from wanda_core.calibration.batching import BATCH_TOKENS, Batches, batched, regrouped, same_bits, singly
from wanda_core.model.block_calls import BlockCall
from wanda_core.model.linears import Linear


class Block(nn.Module):
    """One linear, and a twist that some blocks have."""

    def __init__(self, twist):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.twist = twist

    def forward(self, x, **kwargs):
        return self.twist(self.linear, x, **kwargs)


def plain(linear, x):
    return linear(x)


def mixing(linear, x):
    return linear(x - x.mean(dim=0, keepdim=True) / 2)  # sequences see each other


def flat(linear, x):
    return linear(x.reshape(-1, 4)).reshape(x.shape)


def routed(linear, x):
    tokens = x.reshape(-1, 4)
    chosen = tokens[:, 0] > 0  # an expert's tokens: how many depends on the values
    out = tokens.clone()
    out[chosen] = linear(tokens[chosen])
    return out.reshape(x.shape)


def masked(linear, x, mask):
    return linear(x).reshape(1, -1, 4) * mask  # a mask that fits one sequence only


def parts(twist, n=3, **kwargs):
    torch.manual_seed(0)
    block = Block(twist)
    hidden = [torch.randn(1, 5, 4) for _ in range(n)]
    return block, BlockCall((), kwargs), [Linear("b.linear", "linear", 0, block.linear)], hidden


@pytest.mark.parametrize(("twist", "same"), [(plain, True), (flat, True), (mixing, False), (routed, False)])
def test_a_shared_call_is_trusted_only_when_its_bits_are_equal(twist, same):
    assert same_bits(*parts(twist)) is same


def test_an_argument_that_fits_one_sequence_only_is_no_error():
    assert same_bits(*parts(masked, mask=torch.ones(1, 5, 4))) is False


def test_a_block_that_fails_on_its_own_still_fails():
    with pytest.raises(RuntimeError):
        same_bits(*parts(masked, mask=torch.ones(1, 7, 4)))


def test_every_shape_of_block_is_tried_once_and_long_sequences_not_at_all():
    batches = Batches()
    block, call, linears, hidden = parts(plain)
    assert batches.size(block, call, linears, hidden) == 3
    assert len(batches.tried) == 1
    assert batches.size(block, call, linears, hidden) == 3
    assert len(batches.tried) == 1
    long = [torch.zeros(1, BATCH_TOKENS // 2 + 1, 4)] * 2
    assert batches.size(block, call, linears, long) == 1
    assert len(batches.tried) == 1


def test_batches_keep_the_order_and_leave_the_rest_alone():
    hidden = [torch.full((1, 2, 1), float(i)) for i in range(7)]
    sizes = [len(x) for x in batched(hidden, 3)]
    assert sizes == [3, 3, 1]
    assert torch.equal(torch.cat(list(batched(hidden, 3))), torch.cat(hidden))
    assert [len(x) for x in batched(hidden, 1)] == [1] * 7


def test_calls_that_come_in_the_right_size_are_not_copied():
    calls = [torch.arange(24.0).reshape(3, 2, 4), torch.ones(1, 2, 4)]
    assert regrouped(calls, 3) is calls
    assert [len(x) for x in regrouped(calls, 2)] == [2, 2]
    assert [len(x) for x in regrouped(calls, 1)] == [1, 1, 1, 1]
    for size in (1, 2, 3, 4):
        assert torch.equal(torch.cat(regrouped(calls, size)), torch.cat(calls))
    assert all(one.data_ptr() == calls[0][i].data_ptr() for i, one in enumerate(singly(calls)[:3]))
