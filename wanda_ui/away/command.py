"""The commands that write pages without a server: `site` and `report`."""

from typing import Annotated

import typer

from wanda_core.cli.console import say
from wanda_core.cli.options import option


def site(
    output: Annotated[
        str,
        option("Folder to write: a new or empty one, or that of an earlier site.", "--output", "-o", metavar="FOLDER"),
    ],
    run: Annotated[
        str | None,
        option(
            "Run to show, as `sweep` or the page wrote it. Default: the stored run of the built-in model.",
            metavar="FILE",
        ),
    ] = None,
    language: Annotated[str, option("Language that the page begins in.", metavar="CODE")] = "en",
    address: Annotated[
        str | None,
        option("Address at which the page will stand, for pictures beside links to it.", metavar="URL"),
    ] = None,
) -> None:
    """Write a run as a page that needs no server, ready as a static Space."""
    from wanda_core.assets import REPLAY
    from wanda_core.report.run import read_run
    from wanda_ui.away.site import write_site

    folder = write_site(read_run(run or REPLAY), output, checked_language(language), address)
    say("open its index.html, or upload it as a static Space")
    typer.echo(folder)


def report(
    run: Annotated[str, typer.Argument(help="Run to tell of, as `sweep` or the page wrote it.", metavar="RUN")],
    output: Annotated[str, option("File to write, which must not be there.", "--output", "-o", metavar="FILE.html")],
    language: Annotated[str, option("Language that the report begins in.", metavar="CODE")] = "en",
) -> None:
    """Write a run as a report in one file, to post or to print."""
    from wanda_core.report.run import read_run
    from wanda_ui.away.shell import write_report

    typer.echo(write_report(read_run(run), output, checked_language(language)))


def checked_language(language: str) -> str:
    """Return a language of the page. Raises InputError for another."""
    from wanda_core.errors import InputError, shortened
    from wanda_ui.language import LANGUAGES

    if language not in LANGUAGES:
        raise InputError(f"language {shortened(language)} is not one of {', '.join(LANGUAGES)}; choose one of them")
    return language
