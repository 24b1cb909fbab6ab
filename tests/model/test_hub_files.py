"""Which files of a hub's model are downloaded, and when the cache serves instead."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from fake_hub import MODEL, NEW, Info, hub_answers, refusal, response
from huggingface_hub import _tree_cache, constants

from wanda_core.errors import ModelError
from wanda_core.model import hub, hub_faults
from wanda_core.model.hub_files import shards_told, wanted_files
from wanda_core.model.loading import load_model, locate
from wanda_core.model.stored_tensors import INDEX, ONE_FILE

pytestmark = pytest.mark.usefixtures("cache")

# Which files


@pytest.fixture
def in_shards(there, tiny_llama):
    """The hub's model as several shards, with the same weights in other forms beside them."""
    folder = there.commits[NEW]
    (folder / "model.safetensors").unlink()
    tiny_llama.model.save_pretrained(folder, max_shard_size="100KB")
    shards = sorted(path.name for path in folder.glob("model-*"))
    assert len(shards) > 2
    for copy in ("consolidated.safetensors", "model.fp16.safetensors", "original/model.safetensors", "onnx/model.onnx"):
        (folder / copy).parent.mkdir(exist_ok=True)
        (folder / copy).write_bytes(b"x" * 10**6)
    for file in (
        "LICENSE",
        "tokenizer.model.v3",
        "additional_chat_templates/rag.jinja",
        "README.md",
        "original/a.json",
    ):
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text(file)
    return shards


def files_in(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_shards_that_the_index_names_are_fetched_and_no_copy_of_them(there, in_shards):
    steps = []
    located = locate(MODEL, "cpu", on_progress=steps.append)
    around = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "LICENSE"}
    around |= {"model.safetensors.index.json", "tokenizer.model.v3", "additional_chat_templates/rag.jinja"}
    assert files_in(located.folder) == around | set(in_shards)
    total = sum((there.commits[NEW] / file).stat().st_size for file in files_in(located.folder))
    (told,) = {step.total for step in steps if step.stage == "downloading"}
    index = (there.commits[NEW] / "model.safetensors.index.json").stat().st_size
    assert told == total - index  # which was read first


def test_shards_may_have_any_name_and_those_that_the_index_does_not_name_stay(there, in_shards):
    folder = there.commits[NEW]
    index = (folder / "model.safetensors.index.json").read_text()
    (folder / in_shards[0]).rename(folder / "weights [a].safetensors")
    (folder / "model.safetensors.index.json").write_text(index.replace(in_shards[0], "weights [a].safetensors"))
    (folder / "model-00001-of-00009.safetensors").write_bytes(b"old")
    lm = load_model(MODEL, device="cpu")
    assert {file for file in files_in(lm.folder) if file.endswith("safetensors")} == {
        "weights [a].safetensors",
        *in_shards[1:],
    }


def test_one_file_goes_before_shards_as_transformers_has_it(there, saved, in_shards):
    shutil.copy(saved / "model.safetensors", there.commits[NEW])
    folder = locate(MODEL, "cpu").folder
    assert {file for file in files_in(folder) if file.endswith("safetensors")} == {"model.safetensors"}


def test_room_is_asked_for_what_is_fetched_alone(there, in_shards, monkeypatch):
    folder = there.commits[NEW]
    needed = sum((folder / file).stat().st_size for file in in_shards)
    monkeypatch.setattr(hub.shutil, "disk_usage", lambda path: type("Usage", (), {"free": needed - 1}))
    assert "of disk are free" in refusal(MODEL, ModelError)
    copies = sum((folder / file).stat().st_size for file in ("consolidated.safetensors", "original/model.safetensors"))
    monkeypatch.setattr(hub.shutil, "disk_usage", lambda path: type("Usage", (), {"free": needed + copies // 2}))
    assert locate(MODEL, "cpu").revision == NEW


def test_what_nothing_reads_is_fetched_while_it_is_little():
    read = {"model.safetensors": 10**11, "config.json": 1000, "tokenizer.json": 35 * 10**6}
    few = {"LICENSE": 10_000, "notes.txt": 20 * 10**6, "preprocessor_config.json": 500}
    much = {"trainer_state.json": 60 * 10**6, "LICENSE-data.bin": 140 * 10**9}
    beside, weights = wanted_files("a model", read | much | few, lambda: None)
    assert {*beside, *weights} == {*read, *few}
    assert weights == ["model.safetensors"]
    many = {f"notes-{number}.txt": 1 for number in range(600)}
    assert len(wanted_files("a model", read | many, lambda: None)[0]) == len(read) - 1 + 500
    long = {f"{'n' * 250}.json": 1, f"{'n' * 251}.json": 1, f"{'é' * 126}.json": 1}  # of 255, 256 and 257 bytes
    beside, _ = wanted_files("a model", read | long, lambda: None)
    assert {*beside} == {"config.json", "tokenizer.json", f"{'n' * 250}.json"}


def test_what_the_hubs_library_would_compare_for_minutes_is_refused():
    index = json.dumps({"weight_map": {f"w{number}": f"s{number}.safetensors" for number in range(1_000)}})
    files = {INDEX: 10**5, "config.json": 1000} | {f"s{number}.safetensors": 9 for number in range(1_000)}
    assert len(wanted_files("a model", files, lambda: index)[1]) == 1_000
    with pytest.raises(ModelError, match="has 1,002 files to be downloaded among 4,002, more than can be looked for"):
        wanted_files("a model", files | {f"docs/{number}": 1 for number in range(3_000)}, lambda: index)


@pytest.mark.parametrize(
    ("index", "sentence"),
    [
        ('{"weight_map": {"a": "gone.safetensors"}}', "names 'gone.safetensors', which the hub does not have"),
        ("{", "cannot be read"),
        ('{"weight_map": {}}', "cannot be read"),
        ("[]", "cannot be read"),
    ],
)
def test_an_index_that_leads_nowhere_is_refused_before_the_download(there, in_shards, index, sentence):
    (there.commits[NEW] / "model.safetensors.index.json").write_text(index)
    assert sentence in refusal(MODEL, ModelError)
    assert not any("resolve" in path and path.endswith((".safetensors", "config.json")) for path in there.asked)


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        (
            {"consolidated__safetensors": 5, "params__json": 1},
            "has 'consolidated.safetensors' on the hub, and weights are",
        ),
        ({"model_Q4__gguf": 5}, "only GGUF files; download one of them and give its path"),
    ],
)
def test_a_repository_without_weights_that_are_read_is_refused_by_its_list(monkeypatch, files, sentence):
    hub_answers(monkeypatch, Info(**files))
    assert sentence in refusal(MODEL, ModelError)


def test_an_adapter_is_called_one(there):
    for name in ("model.safetensors", "config.json"):
        (there.commits[NEW] / name).unlink()
    (there.commits[NEW] / "adapter_model.safetensors").write_bytes(b"x" * 1000)
    (there.commits[NEW] / "adapter_config.json").write_text("{}")
    assert "is an adapter" in refusal(MODEL, ModelError)
    assert not any(path.endswith("adapter_model.safetensors") for path in there.asked)


# A cache that holds a part


def test_a_part_of_a_model_is_counted_and_the_model_not_blamed(there, in_shards, monkeypatch):
    there.broken = f"resolve/.*/{in_shards[1]}"
    with pytest.raises(ModelError):
        load_model(MODEL, device="cpu")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    # Three of a configuration, two of the tokenizer, and a template, besides.
    needed = len(in_shards) + 6
    message = refusal(f"{MODEL}@{NEW}", ModelError)
    assert f"{needed - 1} of {needed} files of '{MODEL}@{NEW}' are on this machine" in message
    assert f"({in_shards[1]} and so on)" in message
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    there.broken = None
    assert load_model(MODEL, device="cpu").revision == NEW


@pytest.mark.parametrize(
    ("gone", "count"),
    [
        *((file, "4 of 5") for file in ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json")),
        ("old.txt", None),
    ],
)
def test_what_loading_needs_is_counted_and_nothing_else(there, monkeypatch, gone, count):
    folder = load_model(f"{MODEL}@v1.0", device="cpu").folder
    (folder / gone).unlink()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    if count is None:
        assert load_model(f"{MODEL}@v1.0", device="cpu").folder == folder
    else:
        message = refusal(f"{MODEL}@v1.0", ModelError)
        assert f"{count} files of '{MODEL}@v1.0' are on this machine and the Hugging Face hub cannot be" in message
        assert f"({gone} and so on)" in message


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (MODEL, "'owner/model' is not on this machine and"),
        (f"{MODEL}@{NEW}", f"4 of 5 files of '{MODEL}@{NEW}' are on this machine and"),
    ],
)
def test_a_tokenizer_without_its_settings_is_no_whole_model(there, name, said):
    there.broken = "resolve/.*/tokenizer_config.json"
    assert refusal(name, ModelError).startswith(said)
    there.broken = None
    assert load_model(name, device="cpu").revision == NEW


@pytest.mark.parametrize(("letters", "comes"), [(100_000, True), (0, False)])
def test_a_long_index_may_take_as_long_as_a_slow_line_does(there, in_shards, monkeypatch, letters, comes):
    index = there.commits[NEW] / INDEX
    index.write_text(index.read_text() + " " * letters)
    there.slow, there.pause = INDEX, 0.1  # two seconds in all
    monkeypatch.setattr(hub, "LOOKUP_SECONDS", 0.8)
    monkeypatch.setattr(hub, "SLOWEST", 20_000)
    if comes:
        assert load_model(MODEL, device="cpu").revision == NEW
    else:
        assert "cannot be reached" in refusal(MODEL, ModelError)


def test_a_hub_that_lists_no_files_gives_no_part_for_the_whole(there, in_shards):
    there.broken = "/tree/"
    assert refusal(MODEL, ModelError).startswith("'owner/model' is not on this machine and")
    assert not (Path(constants.HF_HUB_CACHE) / "models--owner--model" / "refs" / "main").exists()
    there.broken = None
    assert load_model(MODEL, device="cpu").revision == NEW


@pytest.mark.parametrize("damaged", ["", "{", '{"format_version": 1}'])
def test_lists_of_files_are_not_kept_in_memory_and_a_damaged_one_is_none(there, monkeypatch, damaged):
    folder = load_model(MODEL, device="cpu").folder
    assert not _tree_cache._IN_MEMORY_TREE_CACHE
    (listed,) = (Path(constants.HF_HUB_CACHE) / "models--owner--model" / "trees").glob("*.json")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert load_model(MODEL, device="cpu").folder == folder
    assert not _tree_cache._IN_MEMORY_TREE_CACHE
    listed.write_text(damaged)
    assert load_model(MODEL, device="cpu").folder == folder


# A hub that is out of order


def test_a_hub_out_of_order_is_not_needed_for_what_is_in_the_cache(there):
    folder = load_model(MODEL, device="cpu").folder
    there.broken = "."
    assert load_model(MODEL, device="cpu").folder == folder
    (folder / "model.safetensors").unlink()
    message = refusal(MODEL, ModelError)
    assert "the hub answered 'owner/model' with an error: " in message
    assert "503" in message
    assert message.endswith("try again later")


def test_an_answer_that_is_none_is_not_needed_either(there, monkeypatch):
    folder = load_model(MODEL, device="cpu").folder
    hub_answers(monkeypatch, ValueError("Expecting value: line 1"))
    assert load_model(MODEL, device="cpu").folder == folder


def test_a_token_that_the_hub_does_not_accept_has_its_own_remedy(monkeypatch):
    hub_answers(monkeypatch, hub_faults.HfHubHTTPError("401 Unauthorized", response=response(401)))
    assert refusal(MODEL, ModelError).endswith("correct HF_TOKEN or unset it, or give another")


# Proxies


@pytest.fixture
def behind(monkeypatch):
    """Set the environment's proxies: scheme=address."""
    for scheme in ("HTTP", "HTTPS", "ALL", "NO"):
        for name in (f"{scheme}_PROXY", f"{scheme.lower()}_proxy"):
            monkeypatch.delenv(name, raising=False)
    return lambda **proxies: [monkeypatch.setenv(f"{scheme}_PROXY", at) for scheme, at in proxies.items()]


@pytest.fixture
def no_socks(monkeypatch):
    """The package that httpx speaks SOCKS with is not installed."""
    monkeypatch.setitem(sys.modules, "socksio", None)


def test_socks_without_its_package_is_said_with_the_remedy(there, behind, no_socks, monkeypatch):
    behind(ALL="socks5://user:secret@127.0.0.1:9", HTTP="http://127.0.0.1:9")
    message = refusal(MODEL, ModelError)
    assert message == (
        "the hub cannot be asked for 'owner/model' through the proxy in ALL_PROXY (SOCKS needs a package that is not "
        'installed); pip install "httpx[socks]", or unset it'
    )
    assert there.asked == []


@pytest.mark.parametrize("address", ["gopher://127.0.0.1:9", "http://user:sec:ret"])
def test_a_proxy_whose_address_is_none_is_named_and_its_password_is_not(behind, address):
    behind(HTTPS=address)
    message = refusal(MODEL, ModelError)
    assert "through the proxy in HTTPS_PROXY (its address is not http://host:port or the like)" in message
    assert "sec" not in message


def test_what_is_in_the_cache_needs_no_proxy(there, behind, no_socks, monkeypatch):
    folder = load_model(MODEL, device="cpu").folder
    behind(ALL="socks5://127.0.0.1:9")
    assert load_model(MODEL, device="cpu").folder == folder
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "is not on this machine and" in refusal("owner/other", ModelError)


def test_folders_need_no_proxy(saved, behind, no_socks):
    behind(ALL="socks5://127.0.0.1:9", HTTPS="socks5://127.0.0.1:9")
    assert load_model(str(saved), device="cpu").folder == saved


@pytest.mark.parametrize("what", ["disk", "memory"])
def test_shards_are_weighed_before_their_index_is_fetched(there, in_shards, monkeypatch, what):
    there.claimed = dict.fromkeys(in_shards, 10**12)
    if what == "memory":
        usage = hub.shutil.disk_usage
        monkeypatch.setattr(hub.shutil, "disk_usage", lambda path: usage(path)._replace(free=10**15))
    with pytest.raises(ModelError, match="GB to download and" if what == "disk" else "GB of memory"):
        load_model(MODEL, device="cpu")
    assert [path for path in there.asked if "/resolve/" in path] == []


def of(count, start=1, prefix="model"):
    return [f"{prefix}-{number:05d}-of-{count:05d}.safetensors" for number in range(start, count + 1)]


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ([INDEX, *of(3)], of(3)),
        ([INDEX, *of(3), *of(9, 5), "consolidated.safetensors", *of(2, prefix="original/model")], of(3)),
        (
            [INDEX, "model-1-of-2.safetensors", "model-2-of-2.safetensors"],
            ["model-1-of-2.safetensors", "model-2-of-2.safetensors"],
        ),
        (
            [INDEX, "w-00001-of-000002.safetensors", "w-00002-of-000002.safetensors"],
            ["w-00001-of-000002.safetensors", "w-00002-of-000002.safetensors"],
        ),
        ([INDEX, *of(3), *of(9)], of(3)),  # two copies, of which the index tells which is meant: the smaller
        ([INDEX, *of(51, prefix="consolidated"), *of(51)], of(51, prefix="consolidated")),
        ([INDEX, *of(3, 2)], of(3, 2)[:1]),
        ([INDEX, "a.safetensors", "b/c.safetensors"], ["a.safetensors"]),
        ([INDEX, ONE_FILE, *of(3)], []),
        (of(3), []),
    ],
)
def test_which_shards_are_meant_is_told_by_their_numbers_where_it_is(files, told):
    assert shards_told({file: size for size, file in enumerate(files)}) == told
