"""The settings of a configuration that say how many attention heads there are."""

from typing import Any

from wanda_core.errors import ModelError
from wanda_core.model.language_model import LanguageModel
from wanda_core.shrinking.groups import groups_under
from wanda_core.shrinking.smaller_model import setting
from wanda_core.shrinking.spec import ShrinkSpec

HEADS, SHARED, SIZE = "num_attention_heads", "num_key_value_heads", "head_dim"


def head_settings(lm: LanguageModel, spec: ShrinkSpec) -> tuple[dict[str, Any], tuple[int, int]]:
    """Return the settings of the model with fewer heads, how many groups of heads there are, and how many stay.

    Heads that share their keys and values form a group, which stays or goes as a whole. Their size is said outright,
    since many a configuration derives it from their number. Raises InputError for a share that the model cannot have,
    ModelError for a model that names no heads.
    """
    heads = setting(lm, HEADS)
    if not isinstance(heads, int) or heads < 1:
        raise ModelError(
            f"{lm.title} ({type(lm.model).__name__}) has no one number of attention heads, so its configuration cannot "
            "say that some are gone; remove neurons or whole blocks"
        )
    shared = setting(lm, SHARED)
    groups = shared or heads
    if not isinstance(groups, int) or heads % groups:
        raise ModelError(f"{lm.title} has {heads} heads for {groups} keys, which form no groups; remove neurons")
    kept = spec.kept_groups(groups, lm.title)
    settings = {HEADS: heads // groups * kept}
    if shared is not None:
        settings[SHARED] = kept
    text: Any = lm.model.config.get_text_config()  # type: ignore[operator, union-attr]
    if text.to_dict().get(SIZE) is None and setting(lm, SIZE) is None:
        settings[SIZE] = lm.width // heads
    settings = {text.attribute_map.get(name, name): value for name, value in settings.items()}
    if not groups_under(lm, settings, (groups, kept)):
        raise ModelError(
            f"{lm.title} ({type(lm.model).__name__}) derives the size of its attention heads from their number, so its "
            "configuration cannot say that some are gone; remove neurons or whole blocks"
        )
    return settings, (groups, kept)
