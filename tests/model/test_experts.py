"""Experts fused into one parameter: each is measured on the tokens it is sent, and pruned as a matrix of its own."""

import pytest
import torch
from families import tiny

from wanda_core.calibration.input_norms import LEAST_TOKENS
from wanda_core.calibration.profile import load_profile, profile, save_profile
from wanda_core.errors import ModelError
from wanda_core.maths.masks import lowest_per_row
from wanda_core.model import experts
from wanda_core.model.linears import Linear, decoder_blocks
from wanda_core.pruning.prune import prune
from wanda_core.recipe import PruneSpec, Solver
from wanda_core.text.windows import draw

ORDERS = ("faithful", "in-flight", "one-shot")


@pytest.fixture(scope="module")
def calibration():
    generator = torch.Generator().manual_seed(4)
    return draw(torch.randint(1, 250, (500,), generator=generator).tolist(), samples=4, seq_len=16)


@pytest.fixture
def mixtral(tokenizer, device):
    return tiny("Mixtral", tokenizer, device)


def send(lm, block: int, others: list[int]) -> None:
    """Make a block's router choose: all tokens go to expert 0, and token i of 16 to expert `others[i]` too."""
    gate = lm.model.get_submodule(f"model.layers.{block}.mlp.gate")
    chosen = torch.tensor([[0, other] for other in others])

    def instead(module, args, output):
        logits, shares, _ = output
        indices = chosen.to(logits.device).repeat(len(logits) // 16, 1)
        return logits, torch.full_like(shares, 0.5), indices

    gate.register_forward_hook(instead)


def matrices(lm, block: int) -> dict[str, Linear]:
    return {linear.kind.removeprefix("mlp.experts."): linear for linear in lm.linears[block] if linear.routed}


def test_a_slice_is_a_matrix_and_the_same_one_every_time(mixtral):
    found = matrices(mixtral, 1)
    assert list(found) == [f"{i}.{name}" for i in range(4) for name in ("gate_up_proj", "down_proj")]
    whole = mixtral.model.get_parameter("model.layers.1.mlp.experts.down_proj")
    assert torch.equal(found["2.down_proj"].weight, whole[2])
    assert found["2.down_proj"].weight.data_ptr() == whole[2].data_ptr()
    assert matrices(mixtral, 1)["2.down_proj"].module is found["2.down_proj"].module


def test_putting_a_slice_copies_a_parameter_once_and_leaves_the_others(mixtral):
    owner = mixtral.model.get_submodule("model.layers.0.mlp.experts")
    before = owner.down_proj
    kept = before.clone()
    linear = matrices(mixtral, 0)["1.down_proj"]
    linear.replace(torch.zeros(linear.shape))
    ours = owner.down_proj
    assert ours is not before
    assert torch.equal(before, kept)
    matrices(mixtral, 0)["3.down_proj"].replace(torch.ones(linear.shape))
    assert owner.down_proj is ours
    assert torch.equal(ours[0], kept[0])
    assert not ours[1].any()
    assert bool((ours[3] == 1).all())


def test_norms_are_those_of_the_tokens_an_expert_is_sent(mixtral, calibration):
    send(mixtral, 0, 12 * [1] + 4 * [2])
    heard = []
    layer = mixtral.model.get_submodule("model.layers.0.mlp.experts")
    handle = layer.register_forward_pre_hook(lambda module, args: heard.append(args[0].clone()))
    found = profile(mixtral, calibration)
    handle.remove()
    for expert, count in ((0, 16), (1, 12)):
        squares = sum((x[:count].double() ** 2).sum(dim=0) for x in heard[-4:]) / 4
        name = f"model.layers.0.mlp.experts.{expert}.gate_up_proj"
        torch.testing.assert_close(found.norms[name].double(), squares.sqrt().cpu(), rtol=1e-6, atol=0)
        assert found.tokens[name] == 4 * count


@pytest.mark.parametrize("order", ORDERS)
def test_an_expert_with_too_few_tokens_is_pruned_by_magnitude_and_said_so(mixtral, calibration, order):
    few = LEAST_TOKENS // 4 - 1  # of each of four sequences
    send(mixtral, 0, 16 * [1])
    send(mixtral, 1, (16 - few) * [1] + few * [2])
    found = prune(mixtral, PruneSpec("wanda", 0.5, order=order), calibration)
    fallen = {linear.name for linear in found.report.linears if linear.by_magnitude}
    expected = {(0, 2), (0, 3), (1, 2), (1, 3)}
    assert fallen == {
        f"model.layers.{block}.mlp.experts.{expert}.{name}"
        for block, expert in expected
        for name in ("gate_up_proj", "down_proj")
    }
    assert found.report.by_magnitude == 8
    for block, expert in expected:
        dense, pruned = (matrices(lm, block)[f"{expert}.down_proj"].weight for lm in (mixtral, found.lm))
        mask = lowest_per_row(dense.abs(), dense.shape[1] // 2)
        assert torch.equal(pruned == 0, mask)


@pytest.mark.parametrize(
    "spec",
    [
        PruneSpec("sparsegpt", 0.5),
        PruneSpec("wanda", 0.5, update="least-squares", order="in-flight"),
        PruneSpec("magnitude", 0.5),
        PruneSpec("magnitude", 0.5, group="model"),
        PruneSpec("ria", pattern="2:4"),
        PruneSpec("wanda", 0.5, allocation="owl"),
    ],
    ids=lambda spec: spec.label,
)
def test_the_dense_model_and_its_way_of_running_stay_as_they_were(mixtral, calibration, spec):
    how = mixtral.model.get_experts_implementation()
    before = {name: (parameter, parameter.clone()) for name, parameter in mixtral.model.named_parameters()}
    found = prune(mixtral, spec, calibration)
    assert found.report.sparsity == pytest.approx(0.5, abs=0.02)  # a row of 32 weights cannot lose 47% of them
    assert mixtral.model.get_experts_implementation() == found.lm.model.get_experts_implementation() == how
    for name, parameter in mixtral.model.named_parameters():
        assert parameter is before[name][0]
        assert torch.equal(parameter, before[name][1]), name
    again = prune(found.lm, PruneSpec("magnitude", 0.7), calibration)  # a variant is pruned as any model
    zeros = sum(int((linear.weight == 0).sum()) for block in found.lm.linears for linear in block)
    assert zeros == sum(linear.zeros for linear in found.report.linears)
    assert again.report.sparsity == pytest.approx(0.7, abs=0.01)


def test_a_profile_remembers_who_saw_too_little(mixtral, calibration, tmp_path):
    send(mixtral, 1, 13 * [1] + 3 * [2])
    taken = profile(mixtral, calibration)
    again = load_profile(save_profile(taken, tmp_path / "norms.safetensors"))
    assert again.tokens == taken.tokens
    spec = PruneSpec("wanda", 0.5, order="one-shot")
    from_text, from_file = prune(mixtral, spec, calibration), prune(mixtral, spec, profile=again)
    assert from_text.report.linears == from_file.report.linears
    assert from_file.report.by_magnitude == 4


@pytest.mark.parametrize("order", ORDERS)
def test_experts_that_run_out_of_sight_are_an_error(mixtral, calibration, order, monkeypatch):
    for block in decoder_blocks(mixtral.model)[1]:
        layer = block.mlp.experts
        monkeypatch.setattr(layer, "forward", lambda hidden, *routes: hidden * 0.5)
    with pytest.raises(ModelError, match=r"no expert of model.layers.0.mlp.experts.\*.gate_up_proj received an input"):
        prune(mixtral, PruneSpec("wanda", 0.5, order=order), calibration)


def test_a_product_with_part_of_a_slice_is_an_error(mixtral):
    block = decoder_blocks(mixtral.model)[1][0]
    whole = block.mlp.experts.down_proj  # (4, 32, 48)
    x = torch.randn(3, 48, device=whole.device)
    with experts.watched(block):
        assert torch.equal(torch.nn.functional.linear(x, whole[2]), x @ whole.detach()[2].T)
        assert torch.equal(x @ whole[2].T, x @ whole.detach()[2].T)
        with pytest.raises(ModelError, match="MixtralExperts multiplies its experts' down_proj in a way"):
            torch.nn.functional.linear(x, whole[2][:16])


@pytest.mark.parametrize("family", ["Mixtral", "GptOss", "DeepseekV3", "Qwen3Next"])
def test_streams_that_send_tokens_to_different_experts_do_not_stop_each_other(tokenizer, device, calibration, family):
    """Half of the target comes from the dense model, whose routers choose for themselves."""
    lm = tiny(family, tokenizer, device)
    with_half, without = (
        prune(
            lm,
            PruneSpec("wanda", 0.5, order="in-flight", update="least-squares", solver=Solver(dense_share=share)),
            calibration,
        )
        for share in (0.5, 0.0)
    )
    assert with_half.report.sparsity == without.report.sparsity == pytest.approx(0.5, abs=0.01)
    first, last = (lm_.linears[0][0].weight for lm_ in (with_half.lm, without.lm))
    assert torch.equal(first, last)  # nothing is pruned before it, so the two streams are still one
    assert any(
        not torch.equal(a.weight, b.weight)
        for a, b in zip(with_half.lm.linears[-1], without.lm.linears[-1], strict=True)
    )
