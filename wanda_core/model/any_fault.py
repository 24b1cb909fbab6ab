"""A last resort for what a stranger's files bring about that nobody has foreseen: one sentence tells it as well."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from wanda_core.errors import ModelError, WandaError, first_line, is_fault, out_of_memory, shortened, shortened_path
from wanda_core.model.watched import Enough
from wanda_core.progress import Progress

Told = Callable[[Progress], object]


@contextlib.contextmanager
def any_fault_worded(name: str, on_progress: Told | None = None) -> Iterator[Told | None]:
    """Context manager: raise ModelError for any fault within it that is none of our errors. -> `on_progress`, to be
    called in its place.

    name: of the model. Memory that ran out, a wish to end, and whatever is raised once `on_progress` has raised, which
    gives up, pass as they are.
    """
    given_up = False

    def tell(progress: Progress) -> None:
        nonlocal given_up
        assert on_progress is not None
        try:
            on_progress(progress)
        except BaseException:
            given_up = True
            raise

    try:
        yield tell if on_progress is not None else None
    except Enough as error:  # it came where its own clock was just about to stop
        error.watch.leave()
        raise ModelError(error.watch.refusal) from None
    except BaseException as error:
        if given_up or isinstance(error, WandaError) or not is_fault(error) or out_of_memory(error):
            raise
        raise ModelError(f"{shortened_path(name)} could not be read ({_why(error)}); {_remedy(error)}") from error


def _why(error: BaseException) -> str:
    if isinstance(error, PermissionError) and error.filename is not None:
        return f"this user may not open {shortened(Path(str(error.filename)).name)}"
    said, kind = first_line(error), type(error).__name__
    return kind if said == kind else f"{kind}: {said}"


def _remedy(error: BaseException) -> str:
    return "change its permissions or try another model" if isinstance(error, PermissionError) else "try another model"
