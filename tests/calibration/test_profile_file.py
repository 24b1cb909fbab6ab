"""A profile's file that somebody changed: refused in a sentence, never pruned from in silence."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from wanda_core.calibration.profile import load_profile, profile, save_profile
from wanda_core.errors import InputError
from wanda_core.maths.sensitivity import Sensitivities
from wanda_core.text.windows import calibrate


@pytest.fixture(scope="module")
def whole(tiny_llama, text, tmp_path_factory):
    """The words and the tensors of a profile's file."""
    taken = profile(tiny_llama, calibrate(tiny_llama, text, samples=2, seq_len=16))
    taken = replace(taken, tokens={"an expert": 5}, sensitivities=Sensitivities(((0.1, 0.2), (0.1, 0.3)), 4, 16))
    path = save_profile(taken, tmp_path_factory.mktemp("whole") / "p.safetensors")
    assert load_profile(path).tokens == {"an expert": 5}
    with safe_open(path, "pt") as file:
        return file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping


def refused(tmp_path, words, tensors):
    """-> the sentence with which a file of these is refused"""
    save_file(tensors, tmp_path / "p.safetensors", words)
    with pytest.raises(InputError, match=r"^profile .* cannot be read \(.*\); make one with") as caught:
        load_profile(tmp_path / "p.safetensors")
    return str(caught.value)


NORMS = {
    "NaN": (lambda x: x * float("nan"), "not finite"),
    "infinite": (lambda x: x / 0, "not finite"),
    "negative": (lambda x: -x - 1, "negative"),
    "bool": (lambda x: x > 0, "bool"),
    "whole": (lambda x: x.to(torch.int64), "int64"),
    "float8": (lambda x: x.to(torch.float8_e4m3fn), "float8_e4m3fn"),
    "complex": (lambda x: x.to(torch.complex64), "complex64"),
    "double": (lambda x: x.double(), "float64"),
    "a matrix": (lambda x: x[None], "2 dimensions"),
    "a number": (lambda x: x.sum(), "0 dimensions"),
}


@pytest.mark.parametrize("kind", NORMS)
def test_norms_that_nobody_measured(tmp_path, whole, kind):
    words, tensors = whole
    change, said = NORMS[kind]
    name = sorted(tensors)[0]
    assert said in refused(tmp_path, words, tensors | {name: change(tensors[name]).contiguous()})


@pytest.mark.parametrize(
    "change",
    [
        *[
            {"source": text}
            for text in (
                "[1]",
                "7",
                "null",
                '{"model": 5}',
                '{"samples": true}',
                '{"bos": 1}',
                '{"more": NaN}',
                '{"text": "\\ud800"}',
            )
        ],
        *[
            {"tokens": text}
            for text in ("[]", "7", '{"a": -1}', '{"a": true}', '{"a": 1.5}', '{"a": 1' + 30 * "0" + "}")
        ],
        *[{"order": order} for order in ("", "sideways")],
    ],
)
def test_words_that_nobody_wrote(tmp_path, whole, change):
    words, tensors = whole
    refused(tmp_path, words | change, tensors)


@pytest.mark.parametrize(
    "change",
    [
        *[{"windows": value} for value in (0, -1, True, "4", 1.5, float("inf"), 10**30, None)],
        *[
            {"losses": value}
            for value in ([], 7, [[True, 0.1]], [["0.1", 0.2]], [[0.1, float("nan")]], [[0.1, 10**400]])
        ],
    ],
)
def test_sensitivities_that_nobody_measured(tmp_path, whole, change):
    words, tensors = whole
    told = json.loads(words["sensitivities"]) | change
    refused(tmp_path, words | {"sensitivities": json.dumps(told)}, tensors)
