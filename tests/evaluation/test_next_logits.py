"""One pass a token: with the cache, in the caller's thread, for every family, and with nothing left changed."""

import copy
import math
import threading

import pytest
import torch
from families import FAMILIES, tiny
from model_state import assert_same, state_of

from wanda_core.evaluation import in_pieces
from wanda_core.evaluation.generation import generate, greedy_steps
from wanda_core.evaluation.in_pieces import logits_in_pieces
from wanda_core.evaluation.next_logits import next_logits
from wanda_core.model.language_model import LanguageModel
from wanda_core.progress import finish
from wanda_core.pruning.prune import prune
from wanda_core.recipe import PruneSpec

PROMPT = "The sky is"
AT_ONCE = {"Bloom", "Mamba2", "Jamba", "Qwen3Next"}  # families whose prompt is read in one pass


@pytest.fixture(autouse=True)
def no_thread(monkeypatch):
    """None but those in which tokenizers are called."""
    start = threading.Thread.start

    def started(thread):
        if thread.name != "apart":
            pytest.fail(f"{thread} was started")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", started)


@pytest.fixture
def passes(own_llama) -> list[tuple[int, bool, int]]:
    """Of each pass of `own_llama`: tokens, whether gradients would be kept, and the thread."""
    seen: list[tuple[int, bool, int]] = []

    def note(module, args, kwargs):
        ids = args[0] if args else kwargs["input_ids"]
        seen.append((ids.shape[1], torch.is_grad_enabled(), threading.get_ident()))

    own_llama.model.register_forward_pre_hook(note, with_kwargs=True)
    return seen


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_writes_what_its_own_generate_does_and_two_answers_in_turns_too(tokenizer, device, family):
    lm = tiny(family, tokenizer, device)
    lm.model.generation_config.eos_token_id = None
    ids = torch.tensor([lm.encode(PROMPT)], device=device)
    expected = lm.model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False, pad_token_id=0
    )[0, ids.shape[1] :].tolist()
    other = prune(lm, PruneSpec(method="magnitude", sparsity=0.3)).lm
    alone = list(generate(other, PROMPT, max_new_tokens=12))[-1]
    turns = zip(*(generate(one, PROMPT, max_new_tokens=12) for one in (lm, other, lm)), strict=True)
    first, pruned, again = list(turns)[-1]
    assert list(first.tokens) == list(again.tokens) == expected
    assert pruned == alone


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_every_familys_cached_logits_are_those_of_one_pass_over_all_tokens(tokenizer, device, family):
    """Greedy answers of random models often repeat one token, which proves little; here the tokens are given."""
    lm = tiny(family, tokenizer, device)
    ids = torch.randint(1, len(tokenizer), (1, 20), generator=torch.Generator().manual_seed(3)).to(device)
    whole = lm.model(ids, use_cache=False).logits[0].float()
    steps = next_logits(lm, ids[:, :5], 15)
    cached = [next(steps), *(steps.send(token) for token in ids[0, 5:])]
    spread = float(whole.std())
    assert spread > 0.05
    assert float((torch.stack(cached) - whole[4:]).abs().max()) < 1e-3 * spread


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_a_long_prompt_is_read_in_pieces_and_the_logits_are_those_of_one_pass(tokenizer, device, monkeypatch, family):
    monkeypatch.setattr(in_pieces, "PIECE", 6)
    lm = tiny(family, tokenizer, device)
    ids = torch.randint(1, len(tokenizer), (1, 20), generator=torch.Generator().manual_seed(3)).to(device)
    whole = lm.model(ids, use_cache=False).logits[0].float()
    steps = next_logits(lm, ids[:, :15], 5)
    read = [next(steps)]
    while read[-1] is None:
        read.append(next(steps))
    assert len(read) == (1 if family in AT_ONCE else 3)
    cached = [read[-1], *(steps.send(token) for token in ids[0, 15:])]
    assert float((torch.stack(cached) - whole[14:]).abs().max()) < 1e-3 * float(whole.std())
    along = list(logits_in_pieces(lm, ids))
    assert len(along) == (1 if family in AT_ONCE - {"Bloom"} else 4)
    assert float((torch.cat(along).float() - whole).abs().max()) < 1e-3 * float(whole.std())


def test_a_step_comes_after_each_piece_of_a_prompt(own_llama, passes, monkeypatch):
    monkeypatch.setattr(in_pieces, "PIECE", 4)
    length = len(own_llama.encode(PROMPT * 3))
    answers = list(generate(own_llama, PROMPT * 3, max_new_tokens=2))
    monkeypatch.undo()
    assert [len(answer.tokens) for answer in answers] == [0] * (math.ceil(length / 4) - 1) + [1, 2]
    assert answers[-1].tokens == list(generate(own_llama, PROMPT * 3, max_new_tokens=2))[-1].tokens
    assert max(width for width, *_ in passes[: math.ceil(length / 4)]) == 4


@pytest.mark.parametrize("setting", [True, False])
def test_every_pass_after_the_first_reads_one_token_whatever_the_checkpoint_says_of_caches(own_llama, passes, setting):
    own_llama.model.config.use_cache = own_llama.model.generation_config.use_cache = setting
    line = list(generate(own_llama, PROMPT, max_new_tokens=6))[-1].text
    assert [width for width, *_ in passes] == [len(own_llama.encode(PROMPT)), 1, 1, 1, 1, 1]
    assert line == finish(greedy_steps(own_llama, PROMPT, 6))  # which has no cache


def test_a_pass_runs_when_a_token_is_asked_for_and_in_the_thread_that_asks(own_llama, passes):
    stream = generate(own_llama, PROMPT, max_new_tokens=200)
    assert not passes
    for count in (1, 2, 3):
        assert len(next(stream).tokens) == len(passes) == count
    stream.close()
    assert next(stream, None) is None
    assert len(passes) == 3
    assert {thread for *_, thread in passes} == {threading.get_ident()}


def test_an_answer_that_is_never_begun_runs_nothing(own_llama, passes):
    generate(own_llama, PROMPT).close()
    assert not passes


@pytest.mark.parametrize("asked", [True, False])
def test_gradients_are_off_in_a_pass_alone(own_llama, passes, asked):
    with torch.set_grad_enabled(asked):
        stream = generate(own_llama, PROMPT, max_new_tokens=4)
        for _ in stream:
            assert torch.is_grad_enabled() == asked
    with torch.set_grad_enabled(asked):
        next(generate(own_llama, PROMPT))
        assert torch.is_grad_enabled() == asked
    assert len(passes) == 5
    assert not any(kept for _, kept, _ in passes)


def test_the_model_and_its_settings_stay_as_they_are_between_tokens_and_after_a_close(own_llama):
    def settings():
        return own_llama.model.config.to_dict(), own_llama.model.generation_config.to_dict()

    state, kept = state_of(own_llama.model), copy.deepcopy(settings())
    stream = generate(own_llama, PROMPT, max_new_tokens=9, temperature=1.0)
    for _ in range(3):
        next(stream)
        assert_same(state, state_of(own_llama.model))
        assert settings() == kept
    stream.close()
    assert_same(state, state_of(own_llama.model))
    assert settings() == kept


def test_one_answer_closed_leaves_the_other_to_go_on(own_llama):
    twin = LanguageModel(copy.deepcopy(own_llama.model), own_llama.tokenizer, "twin", "local")
    whole = list(generate(own_llama, PROMPT, max_new_tokens=10))[-1]
    first, second = (generate(lm, PROMPT, max_new_tokens=10) for lm in (own_llama, twin))
    next(first), next(second), next(first)
    first.close()
    assert list(second)[-1] == whole
