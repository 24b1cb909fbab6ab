"""Detectors on planted outliers: found where planted, nothing elsewhere, and each threshold from both sides."""

import math
from dataclasses import fields

import pytest
import torch
from families import FAMILIES, tiny
from model_state import SKY, assert_same, state_of

from wanda_core.errors import InputError
from wanda_core.outliers import massive as massive_module
from wanda_core.outliers.analysis import analyse
from wanda_core.outliers.features import (
    FeatureCounts,
    feature_counts_steps,
    feature_of,
    find_outlier_features,
    outlier_features,
)
from wanda_core.outliers.massive import Massive, massive, massive_mask, top_and_median, top_channels
from wanda_core.outliers.sentence import Sentence, read_sentence, read_sentence_steps, readable
from wanda_core.outliers.sinks import sink_report
from wanda_core.progress import finish
from wanda_core.text.windows import calibrate

# ---- massive activations -------------------------------------------------------------------------------------------


def ones(value: float) -> torch.Tensor:
    """Two blocks of 3 tokens and 4 channels, every |x| = 0.25, except one in block 1, token 2, channel 3."""
    hidden = torch.full((2, 3, 4), 0.25)
    hidden[:, ::2] *= -1
    hidden[1, 2, 3] = value
    return hidden


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (250.0, True),  # exactly 1,000 × the median of 0.25
        (-250.0, True),
        (float(torch.nextafter(torch.tensor(250.0), torch.tensor(0.0))), False),
    ],
)
def test_at_the_ratio_it_is_massive_and_just_below_it_is_not(value, found):
    expected = [Massive(1, 2, 3, value, 1000.0)] if found else []
    assert massive(ones(value)) == expected
    assert massive_mask(ones(value)).nonzero().tolist() == ([[1, 2, 3]] if found else [])


@pytest.mark.parametrize(("value", "found"), [(100.0, False), (100.00001, True)])
def test_the_magnitude_must_be_passed_and_not_only_reached(value, found):
    assert bool(massive(ones(value), ratio=1.0)) is found


def test_each_block_is_held_against_its_own_median_and_the_largest_comes_first():
    hidden = torch.ones(2, 2, 4)
    hidden[1] *= 10
    hidden[0, 0, 1], hidden[1, 1, 2], hidden[1, 0, 2] = 2000, -30000, 9000  # the last is 900 × its median
    found = massive(hidden)
    assert [(m.block, m.token, m.channel, m.value, m.ratio) for m in found] == [
        (1, 1, 2, -30000, 3000),
        (0, 0, 1, 2000, 2000),
    ]
    top, median = top_and_median(hidden)
    assert top.tolist() == [[2000, 1, 1], [30000, 9000, 10]]
    assert median.tolist() == [1, 10]
    assert top_channels(hidden[1], 2) == [2, 0]


def test_a_loose_criterion_lists_a_bounded_number_and_a_senseless_one_is_refused(monkeypatch):
    monkeypatch.setattr(massive_module, "MOST_LISTED", 5)
    assert len(massive(ones(1.0), magnitude=0, ratio=0)) == 5
    assert int(massive_mask(ones(1.0), magnitude=0, ratio=0).sum()) == 24
    hidden = torch.tensor([3.0, 2, 9, 2, 3, 2, 9, 2, 2, 7, 2, -9]).reshape(2, 2, 3)
    listed = [(m.value, m.block, m.token, m.channel) for m in massive(hidden, magnitude=0, ratio=0)]
    assert listed == [(9, 0, 0, 2), (9, 1, 0, 0), (-9, 1, 1, 2), (7, 1, 1, 0), (3, 0, 0, 0)]  # equal ones by place
    for bad in (math.nan, math.inf, -1, "100", True):
        with pytest.raises(InputError, match="is not a number of 0 or more"):
            massive(ones(1.0), magnitude=bad)


def test_a_channel_scaled_by_hand_in_a_model_is_found_where_it_is_and_nowhere_else(own_llama):
    first, *_ = own_llama.encode(SKY)
    assert massive(read_sentence(own_llama, SKY).hidden) == []
    with torch.no_grad():
        own_llama.model.get_input_embeddings().weight[first, 21] = 50_000
    places = [i for i, token in enumerate(own_llama.encode(SKY)) if token == first]
    found = massive(read_sentence(own_llama, SKY).hidden)
    assert {(m.block, m.token, m.channel) for m in found} == {(b, t, 21) for b in range(3) for t in places}
    assert all(abs(m.value - 50_000) < 100 for m in found)


# ---- outlier features of LLM.int8() --------------------------------------------------------------------------------


def counts(over, positive=None, positions=100, magnitude=6.0):
    over = torch.tensor(over)
    positive = over // 2 if positive is None else torch.tensor(positive)
    blocks = tuple(range(len(over)))
    return FeatureCounts(magnitude, over, positive, blocks, ("attn.q",), (positions,) * len(over), len(over))


def test_a_feature_at_both_shares_is_one_and_just_below_either_it_is_not():
    # four blocks of 100 positions: 24 of 400 is 6%, one block of four is 25%
    planted = counts([[24, 23, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]], [[18, 0, 0], [0] * 3, [0] * 3, [0] * 3])
    report = outlier_features(planted)
    assert [f.channel for f in report.features] == [0]
    (feature,) = report.features
    assert (feature.layer_share, feature.position_share, feature.positive_share) == (0.25, 0.06, 0.75)
    assert report.blocks_share == 0.25
    assert report.meets
    assert not outlier_features(planted, layer_share=0.2501).meets
    assert not outlier_features(planted, position_share=0.0601).meets
    assert outlier_features(planted, layer_share=0.2501).closest.channel == 0
    assert [f.channel for f in outlier_features(planted, position_share=0.0).features] == [0, 1]  # never the third


def test_five_blocks_are_too_many_for_one_to_be_a_quarter():
    assert not outlier_features(counts([[100], [0], [0], [0], [0]])).meets
    assert outlier_features(counts([[100], [0], [0], [0], [1]])).meets


def test_two_states_of_one_block_are_one_layer():
    over = torch.tensor([[50], [50], [0], [0]])
    report = outlier_features(
        FeatureCounts(6.0, over, over, (0, 0, 1, 1), ("q", "fc1"), (100,) * 4, 2), layer_share=0.5
    )
    assert report.features[0].layer_share == 0.5
    assert report.features[0].position_share == 0.25


def test_states_of_other_lengths_count_by_their_own_positions():
    over = torch.tensor([[10, 0], [0, 6]])  # all of 10 positions, and 6 of 90: 10 and 6 of 100 that were read
    counted = FeatureCounts(6.0, over, over, (0, 1), ("q", "k"), (10, 90), 2)
    report = outlier_features(counted)
    assert [(f.channel, f.position_share) for f in report.features] == [(0, 0.1), (1, 0.06)]
    assert [feature_of(counted, "q", channel) for channel in (0, 1)] == list(report.features)
    assert report.positions == 90


@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan, "a", True])
def test_a_share_that_is_none_is_refused(bad):
    with pytest.raises(InputError, match="is not a share from 0 to 1"):
        outlier_features(counts([[1]]), layer_share=bad)


def test_every_channel_by_itself_is_what_the_report_says_of_it():
    generator = torch.Generator().manual_seed(3)
    over = torch.randint(0, 30, (6, 40), generator=generator) * (torch.rand(6, 40, generator=generator) > 0.7)
    counted = FeatureCounts(6.0, over, over // 2, (0, 0, 1, 1, 2, 3), ("q", "up"), (60,) * 6, 5)
    report = outlier_features(counted)
    each = [feature_of(counted, "up", channel) for channel in range(40)]
    assert sorted(f.channel for f in each if f.meets) == sorted(f.channel for f in report.features)
    assert 0 < len(report.features) < 40
    assert {f.channel: f for f in report.features} == {f.channel: f for f in each if f.meets}
    assert feature_of(counted, "down", 3) is None  # reads no channel of the stream
    assert feature_of(counted, "up", 40) is None


def test_the_analysis_counts_on_its_way_what_a_pass_of_its_own_counts(tiny_llama, tiny_opt, text):
    for lm in (tiny_llama, tiny_opt):
        calibration = calibrate(lm, text, samples=3, seq_len=24)
        along, alone = analyse(lm, calibration).features, finish(feature_counts_steps(lm, calibration))
        assert torch.equal(along.over, alone.over)
        assert torch.equal(along.positive, alone.positive)
        rest = [field.name for field in fields(alone) if field.name not in ("over", "positive")]
        assert [getattr(along, name) for name in rest] == [getattr(alone, name) for name in rest]


def test_planted_features_are_counted_as_an_oracle_that_listens_to_the_norms_does(own_llama, text):
    with torch.no_grad():
        for norm in (own_llama.model.model.layers[1].input_layernorm, own_llama.model.model.layers[2].input_layernorm):
            norm.weight[9] = -300.0
    calibration = calibrate(own_llama, text, samples=3, seq_len=20)
    heard = []
    norms = [n for x in own_llama.model.model.layers for n in (x.input_layernorm, x.post_attention_layernorm)]
    handles = [norm.register_forward_hook(lambda m, a, out: heard.append(out[0])) for norm in norms]
    with torch.no_grad():
        for row in calibration.ids:
            own_llama.model(row[None].to(own_llama.device), use_cache=False)
    for handle in handles:
        handle.remove()
    states = torch.stack(heard).reshape(3, 6, 20, 64).cpu()  # sample, norm, token, channel
    passes = states.abs() >= 6.0
    share = passes.float().mean(dim=(0, 1, 2))

    before = state_of(own_llama.model)
    report = find_outlier_features(own_llama, calibration)
    assert_same(before, state_of(own_llama.model))
    assert [f.channel for f in report.features] == [9]
    assert report.features[0].layer_share == pytest.approx(2 / 3)
    assert report.features[0].position_share == pytest.approx(float(share[9]), abs=1e-6)
    positive = (passes & (states > 0))[..., 9].sum() / passes[..., 9].sum()
    assert report.features[0].positive_share == pytest.approx(float(positive))
    assert set(report.kinds) == {f"self_attn.{x}_proj" for x in "qkv"} | {"mlp.gate_proj", "mlp.up_proj"}
    assert not find_outlier_features(own_llama, calibration, layer_share=0.67).meets
    largest = float(states[..., 9].abs().amax())
    assert not find_outlier_features(own_llama, calibration, magnitude=largest * 1.001).meets


def test_what_is_read_in_gpt2_and_opt_is_the_first_linear_of_attention_and_mlp(tiny_gpt2, tiny_opt, text):
    for lm, kinds in (
        (tiny_gpt2, {"attn.c_attn", "mlp.c_fc"}),
        (tiny_opt, {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "fc1"}),
    ):
        report = find_outlier_features(lm, calibrate(lm, text, samples=2, seq_len=12))
        assert set(report.kinds) == kinds
        assert report.positions == 24


# ---- a sentence and its attention ----------------------------------------------------------------------------------


@torch.no_grad()
def attention_by_hand(lm, ids):
    """Llama's softmax attention from its matrices, block after block. -> (B, H, L, L)."""
    inner, config = lm.model.model, lm.model.config
    hidden = inner.embed_tokens(ids)
    length, heads = ids.shape[1], config.num_attention_heads
    cos, sin = inner.rotary_emb(hidden, torch.arange(length, device=ids.device)[None])

    def turned(x):
        half = x.shape[-1] // 2
        return x * cos + torch.cat([-x[..., half:], x[..., :half]], dim=-1) * sin

    out = []
    for block in inner.layers:
        x, attention = block.input_layernorm(hidden), block.self_attn
        q, k = (
            turned(p(x)[0].reshape(length, -1, attention.head_dim).transpose(0, 1))
            for p in (attention.q_proj, attention.k_proj)
        )  # (H, L, d), (H', L, d)
        k = k.repeat_interleave(heads // len(k), dim=0)
        logits = q @ k.transpose(1, 2) / math.sqrt(attention.head_dim)
        logits = logits.masked_fill(torch.ones(length, length, device=ids.device).triu(1).bool(), -math.inf)
        out.append(logits.softmax(dim=-1))
        made = block(hidden, position_embeddings=(cos, sin), attention_mask=None)
        hidden = made[0] if isinstance(made, tuple) else made
    return torch.stack(out)


def test_attention_to_the_first_token_is_that_of_matrices_multiplied_by_hand(own_llama):
    ids = torch.tensor([own_llama.encode(SKY)], device=own_llama.device)
    weights = attention_by_hand(own_llama, ids)
    expected = weights[:, :, 1:, 0].mean(dim=-1).cpu()
    before = state_of(own_llama.model)
    found = read_sentence(own_llama, SKY)
    assert_same(before, state_of(own_llama.model))
    assert torch.allclose(found.to_first, expected, atol=1e-5)
    assert found.to_first.shape == (3, 4)
    with torch.no_grad():
        plain = own_llama.model(ids, output_hidden_states=True).hidden_states[1:-1]
    for index, hidden in enumerate(plain):  # the last of them is normalised
        assert torch.allclose(found.hidden[index], hidden[0].cpu(), atol=1e-4)


def test_between_two_steps_and_after_a_cancel_the_model_is_its_own(own_llama):
    before = state_of(own_llama.model)
    steps = read_sentence_steps(own_llama, SKY)
    for step in steps:
        assert_same(before, state_of(own_llama.model))
        if step.done == 1:
            break
    steps.close()
    assert_same(before, state_of(own_llama.model))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_read_and_left_as_it_was_and_one_without_attention_says_so(tokenizer, family):
    lm = tiny(family, tokenizer, "cpu")
    before = state_of(lm.model)
    found = read_sentence(lm, SKY)
    assert_same(before, state_of(lm.model))
    assert found.hidden.shape == (len(lm.linears), len(found.tokens), lm.width)
    if found.to_first is None:
        assert family == "Mamba2"
        assert "no attention weights" in found.why_no_attention
        with pytest.raises(InputError, match="Choose another model"):
            sink_report(found)
        return
    known = torch.isfinite(found.to_first).all(dim=1)
    assert {"Jamba": 2, "Qwen3Next": 1}.get(family, len(lm.linears)) == int(known.sum())
    assert 0 <= float(found.to_first[known].min()) <= float(found.to_first[known].max()) <= 1


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ("", "is empty"),
        ("  \n ", "is empty"),
        (None, "is empty"),
        ("word " * 10_000, "has 50,000 characters and 256 tokens are read at most"),
        ("words and stones " * 60, "tokens and 256 are read at most"),
        ("half \ud83d of it", "character 6 of the sentence is half of a character"),
    ],
    ids=["empty", "blank", "none", "50,000 characters", "too many tokens", "lone surrogate"],
)
def test_a_sentence_that_cannot_be_read_is_answered_in_one(tiny_llama, sentence, words):
    with pytest.raises(InputError, match=words):
        read_sentence(tiny_llama, sentence)


def test_emoji_and_right_to_left_text_are_read_and_shown_piece_by_piece(tiny_llama):
    found = read_sentence(tiny_llama, "שלום 🙂 a\u202eb\n")
    assert len(found.tokens) == found.hidden.shape[1]
    assert "".join(t for t in found.tokens if "🙂" in t) == "🙂 1/4🙂 2/4🙂 3/4🙂 4/4"
    assert {"ש 1/2", "ש 2/2", "a", "b", "⏎"} <= set(found.tokens)
    assert "\u202e" not in "".join(found.tokens)
    assert readable("  ") == "␣␣"


def test_one_token_has_nobody_who_looks_back(tiny_llama):
    found = read_sentence(tiny_llama, "a")
    assert found.to_first is None
    assert "one token long" in found.why_no_attention


def test_the_correlation_is_that_of_attention_with_what_enters_the_block():
    hidden = torch.ones(5, 2, 3)
    hidden[:, 0, 1] = torch.tensor([1.0, 10.0, -1000.0, 10.0, 99.0])  # the last enters no block
    attention = torch.tensor([0.9, 0.1, 0.2, 0.4, 0.2])[:, None].repeat(1, 2)  # block 0 reads no block's output
    found = sink_report(Sentence("", ("a", "b"), hidden, attention))
    assert found.correlation == pytest.approx(1.0)  # 0, 1, 3, 1 against 0.1, 0.2, 0.4, 0.2
    assert found.per_block.tolist() == pytest.approx([0.9, 0.1, 0.2, 0.4, 0.2])
    assert found.entering.tolist()[1:] == [1, 10, 1000, 10]
    assert sink_report(Sentence("", ("a", "b"), hidden, attention * 0 + 0.5)).correlation is None
    assert sink_report(Sentence("", ("a", "b"), hidden[:2], attention[:2])).correlation is None


@pytest.mark.builtin
def test_the_built_in_model_has_channel_507_at_the_first_token_and_a_sink_with_it(builtin_lm):
    found = read_sentence(builtin_lm, SKY + " At dusk the light is red, and then the stars come out.")
    scalars = massive(found.hidden)
    assert {m.token for m in scalars} == {0}
    assert sorted(m.block for m in scalars if m.channel == 507) == list(range(11, 28))
    assert scalars[0].channel == 507
    assert 20_000 < scalars[0].value < 27_000
    report = sink_report(found)
    assert float(report.per_block[12:].mean()) > 2 * float(report.per_block[[0, 1, 10, 11]].mean())
    assert report.correlation > 0.5
