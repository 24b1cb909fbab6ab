"""The program that cuts long texts into tokens in a process of its own, which can be ended when nobody wants them.

It is started by `tokenizer_apart.py`, imports tokenizers alone, reads a request a line and answers each by one line of
JSON. It keeps the tokenizer that it was given last.
"""

import contextlib
import ctypes
from typing import Any

from tokenizers import Tokenizer

from wanda_core.machine.answering import answer_lines

_kept: dict[int, Any] = {}


def answer(number: int, text: str, special: bool, split: bool, rules: str | None = None) -> dict[str, Any]:
    """Cut a text into tokens. number: of the tokenizer; special: with the tokens that it adds by itself; split: whether
    special tokens in the text are cut as any other; rules: the tokenizer itself, as it writes itself.

    -> ids of the tokens; or unknown: it is not kept here; or unlike: it does not come out of its rules as it was; or
    failed: the words of what it raised
    """
    if rules is not None:
        _kept.clear()
        read = _read(rules)
        if read is None:
            return {"unlike": True}
        _kept[number] = read
    if number not in _kept:
        return {"unknown": True}
    tokenizer = _kept[number]
    tokenizer.encode_special_tokens = split
    try:
        (cut,) = tokenizer.encode_batch_fast([text], add_special_tokens=special)  # which tells no places in the text
    except BaseException as error:  # Rust's panics are no Exceptions
        return {"failed": str(error) or type(error).__name__}
    return {"ids": cut.ids}


def _read(rules: str) -> Any:
    """Read a tokenizer from its rules. None where it would be another one."""
    try:
        tokenizer: Any = Tokenizer.from_str(rules)
        if tokenizer.to_str() != rules:
            return None
    except BaseException:
        return None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _give_back() -> None:
    """Give memory back to the system that a long text has taken."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # no glibc
        ctypes.CDLL(None).malloc_trim(0)


def main() -> None:
    """Answer requests until the input ends."""
    answer_lines(answer, _give_back)


if __name__ == "__main__":
    main()
