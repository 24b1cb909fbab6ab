"""Runs in the browser: what the page makes of one, and that it reads what the engine reads and refuses what it does."""

import itertools
import json

import pytest
from run_mutations import JUNK, mutated, places_in
from small_run import RUN, answer, line, small_run

from wanda_core.assets import ASSETS, REPLAY
from wanda_core.errors import InputError
from wanda_core.report.keys import CHOICES, Key
from wanda_core.report.run import MOST_BYTES, read_run
from wanda_ui.language import words

pytestmark = pytest.mark.browser

SCRIPTS = ("1-words.js", "2-data.js", "25-run.js", "29-report-file.js")
TINY = RUN["made"]["name"]
STORED = REPLAY.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def blank(browser):
    """A page with nothing on it but the scripts that know runs."""
    page = browser.new_page()
    for name in SCRIPTS:
        page.add_script_tag(content=(ASSETS / "view" / name).read_text(encoding="utf-8"))
    page.evaluate("words => { window.WandaLab.words = words; }", words("en"))
    return page


def read(page, text):
    """-> what the page reads of a file."""
    return page.evaluate("text => window.WandaLab.readRun(text)", text)


def with_known(page, program, *given):
    """Run a program where `known` holds the small run. given: as `given` there."""
    known = (
        "([run, given]) => { const W = window.WandaLab, known = new W.Known(run); return (%s)(W, known, ...given); }"
    )
    return page.evaluate(known % program, [RUN, list(given)])


def test_a_whole_run_is_read_as_it_is(blank):
    assert read(blank, json.dumps(RUN)) == {"run": RUN}
    assert read(blank, f"\ufeff{STORED}") == {"run": json.loads(STORED)}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "This is no run"),
        ("[]", "This is no run"),
        ("null", "This is no run"),
        ("{}", "This is no run"),
        ("[" * 100_000, "This is no run"),
        ('{"format": 2}', "has another format than 1"),
        ('{"format": 1}', "made is not as it must be"),
        (json.dumps(RUN).replace('"windows": 4', '"windows": "4"'), "made.windows is not as it must be"),
        (None, "holds more than the 8 MB"),
    ],
)
def test_anything_else_is_refused_in_a_sentence(blank, text, problem):
    found = read(blank, text)
    assert list(found) == ["problem"]
    assert problem in found["problem"]


def test_a_file_that_is_too_large_is_not_even_parsed(blank):
    length = "most => window.WandaLab.readRun('{' + ' '.repeat(most) + '}').problem"
    assert "holds more than the 8 MB" in blank.evaluate(length, MOST_BYTES)


def test_the_page_and_the_engine_judge_alike(blank):
    """Whatever stands in the place of any value of a run, but inside a recipe, which the page only hands on."""
    places = [place for place in places_in(RUN) if "recipe" not in place[:-1]]
    tried = [(place, junk) for i, place in enumerate(places) for junk in JUNK[i % 2 :: 2]]  # half of it, in turn
    mutate = """([text, tried]) => tried.map(([place, junk]) => {
        const run = JSON.parse(text);
        place.slice(0, -1).reduce((inner, name) => inner[name], run)[place.at(-1)] = JSON.parse(junk);
        return "run" in window.WandaLab.readRun(JSON.stringify(run));
    })"""
    pages = blank.evaluate(mutate, [json.dumps(RUN), [[list(place), json.dumps(junk)] for place, junk in tried]])
    for (place, junk), taken in zip(tried, pages, strict=True):
        assert taken == is_run(mutated(place, junk)), (place, junk)


def is_run(run):
    """Whether the engine takes it."""
    try:
        read_run(json.dumps(run))
    except InputError:
        return False
    return True


def test_names_of_recipes_are_read_alike(blank):
    names = []
    for order, group, allocation, update in itertools.product(*(list(CHOICES.values())[1:])):
        names.append(str(Key("wanda", "2:4", order, group, allocation, update, samples=2)))
    names += [str(Key(method)) for method in CHOICES["method"]] + ["neurons", "neurons,score=flap,samples=2"]
    wrong = ["", "wanda,", "Wanda", "wanda,pattern=4:2", "wanda,group=matrix:128", "wanda,text=abc", "wanda,seed=-1"]
    wrong += ["neurons,order=faithful", "neurons,pattern=2:4", "wanda,score=flap", "neurons,score=size"]
    wrong += ["wanda,seed=0", "wanda,samples=02", "wanda,samples=2,pattern=2:4", "wanda,method=ria", "wanda,order=x"]
    same = (
        "names => names.map(name => { const W = window.WandaLab, r = W.recipeOf(name); return r ? W.keyOf(r) : null; })"
    )
    assert blank.evaluate(same, names) == names
    assert not set(blank.evaluate(same, wrong)) & set(wrong)
    for name in names:
        assert str(Key.parse(name)) == name
    for name in wrong:
        with pytest.raises(InputError, match="names no recipe"):
            Key.parse(name)


def test_the_stored_run_makes_itself(blank):
    program = """text => { const W = window.WandaLab, { run } = W.readRun(text);
        return W.runOf({ known: new W.Known(run), model: run.made.name, about: run.made }); }"""
    assert blank.evaluate(program, STORED) == json.loads(STORED)


MEASURED = """(W, known, model, points) => {
    for (const [key, at, point] of points) known.add(model, key, at, point);
    const about = { ...known.replay.made, name: model };
    known.dense.set(model, 11);
    return W.runOf({ known, model, about, specs: { ria: { method: "ria" } } });
}"""


def point(perplexity, windows=4, **more):
    return {"perplexity": perplexity, "windows": windows, "zeros": 0.5, "seconds": 2.5, **more}


def test_what_was_measured_wins_and_a_part_of_it_does_not_count(blank):
    measured = [
        *(["wanda", 50, point(21.5, top1=0.75, kl=0.5)], ["wanda", 62.5, point(1.5, windows=2)]),
        *(["ria", 70, point(70)], ["ria", 30, point(30)], ["sparsegpt", 50, point(5, windows=3)]),
    ]
    run = with_known(blank, MEASURED, TINY, measured)
    assert read_run(json.dumps(run)) == run
    lines = {made["key"]: made for made in run["lines"]}
    assert list(lines) == [*(made["key"] for made in RUN["lines"]), "ria"]
    assert lines["wanda"] == {
        **RUN["lines"][0],
        **{"perplexity": [10, 21.5, 40], "top1": [0.5, 0.75, 0.5], "kl": [0.25, 0.5, 0.25], "seconds": [1.5, 2.5, 1.5]},
    }
    nothing = [None, None]
    assert lines["ria"] == {
        **{"key": "ria", "recipe": {"method": "ria"}, "calibration": None, "at": [30, 70], "perplexity": [30, 70]},
        **{"top1": nothing, "kl": nothing, "seconds": [2.5, 2.5]},
    }
    assert run["dense"] == {"perplexity": 11}
    assert {name: run[name] for name in ("made", "prompts", "answers", "scores", "toy")} == {
        name: RUN[name] for name in ("made", "prompts", "answers", "scores", "toy")
    }


def test_of_another_model_there_is_what_was_measured_and_no_picture(blank):
    run = with_known(blank, MEASURED, "owner/other", [["magnitude", 40, point(12)]])
    assert read_run(json.dumps(run)) == run
    assert list(run) == ["format", "made", "dense", "lines", "prompts", "answers"]
    assert [(made["key"], made["at"], made["recipe"]) for made in run["lines"]] == [("magnitude", [40], None)]
    assert (run["prompts"], run["answers"]) == ([], {})


def test_a_model_whose_dense_perplexity_is_not_known_makes_no_run(blank):
    program = "(W, known) => W.runOf({ known, model: 'owner/other', about: known.replay.made })"
    assert with_known(blank, program) is None


def test_lines_of_another_run_keep_how_their_calibration_was_drawn(blank):
    own = other_run()
    drawn = {"source": "book.txt", "samples": 3, "seq_len": 256, "seed": 0}
    own["made"]["calibration"] = {**drawn, "fingerprint": "1" * 64}
    text = "wanda,text=0000000000000000ffffffffffffffff,samples=3"
    own |= {"lines": [line(text, [50], [17.0]), line("magnitude", [50], [21.0])], "answers": {}, "prompts": []}
    program = """(W, known, run) => {
        known.addRun(run);
        const model = run.made.name, about = { ...known.replay.made, name: model };
        return [W.runOf({ known, model, about }), W.runOf({ known, model })];
    }"""
    plain, same = with_known(blank, program, own)
    assert [read_run(json.dumps(run)) for run in (plain, same)] == [plain, same]
    assert [made["calibration"] for made in plain["lines"]] == [drawn, None]
    assert [made["calibration"] for made in same["lines"]] == [None, None]
    assert same["made"] == own["made"]


def test_only_the_recipes_that_are_asked_for_and_their_answers(blank):
    program = """(W, known) => {
        const own = W.recipe({ text: "0123456789abcdef0123456789abcdef", textName: "mine.txt", samples: 3 });
        known.add("owner/tiny", W.keyOf(own), 50, { perplexity: 12, windows: 4, seconds: 1 });
        const told = { pieces: ["a", "b"], probabilities: [0.254, 1] };
        const answers = [
            { key: "wanda", at: 45, prompt: "Why is the sky blue?", ...told },
            { key: "dense", at: 0, prompt: "Mine", ...told },
            { key: "magnitude", at: 45, prompt: "Mine", ...told },
        ];
        const recipes = [own, W.recipe(), W.recipe()];
        return W.runOf({ known, model: "owner/tiny", about: known.replay.made, recipes, answers });
    }"""
    run = with_known(blank, program)
    assert read_run(json.dumps(run)) == run
    own, plain = run["lines"]
    assert (own["key"], own["at"]) == ("wanda,text=0123456789abcdef0123456789abcdef,samples=3", [50])
    assert own["calibration"] == {"source": "mine.txt", "samples": 3, "seq_len": 256, "seed": 0}
    assert plain == RUN["lines"][0]
    assert run["prompts"] == [*RUN["prompts"], {"text": "Mine"}]
    came = {"t": ["a", "b"], "p": [25, 100]}
    assert run["answers"] == {
        "dense": [answer("It", " is"), None, came],
        "wanda@50": [answer("It", " was"), answer("\n", ""), None],
        "wanda@45": [came, None, None],
    }


ADDED = """(W, known, run, keys, prompt) => {
    const problem = known.addRun(run), { name } = run.made;
    const told = ([recipe, at]) => known.storedAnswer(name, recipe, at, prompt);
    const line = (key) => known.storedLine(name, W.recipeOf(key)).map(([at, point]) => [at, point.perplexity]);
    const places = [["dense", 0], [W.recipe(), 0], [W.recipe(), 80], [W.recipe({ method: "ria" }), 30]];
    return {
        problem, dense: known.densePerplexity(name), lines: keys.map(line),
        recipes: W.linesOf(run).map(({ recipe }) => recipe),
        answers: places.map(told).map((found) => found && [found.at, ...found.pieces]),
    };
}"""


def other_run(**made):
    own = small_run(dense={"perplexity": 8.0}, lines=[line("wanda", [30, 50], [9.0, 16.0]), line("best", [70], [33.0])])
    own |= {"prompts": [{"text": "Why?"}], "answers": {"dense": [answer("d")], "wanda@50": [answer("w")]}}
    return {**own, "made": {**own["made"], "name": "owner/other", "model": "Other", "revision": "x", **made}}


def test_another_models_run_stands_as_its_stored_lines(blank):
    found = with_known(blank, ADDED, other_run(), ["wanda", "best", "ria"], "Why?")
    assert found["problem"] is None
    assert found["dense"] == 8
    assert found["lines"] == [[[30, 9], [50, 16]], [[70, 33]], []]
    assert found["answers"] == [[0, "d"], [0, "d"], [50, "w"], None]
    assert [recipe["method"] for recipe in found["recipes"]] == ["wanda", "best"]


def test_a_second_run_of_a_model_adds_its_points_and_its_own_stand_where_both_have_one(blank):
    same = other_run(name=TINY, revision=RUN["made"]["revision"])
    found = with_known(blank, ADDED, same, ["wanda", "magnitude"], "Why is the sky blue?")
    assert found["problem"] is None
    assert found["lines"] == [[[0, 10], [30, 9], [50, 16], [62.5, 40]], [[50, 30], [80, 1e300]]]
    assert found["answers"][:2] == [[0, "It", " is"], [0, "It", " is"]]  # of the first run, which has that prompt


@pytest.mark.parametrize(
    ("made", "problem"),
    [
        ({"windows": 16}, "measured on 16 × 512 tokens and the page measures on 4 × 512"),
        ({"eval": "f" * 16}, "of its own text"),
        ({"seq_len": 2048}, "4 × 2048 tokens"),
        ({"bos": True}, "one curve cannot hold both"),
        ({"name": TINY, "model": "Tiny"}, "is of another state of Tiny"),
    ],
)
def test_a_run_that_cannot_stand_on_this_curve_says_why_and_changes_nothing(blank, made, problem):
    found = with_known(blank, ADDED, other_run(**made), ["best"], "Why?")
    assert problem in found["problem"]
    assert found["lines"] == [[]]
    assert found["answers"][0] is None


def test_an_own_text_is_called_what_the_run_calls_it(blank):
    recipes = blank.evaluate("run => window.WandaLab.linesOf(run).map(({ recipe }) => recipe)", RUN)
    assert [recipe.get("textName") for recipe in recipes] == [None, None, None, "mine.txt"]
    assert recipes[1]["pattern"] == "1:3"
    assert (recipes[3]["order"], recipes[3]["samples"]) == ("faithful", 2)


def test_the_blocks_that_matter_most_and_least_are_told_of_the_recipe_that_goes_by_it(blank):
    blank.add_script_tag(content=(ASSETS / "view" / "14-blocks.js").read_text(encoding="utf-8"))
    measured = [[0.1, 0.9], [0.01, 0.02], [0.02, 0.05]]
    blocks = {"blocks": [0, 1, 2], "sparsities": [[0.5, 0.5, 0.5], [0.3, 0.7, 0.6]], "sensitivities": [None, measured]}
    told = "all => window.WandaLab.sensitivity(all)"
    least, most = {"loss": 0.02, "block": 1, "share": 0.7}, {"loss": 0.9, "block": 0, "share": 0.3}
    assert blank.evaluate(told, blocks) == {"least": least, "most": most}
    assert blank.evaluate(told, {**blocks, "sensitivities": [None, None]}) is None
    assert blank.evaluate(told, {name: blocks[name] for name in ("blocks", "sparsities")}) is None  # as stored
