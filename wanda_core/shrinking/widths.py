"""The settings of a configuration that say how many neurons an MLP has, found by trying them."""

import re
from typing import Any

from wanda_core.errors import ModelError
from wanda_core.model.language_model import LanguageModel
from wanda_core.shrinking.groups import groups_under
from wanda_core.shrinking.smaller_model import setting
from wanda_core.shrinking.spec import ShrinkSpec

# Names that such settings have in transformers; whether one of them is meant is tried.
NAMES = re.compile(r"intermediate_size|ffn|n_inner|inner_dim|d_ff$|dff$|mlp_dim|dim_ff|feed_forward")
TRIED = 8  # a width that every model can have


def neuron_settings(lm: LanguageModel, spec: ShrinkSpec) -> dict[str, Any]:
    """Return the settings of the smaller model, those alone that change. -> by name, the new value.

    Raises ModelError for a model whose configuration cannot say it, InputError for a share that it cannot have.
    """
    text = lm.model.config.get_text_config()  # type: ignore[operator, union-attr]
    settings: dict[str, Any] = {}
    reason = ""
    for name, value in text.to_dict().items():
        if not NAMES.search(name) or not _is_width(value):
            continue
        try:
            tried = groups_under(lm, {name: [TRIED] * len(value) if isinstance(value, list) else TRIED})
        except ModelError as error:
            reason = reason or str(error)
            continue
        if not tried:
            continue
        setting(lm, name)  # one for all blocks
        if isinstance(value, list):
            settings[name] = [spec.kept_neurons(width, lm.title) for width in value]
        else:  # None stands for a width that follows from others
            settings[name] = spec.kept_neurons(value or tried[0].units, lm.title)
    if settings:
        return settings
    raise ModelError(
        reason
        or f"{lm.title} ({type(lm.model).__name__}) has no setting for the number of neurons of its MLPs, so its "
        "configuration cannot say that some are gone; remove whole blocks or choose another model"
    )


def _is_width(value: object) -> bool:
    if isinstance(value, list):
        return bool(value) and all(_is_width(width) and width is not None for width in value)
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 1)
