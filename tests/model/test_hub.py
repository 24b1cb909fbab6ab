"""Models of the hub: their revisions, their download, and a hub that does not answer."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from fake_hub import MODEL, NEW, OLD, Info, dripping, hub_answers, point_at, refusal, response, silent
from huggingface_hub import constants
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

from wanda_core.checkpoint.save import save
from wanda_core.errors import GatedError, InputError, ModelError
from wanda_core.machine.waiting import POLL, NoAnswerError, call_apart
from wanda_core.model import hub, hub_faults, hub_transfer
from wanda_core.model.loading import load_located, load_model, locate
from wanda_core.pruning.prune import prune
from wanda_core.recipe import PruneSpec

ROOT = Path(__file__).resolve().parent.parent.parent
pytestmark = pytest.mark.usefixtures("cache")


class GivenUpError(Exception):
    """Raised by whoever watches a download, to end it."""


# Refusals, the hub played by a stand-in


@pytest.mark.parametrize(
    ("answer", "kind", "sentence"),
    [
        (
            GatedRepoError("401", response=response(401)),
            GatedError,
            "accept its licence at https://huggingface.co/owner",
        ),
        (
            GatedRepoError("403", response=response(403)),
            GatedError,
            "does not let this token in; accept its licence at",
        ),
        (RepositoryNotFoundError("404", response=response(404)), InputError, "does not exist on the hub"),
        (RevisionNotFoundError("404", response=response(404)), InputError, "has no revision"),
        (hub_faults.HfHubHTTPError("502 Bad Gateway", response=response(502)), ModelError, "try again later"),
        (hub_faults.HfHubHTTPError("x\n" * 10**6, response=response(502)), ModelError, "try again later"),
        (hub_faults.httpx.ConnectError("no route"), ModelError, "the Hugging Face hub cannot be reached"),
        (hub_faults.httpx.ReadTimeout("slow"), ModelError, "the Hugging Face hub cannot be reached"),
        (ValueError("Expecting value: line 1"), ModelError, "cannot be read: Expecting value"),
        (OSError(28, "No space left on device"), ModelError, "could not be downloaded: No space left on device"),
        (Info(pytorch_model__bin=10), ModelError, "has no safetensors on the hub"),
        (Info(model__safetensors=10**18), ModelError, "of disk are free"),
    ],
    ids=range(12),
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


# Gated models


def test_a_gated_model_says_where_its_licence_is_accepted_and_opens_with_a_token(there, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    there.gated = "hf_right"
    sentence = refusal(f"{MODEL}@v1.0", GatedError)
    assert f"accept its licence at https://huggingface.co/{MODEL} and give a token" in sentence
    assert "`hf auth login`, or set HF_TOKEN" in sentence
    with pytest.raises(GatedError) as refused:
        load_model(MODEL, device="cpu", token="hf_wrong")
    assert "does not let this token in" in str(refused.value)
    assert "hf_wrong" not in str(refused.value)
    assert refused.value.address == f"https://huggingface.co/{MODEL}"
    assert load_model(MODEL, device="cpu", token=" hf_right ").revision == NEW
    assert load_model(MODEL, device="cpu").revision == NEW  # it is in the cache now


def test_the_machines_own_token_opens_a_gated_model(there, monkeypatch):
    there.gated = "hf_right"
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    assert load_model(MODEL, device="cpu").revision == NEW


def test_a_gated_model_in_shards_is_told_apart_too(there, saved, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    there.gated = "hf_right"
    folder = there.commits[NEW]
    load_model(str(saved), device="cpu").model.save_pretrained(folder, max_shard_size="100KB")
    (folder / "model.safetensors").unlink()
    assert "accept its licence" in refusal(MODEL, GatedError)
    assert load_model(MODEL, device="cpu", token="hf_right").revision == NEW


@pytest.mark.parametrize("own", [True, False])
def test_a_token_that_the_hub_repeats_is_not_told(monkeypatch, own):
    monkeypatch.setenv("HF_TOKEN", "hf_secret" if own else "hf_other")
    for error in (hub_faults.HfHubHTTPError(f"{'x' * 295}hf_secret", response=response(502)), ValueError("hf_secret?")):
        hub_answers(monkeypatch, error)
        with pytest.raises(ModelError) as refused:
            load_model(MODEL, device="cpu", token=None if own else "hf_secret")
        assert "…" in str(refused.value)
        assert "hf_s" not in str(refused.value)


@pytest.mark.parametrize("token", [7, "hf_ x", "hf_\r\nX: y", "한", "x" * 500])
def test_a_token_that_is_none_is_not_repeated(there, token):
    with pytest.raises(InputError) as refused:
        load_model(MODEL, device="cpu", token=token)
    assert "is none; copy it from https://" in str(refused.value)
    assert token == 7 or token not in str(refused.value)
    assert there.asked == []


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


def test_what_a_killed_download_left_goes_with_the_next_but_not_what_another_fetches_now(there):
    blobs = Path(constants.HF_HUB_CACHE, "models--owner--model", "blobs")
    blobs.mkdir(parents=True)
    left, coming = blobs / "0a.0123abcd.incomplete", blobs / "0b.0123abcd.incomplete"
    for file in (left, coming):
        file.write_bytes(b"half")
    os.utime(left, (time.time() - 2 * hub_transfer.LEFT_SECONDS,) * 2)
    load_model(MODEL, device="cpu")
    assert [file.name for file in blobs.glob("*.incomplete")] == [coming.name]


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


@pytest.mark.alone
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


# A hub that does not answer


@pytest.mark.alone
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


@pytest.mark.alone
def test_a_hub_that_never_ends_its_answer_is_given_up_too(monkeypatch):
    monkeypatch.setattr(hub, "LOOKUP_SECONDS", 1.0)  # the library's own limit is for each byte
    with dripping() as address:
        point_at(monkeypatch, address)
        begun = time.monotonic()
        assert "the Hugging Face hub cannot be reached" in refusal(MODEL, ModelError)
        assert 1 <= time.monotonic() - begun < 3


@pytest.mark.alone
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


@pytest.mark.long
@pytest.mark.alone
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
