"""Limits that several rooms share, and the check of a number. Without torch, so that bad input is refused at once."""

from wanda_core.errors import InputError, shortened

DEFAULT_SAMPLES = 16  # windows of calibration text
DEFAULT_SEQ_LEN = 256  # tokens in a window
EVAL_WINDOWS = 4  # of EVAL_SEQ_LEN tokens: a perplexity in some three seconds on two cores
EVAL_SEQ_LEN = 512
AGREEMENT_WINDOWS = 1  # it runs both models
ABLATION_WINDOWS = 2  # it runs the model seven times
MAX_SAMPLES = 4096  # thirty times the paper's 128
MAX_SEQ_LEN = 32768  # tokens
MAX_SEED = 2**63 - 1  # the largest signed 64-bit integer
MAX_SPARSITY = 0.95  # beyond it every method leaves noise; a slip of the slider is likelier than intent


def check_whole(what: str, value: object, least: int, most: int) -> int:
    """Return `value` if it is a whole number from `least` to `most`; raise InputError otherwise."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InputError(
            f"{what} {shortened(value)} is not a whole number from {least} to {most}; choose one in that range"
        )
    return value
