"""Counting zeros: hand-worked matrices, then whole models through the command line."""

import json

import pytest
import torch
from families import tiny
from torch import nn
from typer.testing import CliRunner

from wanda_core.checkpoint.save import save
from wanda_core.cli import commands
from wanda_core.errors import InputError
from wanda_core.model.linears import Linear
from wanda_core.pruning.count import count, count_all, most_kept, patterns
from wanda_core.pruning.prune import prune
from wanda_core.recipe import PruneSpec

W = torch.tensor([[1.0, 0, 0, 2, 3, 0, 4, 0], [0, 5, 6, 0, 0, 0, 0, 7]])  # one of every pair at most


def linear(weight, name="blocks.0.up"):
    module = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    module.weight = nn.Parameter(weight.clone(), requires_grad=False)
    return Linear(name, "up", 0, module)


def run(*args):
    return CliRunner().invoke(commands.app, [str(arg) for arg in args])


def test_zeros_and_patterns_of_a_matrix_by_hand():
    found = count(linear(W))
    assert (found.shape, found.weights, found.zeros) == ((2, 8), 16, 9)
    assert found.kept == {2: 1, 4: 2, 8: 4}
    assert [found.holds(*pattern) for pattern in ((1, 2), (2, 4), (1, 4), (4, 8), (3, 8), (8, 16))] == [
        True, True, False, True, False, False
    ]  # fmt: skip
    assert list(patterns([found])) == [(1, 2)]  # 2:4 and 4:8 follow from it


def test_a_pattern_holds_where_it_holds_in_all():
    shifted = torch.roll(W, 1, dims=1)  # [0 1 0 0 2 3 0 4]: three of the last four
    assert most_kept(shifted, 4) == 3
    assert list(patterns([count(linear(W)), count(linear(shifted))])) == [(3, 4), (4, 8)]
    assert count(linear(W), also=8).kept[8] == 4
    assert list(patterns([])) == []


def test_against_the_dense_model():
    dense = torch.where(W == 0, 9.0, W)
    dense[0, 1] = 0.0
    pruned = W.clone()
    pruned[1, 7] = 7.5
    since = count(linear(pruned), linear(dense)).since
    assert (since.zeros, since.changed) == (1, 1)
    with pytest.raises(InputError, match="is not the other pruned"):
        count(linear(W), linear(W.t()))
    with pytest.raises(InputError, match="block 2 of the two models"):
        count_all([[linear(W)]], [[linear(W)], [linear(W)]])


@pytest.mark.parametrize("family", ["Llama", "GPT2", "Mixtral"])
def test_a_checkpoint_is_counted_on_the_disk(tokenizer, tmp_path, family):
    lm = tiny(family, tokenizer, torch.device("cpu"))
    lm.model.save_pretrained(tmp_path / "dense")
    lm.tokenizer.save_pretrained(tmp_path / "dense")
    variant = prune(lm, PruneSpec("magnitude", pattern="2:4"))
    folder = save(variant, tmp_path / "out")
    done = run("sparsity", folder, "--against", tmp_path / "dense", "--pattern", "1:4", "--json")
    told = json.loads(done.stdout)
    assert told["sparsity"] == variant.report.sparsity
    assert {one["name"]: one["zeros"] for one in told["linears"]} == {
        one.name: one.zeros for one in variant.report.linears
    }
    assert told["patterns"] == ["2:4"]
    assert told["pattern"]["holds"] is False
    assert (told["zeros_before"], told["changed"]) == (0, 0)
    assert len(told["blocks"]) == len(lm.linears)
    shown = run("sparsity", folder).stdout
    assert "50.00%" in shown
    assert "patterns that hold in every linear: 2:4" in shown


def test_other_models_and_patterns_are_refused(tokenizer, tmp_path):
    for family in ("Llama", "GPT2"):
        lm = tiny(family, tokenizer, torch.device("cpu"))
        lm.model.save_pretrained(tmp_path / family)
        lm.tokenizer.save_pretrained(tmp_path / family)
    for options, words in ((("--against", tmp_path / "GPT2"), "pruned; give"), (("--pattern", "4:2"), "neither")):
        done = run("sparsity", tmp_path / "Llama", *options)
        assert done.exit_code == 2
        assert words in done.stderr
