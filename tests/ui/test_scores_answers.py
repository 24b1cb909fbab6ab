"""What the tab Scores is answered: true to the engine's tensors, checked field by field, never by running a model."""

import base64
import contextlib
import copy
import dataclasses
import json
from functools import partial

import numpy as np
import pytest
import torch
from engine_room import server
from families import tiny
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from view_events import COLUMN

from wanda_core.errors import InputError, WandaError
from wanda_core.model.language_model import LanguageModel
from wanda_core.progress import finish
from wanda_core.recipe import PruneSpec
from wanda_core.text.windows import calibrate
from wanda_ui.compare import asked
from wanda_ui.engine import work
from wanda_ui.engine.kept_variants import LEAST_BYTES
from wanda_ui.engine.recipe import Recipe
from wanda_ui.scores.answers import Answers
from wanda_ui.settings import Settings

BOTH = [
    {**COLUMN, "id": 1, "key": "wanda", "method": "wanda", "at": 40},
    {**COLUMN, "id": 2, "key": "magnitude", "method": "magnitude", "at": 40},
]
GIVEN = {"what": "linear", "model": "tiny", "recipes": BOTH, "kind": "mlp.up_proj", "block": 1}


@pytest.fixture(scope="module", autouse=True)
def short_windows():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work, "EVAL_SEQ_LEN", 128)  # the tiny models read no more than 256 tokens
        yield


@pytest.fixture(scope="module")
def state(tiny_llama):
    state = server(tiny_llama)
    finish(state.open_steps("tiny"))
    return state


@pytest.fixture(scope="module")
def ask(state):
    answers = Answers(state, Settings)

    def ask(**changes):
        answer = answers.answer({**GIVEN, **changes})
        assert json.loads(json.dumps(answer, allow_nan=False)) == answer
        return answer

    return ask


def recipes():
    return [asked.column_of(column, Settings()).recipe for column in BOTH]


def masks(state, lm, kind="mlp.up_proj", block=1):
    """Both masks as pruning the whole model gives them, and the linear."""
    linear = next(linear for linear in lm.of_kind(kind) if linear.block == block)
    gone = [
        finish(state.prune_steps("tiny", recipe)).variant.pruned_weight(lm, linear.name) == 0 for recipe in recipes()
    ]
    return linear, gone


def test_a_linear_is_told_as_pruning_the_model_makes_it(ask, state, tiny_llama):
    before = ask()
    linear, (wanda, magnitude) = masks(state, tiny_llama)
    assert ask(block=1) == before  # from variants now, which were computed alone before
    told, (rows, columns) = before["linear"], linear.shape
    assert (told["rows"], told["columns"]) == (rows, columns)
    assert told["kept"] == pytest.approx([1 - float(mask.float().mean()) for mask in (wanda, magnitude)], abs=1e-6)
    counts = np.array([cell[2:] for cell in told["plane"]["cells"]]).sum(0)
    fates = [~wanda & ~magnitude, ~wanda & magnitude, wanda & ~magnitude, wanda & magnitude]
    assert counts.tolist() == [int(fate.sum()) for fate in fates]
    assert told["plane"]["differ"] == pytest.approx(float((wanda != magnitude).float().mean()), abs=1e-4)
    for metric in ("score", "size"):
        assert sum(told[metric]["kept"]) + sum(told[metric]["removed"]) + told[metric]["zeros"] == rows * columns
        assert sum(told[metric]["removed"]) == int(wanda.sum())
    assert before["kinds"] == list(tiny_llama.kinds)
    assert before["blocks"] == [linear.block for linear in tiny_llama.of_kind("mlp.up_proj")]


def test_what_another_visitor_pruned_changes_no_number_of_a_model_with_zeros(tiny_llama):
    lm = dataclasses.replace(tiny_llama, model=copy.deepcopy(tiny_llama.model))
    for linear in lm.all_linears:
        linear.weight.detach()[:, ::5] = 0
    state = server(lm)
    finish(state.open_steps("tiny"))
    column, told = {**BOTH[1], "method": "random", "at": 10}, []
    for _ in range(2):
        answers = Answers(state, Settings)  # which keep nothing yet
        told.append([answers.answer({**GIVEN, "what": what, "recipes": [column]}) for what in ("linear", "blocks")])
        finish(state.prune_steps("tiny", asked.column_of(column, Settings()).recipe))
    assert told[0] == told[1]
    assert told[0][0]["linear"]["kept"][0] < 0.9


def test_all_blocks_are_told_with_their_cuts_and_what_is_removed_of_each(ask, state, tiny_llama):
    told = ask(what="blocks")["all"]
    profile = state.models["tiny"].analysis.profile
    for place, linear in enumerate(tiny_llama.of_kind("mlp.up_proj")):
        _, (wanda, magnitude) = masks(state, tiny_llama, block=linear.block)
        shares = [float(mask.float().mean()) for mask in (wanda, magnitude)]
        assert [of[place] for of in told["sparsities"]] == pytest.approx(shares, abs=1e-5)
        S = linear.weight.abs() * profile.norms[linear.name]
        rows = torch.stack([row[gone].max() for row, gone in zip(S, wanda, strict=True)])
        assert told["cuts"][0][place]["median"] == pytest.approx(float(rows.log10().median()), abs=1e-3)
        largest = float(linear.weight.abs()[magnitude].max().log10())
        assert told["cuts"][1][place]["median"] == pytest.approx(largest, abs=1e-3)
        assert sum(told["score"]["share"][place]) == pytest.approx(1000, abs=40)


def test_tiles_are_the_weights_and_the_masks(ask, state, tiny_llama):
    linear, gone = masks(state, tiny_llama)
    profile = state.models["tiny"].analysis.profile
    order = profile.norms[linear.name].argsort(stable=True)
    answer = ask(what="tiles", level=0, places=[[0, 0]], sorted=True)["tiles"]
    [tile] = answer["of"]
    assert (answer["level"], answer["sorted"], tile["at"]) == (0, True, [0, 0])
    kept = [np.frombuffer(base64.b64decode(of), np.uint8).reshape(tile["height"], tile["width"]) for of in tile["kept"]]
    for of, mask in zip(kept, gone, strict=True):
        expected = ~mask[: tile["height"]][:, order[: tile["width"]]]
        assert (of == 255 * expected.numpy()).all()
    assert max(len(base64.b64decode(of)) for of in (tile["size"], *tile["kept"])) <= 96 * 96
    stored = ask(what="tiles", level=0, places=[[0, 0]], sorted=False)["tiles"]["of"][0]
    assert (np.frombuffer(base64.b64decode(stored["kept"][0]), np.uint8) == 255).sum() == int(
        (~gone[0][:96, :96]).sum()
    )


def test_a_weight_is_told_by_name_by_place_by_the_plane_and_by_what_tells_most(ask, state, tiny_llama):
    linear, (wanda, magnitude) = masks(state, tiny_llama)
    W, norms = linear.weight, state.models["tiny"].analysis.profile.norms[linear.name]
    order = norms.argsort(stable=True).tolist()
    told = ask(what="weight", row=3, column=5)["weight"]
    weight = told["weight"]
    assert weight["value"] == pytest.approx(float(W[3, 5]), rel=1e-4)
    assert weight["score"] == pytest.approx(float(W[3, 5].abs() * norms[5]), rel=1e-4)
    assert weight["by_size"] == 1 + int((W[3].abs() > W[3, 5].abs()).sum())
    assert [fate["removed"] for fate in weight["fates"]] == [bool(wanda[3, 5]), bool(magnitude[3, 5])]
    assert told["place"] == order.index(5)
    at = ask(what="weight", how="place", row=3, place=order.index(5), sorted=True)["weight"]
    assert at == told
    assert ask(what="weight", how="place", row=3, place=5, sorted=False)["weight"] == told
    near = ask(what="weight", how="plane", norm=float(norms[5].log10()), size=float(W[3, 5].abs().log10()))["weight"]
    assert near["weight"]["norm"] == weight["norm"]
    following = ask(what="weight", how="next", row=0, column=order[-1])["weight"]["weight"]
    first, second = following["fates"]
    assert first["removed"] != second["removed"]
    telling = ask(what="weight", how="telling")["weight"]["weight"]
    assert telling["loudness"] == 1
    assert ask(what="row", row=3)["row"] == told["row"]
    assert ask(what="column", column=5)["column"] == told["column"]


def test_a_column_that_reads_a_channel_of_the_stream_says_whether_that_is_an_outlier_feature(ask, state):
    loaded = state.models["tiny"]
    counted = loaded.analysis.features
    over = torch.zeros_like(counted.over)
    over[0, 5] = over[-1, 5] = counted.positions[0]  # 2 of 3 blocks, and a third of the positions that are read
    over[0, 6] = counted.positions[0] // 2  # 1 of 3 blocks, and a twelfth
    over[0, 7] = 1
    loaded.analysis = dataclasses.replace(loaded.analysis, features=dataclasses.replace(counted, over=over))
    try:
        told = [ask(what="column", column=column)["column"]["feature"] for column in (5, 6, 7, 8)]
        assert [feature["meets"] for feature in told] == [True, True, False, False]
        assert (told[0]["layers"], told[0]["positions"]) == pytest.approx((2 / 3, 1 / 3), abs=1e-4)
        assert (told[1]["layers"], told[1]["positions"]) == pytest.approx((1 / 3, 1 / 12), abs=1e-4)
        assert told[0]["magnitude"] == 6
        assert told[0]["least"] == [0.25, 0.06]
        assert ask(what="weight", row=0, column=5)["weight"]["column"]["feature"] == told[0]
        assert ask(what="column", column=5, kind="mlp.down_proj")["column"]["feature"] is None
    finally:
        loaded.analysis = dataclasses.replace(loaded.analysis, features=counted)


def test_a_recipe_that_has_to_be_pruned_first_is_named_and_then_told(ask, state, tiny_llama):
    faithful = {**BOTH[0], "id": 9, "order": "faithful", "at": 35}
    assert ask(recipes=[*BOTH, faithful])["missing"] == [9]
    recipe = asked.column_of(faithful, Settings()).recipe
    result = finish(state.prune_steps("tiny", recipe))
    linear = tiny_llama.of_kind("mlp.up_proj")[1]
    expected = 1 - float((result.variant.pruned_weight(tiny_llama, linear.name) == 0).float().mean())
    assert ask(recipes=[*BOTH, faithful])["linear"]["kept"][2] == pytest.approx(expected, abs=1e-6)


def test_recipes_whose_variants_are_not_kept_together_are_refused(ask, state, monkeypatch):
    pair = [{**BOTH[0], "id": number, "order": "faithful", "at": number} for number in (31, 32)]
    monkeypatch.setattr(state.variants, "budget", LEAST_BYTES)
    assert ask(recipes=pair[:1])["missing"] == [31]
    with pytest.raises(
        InputError, match=r"variants of these 2 recipes take 0\.1 GB together and this server keeps 0\.0 GB"
    ):
        ask(recipes=pair)
    monkeypatch.setattr(state.variants, "budget", 2 * LEAST_BYTES)
    assert ask(recipes=pair)["missing"] == [31, 32]


def test_what_is_allotted_by_outliers_is_told_block_by_block(ask, state, tiny_llama):
    owl = {**BOTH[0], "allocation": "owl", "at": 45}
    shares = ask(what="blocks", recipes=[owl])["all"]["sparsities"][0]
    recipe = asked.column_of(owl, Settings()).recipe
    result = finish(state.prune_steps("tiny", recipe))
    for share, linear in zip(shares, tiny_llama.of_kind("mlp.up_proj"), strict=True):
        zeros = float((result.variant.pruned_weight(tiny_llama, linear.name) == 0).float().mean())
        assert share == pytest.approx(zeros, abs=1e-5)
    assert len(set(shares)) > 1


def test_what_is_allotted_by_sensitivity_is_told_with_what_was_measured(ask, state, tiny_llama):
    measured = {**BOTH[0], "allocation": "measured", "at": 45}
    assert ask(what="blocks", recipes=[measured])["missing"] == [measured["id"]]
    recipe = asked.column_of(measured, Settings()).recipe
    result = finish(state.prune_steps("tiny", recipe))
    told = ask(what="blocks", recipes=[measured, BOTH[1]])["all"]
    losses, none = told["sensitivities"]
    assert none is None
    assert len(losses) == len(tiny_llama.linears)
    for loss, exactly in zip(losses, result.variant.report.sensitivities.losses, strict=True):
        assert loss == pytest.approx(exactly, rel=1e-3)
    assert told["sparsities"][0] == pytest.approx(list(result.variant.report.blocks), abs=0.02)  # whole weights
    another = ask(what="blocks", recipes=[{**measured, "at": 30}])["all"]  # for which nothing is measured again
    assert another["sensitivities"] == [losses]


def test_before_the_model_is_read_one_is_told_to_wait(tiny_llama):
    fresh = Answers(server(tiny_llama), Settings)
    assert fresh.answer(GIVEN) == {"wait": True, "loaded": True}
    assert fresh.answer({**GIVEN, "model": "no/such-model"}) == {"wait": True, "loaded": False}


def test_a_model_that_cannot_be_read_says_why_and_is_not_waited_for(tokenizer):
    lm = tiny("Llama", tokenizer, "cpu")  # reads 64 tokens, fewer than a window of the page
    state = server(LanguageModel(lm.model, lm.tokenizer, "tiny", lm.revision))
    with pytest.raises(WandaError) as refused:
        finish(state.open_steps("tiny"))
    with pytest.raises(WandaError, match="can read; choose a smaller one") as again:
        Answers(state, Settings).answer(GIVEN)
    assert str(again.value) == str(refused.value)


@pytest.mark.parametrize("family", ["Mixtral", "GPT2", "Qwen3Moe"])
def test_other_families_are_told_too_and_one_of_two_blocks(family, tokenizer, monkeypatch):
    monkeypatch.setattr(work, "calibrate", partial(calibrate, samples=4, seq_len=32))  # they read 64 tokens
    lm = tiny(family, tokenizer, "cpu")
    lm = LanguageModel(lm.model, lm.tokenizer, "tiny", lm.revision)
    state = server(lm)
    finish(state.open_steps("tiny"))
    answers = Answers(state, Settings)
    assert len(lm.linears) <= 4
    for kind in lm.kinds:
        given = {**GIVEN, "kind": kind, "block": len(lm.linears) - 1}
        told = answers.answer(given)
        assert (told["kind"], "linear" in told) == (kind, True)
        assert "weight" in answers.answer({**given, "what": "weight", "how": "telling"})
        assert "all" in answers.answer({**given, "what": "blocks"})


def test_a_kind_that_is_not_there_gives_way_to_one_that_is(ask, tiny_llama):
    told = ask(kind="mlp.nothing", block=77)
    assert told["kind"] == tiny_llama.kinds[0]
    assert told["block"] in told["blocks"]


WRONG = [
    {"what": "everything"},
    {"what": None},
    {"recipes": []},
    {"recipes": [BOTH[0]] * 4},
    {"recipes": "wanda"},
    {"model": ""},
    {"kind": 3},
    {"block": "x"},
    {"block": 1.5},
    {"what": "tiles", "level": 0, "places": [[0, 0]] * 13, "sorted": True},
    {"what": "tiles", "level": 0, "places": [], "sorted": True},
    {"what": "tiles", "level": 0, "places": [[0]], "sorted": True},
    {"what": "tiles", "level": 0, "places": [[0, "a"]], "sorted": True},
    {"what": "tiles", "level": 0, "places": [[99, 0]], "sorted": True},
    {"what": "tiles", "level": 99, "places": [[0, 0]], "sorted": True},
    {"what": "tiles", "level": -1, "places": [[0, 0]], "sorted": True},
    {"what": "tiles", "level": 0, "places": [[0, 0]], "sorted": 1},
    {"what": "weight", "row": 10**9, "column": 0},
    {"what": "weight", "row": -1, "column": 0},
    {"what": "weight", "row": True, "column": 0},
    {"what": "weight", "how": "plane", "norm": None, "size": 1},
    {"what": "column", "column": 64.5},
    {"what": "row"},
    {"recipes": [{**BOTH[0], "pattern": "3:31"}]},
]


@pytest.mark.parametrize("changes", WRONG, ids=range(len(WRONG)))
def test_what_is_no_question_is_refused_in_a_sentence(ask, changes):
    with pytest.raises(WandaError) as refused:
        ask(**changes)
    assert len(str(refused.value)) < 400
    assert "\n" not in str(refused.value)


ODD = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.lists(st.integers(), max_size=3)
)


@given(st.sampled_from([*GIVEN, "row", "column", "level", "places", "sorted", "how", "place", "norm", "size"]), ODD)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_anything_odd_in_any_field_is_answered_or_refused(ask, name, odd):
    for what in ("linear", "tiles", "weight"):
        more = {"what": what, "row": 1, "column": 1, "level": 0, "places": [[0, 0]], "sorted": True}
        with contextlib.suppress(WandaError):
            ask(**{**more, name: odd})


def test_what_is_kept_is_bounded(state, monkeypatch):
    monkeypatch.setattr("wanda_ui.scores.linears.MOST_BYTES", 40_000)
    answers = Answers(state, Settings)
    for at in range(10, 60):
        answers.answer({**GIVEN, "recipes": [{**BOTH[0], "at": at}]})
    kept = answers.linears._kept
    assert sum(linear.nbytes for linear in kept.values()) <= 40_000 or len(kept) == 1


def test_masks_of_the_whole_model_are_compared(state, tiny_llama):
    given = [Recipe(PruneSpec("wanda", 0.5, order="one-shot")), Recipe(PruneSpec("magnitude", 0.5))]
    found = finish(state.masks_steps("tiny", given))
    results = [finish(state.prune_steps("tiny", recipe)).variant for recipe in given]
    differ = total = 0
    for linear in tiny_llama.all_linears:
        first, second = (variant.pruned_weight(tiny_llama, linear.name) == 0 for variant in results)
        differ, total = differ + int((first != second).sum()), total + first.numel()
    assert float(found.overall[0]) == pytest.approx(differ / total)
    assert found.pairs == ((0, 1),)
