"""What else the view asks, without a browser: curves, one's own prompts, why, another model, how long, a text."""

import gzip
import json
import threading
from dataclasses import replace
from itertools import pairwise

import pytest
from view_events import CANCELLED, PATTERNED, SOON, column, event, looked, told, visitor

from wanda_core.errors import ModelError
from wanda_core.evaluation.generation import generate
from wanda_core.progress import finish
from wanda_core.pruning.packed import laid_over
from wanda_core.text.chats import from_bytes
from wanda_ui.compare import looking, tab
from wanda_ui.compare.asked import column_of
from wanda_ui.compare.looking import coarse_first
from wanda_ui.engine import fetching
from wanda_ui.engine.tokens import MOST_LIKELY
from wanda_ui.outliers.sentence import read


@pytest.fixture
def state(view):
    return view.context.state


@pytest.mark.parametrize(
    ("places", "order"),
    [
        ([], []),
        ([5], [5]),
        (range(5, 85, 5), [80, 40, 20, 60, 10, 30, 50, 70, 5, 15, 25, 35, 45, 55, 65, 75]),
        ([1, 2, 3, 4], [4, 2, 1, 3]),
        ([3, 1, 2], [2, 1, 3]),
        ([50, 50.0, 20], [50, 20]),
    ],
)
def test_the_shape_of_a_curve_is_seen_early(places, order):
    assert coarse_first(list(places)) == order


@pytest.mark.parametrize("count", range(1, 97))
def test_every_place_of_a_curve_is_measured_once_and_every_part_is_spread(count):
    ordered = coarse_first([float(place) for place in range(count)])
    assert sorted(ordered) == list(range(count))
    for seen in (2, 4, 8, 16):  # after so many, no gap is wider than twice another's width
        if count >= 2 * seen:
            ends = [-1, *sorted(ordered[:seen]), count]
            gaps = [b - a for a, b in pairwise(ends)]
            assert max(gaps) <= 2 * count / seen + 1


def test_a_curve_is_measured_coarse_first_and_patterns_once(view, state, held, tiny_llama):
    columns = [column(), column(1, method="magnitude"), column(2, at=50.0, **PATTERNED)]
    messages = told(view, list(view.sweep(visitor(), event(*columns, places=[20, 40, 60, 80]))), "sweep")
    last = messages[-1]
    assert last["keys"] == {"0": "recipe 0", "1": "recipe 1", "2": "recipe 2"}
    for name in ("0", "1"):
        assert [at for at, _ in last["points"][name]] == [80, 40, 20, 60]
        zeros = [point["zeros"] for _, point in last["points"][name]]
        assert zeros == pytest.approx([0.8, 0.4, 0.2, 0.6], abs=0.02)  # a row has 64 weights
    assert [at for at, _ in last["points"]["2"]] == [50.0]
    assert last["done"] == "9 points measured here."
    assert (last["ended"], last["progress"]) == (True, None)
    assert last["dense"] == state.models["tiny"].dense.perplexity
    assert not state.variants.keys  # numbers alone are kept
    assert [spec.method for spec in held.specs[:4]] == ["wanda", "magnitude"] * 2
    counts = [sum(map(len, message["points"].values())) for message in messages]
    assert counts == sorted(counts)
    assert max(b - a for a, b in pairwise(counts)) == 1
    shown, _ = looked(view, column(at=60))
    assert shown[-1]["columns"]["0"]["point"]["perplexity"] == last["points"]["0"][-1][1]["perplexity"]
    assert "as measured before" in shown[-1]["done"]


def test_a_curve_goes_on_where_it_was_and_cancel_keeps_its_points(view, state, held):
    places = [10, 20, 30, 40, 50, 60, 70, 80]
    updates = view.sweep(visitor(), event(column(), places=places))
    told_so_far = []
    for update in updates:
        told_so_far += told(view, [update], "sweep")
        if told_so_far and len(told_so_far[-1]["points"]["0"]) == 3:
            view.cancel_sweep.press(visitor())
            break
    last = told(view, list(updates), "sweep")[-1]
    assert (last["ended"], last["done"]) == (True, CANCELLED)
    kept = last["points"]["0"]
    assert 3 <= len(kept) <= 4
    assert state.engine.settle()
    held.specs.clear()
    again = told(view, list(view.sweep(visitor(), event(column(), places=places, run=2))), "sweep")[-1]
    assert again["points"]["0"][: len(kept)] == kept
    assert len(again["points"]["0"]) == len(places)
    assert len(held.specs) <= len(places) - len(kept)
    held.specs.clear()
    told(view, list(view.sweep(visitor(), event(column(), places=places, run=3))), "sweep")
    assert held.specs == []


@pytest.mark.parametrize("places", [[50, 96], [-1], [float("nan")], [10**400]])
def test_a_place_that_is_none_ends_a_curve_with_a_sentence(view, places):
    last = told(view, list(view.sweep(visitor(), event(column(), places=places))), "sweep")[-1]
    assert last["ended"]
    assert "share of weights to remove" in last["problem"]


def test_own_prompts_are_answered_by_both_models(view, state, tiny_llama, held, monkeypatch):
    monkeypatch.setattr(looking, "TICK", 0)  # each step is told, however quick it was
    prompts = ["The sky", "A river", "The sky"]
    given = event(column(at=70), prompts=prompts)
    messages = told(view, list(view.own(visitor(), given)), "own")
    last = messages[-1]
    assert [row["prompt"] for row in last["rows"]] == prompts
    assert (last["ended"], last["words"], last["title"]) == (True, "", "Wanda 70%")
    assert len(held.specs) == 1
    [key] = state.variants.keys
    with laid_over(tiny_llama, state.variants.get(key).variant) as over:
        for row in last["rows"]:
            for name, lm in (("dense", tiny_llama), ("variant", over)):
                (*_, answer) = generate(lm, row["prompt"], max_new_tokens=12, chat=True)
                assert row[name]["pieces"] == list(answer.pieces)
    assert [len(message["rows"]) for message in messages] == sorted(len(message["rows"]) for message in messages)
    assert any(message["words"].startswith("prompt 2 of 3") for message in messages)


def test_own_prompts_can_be_cancelled_and_need_a_recipe(view):
    updates = view.own(visitor(), event(column(), prompts=["The sky", "A river", "A stone"]))
    for update in updates:
        if any(message["rows"] for message in told(view, [update], "own")):
            view.cancel.press(visitor())
            break
    last = told(view, list(updates), "own")[-1]
    assert (last["ended"], last["done"]) == (True, CANCELLED)
    assert 1 <= len(last["rows"]) < 3
    [message] = told(view, list(view.own(visitor(), event(prompts=["The sky"]))), "own")
    assert message["problem"] == "no recipe was given; choose a method"
    messages = told(view, list(view.own(visitor(), event(column(), prompts=["word " * 300]))), "own")
    assert "shorten it" in messages[-1]["problem"]


@pytest.mark.parametrize("of", [None, column(at=70)], ids=["dense", "pruned"])
def test_why_a_token_came_is_told_for_both_models(view, state, of):
    given = event(*([] if of is None else [of]), tokens=[5, 77, 9], index=2, text="", rest="")
    last = told(view, list(view.why(visitor(), given)), "told")[-1]
    assert last["run"] == 1
    assert last["at"] == len(last["pieces"]) - 1
    assert last["prompt"] == len(last["pieces"]) - 3
    for tokens in (last["dense"], *(tokens for _, tokens, _ in last["columns"])):
        shares = [p for _, p in tokens]
        assert len(shares) == MOST_LIKELY
        assert shares == sorted(shares, reverse=True)
        assert 0 < sum(shares) <= 1
    assert len(last["columns"]) == (of is not None)
    for number, tokens, apart in last["columns"]:
        assert (number, len(apart)) == (of["id"], len(last["pieces"]))
        assert tokens != last["dense"]
        assert max(apart) > 0


@pytest.mark.parametrize("change", [{"tokens": [10**6]}, {"text": None}, {"recipes": [{}]}, {"model": " "}])
def test_why_is_answered_in_a_sentence_where_it_cannot_be_told(view, change):
    given = event(tokens=[1], index=1, text="", rest="")
    given._data |= change
    last = told(view, list(view.why(visitor(), given)), "told")[-1]
    assert last["run"] == 1
    assert last["problem"].count("; ") >= 1


def test_a_model_is_opened_or_it_is_said_why_not(view, state, monkeypatch):
    finish(state.open_steps("tiny"))
    [update] = list(view.open(visitor(), event(model=" tiny ")))
    [message] = told(view, [update], "opened")
    assert (message["ready"], message["title"], message["dense"]) == (True, "tiny", None)
    assert "float32" in message["chip"]
    assert "windows of" in message["windows"]
    assert update[view.context.model] == "tiny"

    def nothing(name, **_):
        raise ModelError("it is not here; choose another")

    monkeypatch.setattr(fetching, "locate", nothing)
    for name, problem in (("owner/other", "choose another"), (" ", "is empty"), (7, "is empty"), ("a b/c\n", "; ")):
        *_, update = view.open(visitor(), event(model=name))
        assert problem in told(view, [update], "opened")[0]["problem"]
        assert view.context.model not in update  # what was shown stays


def test_opening_a_model_can_be_cancelled(view, state, monkeypatch):
    go = threading.Event()
    monkeypatch.setattr(fetching, "locate", lambda name, **_: go.wait(SOON))
    updates = view.open(visitor(), event(model="owner/slow"))
    next(updates)
    view.cancel.press(visitor())
    *_, update = updates
    assert told(view, [update], "opened") == [{"model": "owner/slow", "problem": CANCELLED}]
    go.set()


def test_a_model_is_read_quietly_after_it_was_opened(view, state):
    assert list(view.analyse(visitor(), "elsewhere")) == []
    updates = list(view.analyse(visitor(), "tiny"))
    assert all(view.view not in update for update in updates)
    assert state.models["tiny"].analysis is not None
    assert finish(state.measurement_steps("tiny", ("sentence", 1), lambda loaded: read(loaded, text="A"))).tokens


def test_what_a_recipe_will_take_is_told_once_it_is_known(view, state):
    def expected(*columns, **more):
        return told(view, [view.expect(visitor(), event(*columns, **more))], "expected")[0]

    nothing = {"seconds": None, "points": [None]}
    assert expected(column()) == nothing | {"words": "Kept, the variant takes 1 MB."}
    assert expected(column(), model="elsewhere") == nothing | {"words": ""}
    assert expected() == {"seconds": None, "words": "", "points": []}
    looked(view, column(), column(1, method="magnitude"))
    one, both = expected(column(at=20)), expected(column(), column(1, method="magnitude"))
    assert 0 < one["seconds"] < both["seconds"]
    assert expected(column(), column(1, method="sparsegpt"))["seconds"] is None  # not even a pass of the model is known
    finish(state.open_steps("tiny"))
    assert expected(column(), column(1, method="sparsegpt"))["seconds"] > one["seconds"]
    assert one["points"] == [None]  # before that pass it was not known how long reading takes
    reading = state.engine.durations.exactly(("pass", "tiny"))
    assert expected(column(at=20))["points"] == [pytest.approx(one["seconds"] + reading)]
    finish(state.point_steps("tiny", column_of(column(at=30), view.settings).recipe))
    (point,) = expected(column(at=40))["points"]
    assert point == state.engine.durations.expected(("point", "tiny"))
    assert "load the page again" in expected({})["words"]
    assert "is empty" in expected(column(), model="")["words"]


def test_a_text_that_was_uploaded_is_kept_and_no_other_file_is(view, state, tmp_path, monkeypatch):
    view.view.GRADIO_CACHE = str(tmp_path / "uploads")
    (tmp_path / "uploads").mkdir()
    (tmp_path / "uploads" / "mine.txt").write_text("The river carries sand to the sea. " * 99, encoding="utf-8")
    (tmp_path / "uploads" / "wrong.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "secret.txt").write_text("secret")

    def brought(**data):
        given = event()
        given._data = data
        return told(view, [view.bring_text(visitor(), given)], "text")[0]

    message = brought(path=str(tmp_path / "uploads" / "mine.txt"), name="<b>" * 99)
    assert message["name"] == ("<b>" * 99)[:100]
    assert state.texts.get(message["digest"]).startswith(b"The river")
    messages, _ = looked(view, column(text=message["digest"]))
    assert messages[-1]["columns"]["0"]["answered"]
    wrong = ["secret.txt", "uploads/../secret.txt", "uploads/gone.txt", "uploads/wrong.txt", "uploads", "uploads/a\0b"]
    for path in [*(str(tmp_path / name) for name in wrong), None, 7, [], "http://127.0.0.1/x"]:
        problem = brought(path=path, name="mine.txt")
        assert list(problem) == ["problem"], path
        assert "; " in problem["problem"]
        assert "secret" not in str(state.texts._texts)
    assert list(brought()) == ["problem"]


def test_a_file_is_read_once_as_long_as_its_text_is_kept(view, state, tmp_path, monkeypatch):
    view.view.GRADIO_CACHE, reads, given = str(tmp_path), [], event()
    (tmp_path / "mine.txt").write_text("The river carries sand to the sea.", encoding="utf-8")
    given._data = {"path": str(tmp_path / "mine.txt"), "name": "mine.txt"}
    read = tab.read_documents
    monkeypatch.setattr(tab, "read_documents", lambda file, **how: reads.append(file) or read(file, **how))
    digests = {told(view, [view.bring_text(visitor(), given)], "text")[0]["digest"] for _ in range(3)}
    assert len(reads) == len(digests) == 1
    state.texts._texts.clear()
    assert told(view, [view.bring_text(visitor(), given)], "text")[0]["digest"] in digests
    assert len(reads) == 2
    assert state.texts.holds(*digests)


def test_a_table_that_was_uploaded_is_read_as_a_table_within_the_pages_limits(view, state, tmp_path):
    view.view.GRADIO_CACHE = str(tmp_path)

    def brought(name, content):
        (tmp_path / name).write_bytes(content)
        given = event()
        given._data = {"path": str(tmp_path / name), "name": name}
        return told(view, [view.bring_text(visitor(), given)], "text")[0]

    rows = "".join(json.dumps({"text": f"The river {n} carries sand.", "id": n}) + "\r\n" for n in range(400)).encode()
    message = brought("mine.jsonl.gz", gzip.compress(rows))
    documents = from_bytes(state.texts.get(message["digest"]))
    assert documents[:2] == ["The river 0 carries sand.", "The river 1 carries sand."]
    assert message["digest"] == state.texts.put(list(documents)) != state.texts.put("\n".join(documents))
    messages, _ = looked(view, column(text=message["digest"], order="in-flight"))  # short documents are joined
    assert messages[-1]["columns"]["0"]["answered"]
    kept = len(state.texts._texts)
    bomb = brought("bomb.txt.gz", gzip.compress(b"sand " * 2**22))
    assert bomb == {**bomb, "problem": "bomb.txt.gz unpacks to more than the 8 MB that are read; give a part of it"}
    assert "is not the JSON that its name says" in brought("prose.jsonl", b"The river")["problem"]
    for name in ("a.parquet", "a.parquet.gz"):  # which a public server never opens
        view.context.page.settings = replace(view.settings, public=True)
        try:
            assert "A public server reads no Parquet" in brought(name, b"PAR1")["problem"]
        finally:
            view.context.page.settings = replace(view.settings, public=False)
        assert "A public server" not in brought(name, b"PAR1")["problem"]
    assert len(state.texts._texts) == kept
