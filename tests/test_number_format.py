"""No number has the format that torch happens to have: while a model is loaded, that is its file's, for all threads,
and a tensor made meanwhile without a format of its own would hold other numbers."""

import ast
import copy
import dataclasses
import json
from pathlib import Path

import pytest
import torch
from engine_room import server
from view_events import COLUMN

import wanda_core
import wanda_ui
from wanda_core.explain.toy_example import METRICS, choose, example_inputs, example_matrix, two_weights
from wanda_core.outliers.sentence import read_sentence
from wanda_core.outliers.sinks import sink_report
from wanda_core.progress import finish
from wanda_ui.engine import work
from wanda_ui.language import ENGLISH
from wanda_ui.outliers.stream import STREAM, draw_norms, draw_stored
from wanda_ui.scores.answers import Answers
from wanda_ui.settings import Settings

MAKERS = {"arange", "as_tensor", "empty", "eye", "full", "hann_window", "linspace", "logspace", "normal", "ones"}
MAKERS |= {"rand", "randn", "range", "scalar_tensor", "tensor", "zeros"}
OLD_MAKERS = {"DoubleTensor", "FloatTensor", "HalfTensor", "Tensor"}  # which take no format
SOURCES = sorted(path for room in (wanda_core, wanda_ui) for path in Path(room.__file__).parent.rglob("*.py"))


def of_no_format(source):
    """Lines of a program that make a tensor without naming its format."""
    wrong = []
    for call in ast.walk(ast.parse(source)):
        match call:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="torch"), attr=name), keywords=keywords):
                named = "dtype" in {keyword.arg for keyword in keywords}
                if name in OLD_MAKERS or (name in MAKERS and not named):
                    wrong.append(call.lineno)
    return wrong


def test_every_tensor_that_is_made_names_its_format():
    assert of_no_format("torch.zeros(2)\ntorch.zeros(2, dtype=kind)\ntorch.Tensor([1])") == [1, 3]
    texts = {str(path): text for path in SOURCES if "torch." in (text := path.read_text("utf-8"))}
    assert {name: lines for name, text in texts.items() if (lines := of_no_format(text))} == {}


@pytest.fixture
def opened(tiny_llama, monkeypatch):
    monkeypatch.setattr(work, "EVAL_SEQ_LEN", 128)
    state = server(dataclasses.replace(tiny_llama, model=copy.deepcopy(tiny_llama.model)))
    finish(state.open_steps("tiny"))
    return state


def in_both(told):
    """What is told while the default format is torch's own, and while it is that of a model which is loaded."""
    found = []
    for kind in (torch.float32, torch.bfloat16):
        torch.set_default_dtype(kind)
        try:
            found.append(told())
        finally:
            torch.set_default_dtype(torch.float32)
    return found


ASKED = [
    *({"what": "linear"}, {"what": "blocks"}, {"what": "row", "row": 3}, {"what": "column", "column": 5}),
    {"what": "tiles", "level": 1, "places": [[0, 0]], "sorted": True},
    {"what": "weight", "row": 3, "column": 5},
    {"what": "weight", "how": "telling"},
]


@pytest.mark.parametrize("method", ["magnitude", "wanda", "random", "ria"])
def test_the_scores_are_told_alike(opened, method):
    recipes = [{**COLUMN, "id": 1, "key": method, "method": method, "at": 37}, {**COLUMN, "id": 2, "key": "wanda"}]
    about = {"model": "tiny", "recipes": recipes, "kind": "mlp.up_proj", "block": 1}

    def told():
        answers = Answers(opened, Settings)  # which keep nothing yet
        opened.models["tiny"].grids.clear()
        return [json.dumps(answers.answer({**about, **asked})) for asked in ASKED]

    before, meanwhile = in_both(told)
    assert before == meanwhile


def test_the_motivating_example_and_the_pictures_of_outliers_are_alike(opened):
    loaded = opened.models["tiny"]

    def told():
        W, X = example_matrix(), example_inputs(3.3)
        yield repr(two_weights(0.7, -1.1, 3.3, 0.9))
        yield from (repr([choice.S.tolist(), choice.cut.tolist()]) for m in METRICS for choice in [choose(W, X, m)])
        yield from (repr(drawn) for drawn in (draw_norms(loaded, STREAM, ENGLISH), draw_stored(ENGLISH)))
        sentence = read_sentence(loaded.lm, "The river carries sand")
        yield repr(sink_report(sentence).entering.tolist())

    before, meanwhile = in_both(lambda: list(told()))
    assert before == meanwhile
