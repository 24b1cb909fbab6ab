"""What is taken along from the page, by raw HTTP: the answers, and the checkpoint as one file, whole or in part."""

import io
import json
import re
import time
import zipfile
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from raw_requests import is_told
from take_away import NAME, RECIPE, SENT, SPEC, asked, got, ticket
from view_events import ASK, WINDOW, column, until

from wanda_core.checkpoint.save import save
from wanda_core.checks import EVAL_WINDOWS
from wanda_core.errors import WandaError
from wanda_core.progress import finish
from wanda_core.pruning.packed import laid_over
from wanda_core.pruning.variant import Variant
from wanda_core.report.repeat import Repeat, command
from wanda_ui import app_state
from wanda_ui.app_state import AppState
from wanda_ui.away import tickets
from wanda_ui.engine import work
from wanda_ui.engine.loaded import Loaded
from wanda_ui.language import words
from wanda_ui.settings import PUBLIC

NEVER = [None, True, 0, -1, 1.5, "", " ", "\0", "wanda", "../..", [], {}, [[]], {"a": 1}, "x" * 5000]


# The answers


def test_nothing_can_be_taken_of_a_model_that_is_not_here(web):
    for path, given in (("take", {"recipes": [SENT]}), ("checkpoint", {"recipe": SENT, "dtype": None})):
        reply = web.post(f"/wanda/{path}", {"model": "other", "ask": ASK, **given})
        assert json.loads(reply.body) == {"wait": True}


def test_what_can_be_taken_is_told(web, taken, model):
    own = column(2, text="0" * 32, samples=4, at=60, textName="../../my text.txt")
    reply = web.post("/wanda/take", {"model": "tiny", "recipes": [SENT, own], "ask": ASK})
    told = json.loads(reply.body)
    assert told["ready"]
    first, second = told["recipes"]
    assert first == {
        "id": 1,
        "name": NAME,
        "title": "Magnitude 50%",
        "command": command(Repeat(model.name, SPEC), f"out/{NAME}"),
        "python": first["python"],
        "recipe": SPEC.to_dict(),
        "made": True,
        "bytes": None,
    }
    assert compile(first["python"], "program", "exec")
    assert (second["id"], second["name"], second["made"]) == (2, "dense-wanda-60", False)
    assert "--calibration 'my text.txt'" in second["command"]
    assert "--samples 4 --seq-len 64" in second["command"]
    about = told["about"]
    assert (about["windows"], about["seq_len"]) == (EVAL_WINDOWS, WINDOW)
    assert {"date", "model", "name", "revision", "parameters", "prunable", "versions", "calibration"} <= about.keys()
    assert about["calibration"].keys() == {"source", "samples", "seq_len", "seed", "fingerprint", "seconds"}
    assert about["prunable"] == sum(linear.weight.numel() for linear in model.all_linears)
    offered = told["checkpoint"]
    assert (offered["offered"], offered["why"], offered["own"]) == (True, None, "float32")
    exact = {dtype: ticket(web, dtype=dtype)["bytes"] for dtype in ("float32", "bfloat16", "float16")}
    assert offered["bytes"].keys() == exact.keys()
    for dtype, size in exact.items():  # but for the card, the record and what a zip adds
        assert 0 < size - offered["bytes"][dtype] < 20_000


@pytest.mark.parametrize("name", ["", 3, None, ["a"], "a\nb", "..", "/", "x" * 9999])
def test_a_text_of_a_name_that_is_none_has_another(web, name):
    own = column(2, text="0" * 32, textName=name)
    told = json.loads(web.post("/wanda/take", {"model": "tiny", "recipes": [own]}).body)
    said = told["recipes"][0]["command"]
    assert "--calibration " in said
    assert ("calibration.txt" in said) == (name not in ("..", "x" * 9999))


def test_what_the_page_cannot_measure_can_be_taken_all_the_same(web, monkeypatch):
    monkeypatch.setattr(work, "EVAL_SEQ_LEN", 4096)  # a longer text than the model takes
    told = json.loads(web.post("/wanda/take", {"model": "tiny", "recipes": [SENT]}).body)
    assert told["about"] is None
    assert told["recipes"][0]["command"]
    assert told["checkpoint"]["offered"]


def test_a_variant_that_is_not_made_is_missing(web):
    assert json.loads(asked(web, recipe=column(1, at=70)).body) == {"missing": True}


@pytest.mark.parametrize("field", ["model", "recipe", "dtype"])
def test_whatever_is_asked_in_another_form_is_refused_in_a_sentence(web, field):
    for value in [..., *NEVER]:
        if field == "dtype" and value in (..., None):
            continue
        reply = asked(web, **{field: value})
        if field == "model" and isinstance(value, str) and value.strip():
            assert json.loads(reply.body) == {"wait": True}
            continue
        assert reply.status == 400, (field, value)
        assert is_told(reply), reply
    for value in NEVER:
        reply = web.post("/wanda/take", {"model": "tiny", "recipes": value})
        assert reply.status == 400 or value == []
        assert value == [] or is_told(reply)


def test_on_a_public_server_the_command_takes_its_place(web, taken):
    made = ticket(web)
    taken[1].settings, before = PUBLIC, taken[1].settings
    try:
        reply = asked(web)
        assert reply.status == 403
        assert "use the command" in reply.sentence
        assert web.post("/wanda/checkpoint", {}, **{"accept-language": "ko"}).sentence.startswith("공개 서버에서는")
        for made_before, method in product([made["address"], f"wanda/checkpoint/{'x' * 32}/a.zip"], ["GET", "HEAD"]):
            assert web.send(method, f"/{made_before}").status == 403
        assert "use the command" in web.send("GET", f"/{made['address']}").sentence
        told = json.loads(web.post("/wanda/take", {"model": "tiny", "recipes": [SENT]}).body)
        assert told["checkpoint"]["offered"] is False
        assert "public" in told["checkpoint"]["why"]
        assert told["recipes"][0]["command"].startswith("wanda-lab prune ")
    finally:
        taken[1].settings = before
    assert len(taken[0].tickets) == 1


# The file


def saved(taken, target, dtype=None):
    """-> the files that `save` writes of the variant, by name"""
    state = taken[0]
    loaded = state.models["tiny"]
    result = state.variants.get(state.key_of(loaded, RECIPE))
    with laid_over(loaded.lm, result.variant) as over:
        variant = Variant(over, SPEC, result.variant.report, None)
        measured = state.measured.get(result.key)
        folder = save(
            variant, target, dtype=dtype, dense_perplexity=loaded.dense, pruned_perplexity=measured.perplexity
        )
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("dtype", [None, "float32", "bfloat16", "float16"])
def test_the_file_holds_what_a_save_writes(web, taken, tmp_path, dtype):
    made = ticket(web, dtype=dtype)
    assert made["name"] == f"{NAME}.zip"
    reply = got(web, made, accept_encoding="gzip, deflate, br")
    assert reply.status == 200
    assert len(reply.body) == made["bytes"] == int(reply.headers["content-length"])
    assert reply.headers["content-disposition"] == f'attachment; filename="{NAME}.zip"'
    assert reply.headers["content-type"] == "application/zip"
    assert reply.headers["cache-control"] == "no-store"
    assert "content-encoding" not in reply.headers
    assert "transfer-encoding" not in reply.headers
    with zipfile.ZipFile(io.BytesIO(reply.body)) as opened:
        files = {name.removeprefix(f"{NAME}/"): opened.read(name) for name in opened.namelist()}
    assert files == saved(taken, tmp_path / "out", getattr(torch, dtype) if dtype else None)
    card = files["README.md"].decode()
    assert "Perplexity, dense" in card
    assert "Perplexity, pruned" in card


def test_it_goes_on_from_where_it_was_cut(web):
    made = ticket(web)
    whole = got(web, made)
    size, tag = made["bytes"], whole.headers["etag"]
    assert whole.headers["accept-ranges"] == "bytes"
    for start in (1, 1000, size - 1):
        for more in ("", str(size - 1), str(size + 50)):
            reply = got(web, made, range=f"bytes={start}-{more}", if_range=tag)
            assert reply.status == 206
            assert reply.headers["content-range"] == f"bytes {start}-{size - 1}/{size}"
            assert reply.headers["etag"] == tag
            assert reply.body == whole.body[start:]
    others = ["bytes=0-", "bytes=-5", "bytes=3-9", "bytes=0-1,5-9", "bytes=9-3", "bytes=a-", "lines=1-", "bytes=-", ""]
    for asks in others:
        reply = got(web, made, range=asks)
        assert (reply.status, reply.body) == (200, whole.body), asks
        assert "content-range" not in reply.headers
    for other in ('"another"', "W/" + tag, "Wed, 21 Oct 2015 07:28:00 GMT"):
        assert got(web, made, range="bytes=5-", if_range=other).status == 200
    for start in (size, size + 1, 10**17):
        reply = got(web, made, range=f"bytes={start}-")
        assert (reply.status, reply.body, reply.headers["content-range"]) == (416, b"", f"bytes */{size}")


def test_its_headers_can_be_asked_for_alone(web):
    made = ticket(web)
    reply = got(web, made, "HEAD")
    assert (reply.status, reply.body, int(reply.headers["content-length"])) == (200, b"", made["bytes"])


def test_two_downloads_have_other_addresses_and_other_tags(web):
    first, second = ticket(web), ticket(web)
    assert first["address"] != second["address"]
    assert got(web, first).headers["etag"] != got(web, second).headers["etag"]
    secret = first["address"].split("/")[2]
    assert len(secret) >= 32


def test_no_other_address_and_no_other_method_is_answered(web):
    made = ticket(web)
    secret, name = made["address"].split("/")[2:]
    for path in (
        f"/wanda/checkpoint/{secret}/other.zip",
        f"/wanda/checkpoint/{secret}/{name}x",
        f"/wanda/checkpoint/{secret}/",
        f"/wanda/checkpoint/{secret}/../{name}",
        f"/wanda/checkpoint/{secret[:-1]}/{name}",
        f"/wanda/checkpoint/{'x' * 65}/{name}",
        f"/wanda/checkpoint/%00/{name}",
        f"/wanda/checkpoint//{name}",
        f"/wanda/other/{secret}/{name}",
        f"/wanda/checkpoint/{secret}",
    ):
        reply = web.send("GET", path)
        assert reply.status == 404, path
        assert is_told(reply), reply
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert web.send(method, f"/{made['address']}").status == 405
    assert web.send("GET", "/wanda/checkpoint").status == 405


# Tickets


def test_a_ticket_lives_for_a_while_after_it_was_used(web, taken, monkeypatch):
    state, now = taken[0], [0.0]
    monkeypatch.setattr(state.tickets, "clock", lambda: now[0])
    made = ticket(web)
    assert state.models["tiny"].claims == 1
    now[0] = tickets.LIVES_SECONDS - 1
    assert got(web, made, range="bytes=5-").status == 206
    until(lambda: not any(ticket.readers for ticket in state.tickets._tickets.values()))
    now[0] += tickets.LIVES_SECONDS - 1
    assert got(web, made, "HEAD").status == 200  # which is no reading
    now[0] += 2
    reply = got(web, made)
    assert reply.status == 404
    assert "ask for it on the page again" in reply.sentence
    assert state.models["tiny"].claims == 0


def test_there_are_few_and_one_that_is_read_to_its_end_makes_way(web, taken, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(taken[0].tickets, "clock", lambda: now[0])
    first, *others = [ticket(web) for _ in range(tickets.MOST_TICKETS)]
    reply = asked(web)
    assert reply.status == 400
    assert f"{tickets.MOST_TICKETS} downloads are under way" in reply.sentence
    assert got(web, first).status == 200
    until(lambda: not any(ticket.readers for ticket in taken[0].tickets._tickets.values()))
    ticket(web)
    assert got(web, first, "HEAD").status == 404
    assert all(got(web, other, "HEAD").status == 200 for other in others)
    assert asked(web).status == 400
    now[0] = tickets.BEGINS_SECONDS + 1  # nobody has begun them
    ticket(web)
    assert len(taken[0].tickets) == tickets.MOST_TICKETS
    assert taken[0].models["tiny"].claims == tickets.MOST_TICKETS


def test_a_model_stays_in_memory_as_long_as_somebody_downloads_it(model, monkeypatch):
    state = AppState()
    loaded = state.models["tiny"] = Loaded(model, "tiny")
    monkeypatch.setattr(app_state, "load_located", lambda located, one_thread: replace(model, name=located))
    made = state.tickets.make(loaded, StubArchive())
    for name in ("a", "b", "c"):
        finish(state._load(name, name))
    assert set(state.models) == {"tiny", "c"}
    with state.tickets.reading(made, 0) as pieces:
        state.tickets.clock = lambda: time.monotonic() + 2 * tickets.LIVES_SECONDS
        finish(state._load("d", "d"))
        assert set(state.models) == {"tiny", "d"}
        assert list(pieces) == [b"all"]
    state.tickets.clock = lambda: time.monotonic() + 4 * tickets.LIVES_SECONDS
    finish(state._load("e", "e"))
    assert set(state.models) == {"d", "e"}
    assert len(state.tickets) == 0


class StubArchive:
    name, nbytes = "stub", 3

    def read(self, start):
        yield b"all"


def test_only_so_many_read_at_once(model):
    kept = tickets.Tickets()
    made = kept.make(Loaded(model, "tiny"), StubArchive())
    opened = [kept.reading(made, 0) for _ in range(tickets.MOST_READERS + 1)]
    for reading in opened[:-1]:
        reading.__enter__()
    with pytest.raises(WandaError, match=f"{tickets.MOST_READERS} downloads are read at once"):
        opened[-1].__enter__()
    for reading in opened[:-1]:
        reading.__exit__(None, None, None)
    assert made.readers == 0


def test_all_words_are_used():
    source = "".join(path.read_text("utf-8") for path in Path(tickets.__file__).parent.glob("*.py"))
    written = {key for key in words("en") if key.startswith("away.")}
    assert written == {f"away.{name}" for name in re.findall(r'"away\.(\w+)"', source)}
