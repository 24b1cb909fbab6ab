"""Types of the errors this package raises on purpose; a message says what was given, the rule, and the remedy."""


class WandaError(Exception):
    """Base of these errors; its message is one sentence that can be shown to a user."""


class InputError(WandaError, ValueError):
    """A value the caller gave breaks a rule: a sparsity, a pattern, a text, a prompt."""


class ModelError(WandaError):
    """A model cannot be found, read, held in memory or pruned."""


class StorageError(WandaError):
    """A file or folder could not be written: the disk is full, or the folder must not be replaced."""


class ProcessError(WandaError):
    """A process has ended that others work together with, so that they cannot go on."""


def first_line(error: BaseException) -> str:
    """Return the first line of another library's error, cut to 300 characters, to be quoted within a sentence."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return text.rstrip(".")[:300]
