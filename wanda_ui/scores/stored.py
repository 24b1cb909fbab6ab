"""The scores of the stored run, which stand on the tab until a model is there."""

import torch

from wanda_core.explain.histograms import Grid
from wanda_ui.replay import replay


def stored_grid() -> Grid:
    """Return the picture of Wanda's scores in all blocks."""
    stored = replay()["scores"]
    of = stored["wanda"]
    share = torch.tensor(of["share"], dtype=torch.float32) / 1000
    low, high = of["edges"]
    edges = torch.linspace(low, high, of["bins"] + 1)
    names = tuple(f"{stored['kind']} {block}" for block in range(len(share)))
    return Grid(share, edges, torch.tensor(of["median"]), names, tuple(range(len(share))))
