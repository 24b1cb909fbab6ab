"""What can go wrong, as few types; every message says what was given, the rule, and the remedy."""


class WandaError(Exception):
    """Base of every error this package raises on purpose; its message is one readable sentence."""


class InputError(WandaError, ValueError):
    """Something the caller gave breaks a rule: a sparsity, a pattern, a text, a prompt."""


class ModelError(WandaError):
    """A model cannot be found, read, held in memory or pruned."""


class StorageError(WandaError):
    """Something could not be written: a full disk, a folder that must not be replaced."""


class ProcessError(WandaError):
    """One of several processes that work together has gone, so the others cannot go on."""


def first_line(error: BaseException) -> str:
    """What an exception of another library says, as the beginning of one sentence."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return text.rstrip(".")[:300]
