"""What tests of taking a variant away share: a recipe, as it is sent and as it is made, and asking for its files."""

import json

from view_events import column

from wanda_core.recipe import PruneSpec
from wanda_ui.engine.recipe import Recipe

SENT = column(1, method="magnitude", at=50)
SPEC = PruneSpec("magnitude", 0.5, order="one-shot")
RECIPE = Recipe(SPEC)
NAME = "dense-magnitude-50"  # of the tiny model's folder, and the recipe


def asked(web, **changes):
    """Ask for the checkpoint; what is changed to `...` is left out. -> the reply"""
    given = {"model": "tiny", "recipe": SENT, "dtype": None, **changes}
    return web.post("/wanda/checkpoint", {name: value for name, value in given.items() if value is not ...})


def ticket(web, **changes):
    """-> the address, name and bytes of a checkpoint"""
    reply = asked(web, **changes)
    assert reply.status == 200, reply
    return json.loads(reply.body)


def got(web, made, method="GET", **headers):
    """-> the reply to a request for a checkpoint; the headers' names are written with `_`"""
    return web.send(method, f"/{made['address']}", headers={name.replace("_", "-"): v for name, v in headers.items()})
