"""A tiny model pruned, and windows to train it on."""

import pytest

from wanda_core.pruning.prune import prune
from wanda_core.recipe import PruneSpec
from wanda_core.text.windows import calibrate


@pytest.fixture(scope="session")
def windows(tiny_llama, text):
    return calibrate(tiny_llama, text, samples=6, seq_len=24, seed=1)


@pytest.fixture(scope="session")
def pruned(tiny_llama, windows):
    """A tiny Llama at 60%, its kept weights re-solved, so that they are no longer the dense ones."""
    return prune(tiny_llama, PruneSpec("wanda", 0.6, order="in-flight", update="least-squares"), windows)
