"""The streams of a model that carries several, laid side by side and given back: worked by hand."""

from types import SimpleNamespace

import pytest
import torch
from architectures import tiny_config
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from wanda_core.errors import ModelError
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.streams import as_given, side_by_side, stream_count

# Two tokens, three streams of two channels: token t has 10·t + stream, and + 0.5 in the second channel.
TOKENS = torch.tensor([[[0.0, 0.5, 1.0, 1.5, 2.0, 2.5], [10.0, 10.5, 11.0, 11.5, 12.0, 12.5]]])  # (1, 2, 6)
STREAM_FIRST = torch.tensor(
    [[[[0.0, 0.5], [10.0, 10.5]]], [[[1.0, 1.5], [11.0, 11.5]]], [[[2.0, 2.5], [12.0, 12.5]]]]
)  # (3, 1, 2, 2)
TOKEN_FIRST = torch.tensor([[[[0.0, 0.5], [1.0, 1.5], [2.0, 2.5]], [[10.0, 10.5], [11.0, 11.5], [12.0, 12.5]]]])


@pytest.mark.parametrize("hidden", [TOKENS, STREAM_FIRST, TOKEN_FIRST], ids=["flat", "stream first", "token first"])
def test_streams_stand_one_after_the_other_and_go_back_to_where_they_were(hidden):
    assert torch.equal(side_by_side(hidden, 2, 3), TOKENS)
    assert torch.equal(as_given(TOKENS, hidden), hidden)


def test_one_token_or_as_many_as_streams_are_not_mistaken():
    for length in (1, 2, 3, 4):
        whole = torch.randn(1, length, 6, generator=torch.Generator().manual_seed(length))
        for given in (whole.unflatten(2, (3, 2)), whole.unflatten(2, (3, 2)).permute(2, 0, 1, 3)):
            assert torch.equal(side_by_side(given, 2, 3), whole)
            assert torch.equal(as_given(whole, given), given)


def test_one_stream_is_handed_on_as_it_is():
    hidden = torch.randn(2, 5, 6)
    assert side_by_side(hidden, 6, 1) is hidden
    assert as_given(hidden, hidden) is hidden


@pytest.mark.parametrize("shape", [(1, 4, 3), (4, 6), (2, 1, 4, 2), (2, 4, 3, 2), (1, 4, 3, 2, 1), (3, 1, 4, 3)])
def test_another_shape_is_refused(shape):
    with pytest.raises(ModelError, match="is not known, so no channel"):
        side_by_side(torch.zeros(shape), 2, 3)


def test_the_configuration_says_how_many_there_are():
    counts = {name: stream_count(tiny_config(name, 320)) for name in ("gemma3n_text", "deepseek_v4", "llama")}
    assert counts == {"gemma3n_text": 4, "deepseek_v4": 4, "llama": 1}
    assert stream_count(tiny_config("qwen4_exp", 320).get_text_config()) == 4
    for odd in ("4", None, True, 0, 1, [4], 4.0):
        assert stream_count(SimpleNamespace(hc_mult=odd)) == 1


def test_the_width_is_that_of_the_part_that_holds_the_blocks():
    """BLT's blocks are wider than the bytes that it embeds; most models have one part, or text in a part of its own."""
    sizes = {"blt": (1024, 2048), "gemma3": (2304, 2304), "gpt2": (768, 768), "opt": (768, 768)}
    for name, (embedded, width) in sizes.items():
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[name]())
        assert model.get_input_embeddings().weight.shape[1] == embedded
        lm = LanguageModel(model, None, "tiny", "local")
        assert (lm.width, lm.stream_width, lm.one_stream) == (width, width, True)
