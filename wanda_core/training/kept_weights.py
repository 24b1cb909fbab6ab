"""The weights that are trained: those of a pruned model's linears that are not zero, and no others."""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from wanda_core.maths.distillation import adam
from wanda_core.model.language_model import LanguageModel


class KeptWeights:
    """The weights of a model that are trained, each parameter's as one vector, with Adam's two means beside them.

    What is zero has no place in a vector, so no step can reach it. Gradients are cut down to the same vectors as soon
    as they are known, and memory holds the whole gradient of one parameter at most.
    """

    def __init__(self, lm: LanguageModel) -> None:
        """Give the linears of a model parameters of their own. lm: a twin, whose modules are nobody else's."""
        self.parameters: dict[str, nn.Parameter] = {}
        own: dict[int, nn.Parameter] = {}  # by the parameter it takes the place of: blocks may share one
        for name in dict.fromkeys(linear.parameter[0] for linear in lm.all_linears):
            before = lm.model.get_parameter(name)
            module, _, attribute = name.rpartition(".")
            if id(before) not in own:
                own[id(before)] = self.parameters[name] = nn.Parameter(before.detach().clone())
            setattr(lm.model.get_submodule(module), attribute, own[id(before)])
        self.kept = {name: parameter.detach() != 0 for name, parameter in self.parameters.items()}
        self.gradients = {name: self._zeros(name) for name in self.parameters}
        self.means = {name: self._zeros(name) for name in self.parameters}
        self.squares = {name: self._zeros(name) for name in self.parameters}
        self._hooks = [
            parameter.register_post_accumulate_grad_hook(self._collecting(name))
            for name, parameter in self.parameters.items()
        ]

    def _zeros(self, name: str) -> Tensor:
        kept = self.kept[name]
        return torch.zeros(int(kept.sum()), dtype=torch.float32, device=kept.device)

    def _collecting(self, name: str) -> Callable[[Tensor], None]:
        def collect(parameter: Tensor) -> None:
            assert parameter.grad is not None  # the hook runs when there is one
            self.gradients[name] += parameter.grad[self.kept[name]]
            parameter.grad = None

        return collect

    def step(self, number: int, rate: float) -> None:
        """Take a step of Adam along the gradients that were collected, and begin to collect anew. number: from 1."""
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                kept, gradient = self.kept[name], self.gradients[name]
                w, self.means[name], self.squares[name] = adam(
                    parameter[kept], gradient, self.means[name], self.squares[name], number, rate
                )
                parameter.masked_scatter_(kept, w)
                gradient.zero_()

    def forget_gradients(self) -> None:
        """Begin to collect gradients anew."""
        for gradient in self.gradients.values():
            gradient.zero_()

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yield all that a later run needs to go on, by name, on the CPU: weights and both means, (kept,) float32."""
        for name, parameter in self.parameters.items():
            yield f"weight/{name}", parameter.detach()[self.kept[name]].cpu()
            yield f"mean/{name}", self.means[name].cpu()
            yield f"square/{name}", self.squares[name].cpu()

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take over what `tensors` gave in an earlier run."""
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                kept = self.kept[name]
                parameter.masked_scatter_(kept, tensors[f"weight/{name}"].to(kept.device))
                self.means[name] = tensors[f"mean/{name}"].to(kept.device)
                self.squares[name] = tensors[f"square/{name}"].to(kept.device)

    def release(self) -> None:
        """End training: no more gradients."""
        for hook in self._hooks:
            hook.remove()
        for parameter in self.parameters.values():
            parameter.requires_grad_(False)


def digest(lm: LanguageModel) -> str:
    """Return the sha256 of all weights of a model, tied ones once."""
    found = hashlib.sha256()
    for name, parameter in lm.model.named_parameters():
        found.update(f"{name} {parameter.dtype} {tuple(parameter.shape)}".encode())
        data: Any = parameter.detach().cpu().contiguous().view(torch.uint8).numpy()
        found.update(data)
    return found.hexdigest()
