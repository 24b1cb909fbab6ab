"""A shrunk model is an ordinary one: everything the lab does with a model is done with it; and what is refused."""

import json

import pytest
import torch
from model_state import assert_same, state_of
from transformers import AutoModelForCausalLM
from transformers.models.llama.modeling_llama import LlamaMLP

from wanda_core.calibration.profile import profile
from wanda_core.checkpoint.save import save
from wanda_core.errors import InputError, ModelError
from wanda_core.evaluation.generation import generate
from wanda_core.evaluation.perplexity import perplexity
from wanda_core.low_memory.model_on_disk import open_model
from wanda_core.low_memory.prune import prune_to_folder
from wanda_core.model.loading import load_model
from wanda_core.outliers.ablation import Ablation, ablate
from wanda_core.presets import preset
from wanda_core.pruning.prune import prune
from wanda_core.recipe import PruneSpec, Solver
from wanda_core.shrinking.shrink import shrink, shrink_steps
from wanda_core.shrinking.spec import ShrinkSpec
from wanda_core.text.windows import calibrate
from wanda_core.training.distil import distil
from wanda_core.training.settings import Training


@pytest.fixture(scope="module")
def lm(dense):
    return load_model(dense, device="cpu", dtype=torch.float32)


@pytest.fixture(scope="module")
def drawn(lm, text):
    return calibrate(lm, text, samples=4, seq_len=32)


@pytest.fixture(scope="module")
def shrunk(lm, drawn):
    return shrink(lm, ShrinkSpec(0.25), drawn)


@pytest.fixture(scope="module")
def folder(shrunk, tmp_path_factory):
    return save(shrunk, tmp_path_factory.mktemp("shrunk") / "out")


@pytest.mark.parametrize("score", ["wanda", "flap", "magnitude", "random"])
def test_every_score_leaves_the_width_that_was_asked_for(lm, drawn, score):
    found = shrink(lm, ShrinkSpec(0.25, score=score), drawn)
    assert found.lm.model.config.intermediate_size == 72
    assert all(len(keep) == 72 and keep.max() < 96 for keep in found.kept.values())
    assert found.report.removed == (3 * 24, 3 * 96)
    gone = 3 * 3 * 24 * 64  # gate, up and down of three blocks, 24 neurons each, 64 channels
    assert found.report.parameters == (lm.n_parameters, lm.n_parameters - gone)


def test_the_dense_model_stays_as_it_was(lm, drawn):
    before = state_of(lm.model)
    shrink(lm, ShrinkSpec(0.5), drawn)
    assert_same(before, state_of(lm.model))


def test_cancelled_at_any_step_it_leaves_nothing_behind(lm, drawn):
    before = state_of(lm.model)
    steps = list(range(sum(1 for _ in shrink_steps(lm, ShrinkSpec(0.5), drawn))))
    for stop in steps[::3]:
        running = shrink_steps(lm, ShrinkSpec(0.5), drawn)
        for _ in range(stop + 1):
            next(running)
        running.close()
        assert_same(before, state_of(lm.model))


def test_without_inputs_to_look_at_the_text_does_not_matter(lm):
    seen = []
    found = shrink(lm, ShrinkSpec(0.25, score="magnitude", update="none"), on_progress=seen.append)
    assert found.report.calibration is None
    assert {step.stage for step in seen} == {"reading", "shrinking"}


def test_the_seed_decides_what_goes_at_random(lm, drawn):
    kept = [shrink(lm, ShrinkSpec(0.5, score="random", update="none", seed=seed), drawn).kept for seed in (1, 1, 2)]
    name = "model.layers.0.mlp.down_proj"
    assert torch.equal(kept[0][name], kept[1][name])
    assert not torch.equal(kept[0][name], kept[2][name])
    assert not torch.equal(kept[0][name], kept[0]["model.layers.1.mlp.down_proj"])


def test_what_it_was_made_from_is_written_down(shrunk, folder, lm):
    record = json.loads((folder / "wanda.json").read_text(encoding="utf-8"))
    assert record["label"] == "25% of the neurons gone"
    (step,) = record["shrunk"]
    assert step["recipe"] == shrunk.spec.to_dict()
    assert step["settings"] == {"intermediate_size": {"before": 96, "after": 72}}
    assert step["parameters"] == {"before": lm.n_parameters, "after": shrunk.lm.n_parameters}
    assert step["calibration"]["samples"] == 4
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "25% of the neurons gone" in card
    assert "`intermediate_size` 96 -> 72" in card
    assert "Zeros do not" not in card


SPECS = (
    PruneSpec(),
    PruneSpec(order="in-flight"),
    PruneSpec(order="one-shot"),
    PruneSpec("sparsegpt"),
    PruneSpec(pattern="2:4"),
    preset("best"),
)


@torch.no_grad()
def same_outputs(folder, lm, ids):
    """Whether a folder holds a model, as the lab and as transformers read it."""
    ours = load_model(str(folder), device="cpu", dtype=torch.float32).model
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return all(torch.equal(model(ids).logits, lm.model(ids).logits) for model in (ours, theirs))


def test_a_shrunk_folder_is_loaded_pruned_profiled_ablated_trained_and_saved_again(folder, text, tmp_path):
    again = load_model(str(folder), device="cpu", dtype=torch.float32)
    drawn = calibrate(again, text, samples=4, seq_len=32)
    (*_, answer) = generate(again, "The sky is", max_new_tokens=4, chat=False)
    assert len(answer.tokens) == 4
    norms = profile(again, drawn).norms
    assert norms["model.layers.0.mlp.down_proj"].shape == (72,)
    assert perplexity(again, text, seq_len=32, windows=2).perplexity > 0
    assert ablate(again, Ablation((3,)), text, seq_len=32, windows=1) is not None
    for spec in SPECS:
        pruned = prune(again, spec, drawn)
        assert same_outputs(save(pruned, tmp_path / "out"), pruned.lm, drawn.ids)
    trained = distil(again, pruned, drawn, Training(steps=2, batch=2), held_out=text)
    assert same_outputs(save(trained, tmp_path / "out"), trained.lm, drawn.ids)
    on_disk = open_model(str(folder), device="cpu", dtype=torch.float32)
    prune_to_folder(on_disk, PruneSpec(), tmp_path / "low", drawn)
    assert same_outputs(tmp_path / "low", prune(again, PruneSpec(), drawn).lm, drawn.ids)
    smaller = shrink(again, ShrinkSpec(0.5), drawn)
    assert smaller.lm.model.config.intermediate_size == 32  # 36 is no multiple of 8
    assert same_outputs(save(smaller, tmp_path / "out"), smaller.lm, drawn.ids)


@pytest.mark.builtin
@pytest.mark.long
def test_real_weights_go_the_same_way(builtin_head, tmp_path):
    drawn = calibrate(builtin_head, samples=2, seq_len=64)
    shrunk = shrink(builtin_head, ShrinkSpec(0.2), drawn)
    folder = save(shrunk, tmp_path / "out", dtype=torch.float32)
    assert same_outputs(folder, shrunk.lm, drawn.ids)
    again = load_model(str(folder), device="cpu", dtype=torch.float32)
    width = again.model.config.intermediate_size
    assert (width, builtin_head.model.config.intermediate_size) == (1232, 1536)
    (*_, answer) = generate(again, "The capital of France is", max_new_tokens=4, chat=False)
    assert len(answer.tokens) == 4
    pruned = prune(again, PruneSpec(pattern="2:4"), drawn)
    assert same_outputs(save(pruned, tmp_path / "zeros"), pruned.lm, drawn.ids)


def test_zeros_may_follow_in_one_go(shrunk, drawn, tmp_path):
    pruned = prune(shrunk.lm, PruneSpec(), drawn)
    out = save(pruned, tmp_path / "out")
    record = json.loads((out / "wanda.json").read_text(encoding="utf-8"))
    assert record["label"] == "25% of the neurons gone, Wanda 50%"
    assert record["sparsity"] == pytest.approx(0.5)
    assert record["shrunk"][0]["settings"]["intermediate_size"] == {"before": 96, "after": 72}
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "are zero" in card
    assert "What was removed is gone" in card
    loaded = load_model(str(out), device="cpu", dtype=torch.float32)
    with torch.no_grad():
        assert torch.equal(loaded.model(drawn.ids).logits, pruned.lm.model(drawn.ids).logits)


@pytest.mark.parametrize("share", [0, -0.1, 0.91, 1, 20, float("nan"), True, "half"])
def test_shares_outside_the_range_are_refused(share):
    with pytest.raises(InputError, match=r"neurons .* is not a share above 0 and up to 0\.9"):
        ShrinkSpec(share)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"score": "luck"}, "score 'luck' is not offered; choose one of wanda, flap, magnitude, random"),
        ({"update": "obs"}, "update 'obs' is not offered"),
        ({"multiple": 0}, "multiple 0 is not a whole number from 1 to 1024"),
        ({"multiple": 8.0}, r"multiple 8\.0 is not a whole number"),
        ({"seed": -1}, "seed -1 is not a whole number"),
        ({"solver": Solver(stream_share=0.5)}, r"stream_share 0\.5 is for pruning"),
    ],
)
def test_what_is_not_offered_is_refused(given, said):
    with pytest.raises(InputError, match=said):
        ShrinkSpec(0.2, **given)


@pytest.mark.parametrize(("share", "multiple"), [(0.01, 8), (0.2, 256), (0.9, 96)])
def test_a_width_that_no_model_has_is_refused_before_anything_runs(lm, share, multiple):
    with pytest.raises(InputError, match=rf"of the 96 neurons of .* cannot be removed in steps of {multiple}"):
        next(shrink_steps(lm, ShrinkSpec(share, multiple=multiple)))


def test_a_norm_over_the_neurons_is_refused(own_llama, drawn, monkeypatch):
    """With some gone such a norm gives the others other values, so their removal is not the same as their zeros."""

    def forward(self, x):
        made = self.act_fn(self.gate_proj(x)) * self.up_proj(x)
        return self.down_proj(made / made.norm(dim=-1, keepdim=True))

    monkeypatch.setattr(LlamaMLP, "forward", forward)
    with pytest.raises(ModelError, match="reads something else than with all of them"):
        shrink(own_llama, ShrinkSpec(0.25), drawn)
