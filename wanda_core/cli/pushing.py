"""The command that pushes a pruned folder to the Hugging Face hub."""

from typing import Annotated

import typer

from wanda_core.cli.console import Stopwatch, bar, check_alone, print_json, quiet, say
from wanda_core.cli.options import Json


def push(
    folder: Annotated[str, typer.Argument(help="A folder that `prune` wrote.", metavar="FOLDER")],
    repository: Annotated[
        str,
        typer.Argument(
            help="Name on the hub, owner/name. It is made if it is not there; what an earlier push wrote is written "
            "over, anything else is not.",
            metavar="OWNER/NAME",
        ),
    ],
    public: Annotated[bool, typer.Option("--public", help="For everybody to see. Default: private.")] = False,
    as_json: Json = False,
) -> None:
    """Push a pruned folder to the Hugging Face hub, with its model card; private unless --public is given.

    The token is the machine's own: `hf auth login`, or HF_TOKEN.
    """
    check_alone("push")
    watch = Stopwatch()
    with quiet():
        from wanda_core.checkpoint.push import push_steps
        from wanda_core.progress import finish

        with bar() as on_progress:
            pushed = finish(push_steps(folder, repository, private=not public), on_progress)
    seconds = watch.lap()
    if as_json:
        print_json({**vars(pushed), "seconds": {"push": seconds}})
    else:
        seen = "for you alone to see" if pushed.private else "for everybody to see"
        say(f"pushed to {pushed.address}, {seen}, in {seconds:.1f} s")
