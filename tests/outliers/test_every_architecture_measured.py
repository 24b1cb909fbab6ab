"""Every measurement of the outlier lab and the lesson, on a tiny model of every architecture that is served: what a
block hands on is read whole, changed where it is said to be changed, and what cannot be told is refused in words."""

import copy
import json
from functools import partial

import pytest
import torch
from architectures import tiny_model
from every_architecture import POSSIBLE, REFUSED, VOCABULARY, sequences
from model_state import SKY
from test_architectures import FEW

from wanda_core.errors import InputError, ModelError, WandaError
from wanda_core.evaluation import in_pieces
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.linears import decoder_blocks
from wanda_core.model.loading import load_model
from wanda_core.outliers.ablation import PLACES, Ablation, ablated, channel_means
from wanda_core.outliers.analysis import analyse, standing_out
from wanda_core.outliers.features import outlier_features
from wanda_core.outliers.kept_analysis import load_analysis, save_analysis
from wanda_core.outliers.massive import massive
from wanda_core.outliers.norms import largest_norms
from wanda_core.outliers.readers import unread
from wanda_core.outliers.run_log import run_of
from wanda_core.outliers.sentence import attention_to_first, read_sentence
from wanda_core.outliers.sinks import sink_report
from wanda_core.outliers.super_weight import largest_weight, strongest, super_weights, zeroed
from wanda_core.progress import finish
from wanda_core.report.lesson import consequences, sentences

SEVERAL = {"gemma3n_text": 4, "deepseek_v4": 4, "qwen4_exp": 4, "qwen4_exp_text": 4}  # streams that a model carries
NOT_BY_TOKEN = {"blt": "nothing can be told of a token"}  # its blocks read several bytes as one
CANNOT_WRITE = {"blt", "xlstm"}  # transformers fails as it goes on from what was written
NO_FIRST_TOKEN = r"read \d+ pieces where the text has 24 tokens, .* choose all tokens or another model$"
TOO_SHORT = "hands on no attention weights|no later token looks back"
QUICK = sorted({*FEW, *SEVERAL, *NOT_BY_TOKEN, "openai-gpt", "roberta"} - {"qwen4_exp"})


def raw(output):
    return output[0] if isinstance(output, (tuple, list)) else output


@torch.no_grad()
def handed_on(lm, ids):
    """What every block gives in a plain pass, by hand: (B, L, S), of several streams the first stream's D first."""
    seen = []
    _, blocks = decoder_blocks(lm.model)
    handles = [block.register_forward_hook(lambda module, args, out: seen.append(raw(out).clone())) for block in blocks]
    try:
        lm.model(ids, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    rows = []
    for hidden in seen:
        if hidden.dim() == 3:
            rows.append(hidden[0])
        elif hidden.shape[1] == 1:
            rows.append(torch.cat([one[0] for one in hidden], dim=1))
        else:
            rows.append(torch.cat([hidden[0, :, n] for n in range(hidden.shape[2])], dim=1))
    return torch.stack(rows)


def check_sentence(lm, name):
    if name in NOT_BY_TOKEN:
        for ask in (read_sentence, super_weights):
            with pytest.raises(ModelError, match=NOT_BY_TOKEN[name]):
                ask(lm, SKY)
        return
    read = read_sentence(lm, SKY)
    ids = torch.tensor([lm.encode(SKY)])
    expected = handed_on(lm, ids)
    assert read.hidden.shape == expected.shape == (len(lm.linears), len(read.tokens), lm.stream_width)
    torch.testing.assert_close(read.hidden, expected, rtol=1e-3, atol=1e-4)
    found = massive(read.hidden, 0.0, 1.0)
    assert all(read.hidden[one.block, one.token, one.channel] == one.value for one in found)
    if read.to_first is None:
        with pytest.raises(InputError, match=TOO_SHORT):
            sink_report(read)
    else:
        assert sink_report(read).per_block.shape == sink_report(read).entering.shape == (len(lm.linears),)
        torch.testing.assert_close(attention_to_first(lm, SKY), read.to_first, rtol=1e-3, atol=1e-4, equal_nan=True)


def check_super_weight(lm, name):
    if name in NOT_BY_TOKEN:
        return
    found = super_weights(lm, SKY)
    if not found:
        with pytest.raises(InputError, match="no super weight to look for; choose another model"):
            strongest(lm, found)
        return
    first = strongest(lm, found)
    ids = torch.tensor([lm.encode(SKY)])
    for place in ((first.linear, first.row, first.column), largest_weight(lm, (first.linear, first.row, first.column))):
        other = LanguageModel(copy.deepcopy(lm.model), lm.tokenizer, "tiny", "local")
        with torch.no_grad():
            other.linear(place[0]).weight[place[1], place[2]] = 0
            expected = other.model(ids, use_cache=False).logits
            with zeroed(lm, *place):
                assert torch.allclose(lm.model(ids, use_cache=False).logits, expected, rtol=1e-3, atol=1e-4), place


def check_analysis(lm, folder):
    text = sequences()
    found = analyse(lm, text)
    blocks, width = len(lm.linears), lm.stream_width
    states = [handed_on(lm, sample[None]) for sample in text.ids]
    assert found.channel_max.shape == found.stream_norms.shape == (blocks, width)
    torch.testing.assert_close(
        found.channel_max, torch.stack([one.abs().amax(1) for one in states]).amax(0), rtol=1e-3, atol=1e-4
    )
    assert len(standing_out(found)) >= min(5, width)
    assert largest_norms(lm, found.profile)
    if found.features is not None:
        assert found.features.over.shape[1] == lm.width
        assert found.features.positions == (sum(one.shape[1] for one in states),) * len(found.features.blocks)
        assert found.features.one_stream == lm.one_stream == (width == lm.width)
        assert run_of(lm, found, outlier_features(found.features)).channel < width
    save_analysis(found, folder / "kept", 1.0)
    assert load_analysis(folder / "kept", lm, text) is not None
    means = channel_means(lm, text)
    by_hand = torch.stack([torch.stack([one[:, 0], one[:, 1:].mean(1)], dim=1) for one in states]).mean(0)
    torch.testing.assert_close(means, by_hand, rtol=1e-3, atol=1e-4)
    return found, means


def check_ablation(lm, means, name):
    """The last channel, of several streams the last one's: it becomes what is said in every block, and no other."""
    ids = sequences().ids[:1]
    dense = handed_on(lm, ids)
    last = lm.stream_width - 1
    for value in ("zero", "mean"):
        for tokens in PLACES:
            if name in NOT_BY_TOKEN and tokens != "all":
                one = Ablation((last,), value, tokens)
                with torch.no_grad(), pytest.raises(InputError, match=NO_FIRST_TOKEN), ablated(lm, one, means):
                    lm.model(ids, use_cache=False)
                continue
            with torch.no_grad(), ablated(lm, Ablation((last,), value, tokens, from_block=len(lm.linears) - 1), means):
                assert torch.isfinite(lm.model(ids, use_cache=False).logits).all()
                end = handed_on(lm, ids)[-1]
            rows = {"all": slice(None), "first": slice(0, 1), "others": slice(1, None)}[tokens]
            first, others = means[-1, :, last] if value == "mean" else torch.zeros(2)
            expected = torch.cat([first[None], others.expand(len(end) - 1)])[rows]
            torch.testing.assert_close(end[rows, last], expected, rtol=1e-5, atol=1e-5)
            kept = [row for row in range(len(end)) if row not in range(len(end))[rows]]
            torch.testing.assert_close(end[kept, last], dense[-1, kept, last], rtol=1e-3, atol=1e-4)
    changed = []
    _, blocks = decoder_blocks(lm.model)
    with torch.no_grad(), ablated(lm, Ablation((last,))):
        handle = blocks[0].register_forward_hook(lambda module, args, out: changed.append(raw(out).clone()))
        try:
            lm.model(ids, use_cache=False)
        finally:
            handle.remove()
    stream = lm.stream_of(changed[0])[0]
    assert not stream[:, last].any()
    torch.testing.assert_close(stream[:, :last], dense[0, :, :last], rtol=1e-3, atol=1e-4)
    with pytest.raises(InputError, match=f"channels 0 to {last}"), ablated(lm, Ablation((last + 1,))):
        pass
    if not lm.one_stream:
        with pytest.raises(InputError, match="reads its residual stream itself"), unread(lm, 0, lm.kinds):
            pass


def check_pieces(lm, name, monkeypatch):
    """A long text is read piece by piece where a token's why is told; Moshi's cache forgets what its own mask shows,
    beyond its window."""
    monkeypatch.setattr(in_pieces, "PIECE", 8)
    ids = sequences().ids[:1]
    with torch.no_grad():
        whole = lm.model(ids, use_cache=False).logits[0]
    if name != "moshi":
        torch.testing.assert_close(torch.cat(list(in_pieces.logits_in_pieces(lm, ids))), whole, rtol=1e-3, atol=1e-3)


def check_lesson(lm, found, name):
    spike = {consequences.strongest(found)} if lm.one_stream else set()  # else a channel, and no column
    for block, linears in enumerate(lm.linears):
        if linears:
            told = consequences.masks(lm, found, block)
            json.dumps(told, allow_nan=False)
            assert (told["spike"] is None) or lm.one_stream
            assert not {one["channel"] for one in told["features"]} - ({one[0] for one in told["loudest"]} | spike)
    asked = {
        "meet": partial(sentences.meet_steps, lm, SKY),
        "source": partial(sentences.source_steps, lm),
        "change": partial(sentences.change_steps, lm, "A weight matters."),
        "sinks": partial(sentences.sinks_steps, lm, SKY),
        "lean": partial(consequences.lean_steps, lm, found, sequences()),
    }
    for step, steps in asked.items():
        try:
            told = finish(steps())
        except WandaError as error:
            known = {"sinks": "hands on no attention weights", "lean": "failed while generating"}.get(step, "nothing")
            known = "first token cannot be told" if name in NOT_BY_TOKEN and step == "lean" else known
            if name not in NOT_BY_TOKEN and (known not in str(error) or (step == "lean" and name not in CANNOT_WRITE)):
                raise AssertionError(step) from error
            continue
        json.dumps(told, allow_nan=False)
        if step == "lean":
            assert bool(told["readers"]) == (found.features is not None and lm.one_stream)


def measure(name, tokenizer, folder, monkeypatch):
    """Raise AssertionError where a measurement is not that of the model, or ends in no words of ours."""
    for room in (sentences, consequences):
        monkeypatch.setattr(room, "WINDOWS", 1)
        monkeypatch.setattr(room, "read_text", lambda path: "The sky is blue, and the sea is deep. " * 8)
    monkeypatch.setattr(sentences, "SEQ_LEN", 16)
    monkeypatch.setattr(consequences, "LINE_TOKENS", 2)
    tiny_model(name, VOCABULARY).save_pretrained(folder / "dense")
    tokenizer.save_pretrained(folder / "dense")
    lm = load_model(str(folder / "dense"), device="cpu", dtype=torch.float32)
    assert lm.stream_width == lm.width * SEVERAL.get(name, 1)
    found, means = check_analysis(lm, folder)
    check_sentence(lm, name)
    check_super_weight(lm, name)
    check_ablation(lm, means, name)
    check_lesson(lm, found, name)
    check_pieces(lm, name, monkeypatch)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", QUICK)
def test_a_few_are_measured_by_everything(name, tokenizer, tmp_path, monkeypatch, transformers_as_before):
    measure(name, tokenizer, tmp_path, monkeypatch)


@pytest.mark.families
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name in POSSIBLE if name not in REFUSED and name not in QUICK])
def test_every_architecture_is_measured_by_everything(name, tokenizer, tmp_path, monkeypatch, transformers_as_before):
    measure(name, tokenizer, tmp_path, monkeypatch)
