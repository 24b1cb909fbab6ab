"""Running the command line in tests, in this process or in one of its own."""

import os
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from wanda_core.cli import commands

ROOT = Path(__file__).resolve().parent.parent


def run(*arguments: object):
    return CliRunner().invoke(commands.app, [str(argument) for argument in arguments])


def in_a_process(*arguments: object, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "wanda_core", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def refused(result, code: int, message: str) -> None:
    """One line on stderr, nothing on stdout."""
    returned = result.exit_code if hasattr(result, "exit_code") else result.returncode
    assert returned == code, result.stderr
    assert result.stdout == ""
    lines = [line for line in result.stderr.splitlines() if not line.startswith("loaded ")]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    assert message in lines[0]
