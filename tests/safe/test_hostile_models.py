"""Hostile models: refused in our own words, in seconds, within little memory, and nothing of theirs is run."""

import json
import random
import statistics
import threading
import time
from contextlib import closing

import pytest
from engine_room import server, serving
from model.test_gguf_file import write
from raw_requests import Raw
from safe import hostile_decoys, hostile_gguf  # noqa: F401 - they add their own
from safe.children import run
from safe.hostile import MAKERS, WEIGHTS, make_all
from view_events import ASK, WINDOW, column

from wanda_ui.engine import work

LINE = "Hostile models"
SERVED = {"attention_implementation", "attention_implementation_of_a_hub", "auto_map_of_a_known_kind"}
MOST_SECONDS, MOST_MEGABYTES = 5.0, 200.0
MUTATED = {True: 500, False: 30}
SLOW = ("template_that_loops", "header_of_many_tensors", "tokenizer_bomb", "thousands_of_layers")
MOST_PAGE = 1.0  # seconds, of what runs in the same process as the attack


@pytest.fixture(scope="module")
def good(dense):
    from pathlib import Path

    return Path(dense)


def test_each_is_refused_by_our_own_error_and_none_of_it_is_run(good, tmp_path, figures):
    canary = tmp_path / "canary"
    made = make_all(good, tmp_path / "models", str(canary))
    tried = run(map(str, made.values()), good, {"WANDA_CACHE": str(tmp_path / "cache")})
    ends = dict(zip(made, tried, strict=True))
    assert not canary.exists()
    for name, end in ends.items():
        assert end.ours or (name in SERVED and end.kind == ""), f"{name}: {end}"
        assert len(end.said.splitlines()) == 1, end
    slowest, largest = max(tried, key=lambda end: end.seconds), max(tried, key=lambda end: end.megabytes)
    figures.exactly(LINE, f"made-up models that ran code, of {len(MAKERS)}", float(canary.exists()), 0)
    figures.at_most(LINE, f"slowest refusal ({named(slowest)})", slowest.seconds, MOST_SECONDS, "s")
    figures.at_most(LINE, f"most memory of a refusal ({named(largest)})", largest.megabytes, MOST_MEGABYTES, "MB")


def test_others_are_served_while_they_are_refused(good, tmp_path, tiny_llama, monkeypatch, figures, whole):
    monkeypatch.setattr(work, "EVAL_SEQ_LEN", WINDOW)
    made = make_all(good, tmp_path / "models", str(tmp_path / "canary"))
    state = server(tiny_llama)
    state.models["builtin"] = state.models[tiny_llama.name]
    looks, pages, refused, done = [], [], [], threading.Event()
    with serving(state) as (page, address):
        numbers = {event.name: number for number, event in page.fns.items() if event.collects_event_data}

        def attack():
            with closing(Raw(address)) as raw:
                for name in made if whole else SLOW:
                    assert raw.join(name, numbers["open"], [], event_data={"model": str(made[name])}).status == 200
                    refused.append("problem" in json.dumps(raw.messages(name)))
            done.set()

        attacker = threading.Thread(target=attack)
        with closing(Raw(address)) as raw:
            attacker.start()
            while not done.wait(0.1):
                begun = time.monotonic()
                assert raw.send("GET", "/").status == 200
                pages.append(time.monotonic() - begun)
                asked = {**ASK, "length": 2, "seed": len(looks), "temperature": 0.5, "chat": False}
                data = {"run": 1, "model": "builtin", "recipes": [column(method="magnitude")], "ask": asked}
                begun = time.monotonic()
                assert raw.join("other", numbers["look"], [], event_data=data).status == 200
                assert "problem" not in json.dumps(raw.messages("other"))
                looks.append(time.monotonic() - begun)
            attacker.join()
    assert all(refused) or whole  # some of all are served, their code left alone
    assert looks
    figures.at_most(LINE, "another's answer meanwhile, the longest wait", max(looks), 2 * MOST_SECONDS, "s")
    if whole:  # on a machine that does nothing else
        late = statistics.quantiles(pages, n=20)[-1]
        figures.at_most(LINE, f"the page meanwhile, 95 of 100 ({len(pages)} looks)", late, MOST_PAGE, "s")


def named(end):
    return end.name.removesuffix("/model.gguf").rsplit("/", 1)[-1]


def test_mutated_files_are_refused_or_served_and_never_end_the_process(good, tmp_path, figures, tiny_llama, whole):
    count, draw = MUTATED[whole], random.Random(1)
    write(tmp_path / "good.gguf", tiny_llama)
    contents = {file: (good / file).read_bytes() for file in ("config.json", WEIGHTS, "tokenizer.json")}
    contents["model.gguf"] = (tmp_path / "good.gguf").read_bytes()
    names = []
    for number in range(count):
        file = [*contents][number % len(contents)]
        folder = tmp_path / "mutated" / str(number)
        folder.mkdir(parents=True)
        if file != "model.gguf":
            for other in good.iterdir():
                if other.name != file:
                    (folder / other.name).symlink_to(other)
        (folder / file).write_bytes(mutated(contents[file], draw))
        names.append(str(folder / file if file == "model.gguf" else folder))
    tried = run(names, good, {"WANDA_CACHE": str(tmp_path / "cache")})
    strange = [end for end in tried if not end.ours and end.kind]
    assert len(tried) == count
    assert not strange, strange[:5]
    refused = sum(end.ours for end in tried)
    assert refused > count / 5, "mutations that change nothing test nothing"
    figures.exactly(LINE, f"mutated files, of {count}, that ended otherwise than in our words", len(strange), 0)
    figures.at_most(LINE, "slowest of them", max(end.seconds for end in tried), MOST_SECONDS, "s")
    figures.at_most(LINE, "most memory of them", max(end.megabytes for end in tried), MOST_MEGABYTES, "MB")


def mutated(content: bytes, draw: random.Random) -> bytes:
    """Change a few bytes, mostly in the head, where files say what they are."""
    changed = bytearray(content)
    head = min(len(content), draw.choice([16, 64, 4096, len(content)]))
    for _ in range(draw.randint(1, 6)):
        at = draw.randrange(head)
        match draw.randrange(6):
            case 0:
                changed[at] ^= 1 << draw.randrange(8)
            case 1:
                changed[at : at + 8] = draw.randbytes(8)
            case 2:
                changed[at : at + 4] = draw.choice([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff"])
            case 3:
                del changed[at : at + draw.randint(1, 64)]
            case 4:
                changed[at:at] = draw.choice([b"9" * 20, b"[" * 2000, b'"', b"-1", b"1e999", draw.randbytes(9)])
            case 5:
                changed = _number_changed(changed, draw)
        head = min(head, len(changed)) or 1
        if not changed:
            break
    return bytes(changed)


def _number_changed(content: bytearray, draw: random.Random) -> bytearray:
    """Put another number in the place of one of a configuration, where it is one."""
    try:
        config = json.loads(content)
    except ValueError:
        return content[: draw.randrange(len(content)) + 1]
    names = (
        [name for name, value in config.items() if isinstance(value, (int, float))] if isinstance(config, dict) else []
    )
    if not names:
        return content
    config[draw.choice(names)] = draw.choice([0, -1, 2**31, 2**63, 1e300, None, "x", [], {}, 10**7, 0.5, True])
    return bytearray(json.dumps(config).encode())
