"""Models of the hub: their revisions, their download, and a hub that does not answer."""

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from fake_hub import MODEL, Hub, dripping, point_at, serving, silent
from huggingface_hub import constants
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

from wanda_core.checkpoint.save import save
from wanda_core.errors import InputError, ModelError, WandaError
from wanda_core.model import hub
from wanda_core.model.loading import load_located, load_model, locate
from wanda_core.model.waiting import POLL, NoAnswerError, call_apart
from wanda_core.pruning.prune import prune
from wanda_core.recipe import PruneSpec

ROOT = Path(__file__).resolve().parent.parent.parent
OLD, NEW = "a" * 40, "b" * 40


class GivenUpError(Exception):
    """Raised by whoever watches a download, to end it."""


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """An empty cache, and nothing that asks the real hub."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    point_at(monkeypatch, "http://127.0.0.1:9")  # discards what comes, if anything listens there
    return tmp_path / "hub"


@pytest.fixture(scope="module")
def saved(tiny_llama, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    tiny_llama.model.save_pretrained(folder)
    tiny_llama.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def there(monkeypatch, saved, tmp_path):
    """A hub that has the model in two commits."""
    (tmp_path / "commits").mkdir()
    commits = {sha: shutil.copytree(saved, tmp_path / "commits" / sha) for sha in (OLD, NEW)}
    (commits[OLD] / "old.txt").write_text("old")
    with serving(Hub(commits, {"main": NEW, "v1.0": OLD, "refs/pr/1": OLD})) as server:
        point_at(monkeypatch, server.address)
        yield server


def refusal(name, kind: type[WandaError]) -> str:
    with pytest.raises(kind) as caught:
        load_model(name, device="cpu")
    message = str(caught.value)
    assert type(caught.value) is kind
    assert message.splitlines() == [message]
    assert len(message) < 700
    return message


# Refusals, the hub played by a stand-in


class Sibling:
    def __init__(self, rfilename: str, size: int):
        self.rfilename, self.size = rfilename, size


class Info:
    sha = "0123abc"

    def __init__(self, **files: int):
        self.siblings = [Sibling(name.replace("__", "."), size) for name, size in files.items()]


def hub_answers(monkeypatch, answer):
    class Api:
        def model_info(self, name, **settings):
            if isinstance(answer, BaseException):
                raise answer
            return answer

    monkeypatch.setattr(hub, "HfApi", Api)


def response(status: int):
    return hub.httpx.Response(status, request=hub.httpx.Request("GET", "https://hub.test"))


@pytest.mark.parametrize(
    ("answer", "kind", "sentence"),
    [
        (GatedRepoError("403", response=response(403)), ModelError, "is gated on the hub; accept its terms"),
        (RepositoryNotFoundError("404", response=response(404)), InputError, "does not exist on the hub"),
        (RevisionNotFoundError("404", response=response(404)), InputError, "has no revision"),
        (hub.HfHubHTTPError("502 Bad Gateway", response=response(502)), ModelError, "try again later"),
        (hub.HfHubHTTPError("x\n" * 10**6, response=response(502)), ModelError, "try again later"),
        (hub.httpx.ConnectError("no route"), ModelError, "the Hugging Face hub cannot be reached"),
        (hub.httpx.ReadTimeout("slow"), ModelError, "the Hugging Face hub cannot be reached"),
        (ValueError("Expecting value: line 1"), ModelError, "cannot be read: Expecting value"),
        (OSError(28, "No space left on device"), ModelError, "could not be downloaded: No space left on device"),
        (Info(pytorch_model__bin=10), ModelError, "has no safetensors on the hub"),
        (Info(model__safetensors=10**18), ModelError, "of disk are free"),
    ],
    ids=range(11),
)
def test_what_the_hub_refuses_is_said_in_one_sentence(monkeypatch, answer, kind, sentence):
    hub_answers(monkeypatch, answer)
    message = refusal("owner/model@v1", kind)
    assert sentence in message
    assert "owner/model" in message


def test_what_the_watcher_raises_is_what_is_raised(monkeypatch):
    hub_answers(monkeypatch, Info(model__safetensors=10))
    for error in (GivenUpError(), TimeoutError(), ConnectionError(), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught:
            hub.download("owner/model", raising(error))
        assert caught.value is error


def raising(error):
    def watch(step):
        raise error

    return watch


# Revisions


@pytest.mark.parametrize(
    ("name", "commit", "title"),
    [
        (MODEL, NEW, "model"),
        (f"{MODEL}@main", NEW, "model"),
        (f"{MODEL}@v1.0", OLD, "model@v1.0"),
        (f"{MODEL}@refs/pr/1", OLD, "model@refs/pr/1"),
        (f"{MODEL}@{OLD}", OLD, "model@aaaaaaa"),
        (f"https://huggingface.co/{MODEL}/tree/v1.0", OLD, "model@v1.0"),
    ],
)
def test_the_asked_for_revision_is_loaded_and_serves_offline_too(there, monkeypatch, name, commit, title):
    lm = load_model(name, device="cpu")
    assert (lm.revision, lm.title) == (commit, title)
    assert (lm.folder / "old.txt").exists() == (commit == OLD)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    again = load_model(name, device="cpu")
    assert (again.name, again.revision, again.folder) == (lm.name, commit, lm.folder)


def test_a_revision_that_is_not_in_the_cache_is_not_taken_from_another(there, monkeypatch):
    load_model(MODEL, device="cpu")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "is not on this machine" in refusal(f"{MODEL}@v1.0", ModelError)


def test_what_the_hub_does_not_have_is_told_apart(there):
    assert "has no revision 'v9' on the hub" in refusal(f"{MODEL}@v9", InputError)
    assert "does not exist on the hub" in refusal("owner/nothing", InputError)


def test_a_checkpoint_tells_the_commit_and_links_to_the_models_id(there, tmp_path):
    variant = prune(load_model(f"{MODEL}@v1.0", device="cpu"), PruneSpec("magnitude"))
    card = (save(variant, tmp_path / "out") / "README.md").read_text("utf-8")
    assert f'base_model: "{MODEL}"\n' in card
    assert f"Base model: {MODEL}@v1.0, revision `{OLD}`" in card


# The download


def test_what_is_in_the_cache_is_not_downloaded_again_nor_is_room_asked_for(there, monkeypatch):
    first, second = [], []
    folder = load_model(MODEL, device="cpu", on_progress=first.append).folder
    monkeypatch.setattr(hub.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 0}))
    before = len(there.asked)
    assert load_model(MODEL, device="cpu", on_progress=second.append).folder == folder
    assert {step.stage for step in first} == {"asking", "downloading"}
    assert {step.stage for step in second} == {"asking"}
    assert there.asked[before:] == [f"/api/models/{MODEL}"]


@pytest.fixture
def small_chunks(monkeypatch):
    """The hub's library counts in chunks, which are larger than these models."""
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)


def test_bytes_are_told_as_they_arrive(there, small_chunks):
    there.slow = "model.safetensors"
    steps = []
    locate(MODEL, "cpu", on_progress=steps.append)
    told = [step for step in steps if step.stage == "downloading"]
    total = sum(path.stat().st_size for path in there.commits[NEW].iterdir())
    assert {(step.total, step.unit, step.detail) for step in told} == {(total, "bytes", MODEL)}
    assert told[0].done == 0
    assert len({step.done for step in told}) > 3
    assert [step.done for step in told] == sorted(step.done for step in told)
    assert told[-1].done > total / 2


def test_a_download_is_given_up_at_once_and_its_threads_with_it(there, small_chunks):
    there.slow, there.pause = "model.safetensors", 1.0  # twenty seconds in all
    raised_at = []

    def watch(step):
        if step.stage == "downloading" and step.done:
            raised_at.append(time.monotonic())
            raise GivenUpError

    with pytest.raises(GivenUpError):
        locate(MODEL, "cpu", on_progress=watch)
    assert time.monotonic() - raised_at[0] < 1
    assert there.broken_off.wait(10)
    assert until(lambda: not [thread for thread in threading.enumerate() if thread.name == "apart"], 10)
    there.slow = None
    assert load_model(MODEL, device="cpu").revision == NEW  # nothing is left that stands in the way


def until(true, seconds):
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.02)
    return true()


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
    needed = len(in_shards) + 3  # config.json, the index, the tokenizer
    message = refusal(f"{MODEL}@{NEW}", ModelError)
    assert f"{needed - 1} of {needed} files of '{MODEL}@{NEW}' are on this machine" in message
    assert f"({in_shards[1]} and so on)" in message
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    there.broken = None
    assert load_model(MODEL, device="cpu").revision == NEW


@pytest.mark.parametrize(
    ("gone", "count"),
    [("model.safetensors", "2 of 3"), ("config.json", "2 of 3"), ("tokenizer.json", "2 of 3"), ("old.txt", None)],
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
    hub_answers(monkeypatch, hub.HfHubHTTPError("401 Unauthorized", response=response(401)))
    assert refusal(MODEL, ModelError).endswith("log in again with `hf auth login`, or unset HF_TOKEN")


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


# A hub that does not answer


def test_a_silent_hub_is_given_up_in_time_and_the_cache_serves(there, monkeypatch):
    assert hub.LOOKUP_SECONDS + 2 * POLL < 20
    folder = load_model(MODEL, device="cpu").folder
    monkeypatch.setattr(hub, "LOOKUP_SECONDS", 0.5)
    with silent() as address:
        point_at(monkeypatch, address)
        begun = time.monotonic()
        assert load_model(MODEL, device="cpu").folder == folder
        assert "the Hugging Face hub cannot be reached" in refusal("owner/other", ModelError)
        assert time.monotonic() - begun < 10


def test_a_hub_that_never_ends_its_answer_is_given_up_too(monkeypatch):
    monkeypatch.setattr(hub, "LOOKUP_SECONDS", 1.0)  # the library's own limit is for each byte
    with dripping() as address:
        point_at(monkeypatch, address)
        begun = time.monotonic()
        assert "the Hugging Face hub cannot be reached" in refusal(MODEL, ModelError)
        assert 1 <= time.monotonic() - begun < 3


def test_who_waits_for_a_silent_hub_may_leave(monkeypatch):
    steps = []

    def watch(step):
        steps.append(step)
        if len(steps) == 4:
            raise GivenUpError

    with silent() as address:
        point_at(monkeypatch, address)
        begun = time.monotonic()
        with pytest.raises(GivenUpError):
            locate(MODEL, "cpu", on_progress=watch)
        assert time.monotonic() - begun < 2
    assert {(step.stage, step.detail) for step in steps} == {("asking", MODEL)}


def test_a_fresh_process_waits_twenty_seconds_at_most(tmp_path):
    program = "import sys\nfrom wanda_core.model.loading import locate\n"
    program += "import time\nbegun = time.monotonic()\n"
    program += f"try:\n    locate({MODEL!r}, 'cpu')\nexcept Exception as error:\n    print(error)\n"
    program += "print(time.monotonic() - begun)\n"
    with silent() as address:
        settings = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env=os.environ | settings,
            capture_output=True,
            text=True,
            timeout=120,
        )
    said, seconds = done.stdout.strip().splitlines()
    assert "is not on this machine and the Hugging Face hub cannot be reached" in said
    assert 1 < float(seconds) < 20


# Waiting


def test_a_call_gives_its_result_or_its_error():
    assert call_apart(lambda: 5, lambda: None) == 5
    with pytest.raises(ZeroDivisionError):
        call_apart(lambda: 1 // 0, lambda: None)
    with pytest.raises(TimeoutError, match="its own"):
        call_apart(lambda: raising(TimeoutError("its own"))(None), lambda: None, 5)


def test_a_call_is_waited_for_to_the_limit():
    end, told = threading.Event(), []
    with pytest.raises(NoAnswerError, match=r"no answer within 0\.5 s"):
        call_apart(end.wait, lambda: told.append(1), 0.5)
    end.set()
    assert len(told) == 2


# Two steps


def test_locating_reads_no_weights_and_loading_asks_no_hub(there, monkeypatch):
    located = locate(f"{MODEL}@v1.0", "cpu")
    assert (located.name, located.revision) == (f"{MODEL}@v1.0", OLD)
    before = len(there.asked)
    lm = load_located(located)
    assert (lm.name, lm.revision, lm.folder) == (located.name, OLD, located.folder)
    assert len(there.asked) == before
