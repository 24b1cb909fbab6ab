"""A checkpoint that goes out as one zip is the folder that `save` writes, byte for byte, whatever the model is."""

import copy
import datetime
import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from families import FAMILIES, tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from model_state import assert_same, state_of
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from wanda_core.checkpoint.archive import Archive
from wanda_core.checkpoint.contents import contents
from wanda_core.checkpoint.manifest import RECORD, check_replaceable
from wanda_core.checkpoint.save import save
from wanda_core.checkpoint.tensor_parts import PART_NUMBERS
from wanda_core.checkpoint.weights import weight_files
from wanda_core.errors import StorageError
from wanda_core.evaluation.generation import generate
from wanda_core.evaluation.perplexity import Perplexity
from wanda_core.low_memory.one_by_one import files_one_by_one
from wanda_core.model.loading import load_model
from wanda_core.pruning.packed import laid_over, pack
from wanda_core.pruning.prune import prune
from wanda_core.recipe import PruneSpec
from wanda_core.text.windows import draw

CPU = torch.device("cpu")
MADE = datetime.datetime(2024, 5, 17, 12, 30, 59)
SPEC = PruneSpec("magnitude", 0.5, group="row")
CHANGED = PruneSpec("wanda", 0.5, update="least-squares")
CALIBRATION = draw(
    torch.randint(1, 250, (300,), generator=torch.Generator().manual_seed(4)).tolist(), samples=2, seq_len=16
)


def dense(folder, tokenizer, family="Llama", dtype=torch.float32, **options):
    """Save a tiny model. -> its folder"""
    lm = tiny(family, tokenizer, CPU)
    lm.model.to(dtype).save_pretrained(folder, **options)
    lm.tokenizer.save_pretrained(folder)
    return folder


def loaded(folder, dtype=torch.float32):
    return load_model(str(folder), device="cpu", dtype=dtype)


def archive_of(lm, variant, dtype=None, name="pruned", **perplexities):
    packed = pack(lm, variant)
    weights = files_one_by_one(lm, dtype, packed.parameters)
    assert weights is not None
    return Archive(name, contents(lm, packed, weights, dtype, **perplexities), MADE)


def unzipped(archive, name="pruned"):
    """-> the files of an archive, by name"""
    data = b"".join(bytes(piece) for piece in archive.read())
    assert len(data) == archive.nbytes
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        assert opened.testzip() is None
        assert all(entry.date_time == (2024, 5, 17, 12, 30, 58) for entry in opened.infolist())
        assert opened.namelist()[-1] == f"{name}/{RECORD}"
        return {entry.removeprefix(f"{name}/"): opened.read(entry) for entry in opened.namelist()}


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def check_same(lm, spec, target, dtype=None, **perplexities):
    """The archive of a variant holds what saving it writes, and the dense model stays as it is."""
    before = state_of(lm.model)
    variant = prune(lm, spec, CALIBRATION if spec.needs_calibration else None)
    folder = save(variant, target, dtype=dtype, **perplexities)
    assert unzipped(archive_of(lm, variant, dtype, **perplexities)) == files_of(folder)
    assert_same(before, state_of(lm.model))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_files_are_those_of_the_saved_folder_for_every_family(tokenizer, tmp_path, family):
    lm = loaded(dense(tmp_path / "dense", tokenizer, family, torch.bfloat16))
    check_same(lm, SPEC, tmp_path / "out")


@pytest.mark.parametrize("family", ["Llama", "GPT2", "Qwen3Moe"])
@pytest.mark.parametrize("saved_in", [None, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("stored_in", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_in_every_number_format(tokenizer, tmp_path, family, stored_in, saved_in):
    lm = loaded(dense(tmp_path / "dense", tokenizer, family, stored_in))
    check_same(lm, SPEC, tmp_path / "out", saved_in)


@pytest.mark.parametrize("family", ["Llama", "GPT2", "Mixtral", "DeepseekV3", "GptOss"])
def test_with_changed_weights(tokenizer, tmp_path, family):
    lm = loaded(dense(tmp_path / "dense", tokenizer, family, torch.bfloat16))
    check_same(lm, CHANGED, tmp_path / "out", torch.float32)


@pytest.mark.parametrize("family", ["Llama", "GPT2", "Mixtral"])
def test_of_a_model_that_holds_a_smaller_format_than_its_files(tokenizer, tmp_path, family):
    lm = loaded(dense(tmp_path / "dense", tokenizer, family), torch.bfloat16)
    check_same(lm, SPEC, tmp_path / "out")


def test_in_shards_with_files_beside_perplexities_and_tensors_of_other_formats(tokenizer, tmp_path):
    source = dense(tmp_path / "dense", tokenizer, max_shard_size="20KB")
    (source / "additional_chat_templates").mkdir()
    for name in ("LICENSE", "processor_config.json", "additional_chat_templates/tool.jinja", "별.txt"):
        (source / name).write_bytes(b"{ \r\n}" * 7)
    shard = sorted(source.glob("model-*.safetensors"))[-1]
    values = load_file(shard)
    odd = next(name for name in values if name.endswith("norm.weight"))
    save_file(values | {odd: values[odd].bfloat16()}, shard, metadata={"format": "pt"})
    measured = Perplexity(12.5, 4, 512, 2044)
    check_same(
        loaded(source), SPEC, tmp_path / "out", torch.bfloat16, dense_perplexity=measured, pruned_perplexity=measured
    )


def test_with_tensors_that_are_carried_through(tokenizer, tmp_path):
    source = dense(tmp_path / "dense", tokenizer, "DeepseekV3")
    values = load_file(source / "model.safetensors")
    extra = {f"model.layers.2.{name}": torch.rand(3, 5) for name in ("eh_proj.weight", "enorm.weight")}
    save_file(values | extra, source / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(config | {"num_nextn_predict_layers": 1}))
    lm = loaded(source)
    assert lm.carried
    check_same(lm, SPEC, tmp_path / "out")


def test_what_is_unzipped_is_a_checkpoint_that_plain_transformers_reads_with_the_same_answer(tokenizer, tmp_path):
    lm = loaded(dense(tmp_path / "dense", tokenizer, "Qwen3Moe", torch.bfloat16))
    variant = prune(lm, SPEC)
    packed = pack(lm, variant)
    data = b"".join(bytes(piece) for piece in archive_of(lm, variant).read())
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        opened.extractall(tmp_path)
    assert check_replaceable(tmp_path / "pruned")  # sealed, and every sha256 in it is right
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "pruned", dtype=torch.float32)
    read = AutoTokenizer.from_pretrained(tmp_path / "pruned")
    ids = read("The sky is", return_tensors="pt")["input_ids"]
    answered = model.generate(ids, max_new_tokens=12, do_sample=False, eos_token_id=None)[0, ids.shape[1] :].tolist()
    with laid_over(lm, packed) as over:
        [*_, last] = generate(over, "The sky is", max_new_tokens=12, chat=False)
    assert answered[: len(last.tokens)] == list(last.tokens)
    assert len(last.tokens) > 0


@pytest.mark.builtin
def test_the_built_in_model_goes_out_and_plain_transformers_reads_it(builtin_lm, tmp_path):
    variant = prune(builtin_lm, PruneSpec("magnitude", 0.3))
    made = archive_of(builtin_lm, variant, torch.bfloat16)
    with (tmp_path / "made.zip").open("wb") as file:
        for piece in made.read():
            file.write(piece)
    assert (tmp_path / "made.zip").stat().st_size == made.nbytes
    with zipfile.ZipFile(tmp_path / "made.zip") as opened:
        opened.extractall(tmp_path)
    assert check_replaceable(tmp_path / "pruned")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "pruned", dtype=torch.float32)
    for linear in builtin_lm.all_linears[::50]:
        assert torch.equal(model.get_parameter(f"{linear.name}.weight"), variant.pruned_weight(linear.name).bfloat16())


@pytest.fixture(scope="module")
def archive(tokenizer, tmp_path_factory):
    """An archive with several files of weights, and its bytes."""
    folder = dense(tmp_path_factory.mktemp("models") / "dense", tokenizer, max_shard_size="20KB")
    lm = loaded(folder)
    made = archive_of(lm, prune(lm, SPEC))
    return made, b"".join(bytes(piece) for piece in made.read())


@settings(max_examples=30)
@given(st.data())
def test_it_goes_on_from_any_byte(archive, data):
    made, whole = archive
    start = data.draw(st.integers(0, len(whole)))
    assert b"".join(bytes(piece) for piece in made.read(start)) == whole[start:]


def test_files_behind_which_a_reading_begins_are_not_read_again(archive, monkeypatch):
    made, whole = archive
    fresh = copy.copy(made)
    read = []

    def counted(file):
        return replace(file, data=lambda: (read.append(file.name), file.data())[1])

    fresh._contents = replace(made._contents, files=tuple(map(counted, made._contents.files)))
    fresh._known = {}
    for expected in (len(made._contents.files), 1):  # the first time nothing is known
        read.clear()
        place = whole.rindex(b"PK\3\4")  # of the record, behind everything else
        assert b"".join(bytes(piece) for piece in fresh.read(place - 20)) == whole[place - 20 :]
        assert len(read) == expected


def test_a_source_that_changes_meanwhile_ends_it(tokenizer, tmp_path):
    for name in ("model.safetensors", "tokenizer.json"):
        source = dense(tmp_path / name, tokenizer)
        lm = loaded(source)
        made = archive_of(lm, prune(lm, SPEC))
        file = source / name
        file.write_bytes(file.read_bytes() + b" ")
        with pytest.raises(StorageError, match=f"{name} was changed while .*; load the model again"):
            list(made.read())
        file.unlink()
        with pytest.raises(StorageError, match="load the model again"):
            list(made.read())


@pytest.mark.parametrize(
    "name",
    [
        *(
            "up\\..\\x.txt",
            "a:b",
            "tab\t.txt",
            "dot.",
            "a\nb",
            "aux.txt",
            "con",
            "NUL.json",
            "com1.tar.txt",
            "Lpt\u00b9",
        ),
        *("Config.json", "TOKENIZER.JSON"),
    ],
)
def test_a_name_that_is_a_path_elsewhere_is_refused(tokenizer, tmp_path, name):
    source = dense(tmp_path / "dense", tokenizer)
    (source / name).write_text("x")
    lm = loaded(source)
    with pytest.raises(StorageError, match="which other systems take for another; rename it"):
        archive_of(lm, prune(lm, SPEC))


def test_a_card_or_a_record_in_other_capitals_gives_way_as_those_of_the_dense_model_do(tokenizer, tmp_path):
    source = dense(tmp_path / "dense", tokenizer)
    for name in ("readme.md", "WANDA.JSON", "console.txt", "licence\u0301", "licence"):
        (source / name).write_text("the dense model's")
    lm = loaded(source)
    check_same(lm, SPEC, tmp_path / "pruned")
    assert {"README.md", RECORD, "console.txt", "licence", "licence\u0301"} <= {*files_of(tmp_path / "pruned")}
    assert not {"readme.md", "WANDA.JSON"} & {*files_of(tmp_path / "pruned")}


@pytest.mark.parametrize("pair", [("a.txt", "A.txt"), ("\u00e9", "e\u0301"), ("ß.txt", "SS.txt")])
def test_two_names_of_one_file_elsewhere_are_refused(tokenizer, tmp_path, pair):
    source = dense(tmp_path / "dense", tokenizer)
    for name in pair:
        (source / name).write_text("x")
    lm = loaded(source)
    with pytest.raises(StorageError, match="which other systems take for another; rename it"):
        archive_of(lm, prune(lm, SPEC))


def test_a_number_beyond_the_format_is_found_before_the_first_byte(tokenizer, tmp_path):
    source = dense(tmp_path / "dense", tokenizer)
    values = load_file(source / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    values[name][0, 0] = 70_000.0
    save_file(values, source / "model.safetensors", metadata={"format": "pt"})
    lm = loaded(source)
    kept, gone = (pack(lm, prune(lm, PruneSpec("magnitude", share))) for share in (0.5, 0.0))
    for packed in (kept, gone):
        with pytest.raises(StorageError, match=r"up_proj.weight holds numbers beyond float16; save it in bfloat16"):
            files_one_by_one(lm, torch.float16, packed.parameters).check()
        files_one_by_one(lm, torch.bfloat16, packed.parameters).check()
    parameter = kept.parameters[name]
    bits = parameter.kept.clone()
    bits[0] &= 0x7F  # the first weight goes
    pruned = dict(kept.parameters) | {name: replace(parameter, kept=bits)}
    files_one_by_one(lm, torch.float16, pruned).check()


def test_a_model_that_no_folder_holds_has_no_files(tiny_llama, tokenizer, tmp_path):
    assert files_one_by_one(tiny_llama, None, {}) is None
    lm = loaded(dense(tmp_path / "dense", tokenizer, "Mixtral"))
    lm.model.model.layers = lm.model.model.layers[:1]  # changed in memory
    assert files_one_by_one(lm, None, {}) is None


def test_blocks_that_share_weights_and_are_pruned_apart_have_no_place_in_the_files(tokenizer, tmp_path):
    lm = loaded(dense(tmp_path / "dense", tokenizer))
    first, second = (layer.mlp.up_proj for layer in lm.model.model.layers[:2])
    second.weight, name = first.weight, "model.layers.1.mlp.up_proj.weight"
    same = pack(lm, prune(lm, SPEC))
    values = load_file(tmp_path / "dense" / "model.safetensors")
    del values[name]
    save_file(values, tmp_path / "dense" / "model.safetensors", metadata={"format": "pt"})
    assert weight_files(lm, None, {}) is not None
    assert weight_files(lm, None, same.parameters) is not None
    for apart in (
        replace(same.parameters[name], kept=~same.parameters[name].kept),
        replace(same.parameters[name], kept=None, changed=first.weight.detach() + 1),
    ):
        assert weight_files(lm, None, {**same.parameters, name: apart}) is None
    assert weight_files(lm, None, {name: same.parameters[name]}) is None
    changed = replace(same.parameters[name], kept=None, changed=first.weight.detach() + 1)
    both = {name: changed, "model.layers.0.mlp.up_proj.weight": replace(changed, changed=changed.changed.clone())}
    assert weight_files(lm, None, {**same.parameters, **both}) is not None


def test_one_that_is_given_up_leaves_no_file_open(tokenizer, tmp_path):
    source = dense(tmp_path / "dense", tokenizer)
    lm = loaded(source, torch.bfloat16)  # so that files are read
    made = archive_of(lm, prune(lm, SPEC))
    for steps in range(1, 30):
        reading = made.read()
        for _ in range(steps):
            next(reading)
        reading.close()
        assert not [file for file in psutil.Process().open_files() if Path(file.path).is_relative_to(source)]


WIDE = 2**24  # numbers of one matrix; 64 MB of float32


def test_memory_holds_a_few_parts_and_no_second_copy_of_the_largest_matrix(tokenizer, tmp_path):
    lm = tiny("Llama", tokenizer, CPU)
    lm.model.resize_token_embeddings(WIDE // 32, mean_resizing=False)
    lm.model.save_pretrained(tmp_path / "dense")
    tokenizer.save_pretrained(tmp_path / "dense")
    lm = loaded(tmp_path / "dense")
    made = archive_of(lm, prune(lm, SPEC), torch.bfloat16)
    assert made.nbytes > 2 * WIDE
    process, most = psutil.Process(), 0
    before = process.memory_info().rss
    for piece in made.read():
        assert len(piece) <= 4 * PART_NUMBERS
        most = max(most, process.memory_info().rss - before)
    assert most < 25e6
