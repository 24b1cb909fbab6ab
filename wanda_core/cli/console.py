"""What the command line says where: results on stdout, all else on stderr, errors as one line."""

import contextlib
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from wanda_core.errors import InputError, ModelError, WandaError
from wanda_core.machine.process import rank_and_size
from wanda_core.progress import Progress

FAILED, BAD_INPUT, CANCELLED = 1, 2, 130  # exit codes; 130 is what shells expect after Ctrl-C


class OneLineErrors(TyperGroup):
    """A group of commands whose failures are one line on stderr, without boxes, usage or tracebacks."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Parse and run; ends the process with the exit code when standalone."""
        try:
            code = super().main(args, prog_name, complete_var, False, windows_expand_args, **extra)
        except typer.TyperException as error:
            context = getattr(error, "ctx", None)
            where = f"; see '{context.command_path} --help'" if context is not None else ""
            say(f"error: {error.format_message().rstrip('.')}{where}")
            code = error.exit_code
        except typer.Abort:
            say("cancelled")
            code = CANCELLED
        if standalone_mode:
            sys.exit(code or 0)
        return code

    def invoke(self, ctx: Any) -> Any:
        """Run a command, its expected failures made exit codes."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            say("cancelled")
            raise typer.Exit(CANCELLED) from None
        except WandaError as error:
            say(f"error: {error}")
            raise typer.Exit(BAD_INPUT if isinstance(error, (InputError, ModelError)) else FAILED) from None
        except BrokenPipeError:  # whoever read the output has gone; typer ends quietly
            raise
        except (MemoryError, OSError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not _out_of_memory(error):
                raise
            say(f"error: {_known(error)}")
            raise typer.Exit(FAILED) from None


def _out_of_memory(error: Exception) -> bool:
    return type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)


def _known(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error}; check the disk and your rights there, and try again"
    return "the memory is used up; choose a smaller model, fewer samples or a smaller length"


def say(message: str) -> None:
    """One line on stderr, whatever the message holds. Of several processes only the first speaks."""
    if _speaks():
        rank, _ = rank_and_size()
        typer.echo(" ".join([f"process {rank}:"] * bool(rank) + message.split()), err=True)


_heard: bool | None = None


def _speaks() -> bool:
    return rank_and_size()[0] == 0 if _heard is None else _heard


@contextlib.contextmanager
def together(device: str | None) -> Iterator[str | None]:
    """Inside, this process prunes together with those that `torchrun` started beside it, if it did; gives the device
    to use. The first that fails says why, and the others, which fail because of it, nothing."""
    from wanda_core.machine.joining import joined

    def hear(first: bool) -> None:
        global _heard
        _heard = first

    with joined(device, hear) as place:
        yield place


def check_alone(command: str) -> None:
    """Raise InputError when `torchrun` started several processes for a command that has no use for them."""
    _, size = rank_and_size()
    if size > 1:
        raise InputError(f"{command} is the work of one process and {size} were started; leave torchrun out")


def print_json(result: dict[str, Any]) -> None:
    """One JSON object on stdout, in ASCII so that any terminal takes it. Infinity becomes null, as JSON has none."""
    typer.echo(json.dumps(_finite(result), allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Stopwatch:
    """Seconds since it was made or last read."""

    def __init__(self) -> None:
        self.started = time.perf_counter()

    def lap(self) -> float:
        """The seconds so far, to the hundredth; the next lap begins."""
        now = time.perf_counter()
        seconds, self.started = now - self.started, now
        return round(seconds, 2)


@contextlib.contextmanager
def bar() -> Iterator[Callable[[Progress], None]]:
    """A progress bar on stderr for `on_progress`, only where a person looks at it."""
    if not sys.stderr.isatty() or not _speaks():
        yield lambda step: None
        return
    from rich import progress
    from rich.console import Console

    columns = (
        progress.BarColumn(),
        progress.TaskProgressColumn(),
        progress.TimeElapsedColumn(),
        progress.TextColumn("{task.description}", markup=False),
    )
    with progress.Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("starting", total=None)
        yield lambda step: shown.update(task, completed=step.done, total=step.total, description=described(step))


def described(step: Progress) -> str:
    """What is being done, and on which unit, in a few words."""
    at_work = step.innermost
    units = [_unit(step), *([_unit(at_work)] if at_work is not step else [])]
    return " · ".join([step.stage.replace("-", " "), *filter(None, units), *filter(None, [step.detail])])


def _unit(step: Progress) -> str:
    """`block 3 of 30`, or an amount to fetch; nothing for parts, which have no names."""
    if step.unit == "bytes":
        return f"{step.total / 1e6:,.0f} MB"
    return "" if step.unit == "parts" else f"{step.unit.removesuffix('s')} {step.number} of {step.total}"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing but results on stdout, and no advice or progress bars of transformers on stderr."""
    from huggingface_hub.utils import disable_progress_bars
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    hub_logging.set_verbosity_error()
    if not sys.stderr.isatty():  # a person may watch a download
        disable_progress_bars()
    with contextlib.redirect_stdout(sys.stderr):
        yield
