"""Weights that read a channel, taken away together: against the same weights set to zero in a copy of the model."""

import copy

import pytest
import torch

from wanda_core.errors import InputError
from wanda_core.outliers.ablation import Ablation, ablated
from wanda_core.outliers.readers import unread
from wanda_core.outliers.sentence import attention_to_first, read_sentence

KINDS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj")


@torch.no_grad()
def test_it_is_the_model_without_those_columns(tiny_llama):
    ids = torch.tensor([tiny_llama.encode("The sky is blue because sunlight is scattered.")], device=tiny_llama.device)
    other = copy.deepcopy(tiny_llama.model)
    for block in other.model.layers:
        for kind in KINDS:
            block.get_submodule(kind).weight[:, 5] = 0
    dense = tiny_llama.model(ids, use_cache=False).logits
    with unread(tiny_llama, 5, KINDS):
        without = tiny_llama.model(ids, use_cache=False).logits
    assert torch.allclose(without, other(ids, use_cache=False).logits, atol=1e-5)
    assert not torch.allclose(without, dense, atol=1e-5)
    assert torch.equal(tiny_llama.model(ids, use_cache=False).logits, dense)


@pytest.mark.parametrize("channel", [-1, 64, True, "5", None])
def test_a_channel_that_is_not_there_is_refused(tiny_llama, channel):
    with pytest.raises(InputError, match="channels 0 to 63"), unread(tiny_llama, channel, KINDS):
        pass


def test_a_model_whose_stream_nothing_reads_is_refused(tiny_llama):
    with pytest.raises(InputError, match="choose another model"), unread(tiny_llama, 5, ()):
        pass


def test_attention_in_one_pass_is_that_of_the_walk_and_changes_with_the_model(tiny_llama):
    text = "The sky is blue because sunlight is scattered by the air."
    plain = attention_to_first(tiny_llama, text)
    assert torch.allclose(plain, read_sentence(tiny_llama, text).to_first, atol=1e-5)
    off = attention_to_first(tiny_llama, text, lambda: ablated(tiny_llama, Ablation((5,), tokens="first")))
    assert torch.equal(off[0], plain[0])  # the first block reads what no block has changed yet
    assert not torch.allclose(off[1:], plain[1:], atol=1e-6)
