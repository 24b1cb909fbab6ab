"""Input norms by hand, as the published code accumulates them, and replaying blocks as the model calls them."""

import copy

import pytest
import torch
from torch import nn
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

from wanda_core.calibration.input_norms import InputNorms, column_squares
from wanda_core.calibration.norm_recorder import NormRecorder
from wanda_core.errors import ModelError
from wanda_core.model.block_calls import StopForward, block_calls, hidden_states
from wanda_core.model.linears import Linear, decoder_blocks


def norms_of(recorder):
    return {name: found.norms for name, found in recorder.input_norms().items()}


def test_column_squares_by_hand(device):
    x = torch.tensor([[[3.0, 0.0, 1.0], [4.0, 0.0, -1.0]]], device=device)
    assert column_squares(x)[0].tolist() == pytest.approx([25.0, 0.0, 2.0], rel=1e-6)
    assert torch.equal(column_squares(x), column_squares(x[0]))


def test_float16_inputs_above_256_do_not_overflow(device):
    x = torch.full((1, 4, 2), 1000.0, dtype=torch.float16, device=device)
    squares = column_squares(x)
    assert squares.dtype == torch.float32
    assert squares[0].tolist() == pytest.approx([4e6, 4e6])


@pytest.mark.parametrize("size", [(1, 256, 576), (4, 33, 20), (3, 7, 8), (2, 5, 3), (2, 1, 1)])
def test_squares_of_several_sequences_are_those_of_each_bit_for_bit(size, device):
    x = torch.randn(size, generator=torch.Generator().manual_seed(5)).to(device) * 30
    together = column_squares(x, size[0])
    for sample, found in zip(x, together, strict=True):
        assert torch.equal(found, column_squares(sample)[0])
        if device.type == "cpu":
            assert torch.equal(found, torch.norm(sample.t(), p=2, dim=1) ** 2)
    assert torch.equal(together, column_squares(x.flatten(0, 1), size[0]))  # OPT flattens before its MLP


def test_the_mean_counts_sequences_not_tokens():
    running = InputNorms(torch.zeros(2))
    running.add(torch.tensor([[8.0, 0.0]]))
    assert running.squares.tolist() == [8.0, 0.0]
    running.add(torch.tensor([[0.0, 4.0], [2.0, 2.0]]))
    assert running.squares.tolist() == pytest.approx([10 / 3, 2.0])
    assert running.n == 3
    assert torch.equal(running.norms, torch.sqrt(running.squares))


def test_the_running_mean_is_the_published_codes_bit_for_bit(device):
    samples = torch.randn(7, 33, 20, generator=torch.Generator().manual_seed(2)).to(device)
    s = torch.zeros(20, device=device)
    running = InputNorms(torch.zeros(20, device=device))
    for n, x in enumerate(samples):
        s *= n / (n + 1)
        s += torch.norm(x.t(), p=2, dim=1) ** 2 / (n + 1)
        running.add(column_squares(x[None]))
    if device.type == "cpu":
        assert torch.equal(running.squares, s)
    else:  # a GPU sums rows and columns in another order
        assert torch.allclose(running.squares, s, rtol=1e-6)
    closed = samples.double().pow(2).sum(dim=(0, 1)) / 7
    assert torch.allclose(running.squares.double(), closed, rtol=1e-5)


class Pair(nn.Module):
    """Two linears that read the same tensor, then one that reads their sum."""

    def __init__(self, between=lambda x: None):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2)
        self.between = between

    def forward(self, x):
        left = self.a(x)
        self.between(x)
        return self.c(left + self.b(x))


def recorder_of(module: nn.Module) -> NormRecorder:
    return NormRecorder([Linear(name, name, 0, child) for name, child in module.named_children()])


def without_hooks(module: nn.Module) -> bool:
    return not any(m._forward_pre_hooks or m._forward_hooks for m in module.modules())


@torch.no_grad()
def test_a_recorder_sees_every_input_and_leaves_no_hook(device):
    pair, x = Pair().to(device), torch.randn(2, 1, 5, 3).to(device)
    recorder = recorder_of(pair)
    with recorder.recording():
        pair(x[0])
        pair(x[1])
    assert without_hooks(pair)
    norms = norms_of(recorder)
    expected = (x.double() ** 2).sum(dim=(0, 1, 2)).div(2).sqrt()
    assert torch.allclose(norms["a"].double(), expected)
    assert torch.equal(norms["a"], norms["b"])
    assert recorder.calls == ["a", "b", "c"] * 2


@torch.no_grad()
def test_a_tensor_changed_in_place_is_measured_again(device):
    pair = Pair(between=lambda x: x.mul_(2)).to(device)
    recorder = recorder_of(pair)
    with recorder.recording():
        pair(torch.ones(1, 4, 3, device=device))
    norms = norms_of(recorder)
    assert norms["a"].tolist() == pytest.approx([2.0] * 3)
    assert norms["b"].tolist() == pytest.approx([4.0] * 3)


def test_hooks_are_gone_after_a_pass_that_fails():
    def fail(x):
        raise RuntimeError("broken")

    pair = Pair(between=fail)
    recorder = recorder_of(pair)
    with pytest.raises(RuntimeError, match="broken"), recorder.recording():
        pair(torch.ones(1, 4, 3))
    assert without_hooks(pair)


@torch.no_grad()
def test_later_passes_end_at_the_last_linear_with_the_same_norms():
    pair, x = Pair(), torch.randn(3, 1, 5, 3)
    whole, short = recorder_of(pair), recorder_of(pair)
    with whole.recording():
        for sample in x:
            pair(sample)
    ended = 0
    with short.recording():
        for sample in x:
            try:
                pair(sample)
            except StopForward:
                ended += 1
            else:
                short.stop_at_last_call()
    assert ended == 2
    for name, norm in norms_of(whole).items():
        assert torch.equal(norm, norms_of(short)[name])
    short.stop_before = None
    with short.recording():
        pair(x[0])


@torch.no_grad()
def test_a_linear_called_twice_is_never_cut_short():
    pair = Pair()
    recorder = recorder_of(pair)
    with recorder.recording():
        pair(torch.ones(1, 2, 3))
        pair(torch.ones(1, 2, 3))
        recorder.stop_at_last_call()
        pair(torch.ones(1, 2, 3))
    assert recorder.stats["c"].n == 3


def test_a_linear_that_was_never_reached_is_named():
    with pytest.raises(ModelError, match="a never received an input"):
        norms_of(recorder_of(Pair()))


@torch.no_grad()
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_inputs_that_are_not_finite_are_named(bad):
    pair = Pair()
    recorder = recorder_of(pair)
    with recorder.recording():
        pair(torch.tensor([[[1.0, bad, 0.0]]]))
    with pytest.raises(ModelError, match="the inputs of a are not finite"):
        norms_of(recorder)


@pytest.fixture(scope="module")
def tiny_gemma(device, tokenizer):
    """Sliding and full attention take turns, each with a mask and rotary embeddings of its own."""
    config = Gemma3TextConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=4,
        layer_types=["sliding_attention", "full_attention"] * 2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        sliding_window=8,
        max_position_embeddings=64,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    return Gemma3ForCausalLM(config).eval().to(device)


@torch.no_grad()
@pytest.mark.parametrize("which", ["tiny_llama", "tiny_gpt2", "tiny_opt", "tiny_gemma"])
def test_replayed_blocks_give_the_models_own_hidden_states(request, device, which):
    lm = request.getfixturevalue(which)
    model = lm if isinstance(lm, nn.Module) else lm.model
    _, blocks = decoder_blocks(model)
    ids = torch.randint(1, 200, (3, 24), generator=torch.Generator().manual_seed(0)).to(device)
    calls, hidden = block_calls(model, blocks, ids)
    assert len(calls) == len(blocks)
    assert [tuple(h.shape[:2]) for h in hidden] == [(1, 24)] * 3
    assert without_hooks(model)
    other = copy.deepcopy(model)  # transformers leaves hooks of its own where hidden states were asked for
    for sample, entered in zip(ids, hidden, strict=True):
        states = other(sample[None], use_cache=False, output_hidden_states=True).hidden_states
        assert torch.equal(entered, states[0])
        for call, block, after in zip(calls[:-1], blocks, states[1:], strict=False):
            entered = call.run(block, entered)
            assert torch.equal(entered, after)


def test_no_live_cache_is_captured(tiny_llama, device):
    _, blocks = decoder_blocks(tiny_llama.model)
    for call in block_calls(tiny_llama.model, blocks, torch.ones(1, 8, dtype=torch.int64, device=device))[0]:
        assert call.kwargs.get("past_key_values") is None
        assert not call.kwargs.get("use_cache")


def test_a_block_that_is_skipped_is_named(own_llama, device):
    _, blocks = decoder_blocks(own_llama.model)
    unused = nn.ModuleList([*blocks[:2], copy.deepcopy(blocks[2])])
    with pytest.raises(ModelError, match="block 2 was never called"):
        block_calls(own_llama.model, unused, torch.ones(1, 8, dtype=torch.int64, device=device))


def test_a_blocks_output_is_a_tensor_or_the_first_of_a_tuple():
    out = torch.ones(1, 2, 3)
    assert hidden_states(out) is out
    assert hidden_states((out, None)) is out
    assert hidden_states([out]) is out
