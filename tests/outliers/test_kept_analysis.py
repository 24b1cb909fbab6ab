"""An analysis in a file: the same bits come back, and whatever is not this model's on this text counts as none."""

import json
import os
from dataclasses import fields, replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from wanda_core.calibration import profile as profiles
from wanda_core.outliers import kept_analysis
from wanda_core.outliers.analysis import analyse
from wanda_core.outliers.kept_analysis import FORMAT, TENSORS, load_analysis, save_analysis
from wanda_core.progress import finish
from wanda_core.text.windows import calibrate
from wanda_ui.engine import work
from wanda_ui.engine.loaded import Loaded

SECONDS = 12.345678901234567


@pytest.fixture(scope="module")
def calibration(tiny_llama, text):
    return calibrate(tiny_llama, text, samples=3, seq_len=48)


@pytest.fixture(scope="module")
def analysis(tiny_llama, calibration):
    return analyse(tiny_llama, calibration)


@pytest.fixture
def path(tmp_path, analysis):
    path = tmp_path / "analysis.safetensors"
    save_analysis(analysis, path, SECONDS)
    return path


def same(a, b):
    return a.dtype == b.dtype and a.device == b.device and torch.equal(a, b)


def assert_same(a, b):
    assert TENSORS == ("top", "median", "channel_max", "stream_norms")
    assert all(same(getattr(a, name), getattr(b, name)) for name in TENSORS)
    for field in fields(a.features):
        one, other = getattr(a.features, field.name), getattr(b.features, field.name)
        assert same(one, other) if isinstance(one, torch.Tensor) else one == other, field.name
    assert a.profile.norms.keys() == b.profile.norms.keys()
    assert all(same(norm, b.profile.norms[name]) for name, norm in a.profile.norms.items())
    for field in fields(a.profile):
        if field.name != "norms":
            assert getattr(a.profile, field.name) == getattr(b.profile, field.name), field.name


def test_what_was_written_comes_back_bit_for_bit(path, analysis, tiny_llama, calibration):
    loaded, seconds = load_analysis(path, tiny_llama, calibration)
    assert_same(loaded, analysis)
    assert seconds == SECONDS
    assert torch.equal(loaded.massive, analysis.massive)
    assert os.listdir(path.parent) == [path.name]


def test_what_each_expert_was_sent_comes_back_too(tmp_path, analysis, tiny_llama, calibration):
    routed = replace(analysis, profile=replace(analysis.profile, tokens={"an expert": 7, "another": 0}))
    save_analysis(routed, tmp_path / "a", 1)
    loaded, seconds = load_analysis(tmp_path / "a", tiny_llama, calibration)
    assert loaded.profile.tokens == {"an expert": 7, "another": 0}
    assert seconds == 1.0


def test_a_model_in_which_no_linear_reads_the_stream_has_no_features(tmp_path, analysis, tiny_llama, calibration):
    save_analysis(replace(analysis, features=None), tmp_path / "a", 1)
    assert load_analysis(tmp_path / "a", tiny_llama, calibration)[0].features is None


def test_it_is_written_over_and_the_newest_comes_back(path, analysis, tiny_llama, calibration):
    save_analysis(replace(analysis, median=analysis.median + 1), path, 2.0)
    loaded, seconds = load_analysis(path, tiny_llama, calibration)
    assert (seconds, same(loaded.median, analysis.median + 1)) == (2.0, True)


def test_another_text_model_or_version_counts_as_none(path, tiny_llama, text, calibration, monkeypatch):
    assert load_analysis(path, tiny_llama, calibrate(tiny_llama, text, samples=3, seq_len=48, seed=1)) is None
    assert load_analysis(path, tiny_llama, calibrate(tiny_llama, text, samples=2, seq_len=48)) is None
    assert load_analysis(path, tiny_llama, calibrate(tiny_llama, text, samples=3, seq_len=48, source="other")) is None
    for change in ({"name": "other"}, {"revision": "another"}):
        assert load_analysis(path, replace(tiny_llama, **change), calibration) is None
    with monkeypatch.context() as patch:
        patch.setattr(profiles, "__version__", "0.0.0")
        assert load_analysis(path, tiny_llama, calibration) is None
    with monkeypatch.context() as patch:
        patch.setattr(torch, "__version__", "0.0.0")
        assert load_analysis(path, tiny_llama, calibration) is None
    with monkeypatch.context() as patch:
        patch.setattr(kept_analysis, "FORMAT", f"{FORMAT}-another")
        assert load_analysis(path, tiny_llama, calibration) is None
    assert load_analysis(path, tiny_llama, calibration) is not None


def test_a_model_of_another_build_counts_as_none(path, tiny_gpt2, tiny_llama, calibration):
    named = replace(tiny_gpt2, name=tiny_llama.name, revision=tiny_llama.revision)
    assert load_analysis(path, named, calibration) is None


def test_a_truncated_file_counts_as_none_wherever_it_ends(path, tiny_llama, calibration):
    whole = path.read_bytes()
    for length in [0, 1, 7, 8, 9, 100, *range(200, len(whole), len(whole) // 20), len(whole) - 1]:
        path.write_bytes(whole[:length])
        assert load_analysis(path, tiny_llama, calibration) is None, length
    path.write_bytes(whole + b"x")
    assert load_analysis(path, tiny_llama, calibration) is None
    path.write_bytes(whole)
    assert load_analysis(path, tiny_llama, calibration) is not None


@pytest.mark.parametrize("content", [b"", b"{}", b"\0" * 5_000, b"\xff" * 5_000, b"words " * 900, b"PK\x03\x04" * 99])
def test_garbage_counts_as_none(tmp_path, content, tiny_llama, calibration):
    (tmp_path / "a").write_bytes(content)
    assert load_analysis(tmp_path / "a", tiny_llama, calibration) is None


def test_no_file_and_a_folder_count_as_none(tmp_path, tiny_llama, calibration):
    assert load_analysis(tmp_path / "nothing", tiny_llama, calibration) is None
    assert load_analysis(tmp_path, tiny_llama, calibration) is None
    assert load_analysis(tmp_path / "a\0b", tiny_llama, calibration) is None


def rewritten(path, tensors=lambda found: found, **changes):
    """Write a file anew with some of its metadata or tensors changed; None leaves a word out."""
    with safe_open(path, framework="pt") as file:
        said = file.metadata() | changes
        found = tensors({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 # no dictionary
    save_file(found, path, metadata={name: value for name, value in said.items() if value is not None})


METADATA = [{"format": "wanda-profile-1"}, {"seconds": "soon"}, {"source": "{"}, {"source": "[]"}, {"source": "null"}]
METADATA += [{"tokens": "[]"}, {"tokens": "7"}, {"tokens": '{"a": "b"}'}, {"tokens": '{"a": null}'}, {"tokens": "{"}]
METADATA += [{"tokens": '{"a": Infinity}'}, {"tokens": "[" * 50_000}]
METADATA += [{name: None} for name in ("format", "calibration", "order", "seconds", "source", "tokens")]


@pytest.mark.parametrize("change", METADATA, ids=range(len(METADATA)))
def test_other_words_in_the_file_count_as_none(path, change, tiny_llama, calibration):
    rewritten(path, **change)
    assert load_analysis(path, tiny_llama, calibration) is None


def test_missing_and_unknown_tensors_count_as_none(path, tiny_llama, calibration):
    whole = path.read_bytes()
    some = f"norms.{tiny_llama.all_linears[0].name}"
    for name in (*TENSORS, some, "features.over", "features.positive"):
        rewritten(path, lambda found, name=name: {key: value for key, value in found.items() if key != name})
        assert load_analysis(path, tiny_llama, calibration) is None, name
        path.write_bytes(whole)
    rewritten(path, lambda found: found | {some: found[some][:-1].clone()})
    assert load_analysis(path, tiny_llama, calibration) is None
    path.write_bytes(whole)
    rewritten(path, lambda found: found | {"norms.of.nothing": found[some].clone()})
    assert load_analysis(path, tiny_llama, calibration) is None


TENSOR_CHANGES = {
    "NaN": lambda x: x * float("nan"),
    "negative": lambda x: -x - 1,
    "bool": lambda x: x > 0,
    "float8": lambda x: x.float().to(torch.float8_e4m3fn),
    "double": lambda x: x.double(),
    "one more dimension": lambda x: x[None],
    "fewer": lambda x: x[:-1],
}


@pytest.mark.parametrize("kind", TENSOR_CHANGES)
def test_tensors_that_nobody_measured_count_as_none(path, kind, tiny_llama, calibration):
    whole = path.read_bytes()
    some = f"norms.{tiny_llama.all_linears[0].name}"
    for name in (*TENSORS, some, "features.over", "features.positive"):
        rewritten(path, lambda found, name=name: found | {name: TENSOR_CHANGES[kind](found[name]).contiguous()})
        assert load_analysis(path, tiny_llama, calibration) is None, name
        path.write_bytes(whole)


FEATURES = [
    {"magnitude": "6"},
    {"magnitude": float("nan")},
    {"positions": 36},
    {"positions": [0] * 6},
    {"positions": [36]},
    {"n_blocks": 99},
    {"kinds": [1]},
]
FEATURES += [
    {"blocks": [0]},
    {"blocks": None},
    {"blocks": [-1] * 99},
    {"more": 1},
    {"one_stream": False},
    {"one_stream": 1},
]


@pytest.mark.parametrize("change", FEATURES)
def test_counts_that_nobody_counted_count_as_none(path, change, tiny_llama, calibration):
    with safe_open(path, framework="pt") as file:
        told = json.loads(file.metadata()["features"])
    rewritten(path, features=json.dumps(told))
    assert load_analysis(path, tiny_llama, calibration) is not None
    rewritten(path, features=json.dumps(told | change))
    assert load_analysis(path, tiny_llama, calibration) is None


def test_the_words_in_the_file_are_those_of_the_profile(path, analysis):
    with safe_open(path, framework="pt") as file:
        said = file.metadata()
    assert said["format"] == FORMAT
    assert json.loads(said["source"]) == analysis.profile.source
    assert float(said["seconds"]) == SECONDS


def test_what_cannot_be_written_is_left_unwritten(tmp_path, path, analysis, monkeypatch):
    """As on a read-only or full disk; what was there before stays."""
    (tmp_path / "file").write_text("words")
    for nowhere in (tmp_path / "missing" / "a", tmp_path / "file" / "a"):
        save_analysis(analysis, nowhere, SECONDS)
    before = path.read_bytes()

    def fails(*given, **more):
        raise PermissionError(30, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(kept_analysis.atomic_file.os, "replace", fails)
        save_analysis(analysis, path, 1.0)
    with monkeypatch.context() as patch:
        patch.setattr(kept_analysis, "save_file", fails)
        save_analysis(analysis, path, 1.0)
    assert path.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["analysis.safetensors", "file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_no_trouble(tmp_path, analysis, tiny_llama, calibration):
    tmp_path.chmod(0o500)
    save_analysis(analysis, tmp_path / "a", SECONDS)
    assert os.listdir(tmp_path) == []
    assert load_analysis(tmp_path / "a", tiny_llama, calibration) is None
    tmp_path.chmod(0o700)


def test_the_next_start_of_a_server_does_not_run_the_model(tmp_path, tiny_llama, monkeypatch):
    models, kept = {"tiny": Loaded(tiny_llama)}, tmp_path / "a"
    first, calibration, seconds = finish(work.analyse(models, "tiny", kept))
    assert kept.is_file()

    def nothing(*given):
        raise AssertionError("the model was run")

    monkeypatch.setattr(work, "analyse_steps", nothing)
    second, again, before = finish(work.analyse(models, "tiny", kept))
    assert_same(second, first)
    assert before == seconds > 0
    assert torch.equal(again.ids, calibration.ids)
    kept.write_bytes(b"broken")
    with pytest.raises(AssertionError, match="the model was run"):
        finish(work.analyse(models, "tiny", kept))
    monkeypatch.undo()
    finish(work.analyse(models, "tiny", kept))  # a broken one is made again
    assert load_analysis(kept, tiny_llama, calibration) is not None
    assert finish(work.analyse(models, "tiny"))[0] is not None  # and none is kept where no place is given
    assert os.listdir(tmp_path) == ["a"]
