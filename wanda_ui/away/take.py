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
from wanda_core.checkpoint.contents import Contents, contents
from wanda_core.checkpoint.naming import file_stem
from wanda_core.checkpoint.tensor_file import FLOATS
from wanda_core.checkpoint.weights import main_dtype
from wanda_core.checks import DEFAULT_SEQ_LEN
from wanda_core.errors import InputError, ModelError, shortened
from wanda_core.low_memory.one_by_one import files_one_by_one
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.names import COMMIT, hub_id_and_revision, is_path
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
from wanda_ui.gate.refusal import RefusedError
from wanda_ui.language import Say
from wanda_ui.settings import Settings

Json = dict[str, Any]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
OUTPUT = "out"  # folder of what the command writes
OWN_TEXT = "calibration.txt"  # what an own text is called whose name is not told
MOST_SIZES = 20  # models whose sizes are remembered
MOST_NAME = 200  # characters of a file's name


@dataclass(frozen=True)
class Chosen:
    """A checkpoint that was asked for. dtype: to save in, None for the model's own; stem: its name without a suffix."""

    loaded: Loaded
    column: Column
    result: Result
    dtype: torch.dtype | None
    stem: str


class Take:
    """Answers what the page asks, in whichever thread; nothing here runs a model or waits for the engine."""

    def __init__(self, state: AppState, settings: Callable[[], Settings]) -> None:
        self.state, self.settings = state, settings
        self._sizes: Kept[tuple[str, str], tuple[str, dict[str, int]]] = Kept(MOST_SIZES)

    def answer(self, given: Mapping[str, Any], say: Say) -> Json:
        """Tell what can be taken along.

        given: `model` and `recipes`. -> `wait` where the model is not in memory, else `ready`, what the page measures
        is `about`, for each of the `recipes` its name, title, the command and the program that make it again, and
        whether it is made, and of the `checkpoint` whether it is offered, else why not, and its bytes in every format.
        Raises InputError for anything else.
        """
        columns = asked.columns_of(given, self.settings())
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

    def checkpoint(self, given: Mapping[str, Any], say: Say) -> Json:
        """Make a ticket for the checkpoint of a variant.

        given: `model`, `recipe` and `dtype`. -> its `address`, the `name` of its file and its `bytes`; `wait` where the
        model is not in memory, `missing` where the variant has to be pruned first. Raises RefusedError on a public
        server, WandaError for what cannot be saved and for too many downloads.
        """
        chosen = self.chosen(given, say)
        if not isinstance(chosen, Chosen):
            return chosen
        files = self.contents(chosen, say)
        archive = Archive(chosen.stem, files, datetime.datetime.now())
        ticket = self.state.tickets.make(chosen.loaded, archive)
        address = f"wanda/checkpoint/{ticket.secret}/{ticket.file}"
        return {"address": address, "name": ticket.file, "bytes": ticket.nbytes}

    def chosen(self, given: Mapping[str, Any], say: Say) -> Chosen | Json:
        """Find the variant that was asked for. Arguments, errors and what else may come back are as of `checkpoint`."""
        if self.settings().public:
            raise RefusedError(403, "public")
        column = asked.column_of(given.get("recipe"), self.settings())
        if column.recipe.smaller is not None:
            raise InputError(say("away.smaller"))
        dtype = given.get("dtype")
        if dtype is not None and (not isinstance(dtype, str) or dtype not in DTYPES):
            raise InputError(f"dtype {shortened(dtype)} is not offered; choose one of {', '.join(DTYPES)}")
        loaded = self.state.loaded(asked.model_of(given))
        if loaded is None:
            return {"wait": True}
        result = self.state.variants.get(self.state.key_of(loaded, column.recipe))
        if result is None or not result.is_of(loaded):
            return {"missing": True}
        stem = file_stem(loaded.lm.title, column.recipe.spec)
        return Chosen(loaded, column, result, None if dtype is None else DTYPES[dtype], stem)

    def contents(self, chosen: Chosen, say: Say) -> Contents:
        """List the files of a checkpoint. Raises WandaError where they cannot be written one by one, hold a number
        beyond the format, or where the model's files have changed since it was loaded."""
        loaded, variant = chosen.loaded, chosen.result.variant
        with contextlib.suppress(OSError):
            if loaded.state_now() == loaded.state:
                weights = files_one_by_one(loaded.lm, chosen.dtype, variant.parameters)
                if weights is None:
                    raise InputError(say("away.joined"))
                weights.check()
                measured = self.state.measured.get(chosen.result.key)
                return contents(
                    loaded.lm,
                    variant,
                    weights,
                    chosen.dtype,
                    loaded.dense,
                    measured.perplexity if measured is not None else None,
                )
        raise ModelError(f"the files of {loaded.lm.title} have changed since it was loaded; load the model again")

    def _recipe(self, loaded: Loaded, column: Column, text: str, say: Say) -> Json:
        smaller = column.recipe.smaller
        spec = smaller or column.recipe.spec
        stem = file_stem(loaded.lm.title, spec)
        again, output = _repeat(loaded.lm, column, text), f"{OUTPUT}/{stem}"
        return {
            "id": column.id,
            "name": stem,
            "title": column.title(say),
            "command": command(again, output),
            "python": python(again, output),
            "recipe": None if smaller is not None else spec.to_dict(),
            "why": None if smaller is None else say("away.smaller"),
            "made": self.state.key_of(loaded, column.recipe) in self.state.variants.keys,
        }

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
        key = (loaded.name, loaded.state)
        known = self._sizes.get(key)
        if known is None:
            known = _sizes(loaded.lm)
            self._sizes.put(key, known)
        own, sizes = known
        why = say("away.public") if self.settings().public else None if sizes else say("away.joined")
        return {"offered": why is None, "why": why, "bytes": sizes, "own": own}


def _sizes(lm: LanguageModel) -> tuple[str, dict[str, int]]:
    """Return a model's own number format, and the bytes of its checkpoint in every one, but for the card and the
    record; none where its tensors cannot be sent one by one."""
    files = files_one_by_one(lm, None, {})
    if files is None or lm.folder is None:
        return str(lm.dtype).removeprefix("torch."), {}
    beside = bytes_beside(lm.folder)
    sizes = {name: replace(files, dtype=dtype).nbytes + beside for name, dtype in DTYPES.items()}
    return str(FLOATS[main_dtype(files.stored)]).removeprefix("torch."), sizes


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
