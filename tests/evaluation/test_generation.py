"""Generation: the model's own greedy answer, repeatable draws, and a stop that stops."""

import copy
import threading
import time
from collections import Counter
from itertools import pairwise

import pytest
import torch

from wanda_core.errors import InputError, ModelError
from wanda_core.evaluation.generation import common_tokens, generate, prompt_ids
from wanda_core.model.language_model import LanguageModel
from wanda_core.pruning.prune import prune
from wanda_core.recipe import PruneSpec

PROMPT = "The sky is blue because"


def answer(lm: LanguageModel, prompt: str = PROMPT, **settings) -> tuple[int, ...]:
    return list(generate(lm, prompt, **settings))[-1].tokens


@pytest.fixture
def no_thread_left():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@torch.no_grad()
@pytest.mark.parametrize("which", ["tiny_llama", "tiny_gpt2"])
def test_greedy_is_the_models_own_generate(request, device, which):
    lm = request.getfixturevalue(which)
    ids = torch.tensor([lm.encode(PROMPT)], device=device)
    expected = lm.model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=20, do_sample=False, pad_token_id=0
    )
    assert list(answer(lm, max_new_tokens=20)) == expected[0, ids.shape[1] :].tolist()


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
    assert all(made.text == tiny_llama.tokenizer.decode(list(made.tokens)) for made in grown)


def test_the_same_seed_draws_the_same_answer_and_another_seed_another(tiny_llama):
    settings = {"max_new_tokens": 16, "temperature": 1.0}
    first = answer(tiny_llama, seed=7, **settings)
    assert first == answer(tiny_llama, seed=7, **settings)
    assert first != answer(tiny_llama, seed=8, **settings)
    assert first != answer(tiny_llama, max_new_tokens=16)


def test_a_temperature_near_zero_is_greedy(tiny_llama):
    assert answer(tiny_llama, temperature=1e-4, seed=3, max_new_tokens=10) == answer(tiny_llama, max_new_tokens=10)


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


@pytest.mark.parametrize("after", [1, 3])
def test_closing_the_iterator_ends_the_thread_and_the_model(no_thread_left, own_llama, after):
    passes = []
    own_llama.model.register_forward_pre_hook(lambda module, args: passes.append(1))
    stream = generate(own_llama, PROMPT, max_new_tokens=200)
    for _ in range(after):
        next(stream)
    stream.close()
    ended_after = len(passes)
    assert after <= ended_after < 200
    time.sleep(0.05)  # a thread that ran on would show in the count
    assert len(passes) == ended_after


def test_an_iterator_that_is_never_started_runs_nothing(no_thread_left, own_llama):
    own_llama.model.register_forward_pre_hook(lambda module, args: pytest.fail("ran"))
    generate(own_llama, PROMPT).close()


def test_a_model_that_fails_while_generating_says_so(no_thread_left, own_llama):
    def fail(module, args):
        raise RuntimeError("out of memory, say\nand a second line")

    own_llama.model.model.layers[1].register_forward_pre_hook(fail)
    with pytest.raises(ModelError, match=r"the model failed while generating: out of memory, say$"):
        list(generate(own_llama, PROMPT))


def test_an_answer_ends_at_the_end_token(own_llama):
    likeliest = answer(own_llama, max_new_tokens=4)
    own_llama.model.generation_config.eos_token_id = likeliest[2]
    ended = answer(own_llama, max_new_tokens=50)
    assert ended == likeliest[: likeliest.index(likeliest[2]) + 1]


def test_an_answer_never_outgrows_the_models_positions(tiny_gpt2, monkeypatch):
    length = len(tiny_gpt2.encode("a" * 120))
    assert length < 128
    monkeypatch.setattr(tiny_gpt2.model.generation_config, "eos_token_id", None)
    assert len(answer(tiny_gpt2, "a" * 120, max_new_tokens=100)) == 128 - length


def test_a_prompt_longer_than_the_model_reads_is_refused_with_both_counts(tiny_gpt2):
    with pytest.raises(InputError, match=r"the prompt has \d{3} tokens, and the model reads 127 at most"):
        generate(tiny_gpt2, "ab cd " * 200)


@pytest.mark.parametrize("bad", ["", "  \n", None, 5, ["a"]])
def test_an_empty_prompt_is_refused(tiny_llama, bad):
    with pytest.raises(InputError, match="the prompt is empty"):
        generate(tiny_llama, bad)


def test_an_endless_prompt_is_refused(tiny_llama):
    with pytest.raises(InputError, match=r"has 20,001 characters and 20,000 are read"):
        generate(tiny_llama, "x" * 20_001)


@pytest.mark.parametrize("bad", [-0.1, 5.1, float("nan"), float("inf"), "1", None, True])
def test_a_temperature_out_of_range_is_refused(tiny_llama, bad):
    with pytest.raises(InputError, match=r"temperature .* is not a number from 0 to 5"):
        generate(tiny_llama, PROMPT, temperature=bad)


@pytest.mark.parametrize(
    ("field", "bad"),
    [("max_new_tokens", 0), ("max_new_tokens", 1025), ("max_new_tokens", "5"), ("seed", -1), ("seed", 2**63)],
)
def test_numbers_out_of_range_are_refused_by_name(tiny_llama, field, bad):
    with pytest.raises(InputError, match=f"{field} .* is not a whole number"):
        generate(tiny_llama, PROMPT, **{field: bad})


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
