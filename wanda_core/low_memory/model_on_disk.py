"""A model whose weights stay on the disk: how it is opened, and the walk that brings its blocks one by one."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import init_empty_weights
from torch import Tensor, nn
from transformers import GenerationConfig

from wanda_core.checkpoint.tensor_file import FLOATS
from wanda_core.errors import ModelError, first_line, shortened_path
from wanda_core.low_memory.lending import Lending
from wanda_core.low_memory.resume import RunState
from wanda_core.low_memory.weight_loader import REST, WeightLoader
from wanda_core.model.any_fault import any_fault_worded
from wanda_core.model.block_calls import BlockCall
from wanda_core.model.blocks import BlockWalk, Carried, Role
from wanda_core.model.building import one_at_a_time
from wanda_core.model.causality import check_first_block_causal
from wanda_core.model.devices import check_memory
from wanda_core.model.foreign_code import no_foreign_code
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.linears import Linear, decoder_blocks
from wanda_core.model.loading import Located, check_made_of, locate, skeleton
from wanda_core.model.stored_tensors import check_numbers, size_of, stored_tensors
from wanda_core.progress import Progress


@dataclass(frozen=True)
class LanguageModelOnDisk(LanguageModel):
    """A model whose weights stay on the disk until its blocks are walked through.

    loader: reads them; place: the device they are brought to; job: the run that changes the model, None before it
    began; saved_in: the number format that it saves in.
    """

    loader: WeightLoader
    place: torch.device
    job: RunState | None = None
    saved_in: torch.dtype | None = None

    @property
    def save_dtype(self) -> torch.dtype:
        """The number format to save in: by default that of the checkpoint."""
        return self.saved_in or FLOATS[self.loader.main_dtype]

    @property
    def device(self) -> torch.device:
        """The device that blocks are brought to."""
        return self.place

    def walk(self, role: Role, kept: Sequence[int] | None = None, smaller: nn.Module | None = None) -> BlockWalk:
        """Return a walk that brings each block from the disk when its turn comes."""
        assert self.job is not None  # `prune_steps` and `shrink_steps` start one
        return _BlockWalkOnDisk(self, self.job, role, kept, smaller)

    def lending(self, smaller: nn.Module, kept: Sequence[int]) -> contextlib.AbstractContextManager[None]:
        """Context manager: let a model be called that shares all its weights, block by block from the disk."""
        return Lending(self, self.loader, smaller, kept).whole()

    def save_rest(self, smaller: nn.Module, job: RunState) -> None:
        """Write what stands before and after the blocks of a smaller model."""
        depth = len(decoder_blocks(smaller)[1])
        with Lending(self, self.loader, smaller, range(depth)).part(REST):
            saved = self.loader.saved_anew(smaller, REST, self.save_dtype)
            job.add_shard(shard_name(0, depth + 1), saved)

    @contextlib.contextmanager
    def around_blocks(self) -> Iterator[None]:
        """Context manager: bring the embeddings and the output head."""
        with self.loader.at_hand(self.model, REST):
            yield


class _BlockWalkOnDisk(BlockWalk):
    """A walk with one block in memory at a time. Unless it only reads, it goes on where an earlier run was cut off.

    A walk that changes the model writes what became of every block, or the block of the smaller model made of it.
    """

    whole = False

    def __init__(
        self,
        lm: LanguageModelOnDisk,
        job: RunState,
        role: Role,
        kept: Sequence[int] | None = None,
        smaller: nn.Module | None = None,
    ) -> None:
        super().__init__(lm.model, kept)
        self.loader, self.dtype, self.job, self.role = lm.loader, lm.save_dtype, job, role
        self.lending = None if smaller is None else Lending(lm, lm.loader, smaller, self.order)
        self.first = 0 if role == "read" else job.done
        self.count = 0
        self.stateful = False
        self.noted = job.noted
        if role != "read":
            self.tried = job.tried

    def __iter__(self) -> Iterator[tuple[int, nn.Module, list[Linear]]]:
        for place in range(self.first, len(self)):
            index = self.order[place]
            with self.lending.part(place) if self.lending else self.loader.at_hand(self.model, index):
                yield index, self.blocks[index], self.linears[index]
                if self.role == "prune":
                    self.job.add_shard(shard_name(place + 1, len(self) + 1), self._saved(place))
                    if not self.stateful:  # what blocks leave for later ones is gone with the process
                        self.job.commit(place + 1)

    def _saved(self, place: int) -> dict[str, Tensor]:
        """Return what became of the block at hand as it is saved."""
        if self.lending is not None:
            return self.loader.saved_anew(self.lending.smaller, place, self.dtype)
        return self.loader.as_saved(self.model, place, self.dtype)

    def keep(self, finished: str) -> None:
        self.job.commit(self.job.done, finished)

    def start(self, ids: Tensor) -> tuple[list[BlockCall], list[Tensor]]:
        self.count = len(ids)
        with self.loader.at_hand(self.model, REST), self.loader.at_hand(self.model, 0):
            calls, hidden = super().start(ids)
        self.stateful = calls[0].stateful
        return calls, self.job.restore(self.role, self.loader.device) if self.first else hidden

    def carrying(self, times: int = 1) -> contextlib.AbstractContextManager[Carried]:
        return self.job.carrying(self.role, self.count * times, self.loader.device, keep=self.role != "read")


def shard_name(number: int, total: int) -> str:
    """Return the file name of a shard, counted from 0: first the rest (`REST`), then the blocks."""
    return f"model-{number + 1:05d}-of-{total:05d}.safetensors"


def open_model(
    name: str,
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    on_progress: Callable[[Progress], object] | None = None,
) -> LanguageModelOnDisk:
    """Load everything of a model but its weights, of which one block and the embeddings must fit in memory.

    Raises what `wanda_core.model.loading.load_model` raises, and ModelError for blocks that share weights.
    """
    located = locate(name, device, dtype, on_progress, whole=False)
    with any_fault_worded(located.name):
        return _opened(located)


def _opened(located: Located) -> LanguageModelOnDisk:
    name = located.name
    tensors = stored_tensors(located.folder, name)
    check_numbers(name, tensors)
    stored = len(tensors), size_of(tensors)[0]
    with torch.device("meta"):  # before its tables are made
        check_made_of(name, skeleton(located.config, name, *stored), tensors)
    with one_at_a_time(), init_empty_weights(include_buffers=False):
        model: Any = skeleton(located.config, name, *stored, dtype=located.dtype)
    tokenizer = located.tokenizer()
    try:
        with no_foreign_code(), contextlib.suppress(OSError):  # there is none
            model.generation_config = GenerationConfig.from_pretrained(located.folder)
    except Exception as error:  # a stranger's file: its checks raise types of their own
        raise ModelError(
            f"{shortened_path(name)} has a generation_config.json that cannot be used: {first_line(error)}; repair it "
            "or take it away"
        ) from error
    loader = WeightLoader(located.folder, name, model, located.device, located.dtype)
    sizes = loader.sizes(model)
    needed = sizes.pop(REST, 0) + max(sizes.values())
    check_memory(needed, name, [located.device], "its embeddings and one block", "choose a smaller model")
    for module in model.modules():
        for own, buffer in module._buffers.items():
            module._buffers[own] = buffer.to(located.device) if buffer is not None and not buffer.is_meta else buffer
    model.requires_grad_(False)
    with loader.at_hand(model, REST), loader.at_hand(model, 0):  # all blocks are given masks made in the same way
        check_first_block_causal(model.eval(), decoder_blocks(model)[1], tokenizer, name)
    return LanguageModelOnDisk(
        model,
        tokenizer,
        name,
        located.revision,
        loader,
        located.device,
        folder=located.folder,
        carried=loader.carried,
        state=located.state,
    )
