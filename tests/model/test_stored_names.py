"""Where the tensors of files go in a model: each in a place of its own, in numbers as weights have, and few in none."""

import copy
import time
from pathlib import Path

import pytest
import torch
from configured import configure
from families import tiny
from safe.hostile import header_of, with_header
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from wanda_core.errors import ModelError
from wanda_core.low_memory.conversion import Conversion
from wanda_core.low_memory.model_on_disk import open_model
from wanda_core.model import stored_names, stored_tensors
from wanda_core.model.loading import load_model
from wanda_core.model.stored_names import check_places, places_in
from wanda_core.model.stored_tensors import ONE_FILE, StoredTensor, carried_tensors

UP, NORM = "model.layers.1.mlp.up_proj.weight", "model.norm.weight"
FORMATS = {"C64": 8, "I64": 8, "U64": 8, "I32": 4, "BOOL": 1, "U8": 1, "F8_E4M3": 1, "F8_E8M0": 1}


def with_more(folder, **more):
    """Write the folder's weights again, with more, whose names have __ for a dot. -> what was there"""
    whole = load_file(folder / ONE_FILE)
    others = {name.replace("__", "."): value for name, value in more.items()}
    save_file(whole | others, folder / ONE_FILE, metadata={"format": "pt"})
    return whole


@pytest.mark.parametrize("other", ["layers.1.mlp.up_proj.weight", f"model.{UP}"])
def test_two_names_of_one_weight_are_refused(folder, refusal, other):
    with_more(folder, **{other: torch.ones(96, 64)})
    said = refusal(folder)
    assert " and ".join(sorted([UP, other])) in said
    assert "which are one weight of its model, and which of them is meant is told nowhere; give a checkpoint" in said


def test_without_transformers_own_names_the_base_models_still_counts(folder, refusal, monkeypatch):
    monkeypatch.setattr(stored_names, "_renaming", lambda model: lambda name: (name, name))
    assert load_model(str(folder), device="cpu").revision == "local"
    with_more(folder, layers__1__mlp__up_proj__weight=torch.ones(96, 64))
    assert "which are one weight of its model" in refusal(folder)


def test_the_parts_that_are_joined_are_told_apart(tokenizer, tmp_path, refusal):
    """An expert's matrix in the place of another's: as many as there are experts, and one of them twice."""
    lm = tiny("Mixtral", tokenizer, torch.device("cpu"))
    lm.model.save_pretrained(tmp_path)
    lm.tokenizer.save_pretrained(tmp_path)
    whole = load_file(tmp_path / ONE_FILE)
    first = next(name for name in whole if ".experts.0." in name)
    second = first.replace(".experts.0.", ".experts.1.")
    whole[first.removeprefix("model.")] = whole.pop(second)
    save_file(whole, tmp_path / ONE_FILE, metadata={"format": "pt"})
    assert first.removeprefix("model.") in refusal(tmp_path)
    assert "which are one weight of its model" in refusal(tmp_path)


@pytest.mark.parametrize("family", ["GPT2", "Mixtral", "DeepseekV3", "Gemma3Text", "Mamba2", "OPT", "GptOss"])
def test_each_tensor_of_a_family_has_a_place_of_its_own(tokenizer, tmp_path, family):
    model = tiny(family, tokenizer, torch.device("cpu")).model
    model.save_pretrained(tmp_path)
    names = load_file(tmp_path / ONE_FILE).keys()
    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(copy.deepcopy(model.config))
    held = empty.state_dict()
    found = list(places_in(empty, names, held))
    assert {name for name, _, _ in found} == names
    assert len({own for _, own, _ in found}) == len(names)
    assert {name: place for name, _, place in found} == Conversion(empty, torch.float32).names_in_model(empty, names)


# In what they are stored


@pytest.mark.parametrize("stored", FORMATS)
@pytest.mark.parametrize("tensor", [NORM, UP])
def test_weights_are_floating_point_whatever_their_dimensions(folder, refusal, stored, tensor):
    whole = load_file(folder / ONE_FILE)
    whole[tensor] = torch.ones(*whole[tensor].shape, FORMATS[stored], dtype=torch.uint8)
    save_file(whole, folder / ONE_FILE)
    header, body = header_of(folder / ONE_FILE)
    header[tensor] |= {"dtype": stored, "shape": header[tensor]["shape"][:-1]}
    with_header(folder / ONE_FILE, header, body)
    assert f"holds {tensor} as {stored}" in refusal(folder)


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_point_numbers_serve(folder, stored):
    whole = load_file(folder / ONE_FILE)
    save_file({name: value.to(stored) for name, value in whole.items()}, folder / ONE_FILE, metadata={"format": "pt"})
    for load in (load_model, open_model):
        assert load(str(folder), device="cpu").revision == "local"


@pytest.mark.parametrize("mask", [torch.bool, torch.uint8, torch.float32])
def test_the_masks_of_old_checkpoints_serve(tokenizer, tmp_path, mask):
    lm = tiny("GPT2", tokenizer, torch.device("cpu"))
    lm.model.save_pretrained(tmp_path)
    lm.tokenizer.save_pretrained(tmp_path)
    with_more(
        tmp_path,
        h__0__attn__bias=torch.ones(1, 1, 8, 8).tril().to(mask),
        transformer__h__0__attn__masked_bias=torch.tensor(-1e4),
        h__1__attn__rotary_emb__inv_freq=torch.ones(4),
    )
    for load in (load_model, open_model):
        assert load(str(tmp_path), device="cpu").revision == "local"


# Without a place, or without a number


def test_thousands_without_a_place_are_told_before_transformers_looks_at_each(folder, refusal, monkeypatch):
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", lambda *a, **b: pytest.fail("they were read"))
    with_more(folder, **{f"x__{number}": torch.zeros(250) for number in range(stored_names.FEW + 1)})
    assert "holds x.0 and 1000 more, which its config.json does not mention" in refusal(folder)


def test_the_letters_of_all_names_are_bounded(folder, refusal, monkeypatch):
    monkeypatch.setattr(stored_tensors, "MOST_LETTERS", letters := sum(map(len, load_file(folder / ONE_FILE))))
    assert load_model(str(folder), device="cpu").revision == "local"
    with_more(folder, x=torch.zeros(1))
    assert f"names its tensors with {letters + 1:,} letters together, and at most {letters:,} are" in refusal(folder)


def test_what_a_configuration_promises_is_asked_once_for_all_tensors(folder):
    lm = load_model(str(folder), device="cpu")
    many = dict.fromkeys(map(str, range(100_000)))
    begun = time.monotonic()
    with pytest.raises(Exception, match="99999 more"):
        carried_tensors(lm.model, "owner/model", many, many)
    assert time.monotonic() - begun < 1  # a hundred times less than to ask it for each


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_a_matrix_without_rows_or_columns_is_refused(folder, refusal):
    configure(folder, intermediate_size=0)
    whole = load_file(folder / ONE_FILE)
    for name, value in whole.items():
        if ".mlp." in name:
            whole[name] = value[:, :0].clone() if "down_proj" in name else value[:0].clone()
    save_file(whole, folder / ONE_FILE, metadata={"format": "pt"})
    said = refusal(folder)
    assert "has a config.json that makes model.layers.0.mlp.gate_proj.weight in the shape (0, 64)" in said
    assert said.endswith("such as its intermediate_size, or choose another model")


# Places without a tensor

SINUSOIDS = {"vocab_size": 320, "pad_token_id": 0}
MADE_BY = {
    "marian": {"d_model": 64, "decoder_layers": 1, "decoder_vocab_size": 320, "is_encoder_decoder": False},
    "xlm": {"emb_dim": 64, "n_layers": 1, "n_heads": 4, "n_words": 320, "sinusoidal_embeddings": True},
}


@pytest.mark.parametrize("changed", [None, torch.ones(63)], ids=["lacking", "of another shape"])
def test_a_weight_that_the_files_lack_is_told_before_any_is_read(folder, refusal, monkeypatch, changed):
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", lambda *a, **b: pytest.fail("they were read"))
    whole = load_file(folder / ONE_FILE)
    del whole[NORM]
    save_file(whole | ({} if changed is None else {NORM: changed}), folder / ONE_FILE, metadata={"format": "pt"})
    said = f"lacks 1 of its weights, {NORM} among them" if changed is None else f"holds {NORM} in the shape (63,)"
    assert said in refusal(folder)


@pytest.mark.parametrize("kept", ["lm_head.weight", "model.embed_tokens.weight"])
def test_one_of_two_tied_weights_is_enough(folder, kept):
    configure(folder, tie_word_embeddings=True)
    whole = load_file(folder / ONE_FILE)
    embeddings = whole.pop("model.embed_tokens.weight")
    whole.pop("lm_head.weight", None)
    save_file(whole | {kept: embeddings}, folder / ONE_FILE, metadata={"format": "pt"})
    assert load_model(str(folder), device="cpu").revision == "local"


@pytest.mark.parametrize("lacking", ["position", " "], ids=["lacking", "held"])
@pytest.mark.parametrize("kind", MADE_BY)
def test_positions_that_are_computed_in_python_are_few(kind, lacking):
    def check(positions):
        config = AutoConfig.for_model(kind, **SINUSOIDS | MADE_BY[kind] | {"max_position_embeddings": positions})
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        model._keys_to_ignore_on_load_missing = [lacking]
        held = {name: tuple(value.shape) for name, value in model.state_dict().items() if lacking not in name}
        stored = {name: StoredTensor(Path("x"), "F32", shape) for name, shape in held.items()}
        check_places(model, "owner/model", stored)

    check(1536)
    with pytest.raises(ModelError, match=r"makes 5,120,000 numbers of \S+weight that are computed in place of being"):
        check(80_000)
