"""Output of the command line: results go to stdout, all else to stderr, an error is one line."""

import contextlib
import json
import math
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from wanda_core.errors import InputError, ModelError, WandaError, first_line, is_fault, out_of_memory
from wanda_core.machine.process import rank_and_size
from wanda_core.progress import Progress
from wanda_core.version import __version__

FAILED, BAD_INPUT, CANCELLED = 1, 2, 130  # exit codes; 130 is what shells expect after Ctrl-C


class OneLineErrors(TyperGroup):
    """Group of commands that reports a failure in one line on stderr, without boxes, usage or tracebacks."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Parse the arguments and run the command; end the process with the exit code when standalone."""
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
        """Run a command; turn a failure into a line on stderr and an exit code, also one that nobody foresaw."""
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
        except (typer.Exit, typer.Abort, typer.TyperException):  # not faults, but how a command ends
            raise
        except BaseException as error:
            if not is_fault(error):
                raise
            say(f"error: {_sentence(error)}")
            raise typer.Exit(FAILED) from None


def _sentence(error: BaseException) -> str:
    """Word an error of the system, of memory, or one that nobody foresaw as one sentence with a remedy."""
    if out_of_memory(error):
        return "the memory is used up; choose a smaller model, fewer samples or a smaller length"
    if isinstance(error, OSError):
        return f"{first_line(error)}; check the disk and your rights there, and try again"
    return unforeseen(error)


def unforeseen(error: BaseException) -> str:
    """Write the traceback of an error that nobody foresaw into a file of its own. -> a sentence that names it.

    Where no file can be written, the traceback goes to stderr.
    """
    what = f"{type(error).__name__}: {first_line(error)}" if str(error).strip() else type(error).__name__
    report = "".join([f"wanda-lab {__version__}\n", *traceback.format_exception(error)])
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="wanda-lab-", suffix=".txt", delete=False, encoding="utf-8", errors="backslashreplace"
        ) as file:
            file.write(report)
    except OSError:
        print(report, file=sys.stderr)
        return f"{what}, which is not foreseen; the lines above say where it happened, please report them"
    return f"{what}, which is not foreseen; {file.name} says where it happened, please report it"


def say(message: str) -> None:
    """Print a message as one line on stderr. Of several processes only the first prints, or the first that fails."""
    if _speaks():
        rank, _ = rank_and_size()
        typer.echo(" ".join([f"process {rank}:"] * bool(rank) + message.split()), err=True)


_heard: bool | None = None  # whether this process may speak; None until one has failed


def _speaks() -> bool:
    """Return whether this process prints: the first of several, unless a failure decided otherwise."""
    return rank_and_size()[0] == 0 if _heard is None else _heard


@contextlib.contextmanager
def together(device: str | None) -> Iterator[str | None]:
    """Context manager: prune together with the processes that `torchrun` started beside this one; yield the device.

    Alone where it started none. The first process that fails says why; the others, which fail because of it, say
    nothing.
    """
    from wanda_core.machine.joining import joined

    def hear(first: bool) -> None:
        global _heard
        _heard = first

    with joined(device, hear) as place:
        yield place


def check_alone(command: str) -> None:
    """Raise InputError when `torchrun` started several processes for a command that one process runs."""
    _, size = rank_and_size()
    if size > 1:
        raise InputError(f"{command} is the work of one process and {size} were started; start it without torchrun")


def print_json(result: dict[str, Any]) -> None:
    """Print one JSON object on stdout, in ASCII so that any terminal takes it; infinity and NaN become null."""
    typer.echo(json.dumps(_finite(result), allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Stopwatch:
    """Measures the seconds between its readings, the first since it was made."""

    def __init__(self) -> None:
        self.started = time.perf_counter()

    def lap(self) -> float:
        """Return the seconds since the last reading, to the hundredth, and begin the next lap."""
        now = time.perf_counter()
        seconds, self.started = now - self.started, now
        return round(seconds, 2)


@contextlib.contextmanager
def bar() -> Iterator[Callable[[Progress], None]]:
    """Context manager: yield an `on_progress` that draws a progress bar on stderr, if that is a terminal."""
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
    """Describe a step in a few words: the stage, the unit at work, the detail."""
    at_work = step.innermost
    units = [_unit(step), *([_unit(at_work)] if at_work is not step else [])]
    return " · ".join([step.stage.replace("-", " "), *filter(None, units), *filter(None, [step.detail])])


def _unit(step: Progress) -> str:
    """Return `block 3 of 30`, or the size of a download; nothing for parts, which have no names."""
    if step.unit == "bytes":
        return f"{step.total / 1e6:,.0f} MB"
    return "" if step.unit == "parts" else f"{step.unit.removesuffix('s')} {step.number} of {step.total}"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Context manager: keep prints of libraries off stdout, and advice and progress bars of transformers off stderr.

    Its errors come as exceptions too; its log repeats what a stranger's files say, to a terminal that would obey it.
    """
    from huggingface_hub.utils import disable_progress_bars
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging

    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    hub_logging.set_verbosity_error()
    if not sys.stderr.isatty():  # a person may watch a download
        disable_progress_bars()
    with contextlib.redirect_stdout(sys.stderr):
        yield
