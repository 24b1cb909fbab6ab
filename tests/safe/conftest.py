"""Attacks on what README's table of reliability promises: `make safe`, or `make safe-short` for a part of each."""

import gc
import os
from pathlib import Path

import pytest
from safe.figures import ALL

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.safe)


def pytest_terminal_summary(terminalreporter):
    if ALL.taken:
        terminalreporter.write_line("")
        terminalreporter.write_line(ALL.table())


@pytest.fixture(scope="session", autouse=True)
def frozen():
    """What is imported by now is looked at by no collection of garbage any more, as in a server that has started."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def whole() -> bool:
    """Whether the whole of each attack is made, which takes an hour, or its short form."""
    return os.environ.get("WANDA_SAFE") == "whole"


@pytest.fixture(scope="session")
def figures():
    return ALL
