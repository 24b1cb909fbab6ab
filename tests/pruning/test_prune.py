"""The whole pruning against the oracle, and the dense model beside it, which must never notice."""

import copy

import pytest
import torch
from oracle import prune_magnitude, prune_wanda

from wanda_core.errors import InputError, ModelError
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.linears import decoder_blocks
from wanda_core.progress import Progress, finish
from wanda_core.pruning.prune import prune, prune_steps
from wanda_core.recipe import PruneSpec
from wanda_core.text.windows import draw

RECIPES = {
    "30%": {"sparsity": 0.3},
    "50%": {"sparsity": 0.5},
    "2:4": {"pattern": "2:4"},
    "4:8": {"pattern": "4:8"},
}
UNUSUAL = {"95%": {"sparsity": 0.95}, "1:4": {"pattern": "1:4"}, "7:8": {"pattern": "7:8"}}


@pytest.fixture(scope="session")
def calibration():
    """Three windows of tokens that every tiny model knows."""
    generator = torch.Generator().manual_seed(4)
    return draw(torch.randint(1, 250, (500,), generator=generator).tolist(), samples=3, seq_len=24)


def by_oracle(lm: LanguageModel, ids: torch.Tensor, recipe: dict) -> torch.nn.Module:
    model = copy.deepcopy(lm.model)
    spec = PruneSpec(**recipe)
    _, blocks = decoder_blocks(model)
    prune_wanda(model, blocks, ids.to(lm.device), sparsity=spec.target, n_of_m=spec.n_of_m)
    return model


def assert_same_pruning(ours: torch.nn.Module, theirs: torch.nn.Module) -> None:
    """Bit for bit. A GPU sums in another order, which may flip a near tie: one weight in a thousand there."""
    expected = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        if parameter.device.type == "cpu":
            assert torch.equal(parameter, expected[name]), name
        else:
            differs = parameter != expected[name]
            assert differs.float().mean() <= 1e-3, name
            assert not bool((differs & (parameter != 0) & (expected[name] != 0)).any()), name


def hooks_of(model: torch.nn.Module) -> list[str]:
    return [name for name, m in model.named_modules() if m._forward_pre_hooks or m._forward_hooks]


@pytest.fixture
def unnoticed():
    """Watch a model: at the end of the test it must hold the same tensors, bytes and hooks as at its start."""
    watched = []

    def state(model: torch.nn.Module) -> dict:
        tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
        return {
            name: (t.data_ptr(), t._version, t.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
            for name, t in tensors
        }

    def watch(lm: LanguageModel) -> LanguageModel:
        assert not hooks_of(lm.model)
        watched.append((lm.model, state(lm.model)))
        return lm

    yield watch
    assert watched
    for model, before in watched:
        assert state(model) == before
        assert not hooks_of(model)
        assert not model.training


@pytest.mark.parametrize("recipe", [*RECIPES, *UNUSUAL])
@pytest.mark.parametrize("which", ["tiny_llama", "tiny_gpt2", "tiny_opt"])
def test_faithful_wanda_is_the_oracles(request, device, calibration, which, recipe):
    lm, fields = request.getfixturevalue(which), (RECIPES | UNUSUAL)[recipe]
    variant = prune(lm, PruneSpec(**fields), calibration)
    assert_same_pruning(variant.lm.model, by_oracle(lm, calibration.ids, fields))


@pytest.mark.builtin
@pytest.mark.parametrize("recipe", RECIPES)
def test_faithful_wanda_on_real_weights_is_the_oracles(builtin_head, text, recipe):
    calibration = draw(builtin_head.encode(text), samples=4, seq_len=64)
    variant = prune(builtin_head, PruneSpec(**RECIPES[recipe]), calibration)
    assert_same_pruning(variant.lm.model, by_oracle(builtin_head, calibration.ids, RECIPES[recipe]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_are_scored_in_float32(own_llama, calibration, dtype):
    own_llama.model.to(dtype)
    variant = prune(own_llama, PruneSpec(), calibration)
    assert variant.lm.dtype == dtype
    assert_same_pruning(variant.lm.model, by_oracle(own_llama, calibration.ids, RECIPES["50%"]))


@pytest.mark.parametrize("group", ["row", "matrix", "model"])
@pytest.mark.parametrize("which", ["tiny_llama", "tiny_gpt2"])
@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.9])
def test_magnitude_is_the_plain_sort(request, device, which, group, sparsity):
    lm = request.getfixturevalue(which)
    expected = copy.deepcopy(lm.model)
    prune_magnitude(decoder_blocks(expected)[1], group=group, sparsity=sparsity)
    variant = prune(lm, PruneSpec(method="magnitude", sparsity=sparsity, group=group))
    for name, parameter in variant.lm.model.named_parameters():
        assert torch.equal(parameter, expected.get_parameter(name)), name


def test_magnitude_two_of_four_keeps_two_in_every_four(tiny_gpt2):
    variant = prune(tiny_gpt2, PruneSpec(method="magnitude", pattern="2:4"))
    dense = {linear.name: linear.weight for block in tiny_gpt2.linears for linear in block}
    for linear in (linear for block in variant.lm.linears for linear in block):
        groups = linear.weight.reshape(-1, 4)
        assert bool(((groups != 0).sum(dim=1) == 2).all())
        top = dense[linear.name].reshape(-1, 4).abs().sort(dim=1).values[:, 2:]
        assert torch.equal(groups.abs().sort(dim=1).values[:, 2:], top)


def test_wanda_per_matrix_removes_the_lowest_scores_of_each_matrix(tiny_llama, calibration):
    variant = prune(tiny_llama, PruneSpec(group="matrix", sparsity=0.4), calibration)
    for linear in (linear for block in tiny_llama.linears for linear in block):
        S = linear.weight.abs() * variant.profile.norms[linear.name].to(linear.weight.device)
        gone = variant.pruned_weight(linear.name) == 0
        assert int(gone.sum()) == int(S.numel() * 0.4)
        assert S[gone].max() <= S[~gone].min()


@torch.no_grad()
def test_statistics_of_a_block_are_its_dense_ones_and_later_blocks_see_pruned_outputs(tiny_llama, calibration):
    squares = {}

    def watch(name):
        def hook(module, args):
            x = args[0].double()
            squares[name] = squares.get(name, 0) + (x**2).sum(dim=(0, 1)).cpu()

        return hook

    model = copy.deepcopy(tiny_llama.model)
    for linear in (linear for block in LanguageModel(model, None, "", "").linears for linear in block):
        linear.module.register_forward_pre_hook(watch(linear.name))
    for sample in calibration.ids.to(tiny_llama.device):
        model(sample[None], use_cache=False)
    norms = prune(tiny_llama, PruneSpec(sparsity=0.8), calibration).profile.norms
    for linear in tiny_llama.linears[0]:  # o_proj and down_proj too: they see the dense q, k, v, gate and up
        expected = (squares[linear.name] / calibration.samples).sqrt()
        assert torch.allclose(norms[linear.name].double(), expected, rtol=1e-4)
    later = tiny_llama.linears[1][0].name
    assert not torch.allclose(norms[later].double(), (squares[later] / calibration.samples).sqrt(), rtol=1e-2)


# The dense model


SPECS = [PruneSpec(), PruneSpec(pattern="2:4"), *(PruneSpec("magnitude", 0.5, group=g) for g in ("row", "model"))]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.label}, {spec.group}")
@pytest.mark.parametrize("which", ["tiny_llama", "tiny_gpt2"])
def test_the_dense_model_is_untouched_by_a_finished_run(request, device, unnoticed, calibration, which, spec):
    lm = unnoticed(request.getfixturevalue(which))
    variant = prune(lm, spec, calibration)
    assert not hooks_of(variant.lm.model)
    assert lm.model is not variant.lm.model


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 9, 10, 17, 24, 25])
def test_the_dense_model_is_untouched_by_a_cancelled_run(unnoticed, tiny_llama, calibration, steps):
    run = prune_steps(unnoticed(tiny_llama), PruneSpec(), calibration)
    for _ in range(steps):
        next(run)
    run.close()


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_the_dense_model_is_untouched_by_a_cancelled_magnitude_run(unnoticed, tiny_llama, steps):
    run = prune_steps(unnoticed(tiny_llama), PruneSpec(method="magnitude", group="model"))
    for _ in range(steps):
        next(run)
    run.close()


def test_an_exception_while_showing_progress_cancels(unnoticed, tiny_llama, calibration):
    def give_up(step: Progress) -> None:
        if step.done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prune(unnoticed(tiny_llama), PruneSpec(), calibration, give_up)


@pytest.mark.parametrize("fails", ["model.embed_tokens", "model.layers.0", "model.layers.1.mlp.act_fn"])
def test_the_dense_model_is_untouched_by_a_failed_run(unnoticed, own_llama, calibration, fails):
    def hook(module, args):
        raise RuntimeError("out of memory, say")

    handle = own_llama.model.get_submodule(fails).register_forward_pre_hook(hook)
    with pytest.raises(RuntimeError, match="out of memory, say"):
        prune(own_llama, PruneSpec(), calibration)
    handle.remove()
    unnoticed(own_llama)  # no hook of the engine's is left
    prune(own_llama, PruneSpec(), calibration)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.label}, {spec.group}")
def test_a_weight_that_is_not_finite_is_refused_by_name(unnoticed, own_llama, calibration, spec, bad):
    with torch.no_grad():
        own_llama.model.model.layers[2].mlp.down_proj.weight[3, 5] = bad
    with pytest.raises(ModelError, match=r"model\.layers\.2\.mlp\.down_proj has weights .* not finite"):
        prune(unnoticed(own_llama), spec, calibration)


def test_an_embedding_that_is_not_finite_is_refused_at_the_first_linear(unnoticed, own_llama, calibration):
    with torch.no_grad():
        own_llama.model.model.embed_tokens.weight[int(calibration.ids[1, 3]), 0] = float("nan")
    with pytest.raises(ModelError, match=r"the inputs of model\.layers\.0\.self_attn\.q_proj are not finite"):
        prune(unnoticed(own_llama), PruneSpec(), calibration)


@pytest.mark.parametrize("which", ["tiny_llama", "tiny_gpt2", "tiny_opt"])
def test_only_linears_of_blocks_are_new_and_all_else_is_the_very_same_tensor(request, device, calibration, which):
    lm = request.getfixturevalue(which)
    variant = prune(lm, PruneSpec(), calibration)
    new = {f"{linear.name}.weight" for block in lm.linears for linear in block}
    for name, parameter in lm.model.named_parameters(remove_duplicate=False):
        assert (variant.lm.model.get_parameter(name) is parameter) == (name not in new), name
    assert variant.lm.tokenizer is lm.tokenizer
    assert (variant.lm.name, variant.lm.revision) == (lm.name, lm.revision)


@torch.no_grad()
def test_dense_and_variant_run_side_by_side(tiny_llama, calibration, device):
    ids = calibration.ids[:1].to(device)
    before = tiny_llama.model(ids).logits
    variant = prune(tiny_llama, PruneSpec(), calibration)
    pruned = variant.lm.model(ids).logits
    assert torch.equal(tiny_llama.model(ids).logits, before)
    assert torch.equal(variant.lm.model(ids).logits, pruned)
    assert not torch.allclose(before, pruned)


def test_the_same_recipe_gives_the_same_variant(tiny_llama, calibration):
    one, other = (prune(tiny_llama, PruneSpec(), calibration) for _ in range(2))
    for name, parameter in one.lm.model.named_parameters():
        assert torch.equal(parameter, other.lm.model.get_parameter(name))


def test_a_variant_can_be_pruned_again_and_stays_as_it_was(unnoticed, tiny_llama, calibration):
    first = prune(tiny_llama, PruneSpec(sparsity=0.3), calibration)
    again = prune(unnoticed(first.lm), PruneSpec(sparsity=0.6), calibration)
    assert first.report.sparsity < again.report.sparsity
    for linear in (linear for block in first.lm.linears for linear in block):
        assert bool((again.pruned_weight(linear.name)[linear.weight == 0] == 0).all())


def test_sparsity_zero_gives_equal_weights(tiny_llama, calibration):
    variant = prune(tiny_llama, PruneSpec(sparsity=0), calibration)
    for name, parameter in tiny_llama.model.named_parameters():
        assert torch.equal(variant.lm.model.get_parameter(name), parameter)
    assert variant.report.sparsity == 0


# Dead columns, patterns that do not fit, reports, progress


def test_dead_columns_go_first_and_by_magnitude(own_llama, calibration):
    with torch.no_grad():
        own_llama.model.model.layers[0].input_layernorm.weight[[3, 7, 11]] = 0  # dead for q, k and v
    spec = PruneSpec(sparsity=2.5 / 64)  # two of the three dead columns in every row
    variant = prune(own_llama, spec, calibration)
    reports = {linear.name: linear for linear in variant.report.linears}
    q_proj, o_proj = (f"model.layers.0.self_attn.{kind}_proj" for kind in "qo")
    assert reports[q_proj].dead_columns == 3
    assert reports[o_proj].dead_columns == 0
    dense = own_llama.model.get_submodule(q_proj).weight.abs()[:, [3, 7, 11]]
    gone = variant.pruned_weight(q_proj) == 0
    assert gone.sum(dim=1).tolist() == [2] * 64
    kept = ~gone[:, [3, 7, 11]]
    assert kept.sum(dim=1).tolist() == [1] * 64
    assert torch.equal(dense[kept], dense.max(dim=1).values)


@pytest.mark.parametrize("method", ["wanda", "magnitude"])
def test_a_pattern_that_does_not_divide_the_columns_is_refused_before_any_work(
    unnoticed, tiny_llama, calibration, method
):
    run = prune_steps(unnoticed(tiny_llama), PruneSpec(method=method, pattern="3:5"), calibration)
    with pytest.raises(InputError, match=r"divisible by 5, and model\.layers\.0\.self_attn\.q_proj has 64"):
        next(run)


def test_the_report_counts_what_is_there(tiny_llama, calibration):
    variant = prune(tiny_llama, PruneSpec(sparsity=0.3), calibration)
    report = variant.report
    linears = [linear for block in variant.lm.linears for linear in block]
    assert [entry.name for entry in report.linears] == [linear.name for linear in linears]
    for entry, linear in zip(report.linears, linears, strict=True):
        rows, columns = entry.shape
        assert entry.shape == linear.shape
        assert entry.zeros == int((linear.weight == 0).sum()) == rows * int(columns * 0.3)
        assert entry.sparsity == entry.zeros / (rows * columns)
    assert report.n_prunable == sum(linear.weight.numel() for linear in linears)
    assert report.sparsity == sum(entry.zeros for entry in report.linears) / report.n_prunable
    assert report.seconds > 0
    assert report.calibration == {
        "source": "tokens",
        "samples": 3,
        "seq_len": 24,
        "seed": 0,
        "bos": False,
        "packed": False,
        "fingerprint": calibration.fingerprint,
    }


def test_the_profile_belongs_to_the_variant(tiny_llama, calibration):
    variant = prune(tiny_llama, PruneSpec(), calibration)
    assert (variant.profile.calibration, variant.profile.order) == (calibration.fingerprint, "faithful")
    for linear in (linear for block in tiny_llama.linears for linear in block):
        norm = variant.profile.norms[linear.name]
        assert norm.shape == (linear.shape[1],)
        assert (norm.dtype, norm.device.type) == (torch.float32, "cpu")


def test_magnitude_reads_no_calibration(tiny_llama, calibration):
    variant = prune(tiny_llama, PruneSpec(method="magnitude"), calibration)
    assert variant.profile is None
    assert variant.report.calibration is None


def test_left_out_arguments_are_wanda_at_half_on_the_built_in_text(tiny_llama):
    variant = prune(tiny_llama)
    assert variant.spec == PruneSpec()
    assert variant.report.calibration["source"] == "built-in text"
    assert (variant.report.calibration["samples"], variant.report.calibration["seq_len"]) == (16, 256)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.label}, {spec.group}")
def test_progress_never_goes_back_and_ends_at_the_end(tiny_llama, calibration, spec):
    steps: list[Progress] = []
    variant = finish(prune_steps(tiny_llama, spec, calibration), steps.append)
    assert variant.spec == spec
    assert [step.done for step in steps] == sorted(step.done for step in steps)
    assert len({step.total for step in steps}) == 1
    assert steps[0].fraction == 0
    assert steps[-1].fraction == 1
    assert {step.unit for step in steps} == {"blocks"}
    kinds = {linear.kind for block in tiny_llama.linears for linear in block}
    if spec.group != "model":
        assert {step.detail for step in steps if step.detail} == kinds


@pytest.mark.builtin
def test_wanda_beats_magnitude_on_the_built_in_model(builtin_lm):
    from wanda_core.assets import BUILTIN_EVALUATION
    from wanda_core.evaluation.perplexity import perplexity
    from wanda_core.text.files import read_text
    from wanda_core.text.windows import calibrate

    text = read_text(BUILTIN_EVALUATION)
    calibration = calibrate(builtin_lm, samples=2, seq_len=64)
    found = []
    for spec in (None, PruneSpec(), PruneSpec(method="magnitude")):
        lm = prune(builtin_lm, spec, calibration).lm if spec else builtin_lm
        found.append(perplexity(lm, text, seq_len=256, windows=2).perplexity)
    dense, wanda, magnitude = found
    assert dense < wanda < magnitude
    assert magnitude > 2 * wanda
