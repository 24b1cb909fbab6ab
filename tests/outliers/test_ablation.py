"""Ablation against blocks run by hand, and what it leaves and refuses."""

import pytest
import torch
from families import tiny

from wanda_core.assets import BUILTIN_EVALUATION
from wanda_core.errors import InputError
from wanda_core.evaluation.generation import generate, greedy_steps
from wanda_core.evaluation.perplexity import perplexity
from wanda_core.model.linears import decoder_blocks
from wanda_core.outliers.ablation import Ablation, ablate, ablate_steps, ablated, channel_means, random_channels
from wanda_core.outliers.verdict import verdict
from wanda_core.progress import Progress, finish
from wanda_core.text.files import read_text
from wanda_core.text.windows import calibrate


@pytest.fixture(scope="module")
def ids(tiny_llama, text):
    return torch.tensor([tiny_llama.encode(text)[:24]], device=tiny_llama.device)


@torch.no_grad()
def by_hand(lm, ids, channels, values, rows, from_block):
    """Llama's blocks one after the other, the chosen entries written over in between. values: (B, L, k)."""
    inner = lm.model.model
    hidden = inner.embed_tokens(ids)
    rotary = inner.rotary_emb(hidden, torch.arange(ids.shape[1], device=ids.device)[None])
    for index, block in enumerate(inner.layers):
        out = block(hidden, position_embeddings=rotary, attention_mask=None)
        hidden = (out[0] if isinstance(out, tuple) else out).clone()
        if index >= from_block:
            for row in rows:
                for place, channel in enumerate(channels):
                    hidden[0, row, channel] = values[index][row][place]
    return lm.model.lm_head(inner.norm(hidden))


@pytest.mark.parametrize(
    ("tokens", "rows"), [("all", range(24)), ("first", range(1)), ("others", range(1, 24))], ids=lambda v: str(v)
)
@pytest.mark.parametrize("from_block", [0, 2])
def test_zeroed_channels_are_those_of_blocks_run_by_hand(tiny_llama, ids, tokens, rows, from_block):
    nothing = torch.zeros(3, 24, 2)
    expected = by_hand(tiny_llama, ids, (3, 17), nothing, rows, from_block)
    with torch.no_grad(), ablated(tiny_llama, Ablation((3, 17), "zero", tokens, from_block)):
        found = tiny_llama.model(ids, use_cache=False).logits
    assert torch.allclose(found, expected, atol=1e-5)
    plain = by_hand(tiny_llama, ids, (), nothing, (), 0)
    assert not torch.allclose(found, plain, atol=1e-3)
    with torch.no_grad():
        assert torch.allclose(tiny_llama.model(ids, use_cache=False).logits, plain, atol=1e-5)


def test_means_are_per_block_with_the_first_token_apart(own_llama, text):
    calibration = calibrate(own_llama, text, samples=3, seq_len=10)
    means = channel_means(own_llama, calibration)
    assert means.shape == (3, 2, 64)
    with torch.no_grad():
        heard = [
            own_llama.model(row[None].to(own_llama.device), output_hidden_states=True).hidden_states[1].cpu()
            for row in calibration.ids
        ]
    assert torch.allclose(means[0, 0], torch.stack([h[0, 0] for h in heard]).mean(0), atol=1e-5)
    assert torch.allclose(means[0, 1], torch.cat([h[0, 1:] for h in heard]).mean(0), atol=1e-5)


def test_channels_set_to_their_mean_are_those_of_blocks_run_by_hand(tiny_llama, ids, text):
    means = channel_means(tiny_llama, calibrate(tiny_llama, text, samples=2, seq_len=12))
    values = torch.stack([torch.cat([m[:1], m[1:].expand(23, -1)])[:, [5]] for m in means])  # (B, L, 1)
    expected = by_hand(tiny_llama, ids, (5,), values, range(24), 1)
    with torch.no_grad(), ablated(tiny_llama, Ablation((5,), "mean", from_block=1), means):
        assert torch.allclose(tiny_llama.model(ids, use_cache=False).logits, expected, atol=1e-5)


def test_the_report_has_five_random_draws_of_other_channels(tiny_llama, text):
    report = ablate(tiny_llama, Ablation((1, 2)), text, seq_len=32, windows=2)
    assert report.untouched == perplexity(tiny_llama, text, seq_len=32, windows=2).perplexity
    with ablated(tiny_llama, Ablation((1, 2))):
        assert report.chosen.perplexity == perplexity(tiny_llama, text, seq_len=32, windows=2).perplexity
    assert len(report.random) == 5
    for draw in report.random:
        assert len(draw.channels) == 2
        assert not {1, 2} & set(draw.channels)
    low, high = report.random_range
    assert low <= min(d.perplexity for d in report.random) <= high
    assert random_channels((1, 2), 64, 5, 0) == [d.channels for d in report.random]


def test_channels_at_their_mean_are_measured_at_zero_besides(tiny_llama, text):
    means = channel_means(tiny_llama, calibrate(tiny_llama, text, samples=2, seq_len=12))
    report = ablate(tiny_llama, Ablation((1, 2), "mean", "first"), text, means=means, seq_len=32, windows=2)
    assert report.zeroed is not None
    with ablated(tiny_llama, Ablation((1, 2), "zero", "first")):
        assert report.zeroed.perplexity == perplexity(tiny_llama, text, seq_len=32, windows=2).perplexity
    assert len(report.random) == 5
    assert ablate(tiny_llama, Ablation((1, 2)), text, seq_len=32, windows=1).zeroed is None


def test_nothing_is_blamed_in_a_model_without_outliers(tiny_llama, text):
    report = ablate(tiny_llama, Ablation((7,)), text, seq_len=32, windows=2)
    assert verdict(report.untouched, report.chosen.perplexity, [d.perplexity for d in report.random]) == "harmless"


@pytest.mark.long  # forty seconds
@pytest.mark.builtin
def test_the_massive_activation_acts_like_a_constant_zero_destroys_and_its_mean_is_harmless(builtin_lm):
    evaluation = read_text(BUILTIN_EVALUATION)
    means = channel_means(builtin_lm, calibrate(builtin_lm, samples=4))
    report = ablate(builtin_lm, Ablation((507,), "mean", "first"), evaluation, means=means, seq_len=256, windows=1)
    others = [draw.perplexity for draw in report.random]
    assert verdict(report.untouched, report.chosen.perplexity, others) == "harmless"
    assert report.chosen.perplexity < 1.05 * report.untouched
    assert report.zeroed is not None
    assert verdict(report.untouched, report.zeroed.perplexity, others) == "these"
    assert report.zeroed.perplexity > 10 * report.untouched


def test_between_two_steps_and_after_a_cancel_the_model_is_its_own(tiny_llama, ids, text):
    _, blocks = decoder_blocks(tiny_llama.model)
    hooks = [len(block._forward_hooks) for block in blocks]
    with torch.no_grad():
        before = tiny_llama.model(ids, use_cache=False).logits
    steps = ablate_steps(tiny_llama, Ablation((1,)), text, seq_len=32, windows=3)
    for step in steps:
        with torch.no_grad():
            assert torch.equal(tiny_llama.model(ids, use_cache=False).logits, before)
        if (step.detail, step.number) == ("random", 4):
            break
    steps.close()
    assert [len(block._forward_hooks) for block in blocks] == hooks


PROMPT = "Rivers carry sand"


def test_every_setting_has_a_line_that_the_changed_model_writes(tiny_llama, tiny_gpt2, tiny_opt, text):
    for lm in (tiny_llama, tiny_gpt2, tiny_opt):
        plan = Ablation(tuple(range(20)), tokens="others")
        report = ablate(lm, plan, text, seq_len=16, windows=1, prompt=PROMPT, line_tokens=6)
        assert report.prompt == PROMPT
        assert report.line == last(generate(lm, PROMPT, max_new_tokens=6))
        with ablated(lm, plan):
            assert report.chosen.line == last(generate(lm, PROMPT, max_new_tokens=6))
        for draw in report.random:
            with ablated(lm, Ablation(draw.channels, tokens="others")):
                assert draw.line == last(generate(lm, PROMPT, max_new_tokens=6))
        assert report.chosen.line != report.line
    without = ablate(tiny_llama, Ablation((1,)), text, seq_len=16, windows=1)
    assert (without.prompt, without.line, without.chosen.line) == (None, None, None)


@pytest.mark.parametrize("family", ["Llama", "GPT2", "OPT", "Mamba2", "Jamba", "Qwen3Next", "Gemma3Text"])
@pytest.mark.parametrize("tokens", ["first", "others"])
def test_the_only_token_of_a_cached_pass_is_not_the_first(tokenizer, family, tokens):
    lm = tiny(family, tokenizer, "cpu")
    means = torch.linspace(-9, 9, len(lm.linears) * 2 * lm.width).reshape(-1, 2, lm.width)
    passes: list[int] = []

    def listen(module, args, kwargs):
        passes.append(kwargs["input_ids"].shape[1])

    for plan in (Ablation(tuple(range(9)), "zero", tokens), Ablation(tuple(range(9)), "mean", tokens)):
        passes.clear()
        listening = lm.model.register_forward_pre_hook(listen, with_kwargs=True)
        with ablated(lm, plan, means):
            cached = last(generate(lm, PROMPT, max_new_tokens=8))
            listening.remove()
            assert cached == finish(greedy_steps(lm, PROMPT, 8))
        assert set(passes[1:]) == {1}  # so a cache was used


def last(steps) -> str:
    *_, end = steps
    return end.text


def test_a_line_is_cancelled_between_two_of_its_tokens(tiny_llama, text):
    ids = torch.tensor([tiny_llama.encode(PROMPT)], device=tiny_llama.device)
    with torch.no_grad():
        before = tiny_llama.model(ids, use_cache=False).logits
    steps = ablate_steps(tiny_llama, Ablation((1,)), text, seq_len=16, windows=1, prompt=PROMPT, line_tokens=9)
    done = []
    for step in steps:
        done.append(step.fraction)
        with torch.no_grad():
            assert torch.equal(tiny_llama.model(ids, use_cache=False).logits, before)
        if step.detail == "chosen" and step.innermost == Progress("line", 3, 9, "tokens"):
            break
    assert (step.stage, step.detail, step.number, step.total) == ("ablation", "chosen", 2, 7)
    assert step.innermost == Progress("line", 3, 9, "tokens")
    steps.close()
    assert done == sorted(done)
    assert sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in tiny_llama.model.modules()) == 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"prompt": "  "}, "the prompt is empty"),
        ({"prompt": "stones " * 300}, "tokens and 256 are read at most for a line"),
        ({"prompt": "a", "line_tokens": 0}, "line_tokens 0"),
        ({"prompt": "a", "line_tokens": 129}, "line_tokens 129"),
    ],
)
def test_a_line_that_cannot_be_written_is_refused_before_anything_runs(tiny_llama, text, settings, words):
    with pytest.raises(InputError, match=words):
        next(ablate_steps(tiny_llama, Ablation((1,)), text, seq_len=16, windows=1, **settings))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Ablation(()), "name each once"),
        (lambda: Ablation((1, 1)), "name each once"),
        (lambda: Ablation((1,), "half"), "not one of zero, mean"),
        (lambda: Ablation((1,), tokens="last"), "not one of all, first, others"),
    ],
)
def test_a_plan_that_means_nothing_is_refused(make, words):
    with pytest.raises(InputError, match=words):
        make()


@pytest.mark.parametrize(
    ("plan", "settings", "words"),
    [
        (Ablation((64,)), {}, "channel 64 does not exist; this model has channels 0 to 63"),
        (Ablation((-1,)), {}, "channel -1 does not exist"),
        (Ablation((True,)), {}, "channel True does not exist"),
        (Ablation((1,), from_block=3), {}, "from_block 3"),
        (Ablation((1,)), {"draws": 4}, "draws 4"),
        (Ablation((1,), "mean"), {}, "take them with channel_means"),
        (Ablation(tuple(range(40))), {}, "choose at most half"),
    ],
)
def test_what_a_model_does_not_have_is_refused(tiny_llama, text, plan, settings, words):
    with pytest.raises(InputError, match=words):
        ablate(tiny_llama, plan, text, seq_len=16, windows=1, **settings)
