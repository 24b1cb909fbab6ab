"""`wanda-lab`: the engine's command line, and the commands that serve the page."""

import os
from typing import Annotated

from wanda_core.cli import commands
from wanda_core.cli.options import option
from wanda_ui.away.command import report, site


@commands.app.command("app")
def serve(
    port: Annotated[
        int | None,
        option("Port to listen on. Default: GRADIO_SERVER_PORT, else the first free one from 7860 on.", metavar="PORT"),
    ] = None,
    host: Annotated[
        str | None,
        option("Address to listen on. Default: GRADIO_SERVER_NAME, else 127.0.0.1, which is this machine alone."),
    ] = None,
    tools: Annotated[
        bool,
        option("Let programs and assistants of this machine use the lab too, by gradio_client and at /mcp."),
    ] = False,
    lan: Annotated[
        bool,
        option("Let a class in the same network use the page, within a public server's limits; its address is shown."),
    ] = False,
) -> None:
    """Serve the page in which models are pruned, looked into and compared, until Ctrl-C."""
    from wanda_ui import start

    start.serve(host=host, port=port, tools=tools, lan=lan)


commands.app.command("site")(site)
commands.app.command("report")(report)


def main() -> None:
    """Run the command line; ends the process."""
    # Before torch: its threads would otherwise spin while they wait, which starves whoever shares the cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Packages start Python too, as for shared locks, and may be in a stranger's folder.
    os.environ.setdefault("PYTHONSAFEPATH", "1")
    commands.main()
