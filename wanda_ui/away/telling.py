"""What a run lacks to be a page of its own: by what it is looked at, and what makes its models again."""

import re
from typing import Any

from wanda_core.checkpoint.naming import file_stem
from wanda_core.recipe import PruneSpec
from wanda_core.report.keys import Key, place_name, shrunk, zeros_after
from wanda_core.report.repeat import Repeat, command, python
from wanda_core.report.run import PARTS, Run

Json = dict[str, Any]
WELL = 1.6  # times the dense perplexity, up to which the page says that a model still speaks well
BUILTIN_SOURCE = "built-in text"  # what the engine calls it
NEAR = 50  # percent: where a line is looked at that says nothing else


def completed(run: Run) -> Run:
    """Return a run with what its page needs beside it: `shown`, where it does not say that, and `repeat` of every line.

    What is not checked of a run is left out, and commands are never a stranger's: whoever reads them runs them.
    """
    shown = run.get("shown") or telling(run)
    checked = {name: run[name] for name in PARTS if name in run}
    return {**checked, "shown": shown, "repeat": repeats(run, shown["at"])}


def telling(run: Run) -> Json:
    """Choose by what a run is looked at. -> the percent, the keys of one or two lines, and the prompt, None where none.

    That is the last place where the first line still gives the right answer and the second does not; without such
    answers the last where the first still speaks well, else its first. Lines of patterns, points each, come last.
    """
    lines = sorted(run["lines"], key=lambda line: Key.parse(line["key"]).percent is not None)[:2]
    prompts = run["prompts"]
    keys = [line["key"] for line in lines]
    if not lines:
        return {"at": NEAR, "keys": [], "prompt": prompts[0]["text"] if prompts else None}
    first = lines[0]
    for number, prompt in enumerate(prompts):
        for at in reversed(first["at"]) if prompt.get("word") and len(lines) > 1 else ():
            kept, lost = (_answer(run, key, at, number) for key in keys)
            if kept is not None and lost is not None and _says(kept, prompt["word"]) > _says(lost, prompt["word"]):
                return {"at": at, "keys": keys, "prompt": prompt["text"]}
    most = WELL * run["dense"]["perplexity"]
    places = [(at, cost) for at, cost in zip(first["at"], first["perplexity"], strict=True) if at]
    well = [at for at, cost in places if cost < most]
    at = well[-1] if well else places[0][0] if places else first["at"][0]
    return {"at": at, "keys": keys, "prompt": prompts[0]["text"] if prompts else None}


def repeats(run: Run, at: float) -> list[Json]:
    """Say for each line what makes its model again, at its place nearest to `at`: as command and as Python.

    The command is empty as `command` leaves it, and for names with signs that are not printed.
    """
    found = []
    for line in run["lines"]:
        place = min(line["at"], key=lambda percent: (abs(percent - at), percent))
        key = Key.parse(line["key"])
        smaller = shrunk(key.method, place, key.score) if key.shrinks and place else None
        spec = zeros_after(key.zeros) if key.shrinks else _spec(line, place)
        drawn = line["calibration"] or run["made"]["calibration"]
        text = None if drawn["source"] == BUILTIN_SOURCE else drawn["source"]
        again = Repeat(run["made"]["name"], spec, drawn["samples"], drawn["seq_len"], drawn["seed"], text, smaller)
        then = spec if smaller is not None and spec.target else None
        output = f"out/{file_stem(run['made']['model'], smaller or spec, then)}"
        safe = again.model.isprintable() and (text or "").isprintable()  # a terminal acts on other signs, quoted or not
        texts = {"command": command(again, output) if safe else "", "python": python(again, output)}
        found.append({"key": line["key"], "title": key.label(place) if place else spec.label, **texts})
    return found


def _spec(line: Json, percent: float) -> PruneSpec:
    """Return the recipe of a line at a percent: as the line tells it, else what its key stands for."""
    key, recipe = Key.parse(line["key"]), line["recipe"]
    if recipe is None:
        return key.spec(percent)
    return PruneSpec(**{**recipe, "sparsity": percent / 100 if key.percent is None else None})


def _answer(run: Run, key: str, at: float, prompt: int) -> str | None:
    """Return an answer that was given at just this place, None where there is none."""
    answers = run["answers"].get(place_name(key, at))
    return "".join(answers[prompt]["t"]) if answers and answers[prompt] else None


def _says(answer: str, word: str) -> bool:
    return re.search(rf"(^|\W){re.escape(word)}(\W|$)", answer, re.IGNORECASE) is not None
