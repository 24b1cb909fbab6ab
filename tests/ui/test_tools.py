"""The tools: what they are given, checked and told; what they answer, against the engine asked directly."""

import json

import pytest
import torch
from engine_room import server, spoken
from hypothesis import given as drawn
from hypothesis import strategies as st
from view_events import WINDOW

from wanda_core.assets import BUILTIN_EVALUATION
from wanda_core.calibration.profile import profile
from wanda_core.errors import InputError
from wanda_core.evaluation.generation import Generated, generate
from wanda_core.evaluation.perplexity import perplexity
from wanda_core.pruning.prune import prune
from wanda_core.recipe import PruneSpec
from wanda_core.text.files import read_text
from wanda_core.text.windows import calibrate
from wanda_ui.engine import work
from wanda_ui.settings import Settings
from wanda_ui.tools import answers
from wanda_ui.tools.answers import parting, recipe_of
from wanda_ui.tools.api import docstring
from wanda_ui.tools.offered import tools_of
from wanda_ui.tools.parameters import REQUIRED, Parameter, checked
from wanda_ui.tools.running import run

TOOLS = tools_of(Settings())
SHORT = {"samples": 2, "seq_len": 64}
TEXT = "The sky is blue because sunlight is scattered by the air. " * 20


@pytest.fixture(autouse=True)
def short_windows(monkeypatch):
    for module in (work, answers):
        monkeypatch.setattr(module, "EVAL_SEQ_LEN", WINDOW)
        monkeypatch.setattr(module, "EVAL_WINDOWS", 2)


@pytest.fixture(scope="module")
def state(tiny_llama):
    state = server(tiny_llama, Settings(tools=True))
    yield state
    assert state.engine.settle()


def asked(state, name, **given):
    """-> what a tool answers, through JSON and back."""
    return json.loads(json.dumps(spoken(run(TOOLS[name], {"model": "tiny", **given}, state, None))[1], allow_nan=False))


def refusal(check, *values):
    """-> the sentence by which values are refused, empty where they are taken."""
    try:
        check(*values)
    except InputError as error:
        return str(error)
    return ""


def test_the_tools_and_what_they_are_told_to_be():
    assert list(TOOLS) == ["prune", "compare", "why_kept", "perplexity"]
    for tool in TOOLS.values():
        assert len(tool.about) > 100
        schema = tool.schema
        assert set(schema["required"]) == {p.name for p in tool.parameters if p.default is REQUIRED}
        assert all(len(told["description"]) > 5 for told in schema["properties"].values())
        assert all(f"    {parameter.name}: " in docstring(tool) for parameter in tool.parameters)
        json.dumps(schema, allow_nan=False)


@pytest.mark.parametrize("name", TOOLS)
def test_the_schema_takes_what_the_check_takes(name):
    """An independent reader of JSON Schema, on the defaults and on values at and beyond every limit."""
    validator = pytest.importorskip("jsonschema", reason="comes with the package mcp").Draft202012Validator
    tool = TOOLS[name]
    whole = {"prompt": "a", "linear": "a", "row": 0, "column": 0}
    needed = {name: value for name, value in whole.items() if name in tool.schema["required"]}
    validator.check_schema(tool.schema)
    for parameter in tool.parameters:
        values = [parameter.default, True, 0, -1, 0.5, 2**60, "", "x" * 600_000, [], [{}], {}, {"no": 1}, None]
        values += [*parameter.choices, parameter.low, parameter.high, [{"method": "ria"}], {"sparsity": 0.96}]
        for value in values:
            if value is REQUIRED or value == float("inf"):
                continue
            arguments = {**needed, parameter.name: value}
            refused = refusal(checked, name, arguments, tool.parameters)
            assert "\n" not in refused
            assert len(refused) < 400
            assert validator(tool.schema).is_valid(arguments) == (not refused), (parameter.name, value)


def test_limits_are_the_servers_own():
    tools = tools_of(Settings(samples=8, prompt_characters=100))
    assert tools["prune"].schema["properties"]["samples"] | {"description": ""} == {
        "description": "",
        "default": 8,
        "type": "integer",
        "minimum": 1,
        "maximum": 8,
    }
    assert tools["compare"].schema["properties"]["prompt"]["maxLength"] == 100
    with pytest.raises(InputError, match=r"^prompt has 101 characters and 1 to 100 are read; shorten it$"):
        checked("compare", {"prompt": "x" * 101}, tools["compare"].parameters)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"sparsity": "half"}, "sparsity 'half' is no number; give one from 0 to 0.95"),
        ({"sparsity": float("nan")}, "sparsity nan is no number; give one from 0 to 0.95"),
        ({"sparsity": True}, "sparsity True is no number; give one from 0 to 0.95"),
        ({"samples": 2.5}, "samples 2.5 is not a whole number; give one such as 16"),
        ({"samples": 10**6}, "samples 1000000 is outside 1 to 4,096; give one within"),
        ({"method": "wnada"}, "method 'wnada' is not offered; choose one of wanda, wanda-variant, magnitude, ria, "),
        ({"recipe": {}}, "prune has no 'recipe'; it takes model, method, "),
        ([], "prune [] is no object; give one such as"),
        ({"model": "\ud800"}, "is no text; give a string"),
    ],
)
def test_what_breaks_a_rule_is_one_sentence_with_the_remedy(given, sentence):
    with pytest.raises(InputError) as refused:
        checked("prune", given, TOOLS["prune"].parameters)
    assert sentence in str(refused.value)


def test_what_is_missing_is_named_and_a_recipe_within_a_list_by_its_place():
    with pytest.raises(InputError, match=r"^compare lacks 'prompt': what the models are asked; give it$"):
        checked("compare", {}, TOOLS["compare"].parameters)
    with pytest.raises(InputError, match=r"^recipes\[1\] has no 'share'; it takes method, sparsity, "):
        checked("compare", {"prompt": "a", "recipes": [{}, {"share": 1}]}, TOOLS["compare"].parameters)
    with pytest.raises(InputError, match=r"is not a list of 1 to 3 recipes; give objects such as"):
        checked("compare", {"prompt": "a", "recipes": []}, TOOLS["compare"].parameters)


@drawn(st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5), lambda x: st.lists(x, max_size=3)))
def test_whatever_is_given_is_taken_or_refused_in_a_sentence(value):
    for parameter in TOOLS["perplexity"].parameters:
        assert "; " in (refusal(parameter.check, value) or "; ")


def test_a_whole_float_is_a_whole_number():
    assert Parameter("n", "whole", "a number", low=0, high=9).check(3.0) == 3


def test_a_recipe_keeps_the_share_that_was_given_to_the_last_bit():
    fields = checked("recipe", {"sparsity": 0.57}, TOOLS["prune"].parameters[1:])
    assert recipe_of(fields, Settings()).spec == PruneSpec(sparsity=0.57, order="one-shot")
    for given, spec in (
        ({"pattern": "2:4"}, PruneSpec(pattern="2:4", order="one-shot")),
        ({"sparsity": 0.0}, PruneSpec(sparsity=0.0, order="one-shot")),
        ({"method": "magnitude", "group": "row"}, PruneSpec("magnitude", 0.5, group="row", order="one-shot")),
        ({"allocation": "owl", "sparsity": 0.3}, PruneSpec(sparsity=0.3, allocation="owl", order="one-shot")),
    ):
        fields = checked("recipe", given, TOOLS["prune"].parameters[1:])
        assert recipe_of(fields, Settings()).spec == spec


def test_prune_tells_what_was_removed_what_it_costs_and_how_to_repeat_it(state, tiny_llama):
    told = asked(state, "prune", sparsity=0.4, order="faithful", **SHORT)
    calibration = calibrate(tiny_llama, samples=2, seq_len=64)
    variant = prune(tiny_llama, PruneSpec(sparsity=0.4), calibration)
    text = read_text(BUILTIN_EVALUATION)
    dense, pruned = (perplexity(lm, text, seq_len=WINDOW, windows=2).perplexity for lm in (tiny_llama, variant.lm))
    assert told["removed"]["weights"] == sum(linear.zeros for linear in variant.report.linears)
    assert told["removed"]["of"] == variant.report.n_prunable
    assert told["removed"]["share"] == round(variant.report.sparsity, 6)
    assert told["perplexity"] == {
        "dense": pytest.approx(dense),
        "pruned": pytest.approx(pruned),
        "windows": 2,
        "seq_len": WINDOW,
        "text": "built-in",
    }
    assert told["seconds"] >= 0
    assert not told["made_before"]
    assert told["command"] == (
        "wanda-lab prune --model tiny --method wanda --sparsity 0.4 --samples 2 --seq-len 64 --output out/wanda-40"
    )
    assert 0 <= told["agreement"]["same_likeliest_token"] <= 1
    assert asked(state, "prune", sparsity=0.4, order="faithful", **SHORT)["made_before"]


def test_compare_gives_every_answer_and_where_it_parts(state, tiny_llama):
    recipes = [{"sparsity": 0.0, "method": "magnitude"}, {"sparsity": 0.8, "method": "magnitude"}]
    told = asked(state, "compare", prompt="The sky is", recipes=recipes, max_new_tokens=8, chat=False)
    (*_, dense) = generate(tiny_llama, "The sky is", max_new_tokens=8)
    variant = prune(tiny_llama, PruneSpec("magnitude", 0.8))
    (*_, other) = generate(variant.lm, "The sky is", max_new_tokens=8)
    assert told["dense"]["answer"] == dense.text
    same, differs = told["variants"]
    assert (same["answer"], same["parts"]) == (dense.text, None)
    assert differs["answer"] == other.text
    at = differs["parts"]["token"]
    assert dense.tokens[:at] == other.tokens[:at]
    assert dense.tokens[at] != other.tokens[at]
    assert differs["perplexity"] != told["dense"]["perplexity"]


def test_answers_part_where_their_tokens_do_or_where_one_ends():
    whole = Generated("one two", (1, 2, 3), ("one", " ", "two"))
    assert parting(whole, whole) is None
    other = Generated("one, two", (1, 9, 3), ("one", ", ", "two"))
    assert parting(whole, other) == {"token": 1, "after": "one", "dense": " ", "variant": ", "}
    short = Generated("one", (1,), ("one",))
    assert parting(whole, short) == {"token": 1, "after": "one", "dense": " ", "variant": ""}
    assert parting(short, whole) == {"token": 1, "after": "one", "dense": "", "variant": " "}


def test_why_kept_explains_a_weight_in_a_sentence_and_in_numbers(state, tiny_llama):
    name = "model.layers.1.mlp.up_proj"
    told = asked(state, "why_kept", linear=name, row=3, column=5)
    weight = tiny_llama.linear(name).weight
    norms = profile(tiny_llama, calibrate(tiny_llama)).norms[name]
    score = weight[3].abs() * norms
    assert told["weight"]["value"] == pytest.approx(float(weight[3, 5]), rel=1e-4)
    assert told["weight"]["score"] == pytest.approx(float(score[5]), rel=1e-4)
    assert told["weight"]["by_score"] == 1 + int((score > score[5]).sum())
    kept = told["weight"]["by_score"] <= 32
    wanda, magnitude = told["fates"]
    assert (wanda["recipe"], wanda["removed"], wanda["scope"]) == ("Wanda 50%", not kept, "row")
    assert magnitude["recipe"] == "Magnitude 50%"
    assert f"Wanda 50% {'keeps' if kept else 'removes'} it, as scores up to" in told["sentence"]
    assert told["sentence"].startswith("Weight [3, 5] is ")
    assert "\n" not in told["sentence"]


def test_why_kept_prunes_first_where_a_mask_is_not_known_otherwise(state):
    recipe = {"update": "least-squares", "sparsity": 0.45, **SHORT}
    told = asked(state, "why_kept", linear="model.layers.0.self_attn.q_proj", row=0, column=0, recipes=[recipe])
    assert told["fates"][0]["recipe"] == "Wanda 45% + least squares"
    assert told["fates"][0]["of"] > 0


def test_perplexity_of_the_dense_model_of_a_variant_and_on_a_text_of_ones_own(state, tiny_llama):
    built_in = read_text(BUILTIN_EVALUATION)
    variant = prune(tiny_llama, PruneSpec("magnitude", 0.3)).lm
    recipe = {"method": "magnitude", "sparsity": 0.3}
    for lm, given in ((tiny_llama, {}), (variant, {"recipe": recipe})):
        usual = asked(state, "perplexity", seq_len=WINDOW, windows=2, **given)
        assert usual["perplexity"] == pytest.approx(perplexity(lm, built_in, seq_len=WINDOW, windows=2).perplexity)
        own = asked(state, "perplexity", text=TEXT, seq_len=32, windows=3, **given)
        assert own["perplexity"] == pytest.approx(perplexity(lm, TEXT, seq_len=32, windows=3).perplexity)
        assert (own["windows"], own["seq_len"], own["text"]) == (3, 32, "given")
    assert usual["recipe"] == "Magnitude 30%"


@pytest.mark.parametrize(
    ("name", "given", "sentence"),
    [
        ("prune", {"model": "nowhere/at all"}, "nowhere/at all"),
        ("prune", {"order": "one-shot", "update": "obs"}, "needs the inputs themselves"),
        ("prune", {"samples": 4096, "seq_len": 4096}, "samples and 65,536 tokens in all at most"),
        ("prune", {"seq_len": 1000, "samples": 1, "order": "faithful"}, "more than the 256 tokens tiny can read"),
        ("why_kept", {"linear": "lm_head", "row": 0, "column": 0}, "tiny has no linear 'lm_head'; its 21 are model."),
        ("why_kept", {"linear": "model.layers.0.mlp.up_proj", "row": 96, "column": 0}, "row 96"),
        ("perplexity", {"text": "short", "seq_len": 64}, "the text has"),
        ("perplexity", {"text": "   "}, "the text is empty; write a few words"),
        ("perplexity", {"seq_len": 300}, "more than the 256 tokens"),
        ("compare", {"prompt": "   "}, "prompt"),
    ],
)
def test_what_the_engine_refuses_comes_back_as_its_own_sentence(state, name, given, sentence):
    with pytest.raises(InputError) as refused:
        asked(state, name, **given)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)
    assert state.engine.settle()


def test_closing_a_tool_ends_its_job(state):
    steps = run(TOOLS["prune"], {"model": "tiny", "sparsity": 0.33, "order": "faithful"}, state, None)
    next(steps)
    steps.close()
    assert state.engine.settle(20)


def test_weights_are_as_they_were(state, tiny_llama):
    before = [linear.weight.clone() for linear in tiny_llama.all_linears]
    asked(state, "perplexity", text=TEXT, seq_len=32, windows=1, recipe={"method": "magnitude", "sparsity": 0.6})
    assert all(torch.equal(a, b.weight) for a, b in zip(before, tiny_llama.all_linears, strict=True))
