"""What the page asks when something is to be taken along: how it came about, how it is made again, its checkpoint."""

import contextlib
import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from wanda_core.checkpoint.archive import Archive
from wanda_core.checkpoint.beside import bytes_beside
from wanda_core.checkpoint.contents import Contents, contents, contents_anew
from wanda_core.checkpoint.naming import file_stem
from wanda_core.checkpoint.tensor_file import FLOATS
from wanda_core.checkpoint.weights import main_dtype
from wanda_core.checks import DEFAULT_SEQ_LEN
from wanda_core.errors import InputError, shortened
from wanda_core.evaluation.perplexity import Perplexity
from wanda_core.low_memory.one_by_one import files_anew, files_one_by_one
from wanda_core.model.file_state import changed
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.names import COMMIT, hub_id_and_revision, is_path
from wanda_core.pruning.variant import Variant
from wanda_core.report.making import made
from wanda_core.report.plan import Plan
from wanda_core.report.points import Dense
from wanda_core.report.repeat import Repeat, command, python
from wanda_core.text.windows import calibrate
from wanda_ui.app_state import AppState
from wanda_ui.compare import asked
from wanda_ui.compare.asked import Column
from wanda_ui.engine import work
from wanda_ui.engine.kept import Kept
from wanda_ui.engine.loaded import Loaded, Result
from wanda_ui.engine.smaller import smaller_name
from wanda_ui.gate.refusal import RefusedError
from wanda_ui.language import Say
from wanda_ui.owned import NOBODY, Visitors
from wanda_ui.settings import Settings

Json = dict[str, Any]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
OUTPUT = "out"  # folder of what the command writes
OWN_TEXT = "calibration.txt"  # what an own text is called whose name is not told
MOST_SIZES = 20  # models whose sizes are remembered
MOST_NAME = 200  # characters of a file's name


@dataclass(frozen=True)
class Chosen:
    """A checkpoint that was asked for. smaller: the model whose variant it is, where that is not the loaded one; dtype:
    to save in, None for the model's own; stem: its name without a suffix."""

    loaded: Loaded
    smaller: Loaded | None
    column: Column
    result: Result
    dtype: torch.dtype | None
    stem: str


class Take:
    """Answers what the page asks, in whichever thread; nothing here runs a model or waits for the engine."""

    def __init__(self, state: AppState, settings: Callable[[], Settings]) -> None:
        self.state, self.settings = state, settings
        self._sizes: Kept[tuple[str, str], tuple[str, dict[str, int]]] = Kept(MOST_SIZES)

    def answer(self, given: Mapping[str, Any], say: Say, visitors: Visitors = NOBODY) -> Json:
        """Tell what can be taken along.

        given: `model` and `recipes`; visitors: who asks. -> `wait` where the model is not in memory, else `ready`, what
        the page measures is `about`, for each of the `recipes` its name, title, the command and the program that make
        it again, and whether it is made, and of the `checkpoint` whether it is offered, else why not, and its bytes in
        every format. Raises InputError for anything else.
        """
        columns = asked.columns_of(given, self.settings(), self.state.texts.of(visitors))
        loaded = self.state.loaded(asked.model_of(given))
        if loaded is None:
            return {"wait": True}
        names = [_text_name(recipe) for recipe in given["recipes"]]
        recipes = [self._recipe(loaded, column, name, say) for column, name in zip(columns, names, strict=True)]
        return {
            "ready": True,
            "about": self._about(loaded),
            "recipes": recipes,
            "checkpoint": self._offer(loaded, say),
        }

    def checkpoint(self, given: Mapping[str, Any], say: Say, visitors: Visitors = NOBODY) -> Json:
        """Make a ticket for the checkpoint of a variant.

        given: `model`, `recipe` and `dtype`; visitors: who asks. -> its `address`, the `name` of its file and its
        `bytes`; `wait` where the model is not in memory, `missing` where the variant has to be pruned first. Raises
        RefusedError on a public server, WandaError for what cannot be saved and for too many downloads.
        """
        chosen = self.chosen(given, say, visitors)
        if not isinstance(chosen, Chosen):
            return chosen
        files = self.contents(chosen, say)
        archive = Archive(chosen.stem, files, datetime.datetime.now())
        ticket = self.state.tickets.make(chosen.loaded, archive)
        address = f"wanda/checkpoint/{ticket.secret}/{ticket.file}"
        return {"address": address, "name": ticket.file, "bytes": ticket.nbytes}

    def chosen(self, given: Mapping[str, Any], say: Say, visitors: Visitors = NOBODY) -> Chosen | Json:
        """Find the variant that was asked for. Arguments, errors and what else may come back are as of `checkpoint`."""
        if self.settings().public:
            raise RefusedError(403, "public")
        column = asked.column_of(given.get("recipe"), self.settings(), self.state.texts.of(visitors))
        dtype = given.get("dtype")
        if dtype is not None and (not isinstance(dtype, str) or dtype not in DTYPES):
            raise InputError(f"dtype {shortened(dtype)} is not offered; choose one of {', '.join(DTYPES)}")
        loaded = self.state.loaded(asked.model_of(given))
        if loaded is None:
            return {"wait": True}
        result = self.state.variants.get(self.state.key_of(loaded, column.recipe))
        smaller = self.state.smaller.get(smaller_name(loaded, column.recipe))
        gone = column.recipe.smaller is not None and smaller is None
        if result is None or not result.is_of(loaded) or gone:
            return {"missing": True}
        stem = _stem(loaded.lm, column)
        return Chosen(loaded, smaller, column, result, None if dtype is None else DTYPES[dtype], stem)

    def contents(self, chosen: Chosen, say: Say) -> Contents:
        """List the files of a checkpoint. Raises WandaError where they cannot be written one by one, hold a number
        beyond the format, or where the model's files have changed since it was loaded."""
        loaded = chosen.loaded
        with contextlib.suppress(OSError):
            if loaded.state_now() == loaded.state:
                measured = self.state.measured.get(chosen.result.key)
                perplexities = (loaded.dense, measured.perplexity if measured is not None else None)
                made = _contents(chosen, *perplexities)
                if made is None:
                    raise InputError(say("away.joined"))
                return made
        raise changed(loaded.lm.title)

    def _recipe(self, loaded: Loaded, column: Column, text: str, say: Say) -> Json:
        spec, smaller = column.recipe.spec, column.recipe.smaller
        stem = _stem(loaded.lm, column)
        again, output = _repeat(loaded.lm, column, text), f"{OUTPUT}/{stem}"
        return {
            "id": column.id,
            "name": stem,
            "title": column.title(say),
            "command": command(again, output),
            "python": python(again, output),
            "recipe": None if smaller is not None else spec.to_dict(),
            "made": self.state.key_of(loaded, column.recipe) in self.state.variants.keys,
            "bytes": None if smaller is None else self._bytes_of_smaller(loaded, column),
        }

    def _bytes_of_smaller(self, loaded: Loaded, column: Column) -> dict[str, int | None]:
        """Return the bytes of a smaller model's checkpoint in every format, None for each before it is made."""
        made = self.state.smaller.get(smaller_name(loaded, column.recipe))
        return dict.fromkeys(DTYPES) if made is None else {**self._known_sizes(made)[1]}

    def _about(self, loaded: Loaded) -> Json | None:
        """Describe what the page measures on and with, as a run does; None where the model takes no such window."""
        lm = loaded.lm
        if lm.longest is not None and lm.longest < work.EVAL_SEQ_LEN:
            return None
        length = min(DEFAULT_SEQ_LEN, lm.longest or DEFAULT_SEQ_LEN)
        calibration = loaded.calibration or calibrate(lm, seq_len=length)
        windows, agreement = work.EVAL_WINDOWS, work.AGREEMENT_WINDOWS
        plan = Plan((), windows=windows, agreement_windows=agreement, seq_len=work.EVAL_SEQ_LEN)
        about = made(Dense(lm, calibration), plan)
        seconds = self.state.engine.durations.exactly(("pass", loaded.name))
        return {**about, "calibration": {**about["calibration"], "seconds": seconds}}

    def _offer(self, loaded: Loaded, say: Say) -> Json:
        """Tell whether the checkpoint can be had here, and its size."""
        own, sizes = self._known_sizes(loaded)
        why = say("away.public") if self.settings().public else None if sizes else say("away.joined")
        return {"offered": why is None, "why": why, "bytes": sizes, "own": own}

    def _known_sizes(self, loaded: Loaded) -> tuple[str, dict[str, int]]:
        """Return what `_sizes` gives of a model, which is counted once."""
        key = (loaded.name, loaded.state)
        known = self._sizes.get(key)
        if known is None:
            known = _sizes(loaded)
            self._sizes.put(key, known)
        return known


def _contents(chosen: Chosen, dense: Perplexity | None, pruned: Perplexity | None) -> Contents | None:
    """List the files of a checkpoint, None where its tensors cannot be sent one by one. Raises StorageError for a
    number beyond the format. dense, pruned: what was measured of both."""
    variant, dtype = chosen.result.variant, chosen.dtype
    if chosen.smaller is None:
        weights = files_one_by_one(chosen.loaded.lm, dtype, variant.parameters)
        if weights is None:
            return None
        weights.check()
        return contents(chosen.loaded.lm, variant, weights, dtype, dense, pruned)
    lm, zeros = chosen.smaller.lm, chosen.column.recipe.zeros
    weights = files_anew(lm, dtype, variant.parameters if zeros else {})
    if weights is None:
        return None
    weights.check()
    made = Variant(lm, variant.spec, variant.report, None) if zeros else chosen.smaller.shrunk
    assert made is not None  # how a smaller model came about is kept with it
    return contents_anew(made, weights, dense, pruned)


def _sizes(loaded: Loaded) -> tuple[str, dict[str, int]]:
    """Return a model's own number format, and the bytes of its checkpoint in every one, but for the card and the
    record; none where its tensors cannot be sent one by one."""
    lm = loaded.lm
    files = files_one_by_one(lm, None, {}) if loaded.shrunk is None else files_anew(lm, None, {})
    if files is None or lm.folder is None:
        return str(lm.dtype).removeprefix("torch."), {}
    beside = bytes_beside(lm.folder)
    sizes = {name: replace(files, dtype=dtype).nbytes + beside for name, dtype in DTYPES.items()}
    return str(FLOATS[main_dtype(files.stored)]).removeprefix("torch."), sizes


def _stem(lm: LanguageModel, column: Column) -> str:
    """Return the name of a variant's checkpoint."""
    recipe = column.recipe
    if recipe.smaller is None:
        return file_stem(lm.title, recipe.spec)
    return file_stem(lm.title, recipe.smaller, recipe.spec if recipe.zeros else None)


def _repeat(lm: LanguageModel, column: Column, text: str) -> Repeat:
    """Describe how a variant is made again, from the same state of the model."""
    name, reading = lm.name, column.recipe.reading
    if not is_path(name) and COMMIT.fullmatch(lm.revision):
        name = f"{hub_id_and_revision(name)[0]}@{lm.revision}"
    own = None if reading.text is None else text
    return Repeat(name, column.recipe.spec, reading.samples, reading.seq_len, reading.seed, own, column.recipe.smaller)


def _text_name(given: Mapping[str, Any]) -> str:
    """Return what the file of an own calibration text is called. given: a recipe, with its `textName` if need be."""
    name = given.get("textName")
    return Path(name[:MOST_NAME]).name or OWN_TEXT if isinstance(name, str) and name.isprintable() else OWN_TEXT
