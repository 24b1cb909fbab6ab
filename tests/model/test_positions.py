"""The longest text a model reads is what it can run, whatever its configuration calls it."""

import copy

import pytest
import torch
from architectures import IMPOSSIBLE, NAMES, tiny_config, tiny_model
from transformers import AutoModelForCausalLM

from wanda_core.errors import InputError
from wanda_core.evaluation.generation import generate
from wanda_core.evaluation.perplexity import perplexity
from wanda_core.model.config_keys import parts_of
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


SEVERAL = {"blt": 5, "gemma3": 2}  # places of such settings: in the whole and its four parts, by kind of block
SHORT = 30  # tokens, up to which a part's rotary positions stay as they are


def growing(config):
    """Yield the configurations in which one part's, or one kind of block's, rotary positions grow with the texts."""
    for place, part in enumerate(parts_of(config)):
        settings = getattr(part, "rope_parameters", None)
        kinds = [kind for kind, given in (settings or {}).items() if isinstance(given, dict)]
        for kind in kinds or ([None] if settings else []):
            changed = copy.deepcopy(config)
            own = list(parts_of(changed))[place]
            own.max_position_embeddings = SHORT
            settings = own.rope_parameters if kind is None else own.rope_parameters[kind]
            settings |= {"rope_type": "dynamic", "factor": 4.0}
            if "partial_rotary_factor" in settings:
                settings["partial_rotary_factor"] = 0.5  # of 8 numbers: this kind needs more than 2
            yield changed


@torch.no_grad()
def differs_after_a_longer_text(config) -> bool | None:
    """Tell whether a text is read otherwise after the longest that the model is said to read, None where none runs."""
    generator = torch.Generator().manual_seed(3)
    try:
        model = AutoModelForCausalLM.from_config(config).eval()
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.15)
        longest = longest_text(model) or 300
        ids = torch.randint(1, VOCABULARY, (1, longest), generator=generator)
        text = ids[:, : SHORT + 10]  # one below SHORT would take them back
        alone = model(text, use_cache=False).logits.clone()
        model(ids, use_cache=False)
    except (AttributeError, KeyError, RuntimeError, ValueError):  # settings that this architecture does not take
        return None
    assert longest >= SHORT - 1
    return not torch.equal(alone, model(text, use_cache=False).logits)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "places"), SEVERAL.items())
def test_no_text_that_is_let_through_changes_how_another_is_read(name, places):
    differ = [differs_after_a_longer_text(config) for config in growing(tiny_config(name, VOCABULARY))]
    assert differ == [False] * places


@pytest.mark.families
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name in NAMES if name not in IMPOSSIBLE and name not in SEVERAL])
def test_nor_in_any_other_architecture(name):
    assert not any(differs_after_a_longer_text(config) for config in growing(tiny_config(name, VOCABULARY)))


def test_a_part_may_make_one_more_of_a_text_than_it_has_tokens():
    config = tiny_config("blt", VOCABULARY)
    config.patching_threshold = -1.0  # each token is a patch, and there is an empty one
    config.global_config.rope_parameters |= {"rope_type": "dynamic", "factor": 4.0}
    config.global_config.max_position_embeddings = SHORT
    model = AutoModelForCausalLM.from_config(config)
    assert runs(model, longest_text(model))
    assert model.model.global_transformer.rotary_emb.max_seq_len_cached == SHORT
    assert runs(model, SHORT)
    assert model.model.global_transformer.rotary_emb.max_seq_len_cached == SHORT + 1


def test_lengths_of_parts_whose_positions_do_not_grow_shorten_no_text():
    blt = tiny_config("blt", VOCABULARY)
    for part in (blt.patcher_config, blt.global_config):
        part.max_position_embeddings = 8
    pictured = tiny_config("gemma3", VOCABULARY)
    pictured.vision_config.max_position_embeddings = 8
    scaled = tiny_config("llama", VOCABULARY)
    scaled.rope_parameters |= {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
    grows = tiny_config("llama", VOCABULARY)
    grows.rope_parameters |= {"rope_type": "dynamic", "factor": 4.0}
    for config in (blt, pictured, scaled, grows):
        assert longest_text(AutoModelForCausalLM.from_config(config)) == 256
