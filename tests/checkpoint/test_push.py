"""Pushing to a hub on loopback: what arrives, what is never written over, what is said where it is not taken."""

import hashlib
import json
import shutil
import threading
import time
from contextlib import closing

import pytest
from command_line import refused as refused_in_one_line
from command_line import run
from fake_hub import Hub, point_at, serving
from fake_room import OWNER, TOKEN, Answer, Repository, Room
from huggingface_hub import constants

from wanda_core.checkpoint import push
from wanda_core.checkpoint.push import push_steps, repo_of
from wanda_core.checkpoint.save import save
from wanda_core.errors import InputError, StorageError
from wanda_core.model import hub_faults
from wanda_core.model.loading import load_model
from wanda_core.progress import Progress, finish
from wanda_core.pruning.prune import prune
from wanda_core.recipe import PruneSpec

# The hub's library sends files by an argument that its HTTP client deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

REPO = f"{OWNER}/tiny-wanda-50"
NAMES = ["", "tiny", "a/b/c", "/tmp/x", "a b/c", "me/..", "me/a--b", "me/x.git", "me/x@v1", "\0", 7, None]


@pytest.fixture(scope="module")
def folder(dense, tmp_path_factory):
    """A checkpoint as it was saved; only to be read."""
    variant = prune(load_model(dense, device="cpu"), PruneSpec("magnitude"))
    return save(variant, tmp_path_factory.mktemp("saved") / "out")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub that takes what the token may write; nothing is known of a token on this machine."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(tmp_path / "tokens"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    room = Room()
    with serving(Hub({}, {}, room=room)) as server:
        room.address = server.address
        point_at(monkeypatch, server.address)
        yield server


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def pushed(folder, repo=REPO, **options):
    return finish(push_steps(folder, repo, **{"token": TOKEN, **options}))


def refused(kind, folder, repo=REPO, **options):
    """-> the sentence it is refused with"""
    with pytest.raises(kind) as caught:
        pushed(folder, repo, **options)
    sentence = str(caught.value)
    assert TOKEN not in sentence
    assert caught.value.__cause__ is None or TOKEN not in str(caught.value.__cause__)
    assert sentence.splitlines() == [sentence]
    assert len(sentence) < 500
    return sentence


# What arrives


def test_every_file_arrives_in_a_private_repository(hub, folder):
    result = pushed(folder)
    repository = hub.room.repositories[REPO]
    assert repository.private
    assert {name: data for name, data in repository.files.items() if name != ".gitattributes"} == files_of(folder)
    assert repository.commits[1:] == ["Magnitude 50% of dense"]
    assert (result.repo, result.private, result.commit) == (REPO, True, repository.sha)
    assert result.address == f"{hub.address}/{REPO}"


def test_a_public_one_where_that_is_asked(hub, folder):
    assert pushed(folder, private=False).private is False
    assert hub.room.repositories[REPO].private is False


def test_bytes_are_told_as_they_go(hub, folder):
    hub.slow, hub.pause = "PUT", 0.03
    steps = []
    finish(push_steps(folder, REPO, token=TOKEN), steps.append)
    total = sum(len(data) for data in files_of(folder).values())
    told = [step for step in steps if step.stage == "uploading"]
    assert {(step.total, step.unit, step.detail) for step in told} == {(total, "bytes", REPO)}
    assert all(step.done <= total for step in told)


def test_what_was_read_of_a_file_is_what_has_gone(folder):
    transfer = push._Transfer(REPO, folder, {}, True, TOKEN)
    transfer.stage = Progress("uploading", 0, 1000, "bytes", REPO)
    with (folder / "config.json").open("rb") as first, (folder / "wanda.json").open("rb") as second:
        for file, name in ((first, "config.json"), (second, "wanda.json")):
            counted = push._Counted(file, name, transfer)
            counted.read(100)
            counted.read(50)
        assert transfer.news().done == 300
        counted.seek(0)
        counted.read(10)
        assert transfer.news().done == 160  # sent again
        transfer.given_up.set()
        with pytest.raises(InterruptedError):
            counted.read(1)


def test_the_machines_own_token_serves(hub, folder, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert pushed(folder, token=None).private
    assert set(hub.room.tokens) == {TOKEN}


def test_what_lies_in_the_folder_besides_stays_at_home(hub, folder, tmp_path):
    mine = shutil.copytree(folder, tmp_path / "mine")
    (mine / "notes.txt").write_text("private")
    (mine / ".git").mkdir()
    (mine / "README.md").write_text("---\n---\nA card of my own.\n")  # which is fine
    pushed(mine)
    assert hub.room.repositories[REPO].files.keys() - {".gitattributes"} == files_of(folder).keys()
    assert b"my own" in hub.room.repositories[REPO].files["README.md"]


@pytest.mark.parametrize("name", ["README.md", "config.json", "wanda.json", "LICENSE"])
def test_what_a_link_leads_to_outside_is_never_sent(hub, folder, tmp_path, name):
    """Not even where its digest is right, as that of a file that is well known; the card's is not looked at."""
    theirs, secret = shutil.copytree(folder, tmp_path / "theirs"), tmp_path / "secret"
    secret.write_bytes((theirs / name).read_bytes() if (theirs / name).exists() else b"-----BEGIN PRIVATE KEY-----")
    if name == "LICENSE":
        record = json.loads((theirs / "wanda.json").read_text())
        record["files"][name] = hashlib.sha256(secret.read_bytes()).hexdigest()
        (theirs / "wanda.json").write_text(json.dumps(record))
    (theirs / name).unlink(missing_ok=True)
    (theirs / name).symlink_to(secret)
    assert f"has a link, '{name}', to a file outside, which would be sent with the checkpoint" in refused(
        InputError, theirs
    )
    assert hub.room.repositories == {}


def test_a_folder_of_the_checkpoint_that_is_a_link_is_no_way_out(hub, folder, tmp_path):
    theirs = shutil.copytree(folder, tmp_path / "theirs")
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "key").write_text("secret")
    (theirs / "more").symlink_to(tmp_path / "private")
    record = json.loads((theirs / "wanda.json").read_text())
    record["files"]["more/key"] = hashlib.sha256(b"secret").hexdigest()
    (theirs / "wanda.json").write_text(json.dumps(record))
    assert "has a link, 'key', to a file outside" in refused(InputError, theirs)


def test_a_checkpoint_that_is_reached_by_a_link_or_holds_links_within_is_sent(hub, folder, tmp_path):
    mine = shutil.copytree(folder, tmp_path / "mine")
    (mine / "config.json").rename(mine / "kept.json")
    (mine / "config.json").symlink_to("kept.json")
    (tmp_path / "link").symlink_to(mine)
    pushed(tmp_path / "link")
    assert hub.room.repositories[REPO].files["config.json"] == (folder / "config.json").read_bytes()


@pytest.mark.parametrize("files", [None, 7, "config.json", ["config.json"], {"config.json": None}, {"config.json": []}])
def test_a_record_whose_list_of_files_is_none_is_told(hub, folder, tmp_path, files):
    theirs = shutil.copytree(folder, tmp_path / "theirs")
    record = json.loads((theirs / "wanda.json").read_text())
    (theirs / "wanda.json").write_text(json.dumps(record | {"files": files}))
    assert "that lists its files" in refused(InputError, theirs)


@pytest.mark.parametrize("change", [{"base": 7}, {"base": {"title": []}}, {"label": None}, {"label": "x" * 10**5}])
def test_what_a_record_calls_a_checkpoint_may_be_anything(hub, folder, tmp_path, change):
    theirs = shutil.copytree(folder, tmp_path / "theirs")
    record = json.loads((theirs / "wanda.json").read_text())
    (theirs / "wanda.json").write_text(json.dumps(record | change))
    assert pushed(theirs).private
    assert all(len(message) < 2000 for message in hub.room.repositories[REPO].commits)


# What is written over


def test_an_earlier_push_is_written_over_and_what_only_it_had_goes(hub, folder, tmp_path):
    earlier = shutil.copytree(folder, tmp_path / "earlier")
    record = json.loads((earlier / "wanda.json").read_text())
    (earlier / "vocab.txt").write_text("old")
    record["files"]["vocab.txt"] = hashlib.sha256(b"old").hexdigest()
    (earlier / "wanda.json").write_text(json.dumps(record))
    pushed(earlier)
    assert "vocab.txt" in hub.room.repositories[REPO].files
    pushed(folder)
    assert hub.room.repositories[REPO].files.keys() - {".gitattributes"} == files_of(folder).keys()
    assert len(hub.room.repositories[REPO].commits) == 3


@pytest.mark.parametrize("record", [None, b"{", b"[]", b'{"files": {"config.json": "x"}}'])
def test_a_repository_with_anything_else_is_left_alone(hub, folder, record):
    files = {".gitattributes": b"", "config.json": b"{}", "thesis.txt": b"years of work"}
    files |= {"wanda.json": record} if record is not None else {}
    hub.room.repositories[REPO] = Repository(True, dict(files))
    sentence = refused(StorageError, folder)
    assert "which no earlier push wrote, and is not written over; choose another name" in sentence
    assert hub.room.repositories[REPO].files == files


def test_an_empty_repository_is_filled(hub, folder):
    hub.room.repositories[REPO] = Repository(True)
    assert pushed(folder).private


def test_a_public_repository_gets_nothing_that_was_meant_to_be_private(hub, folder):
    hub.room.repositories[REPO] = Repository(False)
    assert "is public on the hub, and this push is to be private" in refused(StorageError, folder)
    assert len(hub.room.repositories[REPO].commits) == 1
    assert pushed(folder, private=False).private is False


def test_a_commit_in_between_is_noticed(hub, folder, monkeypatch):
    hub.room.repositories[REPO] = Repository(True)
    create = push.HfApi.create_commit

    def later(self, *args, **more):
        hub.room.repositories[REPO].commits.append("somebody else's")
        return create(self, *args, **more)

    monkeypatch.setattr(push.HfApi, "create_commit", later)
    assert "changed on the hub meanwhile; push again" in refused(StorageError, folder)


# What is refused


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_none(folder, name):
    with pytest.raises(InputError, match="is no name on the hub; give it as owner/name"):
        next(push_steps(folder, name, token=TOKEN))


def test_an_address_is_taken_for_its_name():
    assert repo_of(" https://huggingface.co/me/x/ ") == repo_of("me/x") == "me/x"


@pytest.mark.parametrize("token", [7, "hf_ x", "hf_\r\nX: y", "한", "x" * 500])
def test_a_token_that_is_none_is_not_repeated(folder, token):
    with pytest.raises(InputError) as caught:
        next(push_steps(folder, REPO, token=token))
    assert "is none; copy it from" in str(caught.value)
    assert str(token) not in str(caught.value) or token == 7


def test_without_a_token_it_says_how_to_get_one(hub, folder):
    for token in (None, "", "  "):
        assert "log in with `hf auth login`, or set HF_TOKEN" in refused(InputError, folder, token=token)
    assert hub.asked == []


def test_what_is_no_checkpoint(hub, folder, tmp_path, dense):
    for given in (tmp_path / "nothing", dense, folder / "config.json"):
        assert "holds no wanda.json that lists its files" in refused(InputError, given)
    part = shutil.copytree(folder, tmp_path / "part")
    (part / "config.json").unlink()
    assert "lacks 'config.json'; prune again" in refused(InputError, part)
    outside = shutil.copytree(folder, tmp_path / "outside")
    (tmp_path / "secret").write_text("secret")
    record = json.loads((outside / "wanda.json").read_text())
    for name in ("../secret", str(tmp_path / "secret"), "a\\..\\secret"):
        (outside / "wanda.json").write_text(json.dumps(record | {"files": {**record["files"], name: "x"}}))
        assert "lacks" in refused(InputError, outside)
    other = shutil.copytree(folder, tmp_path / "other")
    (other / "model.safetensors").write_bytes(b"other weights")
    assert "model.safetensors, which was changed since it was saved" in refused(StorageError, other)
    assert not hub.room.repositories


@pytest.mark.parametrize(
    ("pattern", "status", "headers", "said"),
    [
        ("repos/create", 401, {}, "the hub does not accept the token; make one with write access at https://"),
        ("repos/create", 403, {"X-Error-Message": "No rights."}, "may not write there (No rights); give one"),
        ("repos/create", 409, {}, "the name is taken; choose another"),
        ("repos/create", 429, {}, "takes no more requests from this account for now; push again in some minutes"),
        ("preupload", 403, {"X-Error-Message": f"token {TOKEN} is read-only"}, "(token … is read-only)"),
        ("lfs/objects/batch", 402, {"X-Error-Message": "Limit reached."}, "no room for it (Limit reached); free"),
        ("/lfs/", 403, {}, "the token may not write there"),
        ("/commit/", 404, {}, "is not there, or the token may not see it; push again, or give another token"),
        ("/commit/", 409, {}, "the name is taken"),
        ("/commit/", 500, {}, "push again later"),
        ("/commit/", 400, {"X-Error-Message": "x" * 190 + TOKEN}, "xxx…; push again later"),
        ("validate-yaml", 400, {}, "push again later"),
    ],
)
def test_what_the_hub_refuses_is_said_in_one_sentence(hub, folder, monkeypatch, pattern, status, headers, said):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between the library's own trials
    hub.room.refused[pattern] = Answer(status, b"{}", headers)
    sentence = refused(StorageError, folder)
    made = "made on the hub but not filled" if REPO in hub.room.repositories else "not pushed"
    assert sentence.startswith(f"{REPO} was {made}: ")
    assert said in sentence


def test_the_machines_own_token_is_not_repeated_either(hub, folder, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.room.refused["repos/create"] = Answer(403, b"{}", {"X-Error-Message": f"token {TOKEN} is read-only"})
    assert "(token … is read-only)" in refused(StorageError, folder, token=None)


def test_a_hub_that_stops_answering_is_told_with_what_it_has(hub, folder, monkeypatch):
    def silent(*args, **more):
        raise hub_faults.httpx.ReadTimeout("slow")

    monkeypatch.setattr(push.HfApi, "create_commit", silent)
    sentence = refused(StorageError, folder)
    assert sentence.startswith(f"{REPO} was made on the hub but not filled, for the Hugging Face hub cannot be reached")


def test_one_that_is_given_up_before_its_repository_is_made_makes_none(hub, folder):
    transfer = push._Transfer(REPO, folder, push._record(folder), True, TOKEN)
    added = transfer._added

    def last(name, opened):
        made = added(name, opened)
        transfer.given_up.set()
        return made

    transfer._added = lambda name, opened: (last if name == "wanda.json" else added)(name, opened)
    with pytest.raises(StorageError):
        transfer.run()
    assert not hub.room.repositories


def test_the_name_of_somebody_else(hub, folder):
    hub.room.repositories["other/x"] = Repository(True)
    assert "may not write there (You don't have the rights" in refused(StorageError, folder, "other/x")


def test_another_token(hub, folder):
    assert "the hub does not accept the token" in refused(StorageError, folder, token="hf_other")


def test_a_hub_out_of_reach(hub, folder, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    said = "the Hugging Face hub cannot be reached; check the network and push again"
    assert said in refused(StorageError, folder)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    point_at(monkeypatch, "http://127.0.0.1:9")
    assert said in refused(StorageError, folder)


# Giving up


def test_one_that_is_given_up_ends_its_threads_and_leaves_nothing_to_see(hub, folder):
    hub.slow, hub.pause = "PUT", 0.3
    with closing(push_steps(folder, REPO, token=TOKEN)) as steps:
        assert any(step.stage == "uploading" for step in steps)
        began = time.monotonic()
    assert time.monotonic() - began < 1
    hub.slow = None
    end = time.monotonic() + 10
    while any(thread.name == "apart" for thread in threading.enumerate()):
        assert time.monotonic() < end
        time.sleep(0.02)
    assert hub.room.repositories[REPO].commits == ["initial commit"]
    assert pushed(folder)


# The command


@pytest.mark.usefixtures("transformers_as_before")
def test_the_command_pushes_and_says_where(hub, folder, monkeypatch):
    refused_in_one_line(run("push", folder, REPO), 2, "log in with `hf auth login`, or set HF_TOKEN")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    result = run("push", folder, REPO)
    assert result.exit_code == 0, result.stderr
    assert f"pushed to {hub.address}/{REPO}, for you alone to see, in " in result.stderr
    told = json.loads(run("push", folder, f"{OWNER}/open", "--public", "--json").stdout)
    assert (told["repo"], told["private"], told["address"]) == (f"{OWNER}/open", False, f"{hub.address}/{OWNER}/open")
    refused_in_one_line(run("push", folder, "nothing"), 2, "give it as owner/name")
    refused_in_one_line(run("push", folder, f"{OWNER}/open"), 1, "is public on the hub")
