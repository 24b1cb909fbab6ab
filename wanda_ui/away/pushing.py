"""Pushing a variant to the hub from the page of its owner: saved for a moment, sent, and nothing of it stays here."""

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import gradio as gr

from wanda_core.checkpoint.push import Pushed, push_steps, repo_of
from wanda_core.checkpoint.save import check_free, folder_for_a_moment
from wanda_core.errors import InputError, WandaError, shortened
from wanda_core.model.hub import checked_token
from wanda_core.progress import Progress, Steps
from wanda_ui.away.take import Chosen, Take
from wanda_ui.compare import asked, messages
from wanda_ui.compare.looking import StoppedError, Telling, Watch
from wanda_ui.compare.messages import Message
from wanda_ui.gate.arrivals import arrival_of
from wanda_ui.gate.refusal import RefusedError
from wanda_ui.gate.visitors import visitors_in
from wanda_ui.jobs import Cancel, Update, no_change
from wanda_ui.language import Say, speaker
from wanda_ui.owned import Visitors
from wanda_ui.problems import problem_words

SAVED, SENT = 0, 1  # the two parts of the work
PARTS = 2
PREFIX = "wanda-push-"  # of the folders for that moment; a start removes what a killed one left


@dataclass(frozen=True)
class Wanted:
    """A push that was asked for. token: for this once, None for the machine's own; it is told to nobody."""

    chosen: Chosen
    repo: str
    private: bool
    token: str | None


@dataclass(frozen=True)
class Pushing:
    """The event `push` and its Cancel. tell: sends a message of the kind `pushed`."""

    take: Take
    cancel: Cancel
    tell: Callable[[Message], Update]

    def push(self, request: gr.Request, event: gr.EventData) -> Iterator[Update]:
        """Save the variant into a temporary folder and push that.

        The event carries its number `run`, `model`, `recipe`, `dtype`, `repository`, `private` and perhaps a `token`.
        Its messages hold `run` and `progress`, in the end `ended` with the `url`, or with a `problem`.
        """
        say = speaker(request)
        pressed = self.cancel.since(request, str)
        watch = Watch(say, arrival_of(request), lambda: None, lambda: pressed() is not None)
        last: Message = {"run": None, "progress": None, "ended": True}
        try:
            data = asked.data_of(event)
            run = last["run"] = asked.run_of(data)
            wanted = self._wanted(data, say, visitors_in(request))
            steps = self._steps(wanted, say)
            done = yield from self._told(watch.through(steps, lambda step: _progress(run, step, say)))
            seen = say("away.pushed_private" if done.private else "away.pushed", repo=done.repo)
            yield self.tell({**last, "url": done.address, "private": done.private, "done": seen})
        except StoppedError:
            yield self.tell({**last, "done": say("away.cancelled", repo=wanted.repo)})
        except RefusedError as error:
            yield self.tell({**last, "problem": error.words(say)})
        except WandaError as error:
            yield self.tell({**last, "problem": problem_words(error, say)})

    def _told(self, telling: Telling[Pushed]) -> Generator[Update, None, Pushed]:
        """Send messages on, and return what was pushed."""
        with closing(telling):
            try:
                while True:
                    message = next(telling)
                    yield no_change() if message is None else self.tell(message)
            except StopIteration as stop:
                pushed: Pushed = stop.value
                return pushed

    def _wanted(self, data: Mapping[str, Any], say: Say, visitors: Visitors) -> Wanted:
        """Read what is to be pushed. Raises InputError for what breaks a rule, RefusedError on a public server."""
        chosen = self.take.chosen(data, say, visitors)
        repo, private, token = repo_of(data.get("repository")), data.get("private"), checked_token(data.get("token"))
        if not isinstance(private, bool):
            raise InputError(f"private {shortened(private)} is neither true nor false; load the page again")
        if not isinstance(chosen, Chosen):
            raise InputError(say("away.missing" if "missing" in chosen else "away.wait"))
        return Wanted(chosen, repo, private, token)

    def _steps(self, wanted: Wanted, say: Say) -> Steps[Pushed]:
        """Save and push; the folder goes whatever happens."""
        with wanted.chosen.loaded.claimed(), folder_for_a_moment(PREFIX) as folder:
            contents = self.take.contents(wanted.chosen, say)
            check_free(contents.nbytes, folder / "file")
            for written in contents.write(folder):
                yield Progress("saving", written, contents.nbytes, "bytes", wanted.repo)
            return (yield from push_steps(folder, wanted.repo, private=wanted.private, token=wanted.token))


def _progress(run: int, step: Progress, say: Say) -> Message:
    """Tell how far a push is."""
    part = SAVED if step.stage == "saving" else SENT
    return {"run": run, "progress": messages.progress(step, say, part, PARTS), "ended": False}
