"""Generation: the likeliest tokens, repeatable draws, text that is never taken back, and prompts that are refused."""

import copy
from collections import Counter
from itertools import pairwise
from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from wanda_core.errors import InputError, ModelError
from wanda_core.evaluation import generation
from wanda_core.evaluation.generation import (
    Generated,
    check_prompt,
    check_settings,
    common_tokens,
    generate,
    greedy_steps,
    prompt_ids,
)
from wanda_core.model.language_model import LanguageModel
from wanda_core.progress import finish
from wanda_core.pruning.prune import prune
from wanda_core.recipe import PruneSpec

PROMPT = "The sky is blue because"


def answer(lm: LanguageModel, prompt: str = PROMPT, **settings) -> tuple[int, ...]:
    return list(generate(lm, prompt, **settings))[-1].tokens


def written(lm: LanguageModel, tokens: list[int]) -> list[Generated]:
    """The steps of an answer whose tokens are given."""

    def scripted(lm, ids, length):
        for token in tokens:
            yield torch.nn.functional.one_hot(torch.tensor(token), len(lm.tokenizer)).float()

    with patch.object(generation, "next_logits", scripted):
        return list(generate(lm, PROMPT, max_new_tokens=len(tokens)))


@torch.no_grad()
def test_greedy_takes_the_likeliest_token_each_time(tiny_llama, device):
    ids = tiny_llama.encode(PROMPT)
    for token in answer(tiny_llama, max_new_tokens=6):
        logits = tiny_llama.model(torch.tensor([ids], device=device)).logits[0, -1]
        assert token == int(logits.argmax())
        ids.append(token)


@pytest.mark.builtin
def test_the_built_in_model_answers_in_its_chat_template(builtin_lm):
    prompt = "What is the capital of France?"
    text = list(generate(builtin_lm, prompt, max_new_tokens=12, chat=True))[-1].text
    assert "Paris" in text
    assert "<|im_end|>" not in text
    plain = prompt_ids(builtin_lm, prompt, chat=False)[0].tolist()
    framed = builtin_lm.tokenizer.decode(prompt_ids(builtin_lm, prompt, chat=True)[0])
    assert builtin_lm.tokenizer.decode(plain) == prompt
    assert framed.count("<|im_start|>user") == 1
    assert framed.endswith("<|im_start|>assistant\n")


def test_answers_grow_by_one_token_and_their_text_is_those_tokens(tiny_llama):
    grown = list(generate(tiny_llama, PROMPT, max_new_tokens=8))
    assert [len(made.tokens) for made in grown] == list(range(1, 9))
    for shorter, longer in pairwise(grown):
        assert longer.tokens[:-1] == shorter.tokens
        assert longer.text.startswith(shorter.text)
    assert grown[-1].text == tiny_llama.tokenizer.decode(list(grown[-1].tokens))


def test_the_same_seed_draws_the_same_answer_and_another_seed_another(tiny_llama):
    settings = {"max_new_tokens": 16, "temperature": 1.0}
    first = answer(tiny_llama, seed=7, **settings)
    assert first == answer(tiny_llama, seed=7, **settings)
    assert first != answer(tiny_llama, seed=8, **settings)
    assert first != answer(tiny_llama, max_new_tokens=16)


def test_a_temperature_near_zero_is_greedy(tiny_llama):
    assert answer(tiny_llama, temperature=1e-4, seed=3, max_new_tokens=10) == answer(tiny_llama, max_new_tokens=10)


def test_no_temperature_is_so_small_that_numbers_overflow(tiny_llama):
    assert answer(tiny_llama, temperature=1e-320, max_new_tokens=4) == answer(tiny_llama, max_new_tokens=4)


def test_equal_models_draw_equal_answers_side_by_side(tiny_llama):
    twin = LanguageModel(copy.deepcopy(tiny_llama.model), tiny_llama.tokenizer, "twin", "local")
    settings = {"max_new_tokens": 12, "temperature": 1.0, "seed": 5}
    alone = answer(tiny_llama, **settings)
    both = [generate(lm, PROMPT, **settings) for lm in (tiny_llama, twin)]
    pairs = list(zip(*both, strict=True))  # in turns: neither may disturb the other's draw
    assert pairs[-1][0].tokens == pairs[-1][1].tokens == alone


def test_a_variant_answers_beside_its_dense_model(tiny_llama):
    variant = prune(tiny_llama, PruneSpec(method="magnitude", sparsity=0.9))
    dense = answer(tiny_llama, max_new_tokens=12)
    assert answer(variant.lm, max_new_tokens=12) != dense
    assert answer(tiny_llama, max_new_tokens=12) == dense


def test_drawing_leaves_the_global_generator_alone(tiny_llama):
    torch.manual_seed(11)
    before = torch.get_rng_state()
    answer(tiny_llama, temperature=1.0, max_new_tokens=4)
    assert torch.equal(torch.get_rng_state(), before)


@torch.no_grad()
def test_draws_follow_the_models_probabilities(own_llama, device):
    own_llama.model.lm_head.weight[5:] = 0  # one large heap of equal tokens and five that differ
    temperature = 2.0
    ids = torch.tensor([own_llama.encode(PROMPT)], device=device)
    expected = (own_llama.model(ids).logits[0, -1].double().cpu() / temperature).softmax(0)
    n = 300
    drawn = Counter(answer(own_llama, temperature=temperature, seed=s, max_new_tokens=1)[0] for s in range(n))
    for token in range(5):
        p = float(expected[token])
        # four standard deviations: with these fixed seeds it holds or it does not
        assert abs(drawn[token] / n - p) <= 4 * (p * (1 - p) / n) ** 0.5 + 1e-9
    assert len(drawn) > 20


# What a generation_config.json may hold that changes what transformers' own `generate` makes, or how it goes about it.
SETTINGS = {
    "repetition_penalty": 1.5,
    "no_repeat_ngram_size": 1,
    "min_new_tokens": 5,
    "max_length": 3,
    "max_time": 1e-9,
    "num_beams": 4,
    "num_return_sequences": 3,
    "do_sample": True,
    "forced_eos_token_id": 7,
    "suppress_tokens": list(range(50, 320)),
    "begin_suppress_tokens": list(range(50, 320)),
    "bad_words_ids": [[token] for token in range(50, 320)],
    "sequence_bias": [[[5], 50.0]],
    "guidance_scale": 1.5,
    "token_healing": True,
    "cache_implementation": "static",
    "prefill_chunk_size": 2,
    "prompt_lookup_num_tokens": 3,
    "return_dict_in_generate": True,
    "output_attentions": True,
    "watermarking_config": {"greenlist_ratio": 0.5, "bias": 9.0},
}


@pytest.mark.parametrize("setting", [{name: value} for name, value in SETTINGS.items()] + [SETTINGS], ids=",".join)
def test_greedy_is_the_likeliest_token_whatever_the_checkpoint_asks_for(own_llama, setting):
    own_llama.model.generation_config.do_sample = True  # three sequences are not asked for without
    likeliest = answer(own_llama, max_new_tokens=8)
    own_llama.model.generation_config.eos_token_id = likeliest[4]
    for name, value in setting.items():
        setattr(own_llama.model.generation_config, name, value)
    assert answer(own_llama, max_new_tokens=8) == likeliest[: likeliest.index(likeliest[4]) + 1]


@pytest.mark.parametrize("temperature", [0, 1.0])
@pytest.mark.parametrize(
    ("dtype", "remedy"), [(torch.float32, "overflow even in float32"), (torch.bfloat16, "load the model in float32")]
)
def test_predictions_that_are_not_finite_end_the_answer_with_a_remedy(own_llama, temperature, dtype, remedy):
    own_llama.model.to(dtype)
    bad = {0: float("nan"), 1: float("inf"), 2: -float("inf")}

    def spoil(module, args, logits, value):
        logits[..., :] = value if value < 0 else logits
        logits[..., 3] = value
        return logits

    for value in bad.values():
        hook = own_llama.model.lm_head.register_forward_hook(lambda *call, value=value: spoil(*call, value))
        with pytest.raises(ModelError, match=rf"predictions are not finite, so it cannot write; .*{remedy}"):
            next(generate(own_llama, PROMPT, temperature=temperature))
        with pytest.raises(ModelError, match=rf"predictions are not finite.*{remedy}"):
            finish(greedy_steps(own_llama, PROMPT, 3))
        hook.remove()


def test_what_was_written_before_a_number_overflows_was_shown(own_llama):
    expected = answer(own_llama, max_new_tokens=2)
    stream = generate(own_llama, PROMPT, max_new_tokens=9)
    next(stream)
    assert next(stream).tokens == expected
    own_llama.model.lm_head.weight.data[5] = float("inf")
    with pytest.raises(ModelError, match="not finite"):
        next(stream)
    assert next(stream, None) is None


@pytest.mark.parametrize("temperature", [0, 1.0])
def test_a_token_that_the_model_rules_out_is_never_written_and_nothing_else_is_wrong(own_llama, temperature):
    def rule_out(module, args, logits):
        logits[..., 10:] = -float("inf")
        return logits

    own_llama.model.lm_head.register_forward_hook(rule_out)
    assert max(answer(own_llama, max_new_tokens=20, temperature=temperature)) < 10


def test_a_model_that_fails_while_generating_says_so(own_llama):
    def fail(module, args):
        raise RuntimeError("out of memory, say\nand a second line")

    own_llama.model.model.layers[1].register_forward_pre_hook(fail)
    with pytest.raises(
        ModelError, match=r"the model failed while generating: out of memory, say; choose another model$"
    ):
        list(generate(own_llama, PROMPT))


def test_an_answer_ends_at_the_end_token(own_llama):
    likeliest = answer(own_llama, max_new_tokens=4)
    own_llama.model.generation_config.eos_token_id = likeliest[2]
    ended = answer(own_llama, max_new_tokens=50)
    assert ended == likeliest[: likeliest.index(likeliest[2]) + 1]


def test_an_answer_ends_at_the_first_of_several_end_tokens(own_llama):
    likeliest = answer(own_llama, max_new_tokens=8)
    own_llama.model.generation_config.eos_token_id = [likeliest[5], likeliest[3]]
    ended = answer(own_llama, max_new_tokens=50)
    assert ended == likeliest[: min(likeliest.index(likeliest[3]), likeliest.index(likeliest[5])) + 1]
    assert finish(greedy_steps(own_llama, PROMPT, 50)) == own_llama.decode(ended)


@pytest.mark.parametrize("listed", [True, False])
def test_an_answer_ends_with_the_token_that_completes_a_stop_string(own_llama, listed):
    spelled = [own_llama.encode(letter)[0] for letter in "a stop, and more"]
    settings = own_llama.model.generation_config
    settings.stop_strings = ["top", "never"] if listed else "top"
    assert written(own_llama, spelled)[-1].text == "a stop"
    likeliest = answer(own_llama, max_new_tokens=20)  # a real answer, without its stop string
    pieces = own_llama.tokenizer.convert_ids_to_tokens(likeliest)
    at = next(i for i, piece in enumerate(pieces) if piece.isascii() and piece not in pieces[:i])
    settings.stop_strings = [pieces[at]] if listed else pieces[at]
    ended = answer(own_llama, max_new_tokens=20)
    assert ended == likeliest[: at + 1]
    assert finish(greedy_steps(own_llama, PROMPT, 20)) == own_llama.decode(ended)


def test_a_stop_string_may_be_a_special_token_which_is_not_shown(own_llama):
    own_llama.model.generation_config.stop_strings = ["<end>"]
    a, end = own_llama.encode("a")[0], own_llama.tokenizer.eos_token_id
    last = written(own_llama, [a, a, end, a])[-1]
    assert (last.text, last.tokens, last.pieces) == ("aa", (a, a, end), ("a", "a", ""))


def test_letters_of_several_tokens_are_shown_when_they_are_complete(tiny_llama):
    euro = tiny_llama.encode("€")
    assert len(euro) == 3
    steps = written(tiny_llama, [*tiny_llama.encode("a"), *euro, *euro[:2]])
    assert [step.text for step in steps] == ["a", "a", "a", "a€", "a€", "a€\ufffd"]
    assert steps[-1].pieces == ("a", "", "", "€", "", "\ufffd")


@given(st.lists(st.integers(1, 319), min_size=1, max_size=12))
def test_whatever_is_written_text_only_grows_and_ends_as_all_its_tokens_decoded(tiny_llama, tokens):
    steps = written(tiny_llama, tokens)
    assert [step.tokens for step in steps] == [tuple(tokens[: i + 1]) for i in range(len(tokens))]
    assert all(longer.text.startswith(shorter.text) for shorter, longer in pairwise(steps))
    assert steps[-1].text == tiny_llama.decode(tokens)
    assert all("".join(step.pieces) == step.text for step in steps)
    assert all(len(step.pieces) == len(step.probabilities) == len(step.tokens) for step in steps)
    assert not any(step.text.endswith("\ufffd") for step in steps[:-1])


def test_bytes_that_were_shown_stay_when_later_ones_spoil_them(tiny_llama):
    """Of bytes in a row, a byte fallback decodes all or none: an incomplete letter takes the one before it away."""
    vocabulary = {"<unk>": 0, "a": 1, **{f"<0x{byte:02X}>": 2 + i for i, byte in enumerate("€".encode())}}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>")
    lm = LanguageModel(tiny_llama.model, tokenizer, "tiny", "local")
    assert lm.decode([2, 3, 4, 2]) == "\ufffd" * 4
    assert [step.text for step in written(lm, [2, 3, 4, 2, 3, 4])] == ["", "", "€", "€", "€", "€€"]
    spoilt = [step.text for step in written(lm, [2, 3, 4, 2, 1, 1])]
    assert spoilt == ["", "", "€", "€", "€\ufffd\ufffd\ufffda", "€\ufffd\ufffd\ufffdaa"]


def test_no_space_is_taken_back_where_the_tokenizer_cleans_up(tiny_llama):
    vocabulary = {word: i for i, word in enumerate(["<unk>", "word", " '", "s", "anitize", " ."])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer, words.decoder = pre_tokenizers.Split("|", "removed"), decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", clean_up_tokenization_spaces=True)
    lm = LanguageModel(tiny_llama.model, tokenizer, "tiny", "local")
    texts = [step.text for step in written(lm, [1, 2, 3, 4, 5])]
    assert texts == ["word", "word '", "word 's", "word 'sanitize", "word 'sanitize ."]


def test_a_model_without_a_limit_of_positions_is_not_refused(own_llama):
    own_llama.model.config.max_position_embeddings = -1  # as some say
    assert len(answer(own_llama, max_new_tokens=5)) == 5


def test_an_answer_never_outgrows_the_models_positions(tiny_gpt2, monkeypatch):
    length = len(tiny_gpt2.encode("a" * 120))
    assert length < 128
    monkeypatch.setattr(tiny_gpt2.model.generation_config, "eos_token_id", None)
    assert len(answer(tiny_gpt2, "a" * 120, max_new_tokens=100)) == 128 - length


def test_a_prompt_longer_than_the_model_reads_is_refused_with_both_counts(tiny_gpt2):
    with pytest.raises(InputError, match=r"the prompt has \d{3} tokens, and the model reads 127 at most"):
        generate(tiny_gpt2, "ab cd " * 200)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        *((empty, "the prompt is empty") for empty in ("", "  \n", None, 5, ["a"])),
        ("x" * 20_001, "has 20,001 characters and 20,000 are read"),
        ("ab\ud83d c", r"is not UTF-8 text \(character 2\); write it in UTF-8"),
    ],
)
def test_a_prompt_that_no_model_takes_is_refused_with_a_model_and_without(tiny_llama, bad, words):
    with pytest.raises(InputError, match=words):
        generate(tiny_llama, bad)
    with pytest.raises(InputError, match=words):
        check_prompt(bad)


@pytest.mark.parametrize("good", ["a", " é€😀 ", "x" * 20_000])
def test_any_other_prompt_passes(good):
    check_prompt(good)


def test_a_prompt_that_the_tokenizer_makes_nothing_of_is_refused(tiny_llama, tokenizer):
    deaf = copy.deepcopy(tokenizer)
    deaf.backend_tokenizer.normalizer = normalizers.Replace(Regex("."), "")
    with pytest.raises(InputError, match="nothing that the model's tokenizer knows"):
        generate(LanguageModel(tiny_llama.model, deaf, "tiny", "local"), PROMPT)


@pytest.mark.parametrize("bad", [-0.1, 5.1, float("nan"), float("inf"), "1", None, True])
def test_a_temperature_out_of_range_is_refused(tiny_llama, bad):
    with pytest.raises(InputError, match=r"temperature .* is not a number from 0 to 5"):
        generate(tiny_llama, PROMPT, temperature=bad)
    with pytest.raises(InputError, match=r"temperature .* is not a number from 0 to 5"):
        check_settings(max_new_tokens=1, temperature=bad, seed=0)


@pytest.mark.parametrize(
    ("field", "bad"),
    [("max_new_tokens", 0), ("max_new_tokens", 1025), ("max_new_tokens", "5"), ("seed", -1), ("seed", 2**63)],
)
def test_numbers_out_of_range_are_refused_by_name(tiny_llama, field, bad):
    with pytest.raises(InputError, match=f"{field} .* is not a whole number"):
        generate(tiny_llama, PROMPT, **{field: bad})
    with pytest.raises(InputError, match=f"{field} .* is not a whole number"):
        check_settings(**{"max_new_tokens": 1, "temperature": 0, "seed": 0, field: bad})


@pytest.mark.parametrize("good", [(1, 0, 0), (1024, 5, 2**63 - 1), (40, 0.7, 3)])
def test_numbers_within_their_range_pass(good):
    check_settings(**dict(zip(("max_new_tokens", "temperature", "seed"), good, strict=True)))


def test_a_chat_template_that_fails_is_a_models_fault(tiny_llama, tokenizer):
    broken = copy.deepcopy(tokenizer)
    broken.chat_template = "{{ raise_exception('no user role') }}"
    lm = LanguageModel(tiny_llama.model, broken, "tiny", "local")
    with pytest.raises(ModelError, match=r"the model's chat template failed .*no user role"):
        generate(lm, PROMPT, chat=True)


def test_without_a_template_chat_is_the_plain_prompt(tiny_llama):
    assert torch.equal(prompt_ids(tiny_llama, PROMPT, chat=True), prompt_ids(tiny_llama, PROMPT, chat=False))


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        ([], [], 0),
        ([1], [], 0),
        ([1, 2, 3], [1, 2, 3], 3),
        ([1, 2, 3], [1, 2], 2),
        ([1, 2, 3], [1, 9, 3], 1),
        ((4, 5), [5, 4], 0),
    ],
)
def test_common_tokens_counts_from_the_start(first, second, shared):
    assert common_tokens(first, second) == shared
    assert common_tokens(second, first) == shared
