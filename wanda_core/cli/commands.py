"""The command line `wanda-lab`: the list of its commands, and `main`, which runs it."""

import sys
import warnings
from typing import Annotated

import typer

from wanda_core.cli.console import OneLineErrors
from wanda_core.cli.counting import sparsity
from wanda_core.cli.measuring import generate, perplexity, run_tasks
from wanda_core.cli.outliers import ablate, outliers
from wanda_core.cli.pruning import measure_norms, prune
from wanda_core.cli.pushing import push
from wanda_core.cli.shrinking import shrink
from wanda_core.cli.sweeping import sweep
from wanda_core.cli.training import distil
from wanda_core.machine.process import keep_freed_memory, leave, rank_and_size
from wanda_core.version import __version__

app = typer.Typer(
    cls=OneLineErrors,
    name="wanda-lab",
    help="Prune language models with Wanda: no retraining, the weights with the smallest |W|·‖X‖₂ become zero.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"wanda-lab {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None: ...


app.command("prune")(prune)
app.command("shrink")(shrink)
app.command("profile")(measure_norms)
app.command("sweep")(sweep)
app.command("distil")(distil)
app.command("perplexity")(perplexity)
app.command("evaluate")(run_tasks)
app.command("generate")(generate)
app.command("sparsity")(sparsity)
app.command("push")(push)
app.command("outliers")(outliers)
app.command("ablate")(ablate)


def main() -> None:
    """Run the command line and end the process."""
    keep_freed_memory()
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that lacks a character shows another
    if rank_and_size()[1] == 1:
        app()
    leave(app(standalone_mode=False) or 0)
