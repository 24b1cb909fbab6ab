"""The longest text a model reads is what it can run, whatever its configuration calls it."""

import pytest
import torch
from architectures import IMPOSSIBLE, NAMES, tiny_model

from wanda_core.errors import InputError
from wanda_core.evaluation.generation import generate
from wanda_core.evaluation.perplexity import perplexity
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.positions import longest_text
from wanda_core.text.windows import calibrate

VOCABULARY = 320  # tokens
LIMITS = {
    "bloom": None,  # biased by distance
    "codegen": 256,
    "ctrl": 256,
    "gpt2": 256,
    "gpt_neo": 256,
    "gptj": 256,
    "llama": 256,
    "mamba": None,
    "mpt": 256,
    "openai-gpt": 256,
    "opt": 256,
    "recurrent_gemma": None,
    "roberta": 255,  # counts from the id after the padding token's, which is 0
    "whisper": 256,
    "xlnet": None,  # relative positions
}


def runs(model, length) -> bool:
    ids = torch.randint(1, VOCABULARY, (1, length), generator=torch.Generator().manual_seed(3))
    try:
        with torch.no_grad():
            model(ids, use_cache=False)
    except (IndexError, RuntimeError, ValueError):
        return False
    return True


@pytest.mark.parametrize("name", LIMITS)
def test_a_text_of_that_length_runs(name):
    model = tiny_model(name, VOCABULARY)
    assert longest_text(model) == LIMITS[name]
    assert runs(model, LIMITS[name] or 300)


@pytest.mark.families
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name in NAMES if name not in IMPOSSIBLE and name != "prophetnet"])
def test_every_architecture_runs_what_it_is_said_to_and_no_other_has_a_limit(name):
    model = tiny_model(name, VOCABULARY)
    assert runs(model, longest_text(model) or 300)


def test_falcon_with_alibi_and_minus_one_have_no_limit():
    model = tiny_model("falcon", VOCABULARY)
    assert longest_text(model) == 256
    model.config.alibi = True
    assert longest_text(model) is None
    llama = tiny_model("llama", VOCABULARY)
    llama.config.max_position_embeddings = -1
    assert longest_text(llama) is None


def test_a_length_that_the_architecture_does_not_read_is_none_of_its_limits():
    model = tiny_model("bloom", VOCABULARY)
    model.config.seq_length = 16  # as in published files; it was trained on so many
    model.config.n_positions = 16
    assert longest_text(model) is None


def test_windows_and_answers_end_at_the_limit(tokenizer, text):
    model = tiny_model("mpt", VOCABULARY)
    lm = LanguageModel(model, tokenizer, "tiny", "local")
    assert perplexity(lm, text, seq_len=256, windows=1).windows == 1
    for read in (lambda: perplexity(lm, text, seq_len=257), lambda: calibrate(lm, text, samples=1, seq_len=257)):
        with pytest.raises(InputError, match="seq_len 257 is more than the 256 tokens tiny can read"):
            read()
    prompt = lm.decode(lm.encode(text)[:250])
    lm.model.generation_config.eos_token_id = None
    room = 256 - len(lm.encode(prompt))
    assert 0 < room < 20
    *_, answer = generate(lm, prompt, max_new_tokens=40)
    assert len(answer.tokens) == room
    with pytest.raises(InputError, match="and the model reads 255 at most; shorten it"):
        generate(lm, text)
