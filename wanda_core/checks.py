"""Limits that several rooms share, and how a number is held to one. Torch-free, so that a refusal need not wait."""

from wanda_core.errors import InputError

DEFAULT_SAMPLES = 16


DEFAULT_SEQ_LEN = 256


MAX_SAMPLES = 4096  # thirty times the paper's 128


MAX_SEQ_LEN = 32768  # tokens


MAX_SEED = 2**63 - 1


def check_whole(what: str, value: object, least: int, most: int) -> int:
    """`value` if it is a whole number within [least, most]; InputError otherwise."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InputError(f"{what} {value!r} is not a whole number from {least} to {most}; choose one in that range")
    return value


MAX_SPARSITY = 0.95  # beyond it every method leaves noise; a slip of the slider is likelier than intent
