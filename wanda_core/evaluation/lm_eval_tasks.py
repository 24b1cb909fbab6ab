"""Tasks of EleutherAI's lm-eval, an optional extra. It is handed the loaded model and used as it is published."""

import contextlib
import copy
import difflib
import io
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wanda_core.checks import check_whole
from wanda_core.errors import InputError, ModelError, first_line, shortened, shortened_path
from wanda_core.machine.paths import path_of
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.module_state import fresh_for_each_text

MAX_LIMIT = 10**9
MAX_BATCH = 4096


@dataclass(frozen=True)
class Score:
    """One metric of one task. stderr: its standard error where lm-eval gives one; documents: how many were asked;
    shots: worked examples before each."""

    task: str
    metric: str
    value: float
    stderr: float | None
    documents: int
    shots: int


@dataclass
class Tasks:
    """Tasks or groups of tasks by name, found and their documents read before any model is loaded.

    limit: documents of each task, from the first; all when left out. include_path: a folder with tasks of one's own,
    as lm-eval's YAML files. batch_size: requests in one call.
    Raises InputError without lm-eval, for a name it does not know, or when a task's documents cannot be had.
    """

    names: Sequence[str]
    limit: int | None = None
    include_path: str | Path | None = None
    batch_size: int = 1
    _found: list[Any] = field(default_factory=list)
    _manager: Any = None

    def __post_init__(self) -> None:
        """Check everything and read the documents."""
        check_whole("batch_size", self.batch_size, 1, MAX_BATCH)
        if self.limit is not None:
            check_whole("limit", self.limit, 1, MAX_LIMIT)
        if self.include_path is not None and not path_of(self.include_path, "include path").is_dir():
            raise InputError(
                f"include path {shortened_path(self.include_path)} is not a folder; give one with tasks as YAML"
            )
        if not all(self.names):
            raise InputError("a task without a name was asked for; give names such as hellaswag,arc_easy")
        self._manager = self._index()
        for name in self.names:
            if name not in self._manager.all_tasks:
                close = difflib.get_close_matches(name, self._manager.all_tasks, 3)
                raise InputError(
                    f"task {shortened(name)} is not one of "
                    f"lm-eval's{' or of the folder given' if self.include_path else ''}; "
                    + (f"did you mean {' or '.join(close)}?" if close else "its documentation lists them")
                )
        try:
            loaded = self._manager.load(list(self.names))
        except Exception as error:  # data sets and a stranger's YAML: each raises types of its own
            raise InputError(
                f"the tasks {', '.join(self.names)} cannot be read: {first_line(error)}; check the connection, or the "
                "YAML file of a task of your own"
            ) from error
        inside = {name for children in loaded["group_map"].values() for name in children}
        self._tasks = [task for name, task in {**loaded["groups"], **loaded["tasks"]}.items() if name not in inside]

    def _index(self) -> Any:
        """lm-eval's own list of what there is; only the folder's where that suffices, for the whole takes seconds."""
        try:
            from lm_eval.tasks import TaskManager
        except ImportError as error:
            raise InputError(
                f"tasks are run by lm-eval, which is not installed ({first_line(error)}); pip install lm_eval"
            ) from error
        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        if self.include_path is None:
            return TaskManager()
        folder = str(path_of(self.include_path))
        own = TaskManager(include_path=folder, include_defaults=False)
        return own if set(self.names) <= set(own.all_subtasks) else TaskManager(include_path=folder)

    def run(self, lm: LanguageModel) -> list[Score]:
        """Ask the model everything. Raises ModelError when lm-eval cannot use it."""
        from lm_eval import simple_evaluate
        from lm_eval.models.huggingface import HFLM

        if lm.tokenizer.bos_token_id is None and lm.tokenizer.eos_token_id is None:
            raise ModelError(
                f"lm-eval puts a model's begin token before a text, or else its end token, and {lm.title} has neither; "
                "give its tokenizer_config.json a bos_token or an eos_token"
            )
        model: Any = lm.model
        tokenizer = copy.deepcopy(lm.tokenizer)  # it may be given a token to pad with
        shown = contextlib.nullcontext() if sys.stderr.isatty() else contextlib.redirect_stderr(io.StringIO())
        try:
            with shown, fresh_for_each_text(model):  # its progress bars are for people
                asked = HFLM(
                    pretrained=model,
                    tokenizer=tokenizer,
                    backend="causal",
                    batch_size=self.batch_size,
                    max_length=lm.longest,  # which it would look for under fewer names
                )
                results = simple_evaluate(asked, tasks=self._tasks, limit=self.limit, task_manager=self._manager)
        except (ValueError, AssertionError, AttributeError, LookupError, TypeError) as error:
            raise ModelError(
                f"lm-eval could not run {', '.join(self.names)} on {lm.title}: {first_line(error)}; "
                "choose other tasks or another model"
            ) from error
        assert results is not None  # only further processes get nothing
        return scores_of(results)


def scores_of(results: Any) -> list[Score]:
    """List the metrics in what lm-eval returns, task by task."""
    scores = []
    for task, metrics in results["results"].items():
        documents = results["n-samples"].get(task, {}).get("effective", 0)
        for key, value in metrics.items():
            metric, _, kind = key.partition(",")
            if not kind or metric.endswith("_stderr") or not isinstance(value, (int, float)):
                continue
            error = metrics.get(f"{metric}_stderr,{kind}")
            name = metric if kind == "none" else f"{metric} ({kind})"
            stderr = float(error) if isinstance(error, (int, float)) else None
            scores.append(Score(task, name, float(value), stderr, documents, results["n-shot"].get(task, 0)))
    return scores
