"""Attacks on what README's table of reliability promises: `make safe`, or `make safe-short` for a part of each."""

import gc
import os
from pathlib import Path

import pytest
from safe.figures import ALL

from wanda_core.machine.process import bound_arenas, keep_freed_memory

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
def settled():
    """The process is as a server that has started: two arenas of memory, and no looks through what is imported."""
    keep_freed_memory()
    bound_arenas()
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def whole() -> bool:
    """Whether the whole of each attack is made, or its short form."""
    return os.environ.get("WANDA_SAFE") == "whole"


@pytest.fixture(scope="session")
def figures():
    return ALL
