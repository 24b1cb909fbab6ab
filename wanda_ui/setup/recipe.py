"""From the controls of the set-up to the pruning that they describe."""

from typing import Any

from wanda_core.checks import MAX_SEQ_LEN
from wanda_core.errors import InputError
from wanda_core.methods import METHODS
from wanda_core.progress import Steps
from wanda_core.recipe import PruneSpec, preset
from wanda_core.text.files import read_text
from wanda_ui.app_state import AppState
from wanda_ui.engine.loaded import Result
from wanda_ui.inputs import as_share, whole_number
from wanda_ui.settings import Settings

OWN = Settings()  # the command line has no such limits


def needed_bytes(
    state: AppState, *, name: str, method: str, pattern: str, sparsity: object, group: str, **more: Any
) -> int | None:
    """Return how many bytes the variant that the controls describe will take; None where that cannot be said."""
    chosen = {key: more[key] for key in ("order", "allocation", "update")}
    try:
        return state.needed_bytes(name, _spec(method, pattern, sparsity, group, **chosen))
    except InputError:  # said when it is asked for
        return None


def prune_job(
    state: AppState,
    *,
    settings: Settings = OWN,
    name: str,
    method: str,
    pattern: str,
    sparsity: object,
    group: str,
    order: str,
    allocation: str,
    update: str,
    file: str | None,
    samples: object,
    seq_len: object,
    seed: object,
) -> Steps[Result]:
    """Return the pruning that the controls describe. Raises InputError for what they must not say."""
    spec = _spec(method, pattern, sparsity, group, order=order, allocation=allocation, update=update)
    draw: dict[str, object] = {
        "text": read_text(file) if file else None,
        "source": "uploaded text" if file else None,
        **_draw(samples, seq_len, seed, settings),
    }
    return state.prune_steps(name, spec, draw)


def slide_job(
    state: AppState, *, name: str, method: str, pattern: str, sparsity: object, group: str, **others: object
) -> Steps[Result] | None:
    """Return the pruning that a moved slider shows at once: the same recipe from the dense model's norms.

    None where that cannot be. others: controls that it does not follow.
    """
    sweeps = method in [known.name for known in METHODS.values() if known.sweeps]
    if pattern != "unstructured" or sweeps:
        return None
    return state.slide_steps(name, _spec(method, pattern, sparsity, group, order="one-shot"))


def _spec(method: str, pattern: str, sparsity: object, group: str, **more: Any) -> PruneSpec:
    """Make a recipe of what was chosen; what stands at `default` is left to the recipe."""
    free = pattern == "unstructured"
    given = {key: value for key, value in more.items() if value != "default"}
    best = given.get("update") == "best" and given.pop("update")
    given |= {"method": method, "pattern": pattern, "sparsity": _sparsity(sparsity) if free else None}
    if free and group != "default":
        given["group"] = group
    return preset("best", **given) if best else PruneSpec(**given)


def _sparsity(percent: object) -> Any:
    """Turn percent into a share. Raises InputError for none at all, which a recipe takes for the usual one."""
    if percent is None:
        raise InputError("the sparsity is missing; it is the share of weights to remove, try 50")
    return as_share(percent)


def _draw(samples: object, seq_len: object, seed: object, settings: Settings) -> dict[str, object]:
    """Check how the calibration is drawn. Raises InputError for what is no whole number or more than the page runs."""
    count, length = whole_number(samples, "samples"), whole_number(seq_len, "length")
    drawn_by = whole_number(seed, "seed")
    within = 1 <= count <= settings.samples and 1 <= length <= MAX_SEQ_LEN and count * length <= settings.tokens
    if not within:
        raise InputError(
            f"{count} samples of {length} tokens are outside what this page runs "
            f"({settings.samples:,} samples and {settings.tokens:,} tokens in all at most); choose fewer, or use the "
            "command line"
        )
    return {"samples": count, "seq_len": length, "seed": drawn_by}
