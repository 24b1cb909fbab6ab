"""What a configuration asks for besides logits, or of another machine, changes nothing; unknown tokens are refused."""

import json
import shutil

import pytest
import torch

from wanda_core.calibration.profile import profile
from wanda_core.checkpoint.save import save
from wanda_core.errors import InputError
from wanda_core.evaluation.generation import generate
from wanda_core.evaluation.perplexity import perplexity
from wanda_core.low_memory.model_on_disk import open_model
from wanda_core.low_memory.prune import prune_to_folder
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.loading import load_model
from wanda_core.outliers.sentence import read_sentence
from wanda_core.outliers.super_weight import super_weights
from wanda_core.pruning.prune import prune
from wanda_core.recipe import PruneSpec
from wanda_core.text.windows import calibrate, draw

ASKED = [
    {"output_attentions": True},
    {"output_attentions": True, "_attn_implementation": "sdpa"},
    {"output_attentions": True, "attn_implementation": "sdpa"},
    {"output_hidden_states": True},
    {"return_dict": False},
    {"use_cache": False},
    {"attn_implementation": "flash_attention_2"},
    {"_attn_implementation": "flash_attention_3"},
    {"_attn_implementation": "kernels-community/flash-attn2"},
    {"_attn_implementation": {"": "flex_attention"}},
    {"_attn_implementation": "of a later version"},
    {"experts_implementation": "of a later version"},
]


@pytest.fixture(scope="module")
def plain(dense, text):
    """Perplexity, an answer and the pruned logits of the folder as it is."""
    return ran(load_model(dense, device="cpu", dtype=torch.float32), text)


def ran(lm, text):
    ids = torch.tensor([lm.encode(text)[:20]])
    variant = prune(lm, PruneSpec(), calibrate(lm, text, samples=2, seq_len=32))
    with torch.no_grad():
        pruned = variant.lm.model(ids, use_cache=False).logits
    *_, answer = generate(lm, "The sky", max_new_tokens=6)
    return variant, perplexity(lm, text, seq_len=32, windows=2), answer.text, pruned


@pytest.mark.parametrize("asked", ASKED, ids=str)
def test_a_folder_that_asks_for_more_runs_and_is_saved_as_one_that_does_not(dense, plain, text, tmp_path, asked):
    folder = shutil.copytree(dense, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | asked))
    found = ran(load_model(str(folder), device="cpu", dtype=torch.float32), text)
    assert found[1:3] == plain[1:3]
    assert torch.equal(found[3], plain[3])
    again = load_model(str(save(found[0], tmp_path / "out")), device="cpu", dtype=torch.float32)
    on_disk = open_model(str(folder), device="cpu", dtype=torch.float32)
    prune_to_folder(on_disk, PruneSpec(), tmp_path / "low", calibrate(on_disk, text, samples=2, seq_len=32))
    low = load_model(str(tmp_path / "low"), device="cpu", dtype=torch.float32)
    for name, parameter in again.model.named_parameters():
        assert torch.equal(parameter, low.model.get_parameter(name))
    assert read_sentence(again, "The sky").to_first is not None  # attention can still be asked for


# Tokens without an embedding


@pytest.fixture
def with_a_token_more(own_llama) -> LanguageModel:
    """Its tokenizer has a token that the model has no embedding for."""
    import copy

    tokenizer = copy.deepcopy(own_llama.tokenizer)
    tokenizer.add_tokens(["<|im_start|>"], special_tokens=True)
    return LanguageModel(own_llama.model, tokenizer, "tiny", "local")


REFUSAL = (
    r"the text holds the token '<\|im_start\|>', whose id is 320, and the embeddings of tiny have 320 rows, 0 to 319; "
    "leave that token out, or give the tokenizer and the model that were trained together"
)


@pytest.mark.parametrize(
    "read",
    [
        lambda lm, text: calibrate(lm, text, samples=2, seq_len=16),
        lambda lm, text: calibrate(lm, [text, text], samples=2, seq_len=16),
        lambda lm, text: perplexity(lm, text, seq_len=16),
        lambda lm, text: generate(lm, text),
        lambda lm, text: generate(lm, "a", chat=True),
        lambda lm, text: read_sentence(lm, "a<|im_start|>b"),
        lambda lm, text: super_weights(lm, "a<|im_start|>b"),
        lambda lm, text: prune(lm, PruneSpec(), draw([1, 2, 320] * 20, samples=2, seq_len=16)),
        lambda lm, text: profile(lm, draw([1, 2, 320] * 20, samples=2, seq_len=16)),
    ],
)
def test_a_token_without_an_embedding_is_named_before_the_model_runs(with_a_token_more, text, read):
    lm = with_a_token_more
    lm.tokenizer.chat_template = "<|im_start|>{{ messages[0]['content'] }}"
    lm.model.forward = None  # it would fail at once
    with pytest.raises(InputError, match=REFUSAL):
        read(lm, "<|im_start|>" + text)


def test_more_embeddings_than_tokens_are_fine(own_llama, text):
    fewer = LanguageModel(own_llama.model, own_llama.tokenizer, "tiny", "local")
    fewer.model.resize_token_embeddings(384)
    assert perplexity(fewer, text, seq_len=16, windows=1).tokens == 15
    assert prune(fewer, PruneSpec(), calibrate(fewer, text, samples=2, seq_len=16)).report.sparsity == 0.5


@pytest.mark.parametrize("token", [-1, 320, 2**40])
def test_ids_that_no_tokenizer_knows_are_refused_too(own_llama, token):
    with pytest.raises(InputError, match=f"whose id is {token}, and the embeddings of tiny have 320 rows"):
        own_llama.check_tokens([3, token, 5])
    own_llama.check_tokens([0, 319])
    own_llama.check_tokens([])
