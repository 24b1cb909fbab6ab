"""Why a token came: what every model finds likeliest at its place, and how far each is from the dense one."""

import math
from dataclasses import replace

import pytest
import torch
from engine_room import ASKED, looked, pruned, recipe, server, spoken

from wanda_core.errors import InputError
from wanda_core.evaluation import in_pieces
from wanda_core.evaluation.generation import prompt_ids
from wanda_core.progress import finish
from wanda_core.pruning.packed import laid_over
from wanda_ui.engine import tokens, work
from wanda_ui.engine.tokens import MOST_LIKELY, Place, told_at

FOLLOWING = (5, 77, 301)


@pytest.fixture
def state(tiny_llama, monkeypatch):
    monkeypatch.setattr(work, "EVAL_SEQ_LEN", 128)  # the tiny model reads no more than 256 tokens
    return server(tiny_llama)


def told(state, recipes, place, asked=ASKED):
    return finish(state.told_steps("tiny", recipes, asked, place))


@torch.no_grad()
def by_hand(lm, ids):
    """Log-probabilities after every token, in float64."""
    return lm.model(ids).logits[0].double().log_softmax(-1)


@pytest.mark.parametrize("chat", [False, True])
def test_every_model_says_what_a_plain_pass_says(state, tiny_llama, chat):
    asked = replace(ASKED, chat=chat)  # without a template the switch changes nothing
    recipes = [recipe(sparsity=0.7), recipe(sparsity=0.3)]
    found = told(state, recipes, Place(FOLLOWING[:2], FOLLOWING[2:]), asked)
    ids = torch.cat([prompt_ids(tiny_llama, ASKED.prompt, chat=chat), torch.tensor([FOLLOWING])], dim=1)
    dense = by_hand(tiny_llama, ids)
    passes = [dense]
    for sparsity in (0.7, 0.3):
        with laid_over(tiny_llama, pruned(state, sparsity=sparsity).variant) as over:
            passes.append(by_hand(over, ids))
    assert found.at == ids.shape[1] - 1
    assert found.prompt == ids.shape[1] - len(FOLLOWING)
    assert found.pieces == tuple(tiny_llama.decode([token]) for token in ids[0].tolist())
    for likeliest, logs in zip(found.likeliest, passes, strict=True):
        expected = sorted(enumerate(logs[found.at - 1].exp().tolist()), key=lambda pair: -pair[1])[:MOST_LIKELY]
        assert [token for token, _ in likeliest] == [tiny_llama.decode([token]) for token, _ in expected]
        assert [p for _, p in likeliest] == pytest.approx([p for _, p in expected], rel=1e-4)
    for apart, logs in zip(found.divergence, passes[1:], strict=True):
        expected = (dense.exp() * (dense - logs)).sum(-1)[:-1].tolist()  # of the token after each but the last
        assert apart[0] == 0
        assert list(apart[1:]) == pytest.approx(expected, rel=1e-3, abs=1e-5)
    assert sum(found.divergence[0]) > sum(found.divergence[1]) > 0  # more is removed


def test_a_long_text_is_read_in_pieces_with_a_step_for_each(state, monkeypatch):
    place, variants = Place(FOLLOWING[:2], FOLLOWING[2:]), [("tiny", pruned(state, sparsity=0.5).variant)]
    whole = finish(told_at(state.models, "tiny", variants, ASKED, place))
    monkeypatch.setattr(in_pieces, "PIECE", 3)
    said, cut = spoken(told_at(state.models, "tiny", variants, ASKED, place))
    assert len(said) == 2 * math.ceil(len(whole.pieces) / 3)
    assert cut.pieces == whole.pieces
    for ours, theirs in zip(cut.likeliest, whole.likeliest, strict=True):
        assert [text for text, _ in ours] == [text for text, _ in theirs]
        assert [p for _, p in ours] == pytest.approx([p for _, p in theirs], rel=1e-4)
    assert cut.divergence[0] == pytest.approx(whole.divergence[0], rel=1e-3, abs=1e-5)


def test_more_than_there_is_memory_for_is_refused(state, monkeypatch):
    rows = len(state.models["tiny"].lm.model.get_input_embeddings().weight)
    monkeypatch.setattr(tokens, "MOST_LOGITS", rows * 7)
    with pytest.raises(InputError, match="have 8 tokens, and the predictions of at most 7 are"):
        told(state, [recipe(sparsity=0.5)], Place(FOLLOWING))


def test_the_dense_model_alone_has_nothing_to_differ_from(state):
    found = told(state, [], Place(FOLLOWING))
    assert (len(found.likeliest), found.divergence) == (1, ())


def test_the_likeliest_first_token_is_the_one_that_the_answer_begins_with(state, tiny_llama):
    _, look = looked(state)
    first = told(state, [], Place((), look.seen.answer.tokens))
    assert first.likeliest[0][0][0] == tiny_llama.decode([look.seen.answer.tokens[0]])
    assert first.likeliest[0][0][1] == pytest.approx(look.seen.answer.probabilities[0], rel=1e-4)
    text = " the air"
    tokens = tuple(tiny_llama.tokenizer(text, add_special_tokens=False)["input_ids"])
    assert told(state, [recipe()], Place(text)) == told(state, [recipe()], Place(tokens))


@pytest.mark.parametrize("tokens", [(-1,), (320,), (2**40,), (1,) * 260])
@pytest.mark.parametrize("before", [True, False])
def test_tokens_that_are_not_the_models_or_too_many_are_refused(state, tokens, before):
    with pytest.raises(InputError):
        told(state, [], Place(tokens) if before else Place((1,), tokens))
