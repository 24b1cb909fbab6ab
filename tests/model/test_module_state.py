"""Every result is what it would be alone, also of models that keep something in their modules between two passes."""

import pytest
import torch
from architectures import tiny_config, tiny_model
from transformers import AutoModelForCausalLM

from wanda_core.evaluation.generation import generate
from wanda_core.evaluation.perplexity import perplexity
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.loading import load_model
from wanda_core.model.module_state import fresh_for_each_text

TEXT = "The sky is blue because sunlight is scattered by the air. " * 60


@pytest.fixture
def recurrent(tokenizer) -> LanguageModel:
    """A model that keeps its state in its modules."""
    return LanguageModel(tiny_model("recurrent_gemma", len(tokenizer)), tokenizer, "tiny", "r")


def answer(lm, prompt):
    *_, last = generate(lm, prompt, max_new_tokens=8)
    return last


def test_what_is_measured_between_two_tokens_leaves_an_answer_as_it_is(recurrent):
    alone = answer(recurrent, "The sky is")
    measured = perplexity(recurrent, TEXT, seq_len=16, windows=1)
    seen = []
    for so_far in generate(recurrent, "The sky is", max_new_tokens=8):
        assert perplexity(recurrent, TEXT, seq_len=16, windows=1) == measured
        seen.append(so_far)
    assert seen[-1] == alone


def test_two_answers_of_one_model_are_written_in_turns(recurrent):
    alone = [answer(recurrent, prompt) for prompt in ("The sky is", "Another text")]
    prompts = (generate(recurrent, prompt, max_new_tokens=8) for prompt in ("The sky is", "Another text"))
    assert [*list(zip(*prompts, strict=True))[-1]] == alone


def test_a_prompt_of_one_token_knows_nothing_of_the_prompt_before(tokenizer, recurrent):
    fresh = LanguageModel(tiny_model("recurrent_gemma", len(tokenizer)), tokenizer, "tiny", "r")
    alone = answer(fresh, "a")
    for prompt in ("Another text altogether", "My password is swordfish"):
        answer(recurrent, prompt)
        assert answer(recurrent, "a") == alone


def test_where_transformers_writes_each_text_begins_afresh_too(recurrent):
    def written(ids):
        return recurrent.model.generate(torch.tensor([ids]), max_new_tokens=6, do_sample=False, pad_token_id=0).tolist()

    with fresh_for_each_text(recurrent.model):
        alone = written([7])
        written([60, 61, 62, 63])
        assert written([7]) == alone
    assert not recurrent.model._forward_pre_hooks


@pytest.fixture
def saved(tokenizer, tmp_path):
    """Save a tiny model with settings of its own."""

    def save(kind, **settings):
        config = tiny_config(kind, len(tokenizer))
        for name, value in settings.items():
            setattr(config, name, value)
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn(parameter.shape) * 0.15)
        model.save_pretrained(tmp_path)
        tokenizer.save_pretrained(tmp_path)
        return str(tmp_path)

    return save


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", [None, 3])
def test_the_first_text_does_not_decide_how_reformer_hashes_later_ones(saved, seed):
    folder = saved("reformer", num_buckets=None, hash_seed=seed)
    alone = perplexity(load_model(folder, device="cpu"), TEXT, seq_len=64, windows=2)
    lm = load_model(folder, device="cpu")
    perplexity(lm, TEXT, seq_len=256, windows=1)
    assert perplexity(lm, TEXT, seq_len=64, windows=2) == alone
