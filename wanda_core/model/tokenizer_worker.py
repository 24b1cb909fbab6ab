"""The program that reads a tokenizer.json before the app does, in a process of its own: what a stranger's file does to
the package that reads it, beyond any exception, is done here.

It is started by `made_apart.py`, imports tokenizers alone, reads a request a line and answers each by one line
of JSON, as `in_copy` has it: each file is read by a copy of the process, which has bounds of its own.
"""

from typing import Any

from tokenizers import Tokenizer

from wanda_core.machine.answering import answer_lines
from wanda_core.machine.bounded_copy import in_copy


def read(file: str) -> None:
    """Read a file. Raises whatever tokenizers does."""
    Tokenizer.from_file(file)


def answer(file: str, seconds: int, memory: int) -> dict[str, Any]:
    """Read a file in a copy."""
    return in_copy(lambda: read(file), seconds, memory)


def main() -> None:
    """Answer requests until the input ends."""
    answer_lines(answer)


if __name__ == "__main__":
    main()
