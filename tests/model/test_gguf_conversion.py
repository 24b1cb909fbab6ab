"""A GGUF file's model is made by a process of its own: within bounds, ended with whoever asks, in nobody's way."""

import json
from pathlib import Path

import pytest
import torch
from model.test_gguf_file import write
from safetensors.torch import load_file, save_file

from wanda_core.errors import ModelError
from wanda_core.machine.helper import EndedError, LateError, NotStartedError
from wanda_core.model import gguf_file
from wanda_core.model.building import one_at_a_time
from wanda_core.model.gguf_file import folder_of
from wanda_core.model.made_apart import converter


@pytest.fixture
def file(tiny_llama, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDA_CACHE", str(tmp_path / "cache"))
    return write(tmp_path / "tiny.gguf", tiny_llama)


@pytest.fixture
def answers(monkeypatch):
    """Have the process answer what a test says where a model is asked of it."""

    def say(answer):
        ask = converter.ask

        def asked(request, *given):
            if request["what"] != "model":
                return ask(request, *given)
            if isinstance(answer, Exception):
                raise answer
            return answer(request) if callable(answer) else answer

        monkeypatch.setattr(converter, "ask", asked)

    return say


def done(**more):
    return {"ended": "", "bytes": 1, "said": ""} | more


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (done(ended="time"), r"takes more than \d+ s to be converted; give the model's folder with safetensors"),
        (LateError(), r"takes more than \d+ s to be converted; give the model's folder with safetensors"),
        (done(ended="memory"), r"takes more than \d+ MB to be converted, or breaks what reads it; give the model's"),
        (done(bytes=10**10), r"takes more than \d+ MB to be converted, or breaks what reads it; give the model's"),
        (EndedError(), r"takes more than \d+ MB to be converted, or breaks what reads it; give the model's"),
        (NotStartedError(), "was not converted, because the process that does so does not start here; allow that$"),
        (done(said="no such kind"), "is a GGUF file that transformers does not read: no such kind; give the model's"),
        (
            done(said="No space left on device (os error 28)"),
            "could not be written as safetensors to .* free some space",
        ),
    ],
)
def test_whatever_becomes_of_it_is_said_in_one_sentence(file, answers, answer, said, tmp_path):
    answers(answer)
    with pytest.raises(ModelError, match=said):
        folder_of(file, "tiny.gguf")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"missing": ["model.norm.weight"], "mismatched": []}, "lacks 1 of its weights, model.norm.weight among them"),
        ({"missing": [], "mismatched": [["model.norm.weight", [3], [4]]]}, "model.norm.weight"),
    ],
)
def test_what_it_did_not_find_is_refused_here(file, answers, found, said):
    answers(lambda request: Path(request["found"]).write_text(json.dumps(found)) and done())
    with pytest.raises(ModelError, match=said):
        folder_of(file, "tiny.gguf")


def test_another_model_may_be_built_meanwhile(file, answers):
    """Whoever opens one waits for no conversion."""
    turns, ask = [], converter.ask

    def meanwhile(request):
        with one_at_a_time():
            turns.append(1)
        return ask(request, 60, lambda: None)

    answers(lambda request: meanwhile({**request}))
    assert folder_of(file, "tiny.gguf").exists()
    assert turns == [1]


def test_a_folder_that_another_process_has_just_made_stays(tmp_path):
    folder, state = tmp_path / "made", {"of": "a"}
    for number in (1, 2):
        fresh = tmp_path / str(number)
        fresh.mkdir()
        save_file({"w": torch.full((3,), float(number))}, fresh / "model.safetensors")
        gguf_file.install(fresh, folder, state)
    assert load_file(folder / "model.safetensors")["w"].tolist() == [1, 1, 1]  # which somebody may be reading
    gguf_file.install(fresh, folder, {"of": "b"})
    assert load_file(folder / "model.safetensors")["w"].tolist() == [2, 2, 2]
