"""A model like another but for settings of its configuration: which of its weights then have other sizes."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from wanda_core.errors import ModelError, first_line, shortened
from wanda_core.model.building import one_at_a_time
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.loading import skeleton

Shapes = dict[str, tuple[tuple[int, ...], tuple[int, ...]]]  # by parameter: shape before and after


def configured(lm: LanguageModel, settings: Mapping[str, Any]) -> Any:
    """Return the model's configuration with other settings of the part that reads text.

    Raises ModelError where there is none, or one that is read as another.
    """
    config: Any = copy.deepcopy(lm.model.config)
    text = config.get_text_config()
    try:
        for name, value in settings.items():
            setattr(text, name, value)
        config.validate()
        again = type(config).from_dict(config.to_dict()).get_text_config()
    except Exception as error:  # whatever a configuration's own check raises
        raise ModelError(
            f"{type(lm.model).__name__} has no configuration with {', '.join(settings)} changed: {first_line(error)}; "
            "choose another share or another model"
        ) from error
    for name in settings:
        if _said(again, name) != _said(text, name):
            raise ModelError(
                f"{type(lm.model).__name__} reads {name} {shortened(_said(text, name))} as "
                f"{shortened(_said(again, name))}; choose another share or another model"
            )
    return config


def setting(lm: LanguageModel, name: str) -> Any:
    """Return what the configuration of the part that reads text says, None where it says nothing. Raises ModelError
    where it says another thing of every block."""
    text: Any = lm.model.config.get_text_config()  # type: ignore[operator, union-attr]
    try:
        return getattr(text, name, None)
    except RuntimeError as error:  # so transformers answers of a setting that blocks have of their own
        raise ModelError(
            f"{lm.title} ({type(lm.model).__name__}) has {name} of its own in some blocks, so one number cannot say "
            "that some are gone; remove something else or choose another model"
        ) from error


def empty_model(lm: LanguageModel, settings: Mapping[str, Any]) -> nn.Module:
    """Build the model with other settings, all parameters without memory, as transformers will when it loads it.

    Raises ModelError where there is no such model.
    """
    from accelerate import init_empty_weights  # pruning alone does without

    config = configured(lm, settings)
    with one_at_a_time(), init_empty_weights(include_buffers=False):
        held = lm.model.state_dict()
        numbers = sum(value.numel() for value in held.values())
        model = skeleton(config, lm.name, len(held), numbers, dtype=lm.dtype)
    return model.eval().requires_grad_(False)


def other_shapes(dense: nn.Module, smaller: nn.Module) -> Shapes:
    """List the parameters whose sizes differ. Raises ModelError where one model has parameters that the other lacks."""
    before, after = _named(dense), _named(smaller)
    if before.keys() != after.keys():
        name = min(before.keys() ^ after.keys())
        raise ModelError(f"{type(dense).__name__} has other parameters in another size, such as {name}")
    return {
        name: (tuple(before[name].shape), tuple(after[name].shape))
        for name in before
        if before[name].shape != after[name].shape
    }


def renumbered(prefix: str, kept: Sequence[int]) -> Callable[[str], str]:
    """Make a function from a name in a model of some blocks to the name in the dense one. prefix: the name of the list
    of blocks in both; kept: the numbers that the blocks have in the dense one. The function raises ModelError for a
    block that should not be there."""

    def name_in_dense(name: str) -> str:
        if not name.startswith(f"{prefix}."):
            return name
        number, _, rest = name.removeprefix(f"{prefix}.").partition(".")
        if int(number) >= len(kept):
            raise ModelError(f"{name} is more than the {len(kept)} blocks that the smaller model should have")
        return f"{prefix}.{kept[int(number)]}.{rest}"

    return name_in_dense


def share_parameters(
    dense: LanguageModel,
    smaller: nn.Module,
    origin: Callable[[str], str] = str,
    chosen: Callable[[str], bool] = lambda name: True,
) -> None:
    """Give a model without memory every parameter and buffer of the dense one that has the same size, to share it.

    origin: the name in the dense model of what has a name in the smaller one; chosen: whether that name is among those
    it is done for. Raises ModelError where the dense model has no such name.
    """
    parameters, buffers = _named(dense.model), dict(dense.model.named_buffers())
    for name in filter(chosen, _named(smaller)):
        if origin(name) not in parameters:
            raise ModelError(f"{type(dense.model).__name__} has no {origin(name)}, which the smaller model would have")
        put(smaller, name, parameters[origin(name)])
    for module_name, module in smaller.named_modules():
        for own, value in module._buffers.items():
            name = f"{module_name}.{own}".removeprefix(".")
            shared = buffers.get(origin(name))
            if value is not None and chosen(name):  # one of another size is as the class computes it
                same = shared is not None and shared.shape == value.shape
                module._buffers[own] = shared if same else value.to(dense.device)
    generation: Any = getattr(dense.model, "generation_config", None)
    if generation is not None:
        smaller.generation_config = copy.deepcopy(generation)


def put(model: nn.Module, name: str, value: Tensor) -> None:
    """Give a model a parameter of that name, unless it has another size there."""
    module, own = _holder(model, name)
    held = module._parameters[own]
    if held is not None and held.shape == value.shape:
        parameter = value if isinstance(value, nn.Parameter) else nn.Parameter(value, requires_grad=False)
        module._parameters[own] = parameter


def without_memory(model: nn.Module) -> str | None:
    """Return the name of a parameter or buffer that has no memory, None where all have."""
    held = [*_named(model).items(), *model.named_buffers()]
    return next((name for name, value in held if value.device == torch.device("meta")), None)


def _said(text: Any, name: str) -> Any:
    return text.to_dict().get(text.attribute_map.get(name, name))


def _named(model: nn.Module) -> dict[str, nn.Parameter]:
    return dict(model.named_parameters(remove_duplicate=False))


def _holder(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, own = name.rpartition(".")
    return model.get_submodule(path), own
