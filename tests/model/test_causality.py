"""Masked language models are refused, and no causal one is."""

import copy

import pytest
import torch
import transformers
from architectures import tiny_model
from families import FAMILIES, tiny
from torch import nn

from wanda_core.errors import ModelError
from wanda_core.low_memory.model_on_disk import open_model
from wanda_core.model import causality
from wanda_core.model.block_calls import BlockCall
from wanda_core.model.blocks import check_replay
from wanda_core.model.causality import check_causal, check_first_block_causal
from wanda_core.model.linears import decoder_blocks
from wanda_core.model.loading import load_model

BERT = {
    "vocab_size": 320,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
XLNET = {"vocab_size": 320, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48}
LOOK_AHEAD = {
    "BertForMaskedLM": transformers.BertConfig(**BERT),
    "BertForPreTraining": transformers.BertConfig(**BERT),  # as the published ones: with a head that is not read
    "RobertaForMaskedLM": transformers.RobertaConfig(**BERT),
    "ElectraForMaskedLM": transformers.ElectraConfig(**BERT),
    "BertGenerationDecoder": transformers.BertGenerationConfig(**BERT),
    "XLNetLMHeadModel": transformers.XLNetConfig(**XLNET),
    "XLMWithLMHeadModel": transformers.XLMConfig(vocab_size=320, emb_dim=32, n_layers=2, n_heads=4),
}
LOOK_BACK = {
    "BertLMHeadModel": transformers.BertConfig(**BERT, is_decoder=True),
    "RobertaForCausalLM": transformers.RobertaConfig(**BERT, is_decoder=True),
    "XLNetLMHeadModel": transformers.XLNetConfig(**XLNET, attn_type="uni"),
}


def saved(name, config, tokenizer, folder):
    torch.manual_seed(0)
    getattr(transformers, name)(config).save_pretrained(folder)  # as training begins: small weights
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("load", [load_model, open_model])
@pytest.mark.parametrize("name", LOOK_AHEAD)
def test_a_model_that_reads_later_tokens_is_refused(tokenizer, tmp_path, name, load):
    folder = saved(name, LOOK_AHEAD[name], tokenizer, tmp_path)
    with pytest.raises(ModelError, match=r"reads what comes after a token too, .*choose a causal language model"):
        load(folder, device="cpu", dtype=torch.float32)


@pytest.mark.parametrize("load", [load_model, open_model])
@pytest.mark.parametrize("name", LOOK_BACK)
def test_the_same_kind_that_looks_back_only_loads(tokenizer, tmp_path, name, load):
    folder = saved(name, LOOK_BACK[name], tokenizer, tmp_path)
    assert load(folder, device="cpu", dtype=torch.float32).width == 32


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", FAMILIES)
def test_no_causal_family_is_refused(tokenizer, device, family, dtype):
    lm = tiny(family, tokenizer, device)
    model = lm.model.to(dtype)
    check_causal(model, tokenizer, "tiny")
    check_first_block_causal(model, decoder_blocks(model)[1], tokenizer, "tiny")


class LooksAhead(nn.Module):
    """Adds a share of the last hidden state to all."""

    def __init__(self, block, share):
        super().__init__()
        self.block, self.share = block, share

    def forward(self, *args, **kwargs):
        hidden = self.block(*args, **kwargs)
        return hidden + self.share * hidden[:, -1:]


@pytest.mark.parametrize(("share", "refused"), [(0.01, True), (1e-7, False)])
@pytest.mark.parametrize("place", [0, 2])
def test_what_looks_ahead_is_told_from_rounding(own_llama, place, share, refused):
    model, tokenizer = own_llama.model, own_llama.tokenizer
    blocks = decoder_blocks(model)[1]
    blocks[place] = LooksAhead(blocks[place], share)
    if not refused:
        check_causal(model, tokenizer, "tiny")
        return
    with pytest.raises(ModelError, match=r"'tiny' \(llama\) reads what comes after"):
        check_causal(model, tokenizer, "tiny")
    if place == 0:
        with pytest.raises(ModelError, match=r"'tiny' \(llama\) reads what comes after"):
            check_first_block_causal(model, blocks, tokenizer, "tiny")


def test_experts_that_are_chosen_otherwise_by_chance_do_not_refuse_a_model(own_llama, monkeypatch):
    """A first pair of texts that seems to look ahead is not believed before others do."""
    differences, asked = causality._differences, []

    def first_seems_wrong(*given):
        asked.append(given)
        return (1.0, 1.0, 1.0) if len(asked) == 1 else differences(*given)

    monkeypatch.setattr(causality, "_differences", first_seems_wrong)
    check_causal(own_llama.model, own_llama.tokenizer, "tiny")
    assert len(asked) == 2


def test_models_that_tell_no_tokens_apart_and_numbers_that_are_not_finite_pass(own_llama):
    model = own_llama.model
    model.lm_head.weight.zero_()
    check_causal(model, own_llama.tokenizer, "tiny")
    model.lm_head.weight.fill_(float("nan"))
    check_causal(model, own_llama.tokenizer, "tiny")


def test_texts_are_of_ordinary_tokens_and_no_longer_than_the_model_reads(own_llama):
    model = copy.deepcopy(own_llama.model)
    pairs = causality._pairs(model, own_llama.tokenizer)
    assert [tuple(pair.shape) for pair in pairs] == [(2, 7)] * 3
    for pair in pairs:
        assert torch.equal(pair[0, :-1], pair[1, :-1])
        assert pair[0, -1] != pair[1, -1]
        assert 0 not in pair  # the end of a text, and padding
    model.config.max_position_embeddings = 3
    model.config.image_token_id = int(pairs[0][0, 0])
    shorter = causality._pairs(model, own_llama.tokenizer)
    assert all(pair.shape == (2, 3) and pairs[0][0, 0] not in pair for pair in shorter)
    model.set_input_embeddings(nn.Embedding(2, 64))
    assert causality._pairs(model, own_llama.tokenizer) == []


SPENT = [
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:100] . DefaultCPUAllocator: not enough memory: you tried to allocate"),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.00 GiB."),
    MemoryError(),
]


@pytest.mark.parametrize("error", SPENT, ids=lambda error: type(error).__name__)
def test_memory_that_runs_out_is_not_the_models_fault(tiny_llama, tokenizer, monkeypatch, error):
    def spent(*args, **more):
        raise error

    model = copy.deepcopy(tiny_llama.model)
    ids = torch.arange(1, 17)[None]
    monkeypatch.setattr(BlockCall, "run", spent)
    with pytest.raises(type(error)):
        check_replay(model, decoder_blocks(model)[1], ids)
    monkeypatch.setattr(model, "forward", spent)
    with pytest.raises(
        ModelError, match="'tiny' takes more memory for a text of 7 tokens than is free; repair its config"
    ):
        check_causal(model, tokenizer, "tiny")


@pytest.mark.filterwarnings("ignore")
def test_patches_that_happen_to_be_as_many_as_the_tokens_are_not_taken_for_them(tokenizer, transformers_as_before):
    model = tiny_model("blt", 320)
    check_causal(model, tokenizer, "tiny")
    check_first_block_causal(model, decoder_blocks(model)[1], tokenizer, "tiny")
