"""The answers of the tab Scores: what the view asks of a linear, checked, and plain values in return."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from wanda_core.errors import InputError, shortened
from wanda_core.explain import asking, tiles
from wanda_core.explain.masked_linear import MaskedLinear
from wanda_core.report import linear as report
from wanda_core.report.numbers import significant
from wanda_ui.app_state import AppState
from wanda_ui.compare import asked
from wanda_ui.engine.loaded import Loaded
from wanda_ui.engine.recipe import Recipe
from wanda_ui.gate.turns import check_wanted
from wanda_ui.inputs import is_number, some_text, whole_number
from wanda_ui.owned import NOBODY, Visitors
from wanda_ui.scores.linears import Linears, NotMadeError, Place
from wanda_ui.settings import Settings

Json = dict[str, Any]
MOST_TILES = 12  # in one answer: half a megabyte
MOST_KIND = 200  # characters
MOST_BLOCKS = 40  # pictures of all blocks that are kept with a model, a few kilobytes each


class Answers:
    """Answers one question at a time, in whichever thread; nothing here waits for the engine."""

    def __init__(self, state: AppState, settings: Callable[[], Settings]) -> None:
        self.state, self.settings, self.linears = state, settings, Linears(state)
        self.kinds: Mapping[str, Callable[[MaskedLinear, Mapping[str, Any]], Json]] = {
            "linear": lambda linear, given: report.linear_of(linear),
            "tiles": _tiles,
            "weight": _weight,
            "column": lambda linear, given: report.told(asking.ask_column(linear, _number(given, "column"))),
            "row": lambda linear, given: report.told(asking.ask_row(linear, _number(given, "row"))),
        }

    @torch.no_grad()
    def answer(self, given: Mapping[str, Any], visitors: Visitors = NOBODY) -> Json:
        """Answer a question.

        given: `what` is asked, of which `model`, `recipes`, `kind` and `block`; visitors: who asks. -> `wait` where the
        model is not ready, with whether it is `loaded`; `missing` with the places of recipes that have to be pruned
        first; else what was asked for. Raises InputError for anything else, and for a model that cannot be read.
        """
        what = some_text(given.get("what"), "question")
        if what not in (*self.kinds, "blocks"):
            raise InputError(f"the question {shortened(what)} is none that the page asks; load the page again")
        columns = asked.columns_of(given, self.settings(), self.state.texts.of(visitors))
        if not columns:
            raise InputError("no recipe was given; choose a method")
        asked.check_whole_size(columns)
        recipes = [column.recipe for column in columns]
        kind = some_text(given.get("kind"), "kind")[:MOST_KIND]
        loaded = self.state.loaded(asked.model_of(given))
        if loaded is None or loaded.analysis is None:
            if loaded is not None and loaded.problem:
                raise InputError(loaded.problem)
            return {"wait": True, "loaded": loaded is not None}
        kind, block = loaded.linear_to_show(kind, whole_number(given.get("block"), "block"))
        about = {"kind": kind, "block": block, "kinds": loaded.lm.kinds, "blocks": loaded.blocks_with(kind)}
        try:
            if what == "blocks":
                return {**about, "all": self._blocks(loaded, recipes, kind)}
            told = self.kinds[what](self.linears.get(loaded, recipes, Place(kind, block)), given)
            if what in ("weight", "column"):
                column = told["column"] if what == "weight" else told
                column["feature"] = report.channel_of(loaded.analysis.features, kind, column["column"])
            return {**about, what: told}
        except NotMadeError as error:
            return {**about, "missing": [columns[place].id for place in error.places]}

    def _blocks(self, loaded: Loaded, recipes: list[Recipe], kind: str) -> Json:
        """Return the picture of all blocks under the first two recipes, kept once it was made."""
        recipes = recipes[:2]
        key = (kind, *(self.state.key_of(loaded, recipe) for recipe in recipes))
        with loaded.lock:
            if key in loaded.grids:
                loaded.grids.move_to_end(key)
                return loaded.grids[key]
        linears = loaded.lm.of_kind(kind)
        masked = []
        for linear in linears:
            check_wanted()  # all of them take seconds
            masked.append(self.linears.get(loaded, recipes, Place(kind, linear.block)))
        norms = {linear.name: held.X_norm for linear, held in zip(linears, masked, strict=True)}
        sensitivities = [self._sensitivities(loaded, recipe) for recipe in recipes]
        picture = {**report.blocks_of(linears, norms, masked), "sensitivities": sensitivities}
        with loaded.lock:
            loaded.grids[key] = picture
            while len(loaded.grids) > MOST_BLOCKS:
                loaded.grids.popitem(last=False)
        return picture

    def _sensitivities(self, loaded: Loaded, recipe: Recipe) -> list[list[float]] | None:
        """Return what the output lost when each block was pruned alone, in nats at each of the two sparsities; None for
        a recipe that does not go by that."""
        if not recipe.spec.needs_sensitivities:
            return None
        made = self.state.variants.get(self.state.key_of(loaded, recipe))
        known = made.variant.report.sensitivities if made is not None else None
        known = known or loaded.sensitivities.get(recipe.reading)
        return None if known is None else [[significant(loss) for loss in losses] for losses in known.losses]


def _tiles(linear: MaskedLinear, given: Mapping[str, Any]) -> Json:
    """Cut tiles out of a matrix."""
    level, places, by_norm = _number(given, "level"), given.get("places"), given.get("sorted")
    if not isinstance(by_norm, bool):
        raise InputError(f"sorted {shortened(by_norm)} is neither true nor false; load the page again")
    if not isinstance(places, list) or not 1 <= len(places) <= MOST_TILES:
        raise InputError(f"the tiles {shortened(places)} are not a list of {MOST_TILES} at most; load the page again")
    if not all(isinstance(place, list) and len(place) == 2 for place in places):
        raise InputError(f"the tiles {shortened(places)} are not pairs of numbers; load the page again")
    cut = [report.tile_of(tiles.tile(linear, level, across, down, by_norm)) for across, down in places]
    return {"level": level, "sorted": by_norm, "of": [{"at": at, **tile} for at, tile in zip(places, cut, strict=True)]}


def _weight(linear: MaskedLinear, given: Mapping[str, Any]) -> Json:
    """Tell of a weight: one that is named, the next on which the recipes differ, the nearest to a place of the plane,
    or one that tells most."""
    how = given.get("how")
    if how == "telling":
        row, column = asking.telling_weight(linear)
    elif how == "place":  # of the picture, whose columns may be sorted
        row, column = linear.check_place(_number(given, "row"), _number(given, "place"))
        column = int(linear.order[column]) if given.get("sorted") is True else column
    elif how == "plane":
        at = [given.get("norm"), given.get("size")]
        if not all(is_number(value) for value in at):
            raise InputError(f"the place {shortened(at)} is none of the plane; load the page again")
        row, column = asking.weight_near(linear, *map(float, at))  # type: ignore[arg-type]
    else:
        row, column = linear.check_place(_number(given, "row"), _number(given, "column"))
    if how == "next":
        row, column = asking.next_disagreement(linear, row, column) or (row, column)
    return {
        "place": int(linear.loudness[column]),
        "weight": report.told(asking.ask_weight(linear, row, column)),
        "column": report.told(asking.ask_column(linear, column)),
        "row": report.told(asking.ask_row(linear, row)),
    }


def _number(given: Mapping[str, Any], name: str) -> int:
    return whole_number(given.get(name), name)
