"""Blocks that are gone: the least influential ones, and what is left computes as the others did."""

import pytest
import torch
from families import FAMILIES, tiny
from test_neurons import calibration  # noqa: F401
from transformers import AutoModelForCausalLM

from wanda_core.checkpoint.save import save
from wanda_core.errors import ModelError
from wanda_core.model.linears import decoder_blocks
from wanda_core.shrinking import blocks
from wanda_core.shrinking.blocks import depth_settings, influence
from wanda_core.shrinking.shrink import shrink
from wanda_core.shrinking.spec import ShrinkSpec


def test_influence_by_hand():
    before = torch.tensor([[1.0, 0.0], [1.0, 0.0], [3.0, 4.0]])
    after = torch.tensor([[5.0, 0.0], [0.0, 2.0], [-3.0, -4.0]])
    assert influence(before, after).tolist() == pytest.approx([0.0, 1.0, 2.0])


class Text:
    """A configuration of four blocks."""

    def __init__(self, **given):
        self.attribute_map, self.given = {"num_hidden_layers": "n_layer"}, given
        self.__dict__.update(given)

    def to_dict(self):
        return self.given


def test_settings_that_tell_of_blocks_are_cut_alike():
    text = Text(
        layer_types=["a", "b", "c", "d"],
        mlp_only_layers=[1, 3],
        first_k_dense_replace=2,
        eos_token_id=[1, 2, 3, 4],
        n_layer=4,
    )
    assert depth_settings(text, [0, 2, 3], 4) == {
        "n_layer": 3,
        "layer_types": ["a", "c", "d"],
        "mlp_only_layers": [2],
        "first_k_dense_replace": 1,
    }


def test_settings_of_a_depth_said_otherwise_by_hand():
    own = {"1": {"head_dim": 16}, "3": {"head_dim": 8}}
    text = Text(ple_layer_ids=[1, 2, 4], per_layer_config=own, num_blocks=4, n_layer=4)
    left = {"per_layer_config": {"2": {"head_dim": 8}}, "num_blocks": 3, "n_layer": 3}
    assert depth_settings(text, [0, 2, 3], 4) == {**left, "ple_layer_ids": [1]}
    assert depth_settings(text, [0, 2, 3], 4, first=1) == {**left, "ple_layer_ids": [1, 3]}


@pytest.mark.parametrize("family", FAMILIES)
def test_blocks_gone_leave_the_others_as_they_are(device, tokenizer, calibration, tmp_path, family):  # noqa: F811
    lm = tiny(family, tokenizer, device)
    shrunk = shrink(lm, ShrinkSpec(blocks=1), calibration)
    (prefix, dense), (_, left) = decoder_blocks(lm.model), decoder_blocks(shrunk.lm.model)
    kept = shrunk.kept["blocks"].tolist()
    assert len(left) == len(dense) - 1 == len(kept)
    for place, index in enumerate(kept):
        for name, parameter in left[place].named_parameters():
            assert parameter is dense[index].get_parameter(name), f"{prefix}.{index}.{name}"
    assert shrunk.lm.model.get_experts_implementation() == lm.model.get_experts_implementation()
    ids = calibration.ids.to(device)
    with torch.no_grad():
        found = shrunk.lm.model(ids).logits
        again = AutoModelForCausalLM.from_pretrained(save(shrunk, tmp_path / "out"), dtype=torch.float32)
        assert torch.equal(again.to(device).eval()(ids).logits, found)


def test_a_block_that_does_nothing_goes_first(own_llama, text):
    from wanda_core.text.windows import calibrate

    idle = own_llama.model.model.layers[1]
    idle.self_attn.o_proj.weight.zero_()
    idle.mlp.down_proj.weight.zero_()
    drawn = calibrate(own_llama, text, samples=2, seq_len=16)
    with torch.no_grad():
        before = own_llama.model(drawn.ids.to(own_llama.device)).logits
    shrunk = shrink(own_llama, ShrinkSpec(blocks=1), drawn)
    assert shrunk.kept["blocks"].tolist() == [0, 2]
    assert shrunk.report.influences == pytest.approx([0.0], abs=1e-6)
    with torch.no_grad():
        assert torch.equal(shrunk.lm.model(drawn.ids.to(own_llama.device)).logits, before)


def test_what_is_left_is_measured_again(tiny_llama, text):
    from wanda_core.text.windows import calibrate

    drawn = calibrate(tiny_llama, text, samples=2, seq_len=16)
    first = shrink(tiny_llama, ShrinkSpec(blocks=1), drawn)
    both = shrink(tiny_llama, ShrinkSpec(blocks=2), drawn)
    second = shrink(first.lm, ShrinkSpec(blocks=1), drawn)
    assert both.report.influences == pytest.approx((*first.report.influences, *second.report.influences))
    assert both.lm.model.config.num_hidden_layers == 1
    assert len(both.lm.shrunk) == 1
    assert len(second.lm.shrunk) == 2


def test_of_jamba_only_the_last_block_can_go(device, tokenizer, calibration):  # noqa: F811
    """Every second block is of another kind, by its number: any other block would change those after it."""
    lm = tiny("Jamba", tokenizer, device)
    assert shrink(lm, ShrinkSpec(blocks=2), calibration).kept["blocks"].tolist() == [0, 1]


@pytest.mark.parametrize("where", ["smaller model tried", "dense block", "smaller block"])
def test_memory_that_runs_out_is_not_the_configurations_fault(tiny_llama, text, monkeypatch, where):
    from wanda_core.text.windows import calibrate

    drawn = calibrate(tiny_llama, text, samples=1, seq_len=16)
    dense, run = set(decoder_blocks(tiny_llama.model)[1]), blocks.BlockCall.run

    def spent(*args, **more):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory")

    if where == "smaller model tried":
        spec = ShrinkSpec(blocks=1)
        monkeypatch.setattr(blocks, "forwards", spent)
    else:
        spec, fails = ShrinkSpec(neurons=0.5), where == "dense block"
        monkeypatch.setattr(
            blocks.BlockCall, "run", lambda *args: (spent if (args[1] in dense) == fails else run)(*args)
        )
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        shrink(tiny_llama, spec, drawn)


def test_where_no_block_can_go_it_is_said(tiny_llama, text, monkeypatch):
    from wanda_core.text.windows import calibrate

    monkeypatch.setattr(blocks, "_same_states", lambda *args: False)
    with pytest.raises(ModelError, match="whichever block is removed, its configuration cannot say"):
        shrink(tiny_llama, ShrinkSpec(blocks=1), calibrate(tiny_llama, text, samples=1, seq_len=16))
