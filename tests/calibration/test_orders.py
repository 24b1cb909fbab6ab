"""The three orders of work against oracles that hook a model, and what a cancelled run leaves."""

import copy
import threading

import pytest
import torch
from oracle import catch_first_block, mask_rows, matrices_of, put_back, scaler_rows, weight_of

from wanda_core.calibration import batching, orders
from wanda_core.calibration.in_flight import in_flight
from wanda_core.calibration.lockstep import Lockstep
from wanda_core.calibration.profile import Profile, check_matches, load_profile, profile, save_profile
from wanda_core.errors import InputError, ModelError
from wanda_core.methods import METHODS
from wanda_core.model.linears import decoder_blocks
from wanda_core.presets import preset
from wanda_core.pruning.prune import prune, prune_steps
from wanda_core.recipe import PruneSpec, Solver
from wanda_core.text.windows import draw


@pytest.fixture(scope="session")
def calibration():
    generator = torch.Generator().manual_seed(4)
    return draw(torch.randint(1, 250, (500,), generator=generator).tolist(), samples=5, seq_len=24)


def run_block(block, samples):
    moved = []
    for hidden, args, kwargs in samples:
        out = block(hidden, *args, **kwargs)
        moved.append((out[0] if isinstance(out, tuple) else out, args, kwargs))
    return moved


def noting(order, name):
    return lambda module, args, output: order.append(name)


@torch.no_grad()
def in_flight_by_oracle(lm, ids, sparsity):
    """Linear after linear: the whole block is run again for each, with those before it pruned."""
    model = copy.deepcopy(lm.model)
    _, blocks = decoder_blocks(model)
    samples = catch_first_block(model, blocks[0], ids.to(lm.device))
    for block in blocks:
        done = set()
        for _ in matrices_of(block):
            order = []
            handles = [m.register_forward_hook(noting(order, n)) for n, m in matrices_of(block)]
            run_block(block, samples[:1])
            for handle in handles:
                handle.remove()
            name = next(n for n in order if n not in done)
            done.add(name)
            module = dict(matrices_of(block))[name]
            W = weight_of(module)
            W[mask_rows(W.abs() * torch.sqrt(scaler_rows(block, samples)[0][name]), sparsity)] = 0
            put_back(module, W)
        samples = run_block(block, samples)
    return model


def differing(ours, theirs) -> float:
    pairs = [(a == 0) != (b == 0) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True)]
    return sum(int(pair.sum()) for pair in pairs) / sum(pair.numel() for pair in pairs)


@pytest.mark.parametrize("tokens", [batching.BATCH_TOKENS, 48, 1], ids=["at once", "in three", "one by one"])
def test_in_flight_prunes_each_linear_on_what_it_really_gets(
    tiny_llama, tiny_gpt2, tiny_opt, tokens, calibration, monkeypatch
):
    monkeypatch.setattr(batching, "BATCH_TOKENS", tokens)
    if tokens < calibration.ids.numel():
        monkeypatch.setattr("wanda_core.calibration.in_flight.AT_ONCE_TOKENS", 0)
    for lm in (tiny_llama, tiny_gpt2, tiny_opt):
        found = prune(lm, PruneSpec("wanda", 0.5, order="in-flight"), calibration)
        assert differing(found.lm.model, in_flight_by_oracle(lm, calibration.ids, 0.5)) < 1e-4
        assert found.profile.order == "in-flight"
        for linear in found.report.linears:
            assert linear.zeros == linear.shape[0] * int(linear.shape[1] * 0.5)


@torch.no_grad()
def test_one_shot_is_wanda_on_the_dense_models_norms(tiny_llama, calibration):
    found = prune(tiny_llama, PruneSpec("wanda", 0.5, order="one-shot"), calibration)
    _, blocks = decoder_blocks(tiny_llama.model)
    samples = catch_first_block(tiny_llama.model, blocks[0], calibration.ids.to(tiny_llama.device))
    for index, block in enumerate(blocks):
        rows, _ = scaler_rows(block, samples)
        for name, module in matrices_of(block):
            W = weight_of(module)
            mask = mask_rows(W.abs() * torch.sqrt(rows[name]), 0.5)
            assert torch.equal(found.pruned_weight(f"model.layers.{index}.{name}") == 0, mask)
        samples = run_block(block, samples)


def test_a_saved_profile_prunes_without_running_the_model(tiny_llama, calibration, tmp_path, monkeypatch):
    taken = profile(tiny_llama, calibration)
    again = load_profile(save_profile(taken, tmp_path / "norms.safetensors"))
    assert [path.name for path in tmp_path.iterdir()] == ["norms.safetensors"]
    assert (again.calibration, again.order, again.source) == (taken.calibration, "one-shot", taken.source)
    assert all(torch.equal(again.norms[name], taken.norms[name]) for name in taken.norms)
    monkeypatch.setattr(tiny_llama.model, "forward", lambda *a, **k: pytest.fail("the model was run"))
    for spec in (PruneSpec("ria", 0.6, order="one-shot"), PruneSpec("magnitude", allocation="owl")):
        found = prune(tiny_llama, spec, profile=again)
        assert found.report.sparsity == pytest.approx(spec.target, abs=0.02)
        assert found.report.calibration["samples"] == 5


def test_a_profile_of_another_model_or_no_profile_is_refused(tiny_llama, tiny_gpt2, calibration, tmp_path):
    taken = profile(tiny_llama, calibration)
    with pytest.raises(InputError, match="no norms that fit"):
        check_matches(taken, tiny_gpt2)
    with pytest.raises(InputError, match="was taken on 'other'"):
        check_matches(Profile(taken.norms, "", "one-shot", {"model": "other", "revision": ""}), tiny_llama)
    bad = tmp_path / "x.safetensors"
    for content in (b"", b"not safetensors at all"):
        bad.write_bytes(content)
        with pytest.raises(InputError, match="cannot be read"):
            load_profile(bad)
    with pytest.raises(InputError, match="cannot be read"):
        load_profile(tmp_path / "missing")


class Twice(torch.nn.Module):
    def __init__(self, once):
        super().__init__()
        self.once = once

    def forward(self, x):
        return self.once(self.once(x))


def test_a_linear_that_is_used_twice_in_a_pass_is_left_to_the_faithful_order(own_llama, calibration):
    block = decoder_blocks(own_llama.model)[1][1]
    block.mlp = Twice(block.mlp)
    with pytest.raises(
        ModelError, match=r"layers.1.mlp.once.gate_proj is used more than once in a pass, .*order faithful"
    ):
        prune(own_llama, PruneSpec("wanda", 0.5, order="in-flight"), calibration)
    assert prune(own_llama, PruneSpec("wanda", 0.5), calibration).report.sparsity == 0.5


@pytest.mark.parametrize("order", ["faithful", "in-flight", "one-shot"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("update", ["none", "obs", "least-squares"])
def test_every_combination_gives_its_zeros_or_is_refused(tiny_llama, calibration, method, order, update):
    fields = {"method": method, "sparsity": 0.5, "order": order, "update": update}
    if (order == "one-shot" and update != "none") or (method == "sparsegpt" and update == "none"):
        with pytest.raises(InputError):
            PruneSpec(**fields)
        return
    if method == "sparsegpt" and order == "one-shot":
        return
    found = prune(tiny_llama, PruneSpec(**fields), calibration)
    assert found.report.sparsity == pytest.approx(0.5, abs=0.01)
    for linear in found.report.linears:
        assert linear.zeros == int((found.pruned_weight(linear.name) == 0).sum())
    assert all(torch.isfinite(parameter).all() for parameter in found.lm.model.parameters())


@pytest.mark.parametrize("update", ["obs", "least-squares"])
@pytest.mark.parametrize("order", ["faithful", "in-flight"])
@torch.no_grad()
def test_an_update_brings_the_first_linears_outputs_nearer(tiny_llama, calibration, update, order):
    _, blocks = decoder_blocks(tiny_llama.model)
    seen = []
    handle = blocks[0].self_attn.q_proj.register_forward_hook(lambda m, args, out: seen.append(args[0][0]))
    run_block(blocks[0], catch_first_block(tiny_llama.model, blocks[0], calibration.ids.to(tiny_llama.device)))
    handle.remove()
    X, W = torch.cat(seen), blocks[0].self_attn.q_proj.weight
    plain, updated = (
        prune(tiny_llama, PruneSpec("wanda", 0.5, order=order, update=kind), calibration) for kind in ("none", update)
    )
    errors = [float((X @ (v.pruned_weight("model.layers.0.self_attn.q_proj") - W).T).norm()) for v in (plain, updated)]
    assert errors[1] < 0.95 * errors[0]


def test_two_streams_in_lockstep_are_the_streams_at_once(tiny_llama, calibration, monkeypatch):
    at_once = prune(tiny_llama, preset("best"), calibration)
    monkeypatch.setattr(batching, "BATCH_TOKENS", 48)
    monkeypatch.setattr("wanda_core.calibration.in_flight.AT_ONCE_TOKENS", 0)
    in_steps = prune(tiny_llama, preset("best"), calibration)
    for linear in at_once.report.linears[:7]:
        a, b = at_once.pruned_weight(linear.name), in_steps.pruned_weight(linear.name)
        assert ((a == 0) != (b == 0)).float().mean() < 0.01
        assert torch.allclose(a.norm(), b.norm(), rtol=1e-3)


def test_the_dense_streams_shares_and_the_rounds_change_the_result(tiny_llama, calibration):
    solvers = [Solver(), Solver(dense_share=0.5), Solver(rounds=1), Solver(stream_share=0.5)]
    found = [
        prune(tiny_llama, preset("best", solver=solver), calibration).pruned_weight("model.layers.2.mlp.down_proj")
        for solver in solvers
    ]
    assert not torch.equal(found[0], found[1])
    assert not torch.equal(found[0] == 0, found[2] == 0)
    assert not torch.equal(found[0], found[3])


@pytest.mark.parametrize("recipe", [{"order": "in-flight"}, {"order": "faithful"}])
def test_cancelled_in_the_middle_nothing_is_left(tiny_llama, calibration, recipe):
    before = [parameter.clone() for parameter in tiny_llama.model.parameters()]
    steps = prune_steps(tiny_llama, preset("best", **recipe, solver=Solver()), calibration)
    for _ in range(3):
        next(steps)
    steps.close()
    assert all(torch.equal(a, b) for a, b in zip(before, tiny_llama.model.parameters(), strict=True))
    assert not any(m._forward_pre_hooks for m in tiny_llama.model.modules())
    assert not any("forward" in vars(m) for m in tiny_llama.model.modules())


def test_the_threads_of_the_first_block_serve_the_others(tiny_llama, calibration, monkeypatch):
    monkeypatch.setattr(batching, "BATCH_TOKENS", 0)
    seen, run = set(), Lockstep._run
    monkeypatch.setattr(Lockstep, "_run", lambda self, batch: seen.add(threading.current_thread()) or run(self, batch))
    prune(tiny_llama, PruneSpec("wanda", 0.5, order="in-flight"), calibration)
    assert len(seen) == calibration.samples < calibration.samples * len(tiny_llama.linears)
    assert not any(thread.is_alive() for thread in seen)


def test_what_a_visit_raises_comes_out_and_ends_every_thread(own_llama, calibration):
    def visit(linear, moments):
        raise ArithmeticError("on purpose")

    with pytest.raises(ArithmeticError):
        list(in_flight(own_llama, calibration, visit, gram=False))
    assert not any(m._forward_pre_hooks for m in own_llama.model.modules())


def test_faithful_runs_a_block_afresh_that_ends_elsewhere_than_its_likes(own_llama, calibration):
    """What the first block taught does not hold for a block whose last linear comes early: nothing may be missed."""
    attention = own_llama.model.model.layers[1].self_attn
    usual = attention.forward

    def with_the_mlp_first(hidden_states, **kwargs):
        mlp = own_llama.model.model.layers[1].mlp
        mlp.down_proj(hidden_states.repeat(1, 1, 2)[..., : mlp.down_proj.in_features])
        return usual(hidden_states, **kwargs)

    attention.forward = with_the_mlp_first
    seen = {}
    for _ in orders.faithful(
        own_llama, calibration, lambda linear, moments: seen.update({linear.name: moments}), False
    ):
        pass
    calls = {name: moments.norms.n for name, moments in seen.items()}
    assert len(seen) == 21
    assert calls.pop("model.layers.1.mlp.down_proj") == 2 * calibration.samples
    assert set(calls.values()) == {calibration.samples}
