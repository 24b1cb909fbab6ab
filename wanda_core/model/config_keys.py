"""Keys of a stranger's config.json that are no settings of a model: they would lead transformers to other files than
those that are checked, give a number another name than the one it is checked under, or stand in place of a method."""

import inspect
from collections.abc import Callable, Iterator
from functools import cached_property
from types import FunctionType
from typing import Any

from transformers import CONFIG_MAPPING, PreTrainedConfig
from transformers.configuration_utils import CONFIG_NAME, get_configuration_file

from wanda_core.errors import ModelError, first_line, shortened, shortened_path
from wanda_core.model.stored_tensors import INDEX, ONE_FILE

NAMES = "attribute_map"  # which name of a setting stands for which other one
# What a class of configurations says of itself, beside methods and properties.
OF_THE_CLASS = (NAMES, "sub_configs", "sub_configs_defaults", "extra_files", "extra_config_files", "_auto_class")
CALLED = (FunctionType, classmethod, staticmethod, property, cached_property)
OTHER_CONFIG, OTHER_WEIGHTS = "configuration_files", "transformers_weights"
BACKBONE = "backbone"  # whose text is the name of another repository, or, without a slash, of one of timm's
FUSION = "fusion_config"  # parts to be joined, by which transformers changes classes of its own for all later models
CODE = "auto_map"  # where a model's own Python is named


def check_keys(config: Any, name: str) -> None:
    """Raise ModelError for a key that leads transformers elsewhere, or gives names to others, in any part.

    config: as JSON has it, before transformers reads it.
    """
    waiting = [config]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting += part
        elif isinstance(part, dict):
            waiting += part.values()
            for key, is_harmless in HARMLESS.items():
                if key in part and not is_harmless(part):
                    raise _no_setting(key, name)


def _of_its_class(part: dict[str, Any]) -> bool:
    """Tell whether the names that a part gives are those of its own kind, which hold without it."""
    kind = part.get("model_type")
    known = CONFIG_MAPPING[kind].attribute_map if isinstance(kind, str) and kind in CONFIG_MAPPING else {}
    return bool(part[NAMES] == known)


def _leads_to_itself(part: dict[str, Any]) -> bool:
    """Tell whether transformers chooses config.json itself of the files that a part lists."""
    files = part[OTHER_CONFIG]
    try:
        return isinstance(files, list) and bool(get_configuration_file(files) == CONFIG_NAME)
    except Exception:  # names without a version
        return False


HARMLESS: dict[str, Callable[[dict[str, Any]], bool]] = {
    NAMES: _of_its_class,
    OTHER_CONFIG: _leads_to_itself,
    OTHER_WEIGHTS: lambda part: part[OTHER_WEIGHTS] in (None, ONE_FILE, INDEX),
    FUSION: lambda part: not part[FUSION],
    BACKBONE: lambda part: not (isinstance(part[BACKBONE], str) and "/" in part[BACKBONE]),
}


def check_made(config: PreTrainedConfig, name: str) -> None:
    """Raise ModelError for a configuration, as transformers has made it, that holds a value in place of a method or of
    what its class says, or whose part for text is no configuration."""
    for part in parts_of(config):
        kind = type(part)
        for key, value in vars(part).items():
            own = inspect.getattr_static(kind, key, None)
            if isinstance(own, CALLED) or (key in OF_THE_CLASS and value != getattr(kind, key)):
                raise _no_setting(key, name)
    try:
        texts = config.get_text_config(), config.get_text_config(decoder=True)
    except Exception as error:  # two of them, or one without what it needs
        raise _no_text(name, f"its parts for text are unclear ({first_line(error)})") from error
    for text in texts:
        if not isinstance(text, PreTrainedConfig):
            raise _no_text(name, f"its part for text is {shortened(text)}")


def parts_of(config: PreTrainedConfig) -> Iterator[PreTrainedConfig]:
    """Yield a configuration and all within it, however deep."""
    waiting: list[Any] = [config]
    while waiting:
        part = waiting.pop()
        if isinstance(part, PreTrainedConfig):
            yield part
            part = vars(part)
        if isinstance(part, dict):
            waiting += part.values()
        elif isinstance(part, (list, tuple)):
            waiting += part


def forget_files(config: PreTrainedConfig) -> None:
    """Take out of a configuration, and of all within it, where a model's own Python is named, which is never run, and
    which of two usual names its weights have: the one that is checked is read."""
    for part in parts_of(config):
        vars(part).pop(CODE, None)
        vars(part).pop(OTHER_WEIGHTS, None)


def _no_setting(key: str, name: str) -> ModelError:
    return ModelError(
        f"{shortened_path(name)} has {shortened(key)} in its config.json, which is no setting of a model and would "
        "change how the others, or which files, are read; take it out or choose another model"
    )


def _no_text(name: str, why: str) -> ModelError:
    return ModelError(
        f"{shortened_path(name)} has a config.json that describes no language model, as {why}; repair it or choose "
        "another model"
    )
